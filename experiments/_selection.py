"""Criteria that choose columns, systems that are fitted to the chosen ones, and paired intervals of what that changes.

Used by `experiments.feature_selection`. No criterion looks at a label.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adjax.model.extraction import ClipFeatures
from adjax.model.gates import learn_gates
from adjax.model.named import make_spec
from adjax.model.selection import (
    keep,
    likelihood_gain,
    over_groups,
    principal,
    separation,
    spreads,
    steadiness,
    variance,
)
from adjax.model.vectors import config_of
from experiments._fusion_areas import N_RESAMPLES, areas_of_clips
from experiments._fusions import ALL, AUTO, KIND, Cell, Task, cells_of, halves

ALL_COLUMNS, TRUTH = "all columns", "true bands (labels)"
Weights = Mapping[str, np.ndarray]  # by criterion, (d,) float >= 0


class Change(NamedTuple):
    """What keeping some columns changes, against all of them: (1 + N_RESAMPLES, 2) AUC and pAUC, first as it is."""

    criterion: str
    share: float
    system: str
    change: np.ndarray


def weigh(features: ClipFeatures) -> dict[str, np.ndarray]:
    """The weights of every criterion, from training clips."""
    names = features.clips.machines
    machine = np.array([names.index(clip.machine) for clip in features.clips], np.int32)
    found = _weigh(jnp.asarray(features.rows), machine, n_machines=len(names))
    weights: dict[str, np.ndarray] = {name: np.asarray(value, float) for name, value in found.items()}
    weights["random"] = np.asarray(np.random.default_rng(0).uniform(0.1, 1, features.rows.shape[1]))
    return weights


@functools.partial(jax.jit, static_argnames="n_machines")
def _weigh(rows: jax.Array, machine: jax.Array, *, n_machines: int) -> dict[str, jax.Array]:
    n_kept = max(rows.shape[1] // 8, 1)
    found = spreads(rows, machine, n_machines=n_machines)
    gain = likelihood_gain(rows, machine, n_machines=n_machines).mean(axis=0)
    learn = functools.partial(learn_gates, rows, machine, n_machines=n_machines)
    return {
        "steadiness": steadiness(found),
        "separation": separation(found),
        "likelihood gain": jnp.maximum(gain - gain.min(), 0) * (found.within + found.between > 0),
        "gates, columns alone": learn(density="alone", n_steps=200).value,
        "gates, columns together": learn(density="together", n_steps=100, rate=0.1).value,
        "PCA": principal(rows, machine, n_machines=n_machines, n_kept=n_kept),
        "variance": variance(rows, machine, n_machines=n_machines),
    }


def of_bands(weights: Weights, group: np.ndarray) -> dict[str, np.ndarray]:
    """Weights of the columns of a band, in all views alike; `group` (d,) is the band of each column."""
    return {name: over_groups(own, group) for name, own in weights.items()}


def judge_columns(
    data: str, features: ClipFeatures, weights: Weights, shares: Sequence[float], say: Callable[[str], None]
) -> list[Cell]:
    """For each machine all systems: joint, neighbours, identity and their fusion, on all columns and on those chosen.

    Columns that are left out are held constant, which counts nowhere and keeps the shape of the programs.
    """
    chosen = {(ALL_COLUMNS, 1.0): np.arange(features.rows.shape[1])}
    chosen |= {(name, share): keep(own, share) for name, own in weights.items() for share in shares}
    spec = replace(make_spec("auto", features=config_of(features)), n_folds=3)
    merged: dict[str, Cell] = {}
    for (name, share), columns in chosen.items():
        rows = np.zeros_like(features.rows)
        rows[:, columns] = features.rows[:, columns]
        train, test = halves((replace(features, rows=rows),) * len(spec.detectors))
        cells, failures = cells_of(Task(data, ALL, 0, spec, train, test))
        assert not failures, failures
        for cell in cells:
            systems = {
                f"{name}|{share:g}|{system.removeprefix(KIND)}": scores
                for system, scores in cell.systems.items()
                if system == AUTO or system.startswith(KIND)
            }
            before = merged.get(cell.machine_type + cell.machine, cell._replace(systems={}))
            merged[cell.machine_type + cell.machine] = before._replace(systems={**before.systems, **systems})
        say(f"{data}: {name}, {share:g}: {len(columns)} columns")
    return list(merged.values())


def changes(cells: Sequence[Cell]) -> tuple[dict[str, np.ndarray], list[Change]]:
    """What all columns give, and what choosing changes: mean over machines, paired, over clips and machines.

    Returns:
        (1 + N_RESAMPLES, 2) AUC and pAUC of each system on all columns, and the changes. In a resample the machines of
        each type are drawn with replacement, and the clips of each; they are the same for all systems.
    """
    names = list(cells[0].systems)
    values = np.stack([areas_of_clips(cell) for cell in cells], axis=1)  # (1 + n, n_machines, n_systems, 2)
    rng = np.random.default_rng(0)
    types = [cell.machine_type for cell in cells]
    drawn = np.empty((1 + N_RESAMPLES, len(cells)), int)
    for own in dict.fromkeys(types):
        places = np.flatnonzero(np.array(types) == own)
        drawn[:, places] = rng.choice(places, size=(len(drawn), len(places)))
    drawn[0] = np.arange(len(cells))
    mean = np.take_along_axis(values, drawn[:, :, None, None], axis=1).mean(axis=1)
    base, found = {}, []
    for number, name in enumerate(names):
        criterion, share, system = name.split("|")
        if criterion == ALL_COLUMNS:
            base[system] = mean[:, number]
        else:
            found.append(Change(criterion, float(share), system, mean[:, number] - base[system]))
    return base, found
