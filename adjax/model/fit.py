"""Fit a model: every detector on the normal clips of all machines, once for each fold, then the calibration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from adjax.data.clips import ClipTable
from adjax.model.adapt import adapt_model, why_not
from adjax.model.calibration import Calibration, calibrate, no_calibration, standing_apart
from adjax.model.contrast import beside, contrasts_of
from adjax.model.domains import as_targets, judges_apart, targets
from adjax.model.extraction import ClipFeatures
from adjax.model.fit_detector import FittedDetector, Watch, fit_detector, folder_of
from adjax.model.folds import fold_of_clips, held_out_split
from adjax.model.lanes import Lane
from adjax.model.memory import remember
from adjax.model.model import Model
from adjax.model.record import Record
from adjax.model.result import HeldOut
from adjax.model.scopes import with_enough
from adjax.model.score import DetectorParams, ModelParams
from adjax.model.spec import ModelSpec, check_rate
from adjax.model.usable import profiles_of, usable_clips
from adjax.model.vectors import align
from adjax.types import AdjaxError, FitError, MachineId, SettingsError, of_machines

FALSE_ALARM_RATE = 0.05
FEW = 16  # a machine with fewer clips is adapted to, if two of its type have RICHER times as many
RICHER = 4


def fit_model(
    spec: ModelSpec,
    train: ClipFeatures | Sequence[ClipFeatures],
    *,
    contrast: ClipFeatures | Sequence[ClipFeatures | None] | None = None,
    group: np.ndarray | None = None,
    false_alarm_rate: float = FALSE_ALARM_RATE,
    checkpoints: Path | None = None,
    watch: Watch = Watch(),
) -> Model:
    """Fit a model on the host.

    A machine with few clips beside others of its type with many, and the target domain of a machine, are not fitted:
    the model of the others is adapted to them (`adjax.model.adapt`), and they are its last machines.

    A machine that cannot be fitted is not in the model: its `FitError` is in the record, and the others go on. So do
    the other detectors where one needs more machines than there are; the model's specification is then without it.

    Args:
        spec: what to fit.
        train: features of normal clips, in recording order: one for all detectors, or one for each.
        contrast: features of normal clips of further machines, which the model will not judge: detectors that look at
            all types learn what sets the model's machines apart from these, too; the others do not see them. One for
            all detectors, or one for each.
        group: (n_clips,) int, which clips belong to one recording or session; None: none do. See `fold_of_clips`.
        false_alarm_rate: at which clips will be called anomalous, in (0, 1); it can be changed afterwards.
        checkpoints: folder for those of long trainings; the same call after a stop at any point goes on there, to the
            same bits. None: none are written.
        watch: whom to tell how far it is.

    Raises:
        SettingsError: settings out of range, or that contradict each other or the data.
        DataError: vectors with other columns than the specification's.
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
    every = [align(own, detector) for detector, own in zip(spec.detectors, every, strict=True)]
    failures: list[AdjaxError] = list(dict.fromkeys(error for own in every for error in own.failures))
    group = np.arange(len(every[0].clips)) if group is None else np.asarray(group)
    if group.shape != (len(every[0].clips),):
        raise SettingsError(
            f"group of shape {group.shape} for {len(every[0].clips)} clips: give one number for each clip that can be "
            "used"
        )
    if len(every[0].clips) and (later := _later(spec, every[0])).any():
        first, second = (np.flatnonzero(own).tolist() for own in (~later, later))
        told = [replace(own.at(first), failures=own.failures, notes=own.notes) for own in every]
        source = fit_model(
            spec,
            told,
            contrast=contrast,
            group=group[first],
            false_alarm_rate=false_alarm_rate,
            checkpoints=checkpoints,
            watch=watch,
        )
        fitted_too = [every[i] for i, own in enumerate(spec.detectors) if own in source.spec.detectors]
        names = every[0].clips.machines
        rest = [as_targets(own.at(second), names) for own in fitted_too]
        try:
            return adapt_model(source, rest, group=group[second])
        except FitError as error:  # the others go on
            failed = replace(source.record, failures=(*source.record.failures, error))
            return replace(source, record=failed)
    every, group, findings = usable_clips(spec, every, group, failures)
    clips = every[0].clips
    machines = clips.machines
    place = {machine: i for i, machine in enumerate(machines)}
    machine = np.array([place[clip.machine] for clip in clips], np.int64)
    others, notes_of_others = contrasts_of(spec, contrast, machines)
    spec, chosen, left_out = with_enough(
        spec, [machines if one is None else (*machines, *one.clips.machines) for one in others]
    )
    every, others = [every[i] for i in chosen], [others[i] for i in chosen]
    lanes = _lanes(spec, machine, group)
    fitted = [
        fit_detector(
            number,
            spec,
            *beside(own, machine, lanes, machines, other),
            len(machines),
            checkpoints,
            watch,
            failures,
        )
        for number, (own, other) in enumerate(zip(every, others, strict=True))
    ]
    good = np.all([one.good for one in fitted], axis=0)
    calibration, held_out, good = _calibrate(spec, fitted, clips, machine, good, false_alarm_rate, failures)
    kept = np.flatnonzero(good)
    params = ModelParams(tuple(_keep(one.params, kept) for one in fitted), calibration)
    notes = [note for own in every for note in own.notes] + left_out + notes_of_others
    notes += [remark for one in fitted for remark in one.remarks]
    record = Record.of(
        fits=tuple(fit for one in fitted for fit in one.fits),
        failures=tuple(failures),
        notes=tuple(dict.fromkeys(notes)),
        held_out=held_out,
        clips=clips,
        findings={
            name.label: tuple(map(str, own.findings)) for name, own in findings.items() if own.findings
        },
        profiles=profiles_of(every[0]),
    )
    judged = tuple(machines[i] for i in kept)
    return Model(spec, jax.tree.map(np.asarray, params), judged, record, remember(spec, every, judged))


def _later(spec: ModelSpec, features: ClipFeatures) -> np.ndarray:
    """(n_clips,) bool, clips to which the model of all others is adapted: of target domains, of machines with few."""
    if why_not(spec):
        return np.zeros(len(features.clips), bool)
    counts = Counter(clip.machine for clip in features.clips)
    few = set()
    for machine, n in counts.items():
        many = [
            own for own in counts if own.machine_type == machine.machine_type and counts[own] >= RICHER * n
        ]
        if n < FEW and len(many) >= 2:
            few.add(machine)
    found = np.array([clip.machine in few for clip in features.clips], bool)
    return found | targets(features) if judges_apart(spec) else found


def _calibrate(
    spec: ModelSpec,
    fitted: Sequence[FittedDetector],
    clips: ClipTable,
    machine: np.ndarray,
    good: np.ndarray,
    false_alarm_rate: float,
    failures: list[AdjaxError],
) -> tuple[Calibration, tuple[HeldOut, ...], np.ndarray]:
    """The calibration of the machines that have one, what their clips score, and which machines those are."""
    machines, parts = clips.machines, np.concatenate([one.parts for one in fitted], axis=1)
    if spec.calibration == "none":
        _check_some(good, failures)
        return no_calibration(int(good.sum()), parts.shape[1], false_alarm_rate), (), good
    usable, good = np.isfinite(parts).all(axis=1), good.copy()
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
    _check_some(good, failures)
    kept = np.flatnonzero(good).tolist()
    own = [np.flatnonzero((machine == number) & usable).tolist() for number in kept]
    mates = np.concatenate([one.mates[kept] for one in fitted], axis=1)
    detector = np.repeat(np.arange(len(fitted)), [one.parts.shape[1] for one in fitted])
    calibration, fused = calibrate([parts[i] for i in own], mates, spec.fusion, false_alarm_rate, detector)
    held_out = []
    for number, chosen, scores in zip(kept, own, fused, strict=True):
        names = tuple(clips[i].name for i in chosen)
        held_out.append(HeldOut(machines[number], names, scores, standing_apart(names, scores)))
    return calibration, tuple(held_out), good


def _check_some(good: np.ndarray, failures: list[AdjaxError]) -> None:
    """Raise FitError if not one machine is left."""
    if not good.any():
        reasons = "; ".join(str(error) for error in failures[:3])
        raise FitError(f"not one machine can be fitted: {reasons or 'there are no clips'}")


def _lanes(spec: ModelSpec, machine: np.ndarray, group: np.ndarray) -> list[Lane]:
    """What is left out of each fit; the last is the model."""
    nothing = np.zeros(len(machine), bool)
    if spec.calibration == "none":
        return [Lane(0, nothing)]
    if spec.calibration == "split":
        return [Lane(0, held_out_split(machine, group))]
    fold = fold_of_clips(machine, group, spec.n_folds)
    return [*(Lane(int(k) + 1, fold == k) for k in np.unique(fold)), Lane(0, nothing)]


def _keep(params: DetectorParams, machines: np.ndarray) -> DetectorParams:
    """Only some machines, and the models that judge them."""
    models, index = np.unique(params.model[machines], return_inverse=True)
    own = of_machines((params.standardizer, params.params), models)
    return DetectorParams(index.reshape(-1).astype(np.int32), own[0], own[1], params.typical[machines])


def checkpoint_folders(clips: ClipTable) -> set[str]:
    """Names of the folders that fits of these clips may leave among the checkpoints."""
    machines = set(clips.machines) | {MachineId(name) for name in clips.machine_types}
    return {folder_of(machine) for machine in machines}
