"""From raw parts to a score with a p-value: what normal clips score when no fit has seen them.

Every part is centred and scaled by the held-out clips of its machine, the parts are fused, and the fused score is
ranked among those of the held-out clips. Ranks need no assumption but exchangeability (split conformal prediction, Vovk
et al. 2005; with folds cross-conformal, Vovk 2015): of normal clips like those, no more than a share p gets a p-value
of p or less. So n held-out clips cannot say less than 1/(n + 1); beyond them an exponential tail goes on, and is
marked as extrapolated.

The parts of one detector speak by the loudest of them: each then has about the same rate of false alarms, and a fault
need show in only one. Several detectors add up their evidence (`adjax.model.evidence`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from adjax.model.evidence import LEAST_TAIL, TAIL, Evidence, evidence_of, fit_evidence
from adjax.model.spec import Fusion
from adjax.types import AnyArray

APART = 0.01  # chance that any clip of a machine is called apart by luck
MIN_CLIPS = 3  # of a machine: with one held out, two are left
MIN_SPREAD = 1e-3  # of a part whose normal clips are all alike


class Calibration(NamedTuple):
    """What held-out normal clips score; every leaf has the machine axis first.

    Attributes:
        centre: (n_machines, n_parts) mean of a part.
        spread: (n_machines, n_parts) > 0, its root mean square above the mean: only the upper side makes false alarms.
        part_scores: (n_machines, n, n_parts) each part, centred and scaled, in ascending order; +inf after the last.
        scores: (n_machines, n) the fused scores in ascending order; +inf after the last.
        n_held_out: (n_machines,) int32, how many those are; 0: not calibrated.
        tail: (n_machines,) mean excess of the largest scores, the scale of the tail beyond them.
        part_tail: (n_machines, n_parts) the same of the parts.
        false_alarm_rate: () in (0, 1), at which a clip is called anomalous.
        evidence: of several detectors whose evidence is added up; None: there are none.
    """

    centre: AnyArray
    spread: AnyArray
    part_scores: AnyArray
    scores: AnyArray
    n_held_out: AnyArray
    tail: AnyArray
    part_tail: AnyArray
    false_alarm_rate: AnyArray
    evidence: Evidence | None = None


class Judged(NamedTuple):
    """One clip's score and what it means.

    Attributes:
        score: () float, higher = more anomalous. Of one detector, and of fusion "max" and "mean", calibrated: 0 is a
            typical normal clip of the machine, 1 as far above it as the higher half of normal clips is on average. Of
            several detectors: the sum of their evidence, in nats, about 1 of each for a typical normal clip.
        p_value: () the chance that a normal clip of this machine scores at least as high; NaN without calibration.
        extrapolated: () bool, whether the score lies beyond all held-out ones: the p-value then rests on a fitted tail.
        decision: () int32, 1 anomalous, 0 normal, -1 undecided (not calibrated, or no score).
        parts: (n_parts,) what was fused: centred and scaled (raw without calibration).
        part_p_values: (n_parts,) of each part by itself.
        loudest: () int32, the part that speaks against the clip: the loudest one, where evidence is added up of the
            detector that has most of it.
    """

    score: AnyArray
    p_value: AnyArray
    extrapolated: AnyArray
    decision: AnyArray
    parts: AnyArray
    part_p_values: AnyArray
    loudest: AnyArray


def judge(calibration: Calibration, fusion: Fusion, machine: Array, parts: Array) -> Judged:
    """Calibrate and fuse one clip's raw parts.

    Args:
        calibration: of the model.
        fusion: how; static.
        machine: () int, whose clip it is.
        parts: (n_parts,) float, raw.
    """
    z = (parts - calibration.centre[machine]) / calibration.spread[machine]
    count = calibration.n_held_out[machine]
    part_p, _ = p_values(calibration.part_scores[machine].T, count, calibration.part_tail[machine], z)
    score, loudest = _fuse(fusion, calibration.evidence, machine, z)
    p_value, beyond = p_values(
        calibration.scores[machine][None], count, calibration.tail[machine][None], score[None]
    )
    p_value, beyond = p_value[0], beyond[0]
    decided = jnp.isfinite(p_value)
    decision = jnp.where(decided, p_value <= calibration.false_alarm_rate, -1).astype(jnp.int32)
    return Judged(score, p_value, beyond & decided, decision, z, part_p, loudest.astype(jnp.int32))


def p_values(scores: Array, count: Array, tail: Array, value: Array) -> tuple[Array, Array]:
    """Ranks among held-out scores, and the tail beyond them.

    Args:
        scores: (k, n) float, each row ascending, +inf after `count`.
        count: () int.
        tail: (k,) > 0, scale of the exponential tail.
        value: (k,) float, one for each row.

    Returns:
        (k,) p-values > 0: (1 + scores at least as high) / (count + 1), and beyond the largest 1 / (count + 1) falling
        with the tail; NaN where the value is, or nothing is held out. And (k,) bool, which are beyond.
    """
    real = jnp.isfinite(scores)
    higher = jnp.sum(real & (scores >= value[:, None]), axis=1)
    largest = jnp.max(jnp.where(real, scores, -jnp.inf), axis=1, initial=-jnp.inf)
    beyond = (value > largest) & (count > 0)
    excess = jnp.where(beyond, value - jnp.where(beyond, largest, 0), 0) / tail
    share = jnp.where((count > 0) & ~jnp.isnan(value), (1 + higher) / (count + 1), jnp.nan)
    return jnp.maximum(share * jnp.exp(-excess), jnp.finfo(share.dtype).tiny), beyond


def _fuse(fusion: Fusion, evidence: Evidence | None, machine: Array, z: Array) -> tuple[Array, Array]:
    """The score, and which part speaks."""
    if fusion == "fisher" and evidence is not None:
        told = evidence_of(evidence, machine, z)
        own = jnp.asarray(evidence.detector) == jnp.argmax(told)
        return jnp.sum(told), jnp.argmax(jnp.where(own, z, -jnp.inf))
    return (jnp.mean(z) if fusion == "mean" else jnp.max(z)), jnp.argmax(z)


def no_calibration(n_machines: int, n_parts: int, false_alarm_rate: float) -> Calibration:
    """That of a model whose parts stay raw."""
    zeros, ones = np.zeros((n_machines, n_parts), np.float32), np.ones((n_machines, n_parts), np.float32)
    return Calibration(
        zeros,
        ones,
        np.full((n_machines, 1, n_parts), np.inf, np.float32),
        np.full((n_machines, 1), np.inf, np.float32),
        np.zeros(n_machines, np.int32),
        ones[:, 0],
        ones,
        np.float32(false_alarm_rate),
    )


def calibrate(
    parts: Sequence[np.ndarray],
    mates: np.ndarray,
    fusion: Fusion,
    false_alarm_rate: float,
    detector: np.ndarray | None = None,
) -> tuple[Calibration, list[np.ndarray]]:
    """Learn what held-out normal clips score.

    With several parts, a held-out clip is itself judged by the others alone, as a new clip will be judged by all of
    them: its own score has no part in the centre, the spread and the ranks that it meets. One part alone is only
    ranked, and must then be scaled as a new clip's is: where a few clips score far above all others, leaving one out
    shifts the bulk by more than it is wide.

    Args:
        parts: for each machine (n_clips, n_parts) float raw parts of its clips, each from a fit without it, all finite;
            at least 2 clips.
        mates: (n_machines, n_parts) int: machines with the same number in a part share its spread, since their detector
            borrowed from each other: few clips say little about a spread.
        fusion: how parts are fused.
        false_alarm_rate: of decisions.
        detector: (n_parts,) int, whose each part is; None: all of one.

    Returns:
        The calibration, and for each machine (n_clips,) the fused scores of its clips, in their order.
    """
    n_machines, n_parts = mates.shape
    parts = [np.asarray(own, np.float64) for own in parts]
    centre = np.stack([own.mean(axis=0) for own in parts])
    squares = np.stack([_upper_squares(own, own.mean(axis=0)) for own in parts])
    freedom = np.array([len(own) - 1 for own in parts], float)
    together = mates[:, None, :] == mates[None, :, :]  # (n_machines, n_machines, n_parts)
    totals, counts = (together * squares[None]).sum(axis=1), (together * freedom[None, :, None]).sum(axis=1)
    spread = np.maximum(np.sqrt(totals / counts), MIN_SPREAD)
    judged = []
    for m, own in enumerate(parts):
        # One part keeps its order. In the precision in which new clips are scaled, so that ties stay ties.
        z = (own.astype(np.float32) - centre[m].astype(np.float32)) / spread[m].astype(np.float32)
        if n_parts > 1:
            z = _without_itself(own, totals[m] - squares[m], counts[m] - freedom[m])
        judged.append(z)
    evidence = None
    if fusion == "fisher" and detector is not None and detector.max() > 0:
        evidence, told = fit_evidence(judged, mates, detector)
        held_out = [own.sum(axis=1) for own in told]
    else:
        held_out = [z.mean(axis=1) if fusion == "mean" else z.max(axis=1) for z in judged]
    n = max(len(own) for own in parts)
    part_scores = np.full((n_machines, n, n_parts), np.inf)
    scores = np.full((n_machines, n), np.inf)
    tail, part_tail = np.ones(n_machines), np.ones((n_machines, n_parts))
    for m, (z, fused) in enumerate(zip(judged, held_out, strict=True)):
        part_scores[m, : len(z)] = np.sort(z, axis=0)
        scores[m, : len(z)] = np.sort(fused)
        tail[m] = _mean_excess(fused)
        part_tail[m] = [_mean_excess(column) for column in z.T]
    count = np.array([len(own) for own in parts], np.int32)
    numbers = (centre, spread, part_scores, scores, count, tail, part_tail, false_alarm_rate)
    leaves: list[Any] = [x if x is count else np.asarray(x, np.float32) for x in numbers]
    return Calibration(*leaves)._replace(evidence=evidence), held_out


def _upper_squares(parts: np.ndarray, centre: np.ndarray) -> np.ndarray:
    return (np.maximum(parts - centre, 0) ** 2).sum(axis=0)


def _without_itself(parts: np.ndarray, others: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """(n, n_parts) each clip centred and scaled by all other clips.

    Args:
        parts: (n, n_parts) of one machine.
        others: (n_parts,) sum of squares above the mean of its mates.
        freedom: (n_parts,) degrees of freedom of those.
    """
    n = len(parts)
    found = np.empty_like(parts)
    total = parts.sum(axis=0)
    # One other clip alone has no spread: then the two of them, as a new clip will be judged.
    alone = freedom + n - 2 < 1
    whole = np.sqrt(_upper_squares(parts, total / n) / max(n - 1, 1))
    for i, own in enumerate(parts):
        centre = (total - own) / (n - 1)
        squares = _upper_squares(parts, centre) - np.maximum(own - centre, 0) ** 2
        spread = np.sqrt((np.maximum(squares, 0) + others) / np.maximum(freedom + n - 2, 1))
        spread = np.where(alone, whole, spread)
        found[i] = (own - centre) / np.maximum(spread, MIN_SPREAD)
    return found


def tail_p_values(scores: np.ndarray) -> np.ndarray:
    """(n,) for each score the chance that one as high comes from the tail of all the others: which stand apart."""
    found = np.ones(len(scores))
    for i, own in enumerate(scores):
        others = np.delete(scores, i)
        if len(others) > 1 and own > others.max():
            found[i] = np.exp(-(own - others.max()) / _mean_excess(others)) / len(scores)
    return found


def standing_apart(names: Sequence[str], scores: np.ndarray) -> tuple[str, ...]:
    """Names of the clips that stand apart from all the others: likely anomalous, or of another machine."""
    found = tail_p_values(scores) < APART / max(len(scores), 1)
    return tuple(name for name, own in zip(names, found, strict=True) if own)


def _mean_excess(scores: np.ndarray) -> float:
    """Mean of the largest scores above the next one: the scale of an exponential tail."""
    ordered = np.sort(scores)
    n = len(ordered)
    k = min(n - 1, max(LEAST_TAIL, int(np.ceil(TAIL * n))))
    return max(float(np.mean(ordered[n - k :] - ordered[n - k - 1])), 1e-6)
