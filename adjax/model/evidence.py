"""Several detectors as one score: what each says against a clip, in one currency, added up.

A detector's evidence is -log p, where p is the share of normal clips that it finds at least as anomalous. Of normal
clips the evidence of any detector is about an exponential variable of mean 1, whatever the detector knows: so one that
knows nothing adds a little noise and can do no more harm, while one that is certain is heard, for beyond the
held-out clips the evidence grows with the height of the score (an exponential tail). Their sum is Fisher's rule (1925).

With n held-out clips of its own a machine can tell no p below 1 / (n + 1), and few clips say little about a tail. So
the held-out clips of its mates, the machines that a detector learnt together with, count beside its own, as MATES clips
in all: with 8 clips they shape the curve, with 1,000 they hardly matter.

How the rule was found: `experiments/label_free.py` (other rules, on vectors of whole real machines, real clips and
simulated ones, from 8 to 968 clips).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adjax.types import AnyArray

MATES = 16.0  # as many clips the mates count beside a machine's own; 8 to 64 make no difference
TAIL = 0.1  # share of the clips that the exponential tail is fitted to, of at least LEAST_TAIL of them
LEAST_TAIL = 5
N_KNOTS = 64  # of a curve below its tail
_SUMMARY = 64  # numbers that stand for the held-out clips of one mate
_POOL = 256  # and for those of all of them
_BLOCKS = 64  # of a machine's held-out clips, each judged by all others


class Evidence(NamedTuple):
    """A curve for each machine and detector: from its loudest part to -log p.

    Attributes:
        detector: (n_parts,) int32, whose each part is.
        at: (n_machines, n_detectors, N_KNOTS) ascending values of the loudest part, centred and scaled.
        value: the same shape, the evidence there, from 0; linear in between.
        slope: (n_machines, n_detectors) > 0, of the evidence beyond the last knot.
    """

    detector: AnyArray
    at: AnyArray
    value: AnyArray
    slope: AnyArray


def evidence_of(evidence: Evidence, machine: Array, parts: Array) -> Array:
    """(n_detectors,) evidence against one clip; NaN where a part is.

    Args:
        evidence: of the model.
        machine: () int, whose clip it is.
        parts: (n_parts,) float, centred and scaled.
    """
    at, value, slope = (leaf[machine] for leaf in evidence[1:])
    own = evidence.detector[None, :] == jnp.arange(at.shape[0])[:, None]
    loudest = jnp.max(jnp.where(own, parts[None, :], -jnp.inf), axis=1)
    found = jax.vmap(_interpolate)(loudest, at, value) + slope * jnp.maximum(loudest - at[:, -1], 0)
    return jnp.where(jnp.isnan(loudest), jnp.nan, found)


def _interpolate(x: Array, at: Array, value: Array) -> Array:
    """() `numpy.interp`: where knots are one value, the last of them counts, as for the held-out clips."""
    before = jnp.clip(jnp.searchsorted(at, x, side="right") - 1, 0, len(at) - 2)
    x0, x1, y0, y1 = at[before], at[before + 1], value[before], value[before + 1]
    wide = x1 > x0
    share = jnp.where(wide, jnp.clip((x - x0) / jnp.where(wide, x1 - x0, 1), 0, 1), x >= x1)
    return y0 + share * (y1 - y0)


def fit_evidence(
    parts: Sequence[np.ndarray], mates: np.ndarray, detector: np.ndarray
) -> tuple[Evidence, list[np.ndarray]]:
    """Learn the curves of all machines and detectors.

    Args:
        parts: for each machine (n_clips, n_parts) float parts of its held-out clips, centred and scaled.
        mates: (n_machines, n_parts) int: machines with the same number in a part learnt it together.
        detector: (n_parts,) int, whose each part is.

    Returns:
        The evidence, and for each machine (n_clips, n_detectors) that against its held-out clips, each judged by the
        curves of the others.
    """
    first = [int(np.flatnonzero(detector == d)[0]) for d in range(int(detector.max()) + 1)]
    loudest = [
        np.stack([own[:, detector == d].max(axis=1) for d in range(len(first))], axis=1) for own in parts
    ]
    shape = (len(parts), len(first))
    at, value, slope = np.zeros((*shape, N_KNOTS)), np.zeros((*shape, N_KNOTS)), np.ones(shape)
    held_out = [np.zeros_like(own) for own in loudest]
    for d, part in enumerate(first):
        summaries = [_summary(own[:, d], np.ones(len(own)), _SUMMARY) for own in loudest]
        for m, own in enumerate(loudest):
            others = [x for k, x in enumerate(summaries) if k != m and mates[k, part] == mates[m, part]]
            pool = np.zeros(0)
            if others:  # every mate counts the same, whatever it has
                weight = np.concatenate([np.full(len(x), 1 / len(x)) for x in others])
                pool = _summary(np.concatenate(others), weight, _POOL)
            clips = own[:, d]
            at[m, d], value[m, d], slope[m, d] = _curve(clips, pool)
            block = np.arange(len(clips)) % _BLOCKS  # neighbours in recording order are apart
            for b in range(min(_BLOCKS, len(clips))):
                held_out[m][block == b, d] = _read(_curve(clips[block != b], pool), clips[block == b])
    numbers = [np.asarray(x, np.float32) for x in (at, value, slope)]
    return Evidence(np.asarray(detector, np.int32), *numbers), held_out


def _summary(values: np.ndarray, weight: np.ndarray, size: int) -> np.ndarray:
    """(<= size,) numbers of equal weight that are distributed as the weighted ones."""
    if len(values) <= size and np.ptp(weight) == 0:
        return np.sort(values)
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weight[order]) - weight[order] / 2
    size = min(size, len(values))
    return np.interp((np.arange(size) + 0.5) / size, below / weight.sum(), values[order])


def _curve(own: np.ndarray, pool: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Knots, evidence there, and slope beyond, of a machine's held-out clips and of those that stand for its mates."""
    values = np.concatenate([own, pool])
    weight = np.concatenate([np.ones(len(own)), np.full(len(pool), MATES / max(len(pool), 1))])
    order = np.argsort(values, kind="stable")
    values, weight = values[order], weight[order]
    total, higher = weight.sum(), np.cumsum(weight[::-1])[::-1]  # clips at least as high as each
    evidence = -np.log((higher + 1) / (total + 1))
    # The tail is what lies above the last value with enough clips above it.
    above = higher - weight
    enough = np.flatnonzero(above >= min(max(TAIL * total, LEAST_TAIL), total - weight[0]) - 1e-9)
    last = int(enough[-1]) if len(enough) else 0
    start = -np.log((above[last] + 1) / (total + 1))
    tail = weight[last + 1 :]
    # Where nothing lies beyond, as of one clip alone, a spread: parts are scaled by it.
    excess = float(np.average(values[last + 1 :] - values[last], weights=tail)) if len(tail) else 1.0
    knots = np.minimum(np.searchsorted(evidence[: last + 1], np.linspace(0, start, N_KNOTS)), last)
    heights = evidence[knots]
    heights[-1] = start
    return values[knots], heights, 1 / max(excess, 1e-3)


def _read(curve: tuple[np.ndarray, np.ndarray, float], values: np.ndarray) -> np.ndarray:
    at, value, slope = curve
    return np.interp(values, at, value) + slope * np.maximum(values - at[-1], 0)
