"""Fit a model: every detector on the normal clips of all machines, once for each fold, then the calibration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from adjax.data.clips import ClipTable
from adjax.detectors.kinds import kind_of
from adjax.features.recipes import FeatureConfig
from adjax.model.calibration import MIN_CLIPS, calibrate, no_calibration, tail_p_values
from adjax.model.comparable import Profile, fit_profile
from adjax.model.extraction import ClipFeatures
from adjax.model.findings import TrainingFindings, check_training
from adjax.model.folds import fold_of_clips, held_out_split
from adjax.model.lanes import Lane, fit_group
from adjax.model.lift import make_detector
from adjax.model.model import Model
from adjax.model.record import Record
from adjax.model.result import Fit, HeldOut
from adjax.model.score import DetectorParams, ModelParams, parts_of_clips
from adjax.model.spec import DetectorSpec, ModelSpec
from adjax.types import NOT_FINITE, AdjaxError, ClipError, EngineOptions, FitError, MachineId, SettingsError

FALSE_ALARM_RATE = 0.05
_FAILED = -1
APART = 0.01  # chance that any clip of a machine is called apart by luck


@dataclass(frozen=True)
class Watch:
    """Whom to tell how far a fit is.

    Attributes:
        on_fit: called with a name whenever a machine's (or type's) fits are done.
        on_step: called with numbers of lanes' epochs done, and a loss.
    """

    on_fit: Callable[[str], None] | None = None
    on_step: Callable[[int, float], None] | None = None


def fit_model(
    spec: ModelSpec,
    train: ClipFeatures | Sequence[ClipFeatures],
    *,
    group: np.ndarray | None = None,
    false_alarm_rate: float = FALSE_ALARM_RATE,
    checkpoints: Path | None = None,
    watch: Watch = Watch(),
) -> Model:
    """Fit a model on the host.

    A machine that cannot be fitted is not in the model: its `FitError` is in the record, and the others go on.

    Args:
        spec: what to fit.
        train: features of normal clips, in recording order: one for all detectors, or one for each.
        group: (n_clips,) int, which clips belong to one recording or session; None: none do. See `fold_of_clips`.
        false_alarm_rate: at which clips will be called anomalous, in (0, 1); it can be changed afterwards.
        checkpoints: folder for those of long trainings; the same call after a stop at any point goes on there, to the
            same bits. None: none are written.
        watch: whom to tell how far it is.

    Raises:
        SettingsError: settings out of range, or that contradict each other or the data.
        FitError: not one machine can be fitted.
        StoreError: the checkpoints are those of a fit with other settings, data or versions, another run is writing
            there, or they cannot be written.
    """
    spec.check()
    check_rate(false_alarm_rate)
    every = [train] * len(spec.detectors) if isinstance(train, ClipFeatures) else list(train)
    if len(every) != len(spec.detectors):
        raise SettingsError(
            f"{len(every)} sets of features for {len(spec.detectors)} detectors: give one for each"
        )
    for detector, features in zip(spec.detectors, every, strict=True):
        if features.rows.shape[1] != detector.features.n_features:
            raise SettingsError(
                f"the {detector.kind} takes rows of {detector.features.n_features} numbers, these have "
                f"{features.rows.shape[1]}: extract them with the model's own front_ends"
            )
    failures: list[AdjaxError] = list(dict.fromkeys(error for own in every for error in own.failures))
    group = np.arange(len(every[0].clips)) if group is None else np.asarray(group)
    every, group = _finite(every, group, failures)
    every, group = _enough(spec, every, group, failures)
    findings = look_at(every[0])
    every, group = _without_refused(findings, every, group, failures)
    machines = every[0].clips.machines
    place = {machine: i for i, machine in enumerate(machines)}
    machine = np.array([place[clip.machine] for clip in every[0].clips], np.int64)
    if (np.diff(machine) < 0).any():  # one order of machines, so that sums have one order, and the same bits
        order = np.argsort(machine, kind="stable")
        every, machine, group = [own.at(order.tolist()) for own in every], machine[order], group[order]
    clips = every[0].clips
    lanes = _lanes(spec, machine, group)
    fitted = [
        _fit_detector(number, spec, own, machines, machine, lanes, checkpoints, watch, failures)
        for number, own in enumerate(every)
    ]
    good = np.all([one.good for one in fitted], axis=0)
    parts = np.concatenate([one.parts for one in fitted], axis=1)
    notes = list(dict.fromkeys(note for own in every for note in own.notes))
    notes += [remark for one in fitted for remark in one.remarks]
    held_out: list[HeldOut] = []
    if spec.calibration == "none":
        calibration = no_calibration(len(machines), parts.shape[1], false_alarm_rate)
    else:
        usable = np.isfinite(parts).all(axis=1)
        for number, name in enumerate(machines):
            n = int(np.sum(usable & (machine == number)))
            if good[number] and n < 2:
                good[number] = False
                failures.append(
                    FitError(
                        f"{name.label} has {n} held-out clips with a score: give it more, or longer, normal clips "
                        "(p-values need at least 2)"
                    )
                )
        kept = np.flatnonzero(good)
        own = [np.flatnonzero((machine == number) & usable) for number in kept]
        if len(kept):
            mates = np.concatenate([one.mates[kept] for one in fitted], axis=1)
            calibration, fused = calibrate([parts[i] for i in own], mates, spec.fusion, false_alarm_rate)
            for number, chosen, scores in zip(kept, own, fused, strict=True):
                names = tuple(clips[i].name for i in chosen)
                apart = tail_p_values(scores) < APART / len(scores)
                held_out.append(
                    HeldOut(machines[number], names, scores, tuple(np.array(names, object)[apart]))
                )
    kept = np.flatnonzero(good)
    if not len(kept):
        reasons = "; ".join(str(error) for error in failures[:3])
        raise FitError(f"not one machine can be fitted: {reasons or 'there are no clips'}")
    if spec.calibration == "none":
        calibration = jax.tree.map(lambda leaf: leaf[kept] if np.ndim(leaf) else leaf, calibration)
    params = ModelParams(tuple(_keep(one.params, kept) for one in fitted), calibration)
    record = Record.of(
        fits=tuple(fit for one in fitted for fit in one.fits),
        failures=tuple(failures),
        notes=tuple(dict.fromkeys(notes)),
        held_out=tuple(held_out),
        clips=clips,
        findings={
            name.label: tuple(map(str, own.findings)) for name, own in findings.items() if own.findings
        },
        profiles=_profiles(every[0]),
    )
    return Model(spec, jax.tree.map(np.asarray, params), tuple(machines[i] for i in kept), record)


def look_at(features: ClipFeatures) -> dict[MachineId, TrainingFindings]:
    """What is odd about the training recordings of each machine; nothing where there is no sound behind the features."""
    found = {}
    for name in features.clips.machines if features.infos else ():
        own = features.where(lambda clip, name=name: clip.machine == name)
        found[name] = check_training(own.clips.names, own.infos, machine=name.label)
    return found


def _without_refused(
    findings: Mapping[MachineId, TrainingFindings],
    every: list[ClipFeatures],
    group: np.ndarray,
    failures: list[AdjaxError],
) -> tuple[list[ClipFeatures], np.ndarray]:
    """Without the machines that nothing can be learnt about."""
    refused = {name: own.refuse for name, own in findings.items() if own.refuse}
    failures += [FitError("; ".join(reasons)) for reasons in refused.values()]
    return _only([clip.machine not in refused for clip in every[0].clips], every, group, failures)


def _only(
    keep: Sequence[bool], every: list[ClipFeatures], group: np.ndarray, failures: list[AdjaxError]
) -> tuple[list[ClipFeatures], np.ndarray]:
    """Some of the clips.

    Raises:
        FitError: none of them.
    """
    if not any(keep):
        reasons = "; ".join(str(error) for error in failures[:3])
        raise FitError(f"not one machine can be fitted: {reasons or 'there are no normal clips'}")
    if all(keep):
        return every, group
    chosen = np.flatnonzero(keep)
    return [own.at(chosen.tolist()) for own in every], group[chosen]


def _profiles(features: ClipFeatures) -> dict[str, Profile]:
    found = {}
    for name in features.clips.machines if features.infos else ():
        infos = features.where(lambda clip, name=name: clip.machine == name).infos
        found[name.label] = fit_profile(infos)
    return found


def check_rate(false_alarm_rate: float) -> None:
    """Raise SettingsError unless it is a rate."""
    if not 0 < false_alarm_rate < 1:
        raise SettingsError(
            f"false_alarm_rate={false_alarm_rate}: give a share of normal clips between 0 and 1"
        )


@dataclass(frozen=True)
class _FittedDetector:
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


def _lanes(spec: ModelSpec, machine: np.ndarray, group: np.ndarray) -> list[Lane]:
    """What is left out of each fit; the last is the model."""
    nothing = np.zeros(len(machine), bool)
    if spec.calibration == "none":
        return [Lane(0, nothing)]
    if spec.calibration == "split":
        return [Lane(0, held_out_split(machine, group))]
    fold = fold_of_clips(machine, group, spec.n_folds)
    return [*(Lane(int(k) + 1, fold == k) for k in np.unique(fold)), Lane(0, nothing)]


def _fit_detector(
    number: int,
    spec: ModelSpec,
    features: ClipFeatures,
    machines: Sequence[MachineId],
    machine: np.ndarray,
    lanes: list[Lane],
    checkpoints: Path | None,
    watch: Watch,
    failures: list[AdjaxError],
) -> _FittedDetector:
    own = spec.detectors[number]
    kind, detector = kind_of(own.kind), make_detector(own)
    units = [name if own.per == "machine" else MachineId(name.machine_type) for name in machines]
    models = sorted(set(units))
    model = np.array([models.index(unit) for unit in units], np.int32)
    scopes = {"machine": lambda m: m, "type": lambda m: m.machine_type, "all": lambda m: None}
    scope = [scopes[kind.scope](unit) for unit in models]
    n_parts = len(detector.parts)
    parts = np.full((len(machine), n_parts), np.nan, np.float32)
    status = np.zeros(len(models), np.int64)
    collected: dict[int, Any] = {}
    fits, remarks = [], []
    key = jax.random.fold_in(jax.random.key(spec.seed), number) if number else jax.random.key(spec.seed)
    for this in dict.fromkeys(scope):
        members = [i for i, other in enumerate(scope) if other == this]
        chosen = np.flatnonzero(np.isin(model[machine], members))
        inside = np.searchsorted(members, model[machine[chosen]])
        name = models[members[0]].label if len(members) == 1 else (str(this) if this else "all machines")
        options = EngineOptions(
            checkpoints / _folder(models[members[0]]) if checkpoints else None, watch.on_step
        )
        group = features.at(chosen.tolist())
        names = [models[i] for i in members]
        try:
            found = fit_group(own, key, group, names, inside, [lane.of(chosen) for lane in lanes], options)
        except FitError as error:
            failures.append(error)
            status[members] = _FAILED
            continue
        remarks += [f"{name}: {remark}" for remark in found.remarks]
        last = len(lanes) - 1
        for j, i in enumerate(members):
            status[i] = found.status[last, j]
            collected[i] = jax.tree.map(lambda leaf, j=j: np.asarray(leaf[-1, j]), found.params)
            n_clips = int(np.sum((inside == j) & ~lanes[last].left_out[chosen]))
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
        if spec.calibration != "none":
            _score_held_out(
                own, found.params, group, inside, [lane.of(chosen) for lane in lanes], chosen, parts
            )
        if watch.on_fit:
            watch.on_fit(name)
    if not collected:
        raise FitError(f"not one machine can be fitted: {'; '.join(map(str, failures[:3]))}")
    good = np.isin(model, list(collected))
    stand_in = next(iter(collected.values()))  # of those that failed; it is dropped with them
    for i, unit in enumerate(models):
        if status[i] == NOT_FINITE:
            good[model == i] = False
            failures.append(
                FitError(
                    f"the {own.kind} of {unit.label} did not stay finite: raise the regularisation (reg_covar), lower the "
                    "learning rate, or standardise the features"
                )
            )
    standardizer, params = jax.tree.map(
        lambda *leaves: np.stack(leaves), *(collected.get(i, stand_in) for i in range(len(models)))
    )
    numbers = DetectorParams(model, standardizer, params, _typical(own, features, machine, len(machines)))
    mates = np.array([scope.index(scope[m]) for m in model])
    return _FittedDetector(
        numbers, parts, good, np.repeat(mates[:, None], n_parts, axis=1), tuple(fits), tuple(remarks)
    )


def _score_held_out(
    spec: DetectorSpec,
    params: Any,
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
        own = DetectorParams(index, *jax.tree.map(lambda leaf, k=k: np.asarray(leaf[k]), params), nothing)
        for j in range(n_models):
            clips = np.flatnonzero(lane.left_out & (inside == j))
            if len(clips):
                part = group.at(clips.tolist())
                parts[chosen[clips]] = parts_of_clips(spec, own, j, part.rows, part.offsets)


def _typical(spec: DetectorSpec, features: ClipFeatures, machine: np.ndarray, n_machines: int) -> np.ndarray:
    """(n_machines, n_bands) mean frame of each machine's normal clips, as far as the rows tell it; else NaN."""
    config = spec.features
    if not isinstance(config, FeatureConfig) or config.kind == "mfcc" or config.clip_norm != "none":
        return np.full((n_machines, 1), np.nan, np.float32)
    if config.pooling not in ("none", "mean", "gwrp", "max", "views", "moments"):
        return np.full((n_machines, 1), np.nan, np.float32)
    n_bands = replace(config, pooling="none").n_features
    owner = np.repeat(machine, np.diff(features.offsets))
    bands = features.rows[:, :n_bands]
    return np.stack([bands[owner == m].mean(axis=0, dtype=np.float64) for m in range(n_machines)]).astype(
        np.float32
    )


def _keep(params: DetectorParams, machines: np.ndarray) -> DetectorParams:
    """Only some machines, and the models that judge them."""
    models, index = np.unique(params.model[machines], return_inverse=True)
    own = jax.tree.map(lambda leaf: leaf[models], (params.standardizer, params.params))
    return DetectorParams(index.reshape(-1).astype(np.int32), *own, params.typical[machines])


def _finite(
    every: list[ClipFeatures], group: np.ndarray, failures: list[AdjaxError]
) -> tuple[list[ClipFeatures], np.ndarray]:
    """The clips whose features are finite; each of the others would spoil a whole machine."""
    bad: dict[int, None] = {}
    for features in every:
        bad |= dict.fromkeys(not_finite(features))
    failures += [
        ClipError(every[0].clips[i].path, "its features are not finite: scale the samples to [-1, 1]")
        for i in bad
    ]
    keep = [i for i in range(len(group)) if i not in bad]
    return ([own.at(keep) if bad else own for own in every]), group[keep]


def not_finite(features: ClipFeatures) -> list[int]:
    """Places of the clips with a row that is not finite."""
    rows = np.flatnonzero(~np.isfinite(features.rows).all(axis=1))
    return np.unique(np.searchsorted(features.offsets, rows, side="right") - 1).tolist()


def _enough(
    spec: ModelSpec, every: list[ClipFeatures], group: np.ndarray, failures: list[AdjaxError]
) -> tuple[list[ClipFeatures], np.ndarray]:
    """Without the machines that have too few clips; they lend nothing to others either."""
    clips = every[0].clips
    least = 1 if spec.calibration == "none" else MIN_CLIPS
    counts: dict[MachineId, int] = {}
    for clip in clips:
        counts[clip.machine] = counts.get(clip.machine, 0) + 1
    few: Mapping[MachineId, int] = {name: n for name, n in counts.items() if n < least}
    failures += [
        FitError(
            f"{name.label} has {n} training clips, a calibrated model needs at least {least} of each machine: add normal "
            "clips of it"
        )
        for name, n in sorted(few.items())
    ]
    return _only([clip.machine not in few for clip in clips], every, group, failures)


def _folder(machine: MachineId) -> str:
    return "_".join(part for part in machine if part) or "all"


def checkpoint_folders(clips: ClipTable) -> set[str]:
    """Names of the folders that fits of these clips may leave among the checkpoints."""
    machines = set(clips.machines) | {MachineId(name) for name in clips.machine_types}
    return {_folder(machine) for machine in machines}
