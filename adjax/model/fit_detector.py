"""Fit one detector of a model to all machines, with the folds beside it, and score what each fold left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array

from adjax.detectors.kinds import kind_of
from adjax.features.recipes import FeatureConfig
from adjax.files import file_name
from adjax.model.extraction import ClipFeatures
from adjax.model.lanes import GroupFit, Lane, fit_group
from adjax.model.lift import join_fits, make_detector
from adjax.model.result import Fit
from adjax.model.scopes import scopes_of, units_of
from adjax.model.score import DetectorParams, parts_of_clips
from adjax.model.spec import DetectorSpec, ModelSpec
from adjax.types import (
    NOT_FINITE,
    AdjaxError,
    Detector,
    EngineOptions,
    FitError,
    MachineId,
    of_machines,
)

_FAILED = -1


@dataclass(frozen=True)
class Watch:
    """Whom to tell how far a fit is.

    Attributes:
        on_fit: called with a name whenever a machine's (or type's) fits are done.
        on_step: called with numbers of lanes' epochs done, and a loss.
    """

    on_fit: Callable[[str], None] | None = None
    on_step: Callable[[int, float], None] | None = None


@dataclass(frozen=True)
class FittedDetector:
    """What came of one detector.

    Attributes:
        params: of all machines.
        parts: (n_clips, n_parts) raw parts of held-out clips; NaN where none.
        good: (n_machines,) bool, which machines could be fitted.
        mates: (n_machines, n_parts) int, machines that learnt from each other.
        fits: what to tell.
        remarks: of the engine.
    """

    params: DetectorParams
    parts: np.ndarray
    good: np.ndarray
    mates: np.ndarray
    fits: tuple[Fit, ...]
    remarks: tuple[str, ...]


def fit_detector(
    number: int,
    spec: ModelSpec,
    features: ClipFeatures,
    machine: np.ndarray,
    lanes: list[Lane],
    machines: Sequence[MachineId],
    n_judged: int,
    checkpoints: Path | None,
    watch: Watch,
    failures: list[AdjaxError],
) -> FittedDetector:
    """Fit one detector: for each group of machines that learn from each other, all lanes.

    Args:
        number: which of the model's detectors.
        spec: of the model.
        features: of the clips, as this detector takes them, machine after machine.
        machine: (n_clips,) int, whose each clip is.
        lanes: what is left out of each fit; the last is the model.
        machines: their names.
        n_judged: how many of them the model will judge; the others, after them, are only learnt from.
        checkpoints: see `fit_model`.
        watch: see `fit_model`.
        failures: grows by the machines that cannot be fitted.

    Raises:
        FitError: not one machine can be fitted.
    """
    own = spec.detectors[number]
    kind, detector = kind_of(own.kind), make_detector(own)
    units = units_of(own, machines)
    wanted = set(units[:n_judged])
    models = sorted(set(units))
    model = np.array([models.index(unit) for unit in units], np.int32)
    scope = scopes_of(own, models)
    n_parts = len(detector.parts)
    parts = np.full((len(machine), n_parts), np.nan, np.float32)
    status = np.zeros(len(models), np.int64)
    # What sees several machines may keep their clips: one of its lanes at a time, the model first.
    portions = [[lane] for lane in reversed(lanes)] if isinstance(own.make(), Detector) else [lanes]
    # Of the machine that has most, in all groups: their parameters are stacked.
    most = max(int(np.diff(features.offsets)[model[machine] == i].sum()) for i in range(len(models)))
    collected: list[Any] = []
    fitted: list[int] = []
    fits, remarks = [], []
    key = jax.random.fold_in(jax.random.key(spec.seed), number) if number else jax.random.key(spec.seed)
    for this in dict.fromkeys(scope):
        members = [i for i, other in enumerate(scope) if other == this]
        chosen = np.flatnonzero(np.isin(model[machine], members))
        inside = np.searchsorted(members, model[machine[chosen]])
        name = models[members[0]].label if len(members) == 1 else (str(this) if this else "all machines")
        # By a machine that the model judges: whoever deletes them knows no others.
        first = next(models[i] for i in members if models[i] in wanted)
        place = checkpoints / folder_of(first) if checkpoints else None
        if place and number:  # two detectors of one machine train apart
            place = place / f"detector_{number}"
        options = EngineOptions(place, watch.on_step)
        group = features.at(chosen.tolist())
        names = [models[i] for i in members]
        some = [[lane.of(chosen) for lane in portion] for portion in portions]
        held_out = parts if spec.calibration != "none" else None
        try:
            found = _fit_portions(own, key, group, names, inside, some, options, most, chosen, held_out)
        except FitError as error:
            failures.append(error)
            status[members] = _FAILED
            continue
        remarks += [f"{name}: {remark}" for remark in found.remarks]
        if len(members) < kind.least_machines:
            remarks.append(
                f"{names[0].label}: it is the only machine of its type, so that the {own.kind} has none to tell it "
                "from and says nothing of its clips"
            )
        collected.append(_of_lane(found.params, -1))
        fitted += members
        last = len(portions[0]) - 1
        for j, i in enumerate(members):
            status[i] = found.status[last, j]
            if models[i] not in wanted:
                continue
            n_clips = int(np.sum((inside == j) & ~lanes[-1].left_out[chosen]))
            losses = found.losses[last] if len(members) == 1 else ()
            fits.append(
                Fit(
                    own.kind,
                    *models[i],
                    n_clips,
                    int(found.n_vectors[j]),
                    float(found.objective[last, j]),
                    int(found.n_steps[last, j]),
                    int(status[i]),
                    tuple(np.asarray(losses).tolist()),
                )
            )
        if watch.on_fit:
            watch.on_fit(name)
    if not collected:
        raise FitError(f"not one machine can be fitted: {'; '.join(map(str, failures[:3]))}")
    good = np.isin(model, fitted)
    # Those that failed have the numbers of another; they are dropped with them.
    position = np.array([fitted.index(i) if i in fitted else 0 for i in range(len(models))])
    for i, unit in enumerate(models):
        if status[i] == NOT_FINITE and unit in wanted:
            good[model == i] = False
            failures.append(FitError(f"the {own.kind} of {unit.label} did not stay finite: {kind.remedy}"))
    standardizer, params = of_machines(join_fits(collected), position)
    typical = typical_of(own, features, machine, len(machines))
    numbers = DetectorParams(model[:n_judged], standardizer, params, typical[:n_judged])
    kin = [
        (which, unit.machine_type) for which, unit in zip(scope, models, strict=True)
    ]  # mates are of one type
    mates = np.array([kin.index(kin[m]) for m in model[:n_judged]])
    parts, good = parts[machine < n_judged], good[:n_judged]
    return FittedDetector(
        numbers, parts, good, np.repeat(mates[:, None], n_parts, axis=1), tuple(fits), tuple(remarks)
    )


def _fit_portions(
    spec: DetectorSpec,
    key: Array,
    group: ClipFeatures,
    machines: Sequence[MachineId],
    inside: np.ndarray,
    portions: Sequence[Sequence[Lane]],
    options: EngineOptions,
    most: int,
    chosen: np.ndarray,
    parts: np.ndarray | None,
) -> GroupFit:
    """Fit a group's lanes, portion by portion, score what each left out, and keep the first portion's fits."""
    first = None
    for lanes in portions:
        found = fit_group(spec, key, group, machines, inside, lanes, options, most)
        if parts is not None:
            _score_held_out(spec, found, group, inside, lanes, chosen, parts)
        first = found if first is None else first
    assert first is not None
    return first


def _score_held_out(
    spec: DetectorSpec,
    found: GroupFit,
    group: ClipFeatures,
    inside: np.ndarray,
    lanes: Sequence[Lane],
    chosen: np.ndarray,
    parts: np.ndarray,
) -> None:
    """Fill in the raw parts of every clip by the fit that left it out."""
    n_models = int(inside.max()) + 1
    index, nothing = np.arange(n_models, dtype=np.int32), np.full((n_models, 1), np.nan, np.float32)
    for k, lane in enumerate(lanes):
        if not lane.left_out.any():
            continue
        standardizer, numbers = _of_lane(found.params, k)
        own = DetectorParams(index, standardizer, numbers, nothing)
        for j in range(n_models):
            clips = np.flatnonzero(lane.left_out & (inside == j))
            if len(clips) and found.status[k, j] != NOT_FINITE:
                part = group.at(clips.tolist())
                parts[chosen[clips]] = parts_of_clips(spec, own, j, part.rows, part.offsets)


def _of_lane(params: Any, k: int) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf[k]), params)


def typical_of(
    spec: DetectorSpec, features: ClipFeatures, machine: np.ndarray, n_machines: int
) -> np.ndarray:
    """(n_machines, n_bands) mean frame of each machine's normal clips, as far as the rows tell it; else NaN."""
    config = spec.features
    if (
        not isinstance(config, FeatureConfig)
        or config.kind in ("mfcc", "samples")
        or config.clip_norm != "none"
    ):
        return np.full((n_machines, 1), np.nan, np.float32)
    if config.pooling not in ("none", "mean", "gwrp", "max", "views", "moments"):
        return np.full((n_machines, 1), np.nan, np.float32)
    n_bands = replace(config, pooling="none").n_features
    owner = np.repeat(machine, np.diff(features.offsets))
    bands = features.rows[:, :n_bands]
    return np.stack([bands[owner == m].mean(axis=0, dtype=np.float64) for m in range(n_machines)]).astype(
        np.float32
    )


def folder_of(machine: MachineId) -> str:
    """Name of a machine's folder among the checkpoints."""
    # The hash tells machine "b" of type "a" from a type "a_b".
    return f"{file_name('_'.join(part for part in machine if part) or 'all')}~{machine.seed:08x}"
