"""Which clips a model may be fitted to: finite, enough of each machine, and recordings that say something."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from adjax.model.calibration import MIN_CLIPS
from adjax.model.comparable import Profile, fit_profile
from adjax.model.extraction import ClipFeatures
from adjax.model.findings import MIN_RECORDINGS, TrainingFindings, check_training
from adjax.model.spec import ModelSpec
from adjax.types import AdjaxError, ClipError, FitError, MachineId

NOT_FINITE_FEATURES = "its features are not finite: scale the samples to [-1, 1]"


def usable_clips(
    spec: ModelSpec,
    every: list[ClipFeatures],
    group: np.ndarray,
    failures: list[AdjaxError],
    *,
    least: int | None = None,
) -> tuple[list[ClipFeatures], np.ndarray, dict[MachineId, TrainingFindings]]:
    """The clips to fit to, machine after machine; what cannot be used is added to `failures`.

    Args:
        spec: what will be fitted.
        every: features of the same clips, one for each detector.
        group: (n_clips,) int, see `fit_model`.
        failures: grows.
        least: clips that a machine must have; None: what the calibration needs.

    Returns:
        Features and groups of the usable clips, and what is odd about the recordings of each machine.

    Raises:
        FitError: not one machine is left.
    """
    every, group = _finite(every, group, failures)
    if least is None:
        least = 1 if spec.calibration == "none" else MIN_CLIPS
    every, group = _enough(least, every, group, failures)
    findings = look_at(every[0], least=min(least, MIN_RECORDINGS))
    every, group = _without_refused(findings, every, group, failures)
    # One order of machines, so that sums have one order, and the same bits.
    order = np.array(sorted(range(len(group)), key=lambda i: every[0].clips[i].machine), np.int64)
    if (np.diff(order) < 0).any():
        every, group = [own.at(order.tolist()) for own in every], group[order]
    return every, group, findings


def look_at(features: ClipFeatures, *, least: int = MIN_RECORDINGS) -> dict[MachineId, TrainingFindings]:
    """What is odd about the training recordings of each machine; nothing where no sound is behind them."""
    found = {}
    for name in features.clips.machines if features.infos else ():
        own = features.of_machine(name)
        found[name] = check_training(own.clips.names, own.infos, machine=name.label, least=least)
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


def profiles_of(features: ClipFeatures) -> dict[str, Profile]:
    """What the training recordings of each machine looked like, by its label."""
    found = {}
    for name in features.clips.machines if features.infos else ():
        found[name.label] = fit_profile(features.of_machine(name).infos)
    return found


def _finite(
    every: list[ClipFeatures], group: np.ndarray, failures: list[AdjaxError]
) -> tuple[list[ClipFeatures], np.ndarray]:
    """The clips whose features are finite; each of the others would spoil a whole machine."""
    bad: dict[int, None] = {}
    for features in every:
        bad |= dict.fromkeys(not_finite(features))
    failures += [ClipError(every[0].clips[i].path, NOT_FINITE_FEATURES) for i in bad]
    keep = [i for i in range(len(group)) if i not in bad]
    return ([own.at(keep) if bad else own for own in every]), group[keep]


def finite_clips(features: ClipFeatures) -> ClipFeatures:
    """The clips whose features are finite; the others are among its failures."""
    bad = set(not_finite(features))
    if not bad:
        return features
    errors = [ClipError(features.clips[i].path, NOT_FINITE_FEATURES) for i in sorted(bad)]
    kept = features.at([i for i in range(len(features.clips)) if i not in bad])
    return replace(kept, failures=(*features.failures, *errors), notes=features.notes)


def not_finite(features: ClipFeatures) -> list[int]:
    """Places of the clips with a row that is not finite."""
    rows = np.flatnonzero(~np.isfinite(features.rows).all(axis=1))
    return np.unique(np.searchsorted(features.offsets, rows, side="right") - 1).tolist()


def _enough(
    least: int, every: list[ClipFeatures], group: np.ndarray, failures: list[AdjaxError]
) -> tuple[list[ClipFeatures], np.ndarray]:
    """Without the machines that have too few clips; they lend nothing to others either."""
    clips = every[0].clips
    counts: dict[MachineId, int] = {}
    for clip in clips:
        counts[clip.machine] = counts.get(clip.machine, 0) + 1
    few: Mapping[MachineId, int] = {name: n for name, n in counts.items() if n < least}
    failures += [
        FitError(
            f"{name.label} has {n} training clips, a calibrated model needs at least {least} of each machine: add "
            "normal clips of it"
        )
        for name, n in sorted(few.items())
    ]
    return _only([clip.machine not in few for clip in clips], every, group, failures)
