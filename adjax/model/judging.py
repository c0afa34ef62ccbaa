"""Clips whose features are at hand, through a model on the host: verdicts, and why a clip has none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from adjax.data.clips import Clip, ClipTable
from adjax.model.calibration import Judged
from adjax.model.comparable import comparable, compare
from adjax.model.domains import whole, wholes
from adjax.model.extraction import ClipFeatures
from adjax.model.lift import make_detector
from adjax.model.record import Record
from adjax.model.result import UNDECIDED, Result
from adjax.model.score import ModelParams, judge_clips, parts_of_clips
from adjax.model.spec import ModelSpec
from adjax.model.vectors import takes_vectors
from adjax.types import AdjaxError, ClipError, FitError, MachineId


def score_features(
    spec: ModelSpec,
    params: ModelParams,
    machines: Sequence[MachineId],
    record: Record,
    every: Sequence[ClipFeatures],
    *,
    any_machine: bool = False,
) -> Result:
    """Score clips; several entries of a model may judge one, and the one that finds it most normal counts.

    Args:
        spec: of the model.
        params: of the model.
        machines: the model's entries.
        record: of the model.
        every: features of the clips, for each detector.
        any_machine: see `Model.score_features`.
    """
    clips = every[0].clips
    failures: list[AdjaxError] = list(dict.fromkeys(error for own in every for error in own.failures))
    candidates, errors = _candidates(clips, machines, record, any_machine)
    failures += errors
    places = _rounds(candidates)
    rounds = [judge_features(spec, params, place, every) for place in places]
    chosen, index = most_normal(rounds), np.arange(len(clips))
    judged = Judged(*(np.stack(leaves)[chosen, index] for leaves in zip(*rounds, strict=True)))
    good = np.isfinite(judged.score)
    for i in np.flatnonzero(~good & (places[0] >= 0)).tolist():
        failures.append(ClipError(clips[i].path, _reason(spec, every, i)))
    kept = np.flatnonzero(good).tolist()
    judged, place = Judged(*(leaf[kept] for leaf in judged)), places[chosen, index][kept]
    some = every[0].at(kept)
    clips = some.clips
    if any_machine:
        names = [whole(machines[number], machines)._asdict() for number in place]
        clips = ClipTable(tuple(replace(clip, **own) for clip, own in zip(clips, names, strict=True)))
    profiles = [record.profiles.get(machines[number].label) for number in place]
    pairs = zip(profiles, some.infos, strict=True) if some.infos else [(None, None)] * len(kept)
    flags = tuple(compare(own, info) if own and info else () for own, info in pairs)
    usable = np.array([comparable(own) for own in flags], bool)
    return Result(
        clips,
        judged.score.astype(np.float64),
        _as_written(judged.p_value),
        judged.extrapolated,
        np.where(usable, judged.decision, UNDECIDED),
        part_names_of(spec),
        judged.parts.astype(np.float64),
        flags,
        usable,
        tuple(failures),
        tuple(dict.fromkeys(note for own in every for note in own.notes)),
        judged.loudest,
    )


def part_names_of(spec: ModelSpec) -> tuple[str, ...]:
    """Of what is fused; with several detectors, each with its kind before it."""
    several = len(spec.detectors) > 1
    return tuple(
        f"{detector.kind} {part}" if several and part != detector.kind else part
        for detector in spec.detectors
        for part in make_detector(detector).parts
    )


def entries_of(clip: Clip, machines: Sequence[MachineId]) -> tuple[int, ...]:
    """Which entries of a model judge a clip: those of its machine; in a model of one machine that, whatever its name.

    Raises:
        ClipError: the model does not know the clip's machine.
    """
    names, machine = wholes(machines), clip.machine
    if machine not in names and len(names) == 1 and not clip.machine_id:
        machine = names[0]
    found = [i for i, own in enumerate(machines) if whole(own, machines) == machine]
    if machine in machines:  # told to be of one domain
        found = found or [machines.index(machine)]
    if found:
        return tuple(found)
    known = ", ".join(name.label for name in names[:8])
    raise ClipError(
        clip.path,
        f"its machine, {clip.machine.label}, is not in the model, which knows {known}; say whose it is, or train "
        "the model with normal clips of it",
    )


def _candidates(
    clips: ClipTable, machines: Sequence[MachineId], record: Record, any_machine: bool
) -> tuple[list[tuple[int, ...]], list[AdjaxError]]:
    """Which entries may judge each clip, () for none; and the errors of clips that none judges."""
    failed = [str(own) for own in record.failures if isinstance(own, FitError)]
    found: list[tuple[int, ...]] = []
    errors: list[AdjaxError] = []
    strangers: dict[MachineId, int] = {}
    known: dict[MachineId, tuple[int, ...]] = {}
    for clip in clips:
        try:
            if clip.machine not in known:
                known[clip.machine] = (
                    tuple(range(len(machines))) if any_machine else entries_of(clip, machines)
                )
            found.append(known[clip.machine])
        except ClipError as error:
            found.append(())
            if any(clip.machine.label in own for own in failed):
                strangers[clip.machine] = strangers.get(clip.machine, 0) + 1
            else:
                errors.append(error)
    errors += [
        FitError(f"{name.label} is not in the model (it could not be fitted): its {n} clips have no score")
        for name, n in strangers.items()
    ]
    return found, errors


def _rounds(candidates: Sequence[tuple[int, ...]]) -> np.ndarray:
    """(n_rounds, n_clips) int, at least one round: each candidate of each clip in turn, then -1."""
    n = max(1, *map(len, candidates)) if candidates else 1
    return np.array([[*own, *[-1] * (n - len(own))] for own in candidates], np.int64).reshape(-1, n).T


def judge_features(
    spec: ModelSpec, params: ModelParams, place: np.ndarray, every: Sequence[ClipFeatures]
) -> Judged:
    """Verdicts on clips, each by one entry of a model.

    Args:
        spec: of the model.
        params: of the model.
        place: (n_clips,) int, which entry judges each clip; -1: none does.
        every: features of the clips, for each detector.

    Returns:
        NumPy arrays with the leading axis n_clips; the score is NaN where there is none.
    """
    parts = _raw_parts(spec, params, place, every)
    good = np.flatnonzero((place >= 0) & np.isfinite(parts).all(axis=1))
    (n_clips, n_parts), n = parts.shape, len(good)

    def nothing(*shape: int) -> np.ndarray:
        return np.full((n_clips, *shape), np.nan, np.float32)

    zeros = np.zeros(n_clips, np.int32)
    found = Judged(
        nothing(), nothing(), np.zeros(n_clips, bool), zeros, nothing(n_parts), nothing(n_parts), zeros.copy()
    )
    if n:
        # Few shapes, so few compiles: the last clip is repeated.
        size = max(8, 1 << max(n - 1, 0).bit_length())
        index = good[np.minimum(np.arange(size), n - 1)]
        judged = judge_clips(params.calibration, spec.fusion, place[index].astype(np.int32), parts[index])
        for own, values in zip(found, judged, strict=True):
            own[good] = np.asarray(values)[:n]
    return found


def most_normal(rounds: Sequence[Judged]) -> np.ndarray:
    """(n_clips,) int, the round in which each clip looks most normal: the largest p-value, then the lowest score."""
    p_values = np.stack([np.nan_to_num(own.p_value, nan=-1.0) for own in rounds])
    scores = np.stack([np.nan_to_num(own.score, nan=np.inf) for own in rounds])
    return np.lexsort((scores, -p_values), axis=0)[0]


def _raw_parts(
    spec: ModelSpec, params: ModelParams, place: np.ndarray, every: Sequence[ClipFeatures]
) -> np.ndarray:
    """(n_clips, n_parts) float32 of all detectors beside each other; NaN where there is none."""
    widths = [len(make_detector(own).parts) for own in spec.detectors]
    parts = np.full((len(place), sum(widths)), np.nan, np.float32)
    column = 0
    for detector, own, features, width in zip(spec.detectors, params.detectors, every, widths, strict=True):
        for number in np.unique(place[place >= 0]):
            chosen = np.flatnonzero(place == number)
            some = features.at(chosen.tolist())
            found = parts_of_clips(detector, own, int(number), some.rows, some.offsets)
            parts[chosen, column : column + width] = found
        column += width
    return parts


def _reason(spec: ModelSpec, every: Sequence[ClipFeatures], clip: int) -> str:
    """Why a clip has no score, and what to do about it."""
    if not all(np.isfinite(own.at([clip]).rows).all() for own in every):
        return "its features are not finite: scale the samples to [-1, 1]"
    lengths = [int(own.offsets[clip + 1] - own.offsets[clip]) for own in every]
    needed = [getattr(own.make(), "n_context", 1) for own in spec.detectors]
    if any(n < least for n, least in zip(lengths, needed, strict=True)):
        return f"{min(lengths)} frames are too few for a score; give a longer clip"
    if takes_vectors(spec):
        return "its score is not finite: its numbers are too far from those of the training"
    return "its score is not finite: scale the samples to [-1, 1], as those of the training"


def _as_written(values: np.ndarray) -> np.ndarray:
    """float64 of the shortest decimals that float32 numbers have: .05 is .05, as in a comparison with a rate."""
    return np.array([float(str(value)) for value in values.astype(np.float32)], np.float64)
