"""Adapt a kept model to machines that it has not heard: from a few normal clips each, and what it knows of their mates.

Nothing that the model knows is fitted again: its machines keep their numbers, their scores and their p-values. A new
machine gets what its kind can make of few clips (`Kind.adapt`), which moves by itself from what the mates agree on to
the machine's own as its clips grow in number. So does its calibration: beside its own held-out clips count those of
mates that have played a machine of so few clips, as STAND_INS clips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from adjax.data.clips import count
from adjax.detectors.kinds import kind_of
from adjax.model.adapt_detector import adapt_lanes, held_out_parts, mates_of, play, source_of
from adjax.model.calibration import Calibration, calibrate, no_calibration, standing_apart
from adjax.model.domains import as_targets, judges_apart, wholes
from adjax.model.extraction import ClipFeatures
from adjax.model.fit_detector import typical_of
from adjax.model.folds import fold_of_clips
from adjax.model.joining import calibration_at, with_machine, without_machine
from adjax.model.model import Model
from adjax.model.record import Record
from adjax.model.result import Fit, HeldOut
from adjax.model.roles import cast_roles
from adjax.model.score import DetectorParams
from adjax.model.spec import ModelSpec
from adjax.model.usable import profiles_of, usable_clips
from adjax.model.vectors import align
from adjax.types import NOT_FINITE, AdjaxError, FitError, MachineId, SettingsError

STAND_INS = 16  # as many clips the mates' count beside a machine's own
LEAST = 3  # clips, of which one can be left out


class Adapted(NamedTuple):
    """What became of one detector.

    Attributes:
        params: of the new machine alone.
        parts: (n_clips, n_parts) float32 raw parts of its clips, each by numbers without it; NaN where not left out.
        played: for each mate that played the new machine, (n, n_parts) raw parts of its other clips.
        status: of the fit.
    """

    params: DetectorParams
    parts: np.ndarray
    played: Sequence[np.ndarray]
    status: int


def adapt_model(
    model: Model, new: ClipFeatures | Sequence[ClipFeatures], *, group: np.ndarray | None = None
) -> Model:
    """The model with further machines, on the host.

    A machine that the model has heard before is heard anew: the new clips are its own from now on, and what it was is
    its mate. A machine that cannot be adapted is not in the model: its `FitError` is in the record, and the others go
    on.

    Args:
        model: a model that remembers clips; see `adjax.model.memory`.
        new: features of normal clips, in recording order: one for all detectors, or one for each.
        group: (n_clips,) int, see `fit_model`.

    Raises:
        SettingsError: the model remembers nothing, a kind of it cannot be adapted, or it has several types, and a
            machine is of none of them.
        DataError: vectors with other columns.
        FitError: not one machine can be adapted.
    """
    spec = check_adaptable(model)
    every = [new] * len(spec.detectors) if isinstance(new, ClipFeatures) else list(new)
    every = [align(own, detector) for detector, own in zip(spec.detectors, every, strict=True)]
    failures: list[AdjaxError] = list(dict.fromkeys(error for own in every for error in own.failures))
    group = np.arange(len(every[0].clips)) if group is None else np.asarray(group)
    every = [_of_known_type(own, model.machines) for own in every]
    if judges_apart(spec):
        every = [as_targets(own, model.machines) for own in every]
    every, group, findings = usable_clips(spec, every, group, failures, least=1)
    notes = [note for own in every for note in own.notes]
    adapted, done = model, set()
    for machine in every[0].clips.machines:
        own = [features.of_machine(machine) for features in every]
        mine = np.array([clip.machine == machine for clip in every[0].clips])
        try:
            adapted, note = _with_machine(model, adapted, machine, own, group[mine])
        except FitError as error:
            failures.append(error)
            continue
        notes.append(note)
        done.add(machine.label)
    if adapted is model:
        raise FitError(f"not one machine can be adapted: {'; '.join(map(str, failures[:3]))}")
    old = adapted.record
    told = {name.label: tuple(map(str, one.findings)) for name, one in findings.items() if one.findings}
    record = replace(
        old,
        failures=(*old.failures, *failures),
        notes=tuple(dict.fromkeys((*old.notes, *notes))),
        findings={**old.findings, **told},
        profiles={**old.profiles, **_of(done, profiles_of(every[0]))},
        n_clips={**old.n_clips, **_of(done, Record.of(clips=every[0].clips).n_clips)},
    )
    return replace(adapted, record=record)


def _of(names: set[str], values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: own for name, own in values.items() if name in names}


def check_adaptable(model: Model) -> ModelSpec:
    """The specification of a model that can be adapted.

    Raises:
        SettingsError: it cannot.
    """
    if not model.memory:
        raise SettingsError(
            "this model remembers none of its training clips, so that it cannot be adapted: train it anew"
        )
    if reason := why_not(model.spec):
        raise SettingsError(reason)
    return model.spec


def why_not(spec: ModelSpec) -> str:
    """Why models of a specification cannot be adapted, and what to do; "" if they can."""
    for own in spec.detectors:
        if kind_of(own.kind).adapt is None:
            return f"the {own.kind} cannot be adapted; train a model with the new clips, too"
        if own.per == "type":
            return f"per=type: the {own.kind} has one model for all machines of a type, and cannot be adapted to one"
    return ""


def _of_known_type(features: ClipFeatures, known: Sequence[MachineId]) -> ClipFeatures:
    """Clips of a type that the model knows; where it knows but one, other machines are taken for machines of that.

    Raises:
        SettingsError: it knows several, and not that one.
    """
    types = sorted({name.machine_type for name in known})
    strange = [name for name in features.clips.machines if name.machine_type not in types]
    if not strange:
        return features
    if len(types) > 1:
        raise SettingsError(
            f"{strange[0].label} is of no type that the model knows ({', '.join(types)}): say of which it is, such as "
            f"machine '{types[0]}/{strange[0].machine_id or strange[0].machine_type}'"
        )
    clips = [
        clip
        if clip.machine_type in types
        else replace(
            clip,
            machine_type=types[0],
            machine_id=clip.machine_id or clip.machine_type,
            key=clip.name,
        )
        for clip in features.clips
    ]
    notes = [
        f"{name.label} is taken for {MachineId(types[0], name.machine_id or name.machine_type).label}: the model knows "
        f"no other type than {types[0]}"
        for name in strange
    ]
    return replace(
        features, clips=replace(features.clips, clips=tuple(clips)), notes=(*features.notes, *notes)
    )


def _with_machine(
    model: Model, so_far: Model, machine: MachineId, every: Sequence[ClipFeatures], group: np.ndarray
) -> tuple[Model, str]:
    """A model with one more machine, and what there is to note about it.

    Args:
        model: the kept one, to be adapted from.
        so_far: the one to add to.
        machine: the new one.
        every: features of its clips, for each detector.
        group: of its clips.
    """
    spec, n = model.spec, len(group)
    calibrated = spec.calibration != "none"
    memory = _without(model.memory, machine, every[0])
    roles = cast_roles(memory, machine, n, spec.seed) if calibrated else ()
    lanes = [*(left_out(group, spec.n_folds) if calibrated else ()), np.zeros(n, bool)]
    # Learnt strengths help a detector alone; in a fusion they help nowhere, and harm a little at five clips.
    learn_for = n if len(spec.detectors) == 1 else None
    found = []
    for number, (own, params, kept, features) in enumerate(
        zip(spec.detectors, model.params.detectors, memory, every, strict=True)
    ):
        source = source_of(number, own, spec.seed, params, model.machines, kept, machine, learn_for)
        made, status = adapt_lanes(source, features, lanes)
        if status[-1] == NOT_FINITE:
            raise FitError(
                f"the {own.kind} of {machine.label} did not stay finite: {kind_of(own.kind).remedy}"
            )
        parts = held_out_parts(source, features, made, lanes)
        played = play(source, roles)
        typical = typical_of(own, features, np.zeros(n, np.int64), 1)
        found.append(Adapted(made[-1]._replace(typical=typical), parts, played, int(status[-1])))
    mates = {name for own in spec.detectors for name in mates_of(own, model.machines, machine)} - {machine}
    n_mates = len(wholes([name for name in mates if name.machine_type == machine.machine_type]))
    note = f"{machine.label} is adapted: {count(n, 'clip')} of its own, beside {count(n_mates, 'machine')} of its type"
    if machine in model.machines:
        note += f"; they take the place of the {count(model.record.n_clips[machine.label], 'clip')} it was known from"
    rate = float(model.params.calibration.false_alarm_rate)
    held_out: tuple[HeldOut, ...] = ()
    if calibrated:
        calibration, scores, usable = calibration_of(spec, found, rate, machine)
        names = tuple(every[0].clips[i].name for i in usable)
        held_out = (HeldOut(machine, names, scores, standing_apart(names, scores)),)
        lent = int(calibration.n_held_out[0]) - len(usable)
        if lent:
            note += f". Its false alarms rest on {count(len(usable), 'held-out clip')} of its own and {lent} of theirs"
    else:
        calibration = no_calibration(1, len(model.part_names), rate)
    fits = tuple(
        Fit(own.kind, *machine, n, len(features.rows), np.nan, 1, one.status)
        for own, features, one in zip(spec.detectors, every, found, strict=True)
    )
    adapted = with_machine(
        without_machine(so_far, machine), machine, [one.params for one in found], calibration, every
    )
    record = adapted.record
    record = replace(record, fits=(*record.fits, *fits), held_out=(*record.held_out, *held_out))
    return replace(adapted, record=record), note


def left_out(group: np.ndarray, n_folds: int) -> list[np.ndarray]:
    """(n_clips,) bool each, the clips of a machine that are left out in turn; () of fewer than LEAST.

    Without one of two clips the other is alone, and what is measured by the space between clips is another number.
    """
    n = len(group)
    if n < LEAST:
        return []
    fold = fold_of_clips(np.zeros(n, np.int64), group, n_folds)
    return [fold == k for k in np.unique(fold)] if fold.max() > 0 else []


def _without(
    memory: Sequence[ClipFeatures], machine: MachineId, new: ClipFeatures
) -> tuple[ClipFeatures, ...]:
    """What is remembered, without clips of the machine that are among its new ones: they would judge themselves."""
    paths = {clip.path for clip in new.clips}
    if machine not in {clip.machine for clip in memory[0].clips}:
        return tuple(memory)
    return tuple(own.where(lambda clip: clip.machine != machine or clip.path not in paths) for own in memory)


def calibration_of(
    spec: ModelSpec, found: Sequence[Adapted], false_alarm_rate: float, machine: MachineId
) -> tuple[Calibration, np.ndarray, list[int]]:
    """The calibration of one adapted machine.

    Args:
        spec: of the model.
        found: what became of each detector.
        false_alarm_rate: of decisions.
        machine: the new one.

    Returns:
        It; the fused scores of the machine's held-out clips; and which of its clips those are.

    Raises:
        FitError: neither can its clips be left out nor has it mates that could play it.
    """
    parts = np.concatenate([one.parts for one in found], axis=1)
    usable = np.flatnonzero(np.isfinite(parts).all(axis=1)).tolist()
    played = [np.concatenate(rows, axis=1) for rows in zip(*(one.played for one in found), strict=True)]
    played = [own[np.isfinite(own).all(axis=1)] for own in played]
    played = [own for own in played if len(own)]
    own = parts[usable]
    if played:
        own = np.concatenate([own, _stand_ins(played, np.random.default_rng([spec.seed, machine.seed]))])
    if len(own) < 2:
        raise FitError(
            f"{count(len(usable), 'clip')} can be left out in turn, and no two machines of the type can play this one: "
            "give at least 3 normal clips"
        )
    n_parts = parts.shape[1]
    detector = np.repeat(np.arange(len(found)), [one.parts.shape[1] for one in found])
    mates = np.zeros((1 + len(played), n_parts), int)
    calibration, fused = calibrate([own, *played], mates, spec.fusion, false_alarm_rate, detector)
    return calibration_at(calibration, slice(0, 1)), fused[0][: len(usable)], usable


def _stand_ins(played: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """(<= STAND_INS, n_parts) clips drawn at random from those of all mates, as a clip of one more machine would be."""
    pool = np.concatenate(played)
    return pool[rng.permutation(len(pool))[:STAND_INS]]
