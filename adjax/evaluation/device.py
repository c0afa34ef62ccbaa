"""AUC, pAUC and their bootstrap intervals in JAX: functions of one lane's scores, to `jax.vmap` over thousands.

The areas are those under the ROC curve through the points between *different* scores, so ties count half, exactly.
Clips carry weights: 0 for padding, and the counts of a bootstrap sample, so that a resample needs no new sort.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from adjax.evaluation.metrics import MAX_FPR


class Areas(NamedTuple):
    """Areas under one ROC curve; NaN where one of the classes has no weight, or a score that counts is not finite.

    Attributes:
        auc: () float in [0, 1].
        pauc: () float, up to a false-positive rate, McClish-standardised (chance = .5).
    """

    auc: Array
    pauc: Array


class Curve(NamedTuple):
    """The order of clips along a ROC curve, whatever their weights.

    Attributes:
        order: (n_clips,) int, clips from the most anomalous on.
        is_first: (n_clips,) bool in that order, whether a clip's score differs from the one before.
    """

    order: Array
    is_first: Array


def roc_areas(scores: Array, labels: Array, weight: Array, *, max_fpr: float = MAX_FPR) -> Areas:
    """AUC and pAUC of one lane.

    Args:
        scores: (n_clips,) float, higher = more anomalous.
        labels: (n_clips,) int, 1 = anomaly, 0 = normal, negative = unknown (left out).
        weight: (n_clips,) float >= 0; 0 leaves a clip out.
        max_fpr: largest false-positive rate of pAUC, in (0, 1); static.

    Source: scikit-learn 1.9 `roc_auc_score(labels, scores, sample_weight=weight, max_fpr=...)`.
    """
    counts = (weight > 0) & (labels >= 0)
    areas = _areas(_curve(scores, counts), labels, weight, max_fpr)
    usable = jnp.all(jnp.isfinite(scores) | ~counts)
    return Areas(*(jnp.where(usable, area, jnp.nan) for area in areas))


def bootstrap_counts(key: Array, labels: Array, weight: Array, n_resamples: int) -> Array:
    """How often each clip is drawn; normal and anomalous clips are resampled apart.

    One draw serves all the lanes that score the same clips: their differences are then free of its noise.

    Args:
        key: typed PRNG key.
        labels: (n_clips,) int as in `roc_areas`.
        weight: (n_clips,) float, 0 = left out, otherwise 1.
        n_resamples: bootstrap samples; static.

    Returns:
        (n_resamples, n_clips) float, whole numbers; in every row each class has as many draws as clips.
    """
    n_clips = labels.shape[0]

    def one(key: Array) -> Array:
        counts = jnp.zeros(n_clips, weight.dtype)
        for label, own_key in enumerate(jax.random.split(key)):
            own = (labels == label) & (weight > 0)
            members = jnp.argsort(~own)  # stable: the class's clips come first
            draws = jax.random.randint(own_key, (n_clips,), 0, jnp.maximum(own.sum(), 1))
            counts = counts.at[members[draws]].add(jnp.arange(n_clips) < own.sum())
        return counts

    return jax.vmap(one)(jax.random.split(key, n_resamples))


def bootstrap_areas(scores: Array, labels: Array, counts: Array, *, max_fpr: float = MAX_FPR) -> Areas:
    """AUC and pAUC of every bootstrap sample: one sort, then a pass over the clips a sample.

    Args:
        scores: (n_clips,) float.
        labels: (n_clips,) int as in `roc_areas`.
        counts: (n_resamples, n_clips) of `bootstrap_counts`.
        max_fpr: as in `roc_areas`.

    Returns:
        (n_resamples,) each.
    """
    drawn = jnp.any(counts > 0, axis=0)
    curve = _curve(scores, drawn)
    areas = jax.vmap(lambda own: Areas(*_areas(curve, labels, own, max_fpr)))(counts)
    usable = jnp.all(jnp.isfinite(scores) | ~drawn)
    return Areas(*(jnp.where(usable, area, jnp.nan) for area in areas))


def bootstrap_intervals(
    scores: Array,
    labels: Array,
    counts: Array,
    *,
    confidence_level: float = 0.95,
    max_fpr: float = MAX_FPR,
) -> tuple[Areas, Areas]:
    """Bootstrap intervals of AUC and pAUC (percentile method).

    Args:
        scores: (n_clips,) float.
        labels: (n_clips,) int as in `roc_areas`.
        counts: (n_resamples, n_clips) of `bootstrap_counts`.
        confidence_level: in (0, 1).
        max_fpr: as in `roc_areas`.

    Returns:
        (low, high); both 1 with perfect separation, and NaN where the areas are.

    Source: `scipy.stats.bootstrap(..., method="percentile")`, as `metrics.auc_interval`.
    """
    areas = bootstrap_areas(scores, labels, counts, max_fpr=max_fpr)
    tail = (1 - confidence_level) / 2
    low, high = (Areas(*(jnp.quantile(area, q) for area in areas)) for q in (tail, 1 - tail))
    return low, high


def _curve(scores: Array, counts: Array) -> Curve:
    """Sort the clips once; those that never count go last, all as one tie."""
    falling = jnp.where(counts, -scores, jnp.inf)
    order = jnp.argsort(falling)
    ranked = falling[order]
    return Curve(order, jnp.concatenate([jnp.array([True]), ranked[1:] != ranked[:-1]]))


def _areas(curve: Curve, labels: Array, weight: Array, max_fpr: float) -> tuple[Array, Array]:
    """Sums over the straight pieces of the curve, one for each set of tied scores."""
    ordered, own = labels[curve.order], weight[curve.order]
    steps = []
    for label in (0, 1):
        ends = jnp.cumsum(jnp.where(ordered == label, own, 0))
        starts = jnp.concatenate([jnp.zeros(1, ends.dtype), ends[:-1]])
        steps.append((lax.cummax(jnp.where(curve.is_first, starts, 0)), ends))  # the start of the whole tie
    # In counts, not rates: whole numbers, which float32 keeps exactly.
    (f0, f1), (t0, t1) = steps
    is_last = jnp.concatenate([curve.is_first[1:], jnp.array([True])])
    widths = jnp.where(is_last, f1 - f0, 0)
    inside = jnp.clip(max_fpr * f1[-1] - f0, 0, widths)
    rise = (t1 - t0) * inside / jnp.where(widths > 0, widths, 1)
    whole = 2 * f1[-1] * t1[-1]  # 0 / 0, NaN, where a class is absent
    lowest = max_fpr**2 / 2
    partial = jnp.sum(inside * (2 * t0 + rise)) / whole
    auc = jnp.sum(widths * (t0 + t1)) / whole
    return auc, 0.5 * (1 + (partial - lowest) / (max_fpr - lowest))
