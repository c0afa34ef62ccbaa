"""A model with a machine more, or a machine less: only whole numbers of machines move, none of them changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from adjax.model.calibration import Calibration
from adjax.model.evidence import Evidence
from adjax.model.extraction import ClipFeatures
from adjax.model.lift import padded_together
from adjax.model.memory import remember
from adjax.model.model import Model
from adjax.model.score import DetectorParams, ModelParams
from adjax.types import MachineId, Shared, is_shared


def with_machine(
    model: Model,
    machine: MachineId,
    detectors: Sequence[DetectorParams],
    calibration: Calibration,
    features: Sequence[ClipFeatures],
) -> Model:
    """The model with one more machine, its last.

    Args:
        model: that does not know the machine.
        machine: its name.
        detectors: for each detector the numbers of this machine alone.
        calibration: of this machine alone.
        features: clips to remember of it, for each detector.
    """
    params = ModelParams(
        tuple(map(_followed_by, model.params.detectors, detectors)),
        _calibrations(model.params.calibration, calibration),
    )
    machines = (*model.machines, machine)
    own = remember(model.spec, features, (machine,))
    joined: dict[tuple[int, int], ClipFeatures] = {}  # detectors that share features go on to do so
    for pair in zip(model.memory, own, strict=True):
        number = (id(pair[0]), id(pair[1]))
        if number not in joined:
            joined[number] = replace(pair[0].followed_by(pair[1]), columns=pair[0].columns)
    memory = tuple(joined[id(a), id(b)] for a, b in zip(model.memory, own, strict=True))
    return replace(model, params=params, machines=machines, memory=memory)


def without_machine(model: Model, machine: MachineId) -> Model:
    """The model without a machine; itself if it does not know it."""
    if machine not in model.machines:
        return model
    keep = np.array([i for i, own in enumerate(model.machines) if own != machine], np.int64)
    detectors = tuple(
        own._replace(model=own.model[keep], typical=own.typical[keep]) for own in model.params.detectors
    )
    kept: dict[int, ClipFeatures] = {}
    for own in model.memory:
        if id(own) not in kept:
            kept[id(own)] = own.where(lambda clip: clip.machine != machine)
    record = model.record
    return replace(
        model,
        params=ModelParams(detectors, calibration_at(model.params.calibration, keep)),
        machines=tuple(own for own in model.machines if own != machine),
        memory=tuple(kept[id(own)] for own in model.memory),
        record=replace(
            record,
            fits=tuple(own for own in record.fits if (own.machine_type, own.machine_id) != machine),
            held_out=tuple(own for own in record.held_out if own.machine != machine),
            profiles={name: own for name, own in record.profiles.items() if name != machine.label},
            n_clips={name: own for name, own in record.n_clips.items() if name != machine.label},
        ),
    )


def calibration_at(calibration: Calibration, index: Any) -> Calibration:
    """That of some machines: `index` is a slice or an integer array."""
    evidence = calibration.evidence
    if evidence is not None:
        evidence = Evidence(evidence.detector, *(leaf[index] for leaf in evidence[1:]))
    leaves: list[Any] = [*(leaf[index] for leaf in calibration[:-2]), calibration.false_alarm_rate]
    return Calibration(*leaves)._replace(evidence=evidence)


def _calibrations(first: Calibration, second: Calibration) -> Calibration:
    n = max(first.scores.shape[1], second.scores.shape[1])

    def room(leaf: Any) -> np.ndarray:
        """The held-out scores end in +inf."""
        short = ((0, 0), (0, n - leaf.shape[1]), *((0, 0) for _ in leaf.shape[2:]))
        return np.pad(leaf, short, constant_values=np.inf)

    evidence = None
    if first.evidence is not None and second.evidence is not None:
        curves = [np.concatenate(pair) for pair in zip(first.evidence[1:], second.evidence[1:], strict=True)]
        evidence = Evidence(first.evidence.detector, *curves)
    first, second = (
        own._replace(part_scores=room(own.part_scores), scores=room(own.scores)) for own in (first, second)
    )
    leaves: list[Any] = [np.concatenate(pair) for pair in zip(first[:-2], second[:-2], strict=True)]
    return Calibration(*(*leaves, first.false_alarm_rate))._replace(evidence=evidence)


def _followed_by(first: DetectorParams, second: DetectorParams) -> DetectorParams:
    start = 1 + int(first.model.max()) if len(first.model) else 0
    standardizer = first.standardizer
    if standardizer is not None:
        standardizer = jax.tree.map(lambda a, b: np.concatenate([a, b]), standardizer, second.standardizer)
    typical = second.typical
    if typical.shape[1] != first.typical.shape[1]:
        typical = np.full((len(typical), first.typical.shape[1]), np.nan, np.float32)
    return DetectorParams(
        np.concatenate([first.model, second.model + start]).astype(np.int32),
        standardizer,
        _parameters(first.params, second.params, start),
        np.concatenate([first.typical, typical]),
    )


def _parameters(first: Any, second: Any, n_first: int) -> Any:
    """Of two fits; what has as much room as its machine has clips ends in zeros."""

    def join(a: Any, b: Any) -> Any:
        if not is_shared(a):
            return padded_together(a[:n_first], b)
        same = jax.tree.map(lambda x, y: np.shape(x)[1:] == np.shape(y)[1:], a.value, b.value)
        n = len(jax.tree.leaves(a.value)[0])
        for i in range(n) if all(jax.tree.leaves(same)) else ():
            equal = jax.tree.map(lambda x, y, i=i: np.array_equal(x[i], y[0]), a.value, b.value)
            if all(jax.tree.leaves(equal)):  # one table of what all machines have in common is enough
                return Shared(a.value, np.append(a.fit, np.int32(i)).astype(np.int32))
        value = jax.tree.map(padded_together, a.value, b.value)
        return Shared(value, np.concatenate([a.fit, b.fit + n]).astype(np.int32))

    return jax.tree.map(join, first, second, is_leaf=is_shared)
