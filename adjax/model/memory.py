"""What a model remembers of its training clips: enough rows of each machine to adapt the model to another one.

A new machine borrows from its mates, and for that some of their clips must still be there: as many of each machine as
fit into MOST numbers, evenly chosen in recording order. Of one vector for each clip that is every clip of most
machines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from adjax.data.clips import Clip, ClipTable
from adjax.model.extraction import ClipFeatures
from adjax.model.spec import ModelSpec
from adjax.types import MachineId

MOST = 2**20  # numbers of each machine and front end, 4 MB, as long as there are
MOST_OF_ALL = 2**26  # of all machines no more than these, 256 MB


def remember(
    spec: ModelSpec, every: Sequence[ClipFeatures], machines: Sequence[MachineId]
) -> tuple[ClipFeatures, ...]:
    """Clips to keep of some machines, for each detector; detectors that look at the same features share them."""
    found: list[ClipFeatures] = []
    for number, (own, features) in enumerate(zip(spec.detectors, every, strict=True)):
        same = next((i for i in range(number) if _alike(spec, every, i, number)), None)
        if same is not None:
            found.append(found[same])
            continue
        lengths = np.diff(features.offsets)
        chosen: list[int] = []
        for machine in machines:
            places = [i for i, clip in enumerate(features.clips) if clip.machine == machine]
            size = int(lengths[places].sum()) * own.features.n_features
            most = min(MOST, MOST_OF_ALL // len(machines))
            n = min(len(places), max(1, len(places) * most // max(size, 1)))
            chosen += [places[i] for i in np.linspace(0, len(places) - 1, n).round().astype(int)]
        some = features.at(chosen)
        found.append(ClipFeatures(some.clips, some.rows, some.offsets, columns=some.columns))
    return tuple(found)


def _alike(spec: ModelSpec, every: Sequence[ClipFeatures], a: int, b: int) -> bool:
    if spec.detectors[a].features != spec.detectors[b].features:
        return False
    return every[a].rows is every[b].rows or np.array_equal(every[a].rows, every[b].rows)


def to_json(memory: Sequence[ClipFeatures], machines: Sequence[MachineId]) -> dict[str, Any]:
    """What JSON can hold of it: which set of features each detector has, and each set's clips."""
    sets = _sets(memory)
    places = {machine: i for i, machine in enumerate(machines)}
    return {
        "detectors": [next(i for i, one in enumerate(sets) if one is own) for own in memory],
        "sets": [
            {
                "clips": [[str(clip.path), places[clip.machine], clip.domain] for clip in own.clips],
                "columns": list(own.columns),
                "shape": list(own.rows.shape),
            }
            for own in sets
        ],
    }


def arrays_of(memory: Sequence[ClipFeatures]) -> list[dict[str, np.ndarray]]:
    """The rest of it, for each set of features."""
    return [
        {"rows": own.rows.astype(np.float32), "offsets": own.offsets.astype(np.int64)}
        for own in _sets(memory)
    ]


def template_of(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Shapes and dtypes of the arrays that belong to what `to_json` wrote."""
    return [
        {
            "rows": jax.ShapeDtypeStruct(tuple(own["shape"]), np.float32),
            "offsets": jax.ShapeDtypeStruct((len(own["clips"]) + 1,), np.int64),
        }
        for own in found["sets"]
    ]


def from_json(
    found: Mapping[str, Any], arrays: Sequence[Mapping[str, np.ndarray]], machines: Sequence[MachineId]
) -> tuple[ClipFeatures, ...]:
    """What was remembered."""
    sets = []
    for own, numbers in zip(found["sets"], arrays, strict=True):
        clips = []
        for name, place, domain in own["clips"]:
            machine_type, machine_id = machines[place]
            clips.append(Clip(Path(name), machine_type, machine_id, domain, "train", 0, key=name))
        columns = tuple(own["columns"])
        sets.append(
            ClipFeatures(ClipTable(tuple(clips)), numbers["rows"], numbers["offsets"], columns=columns)
        )
    return tuple(sets[i] for i in found["detectors"])


def _sets(memory: Sequence[ClipFeatures]) -> list[ClipFeatures]:
    """Each set of features once."""
    return list({id(own): own for own in memory}.values())
