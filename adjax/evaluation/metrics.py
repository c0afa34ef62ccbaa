"""AUC and partial AUC of anomaly scores, per machine and averaged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from adjax.types import SettingsError

MAX_FPR = 0.1


class Metrics(NamedTuple):
    """How well scores separate anomalous from normal clips.

    Attributes:
        auc: area under the ROC curve, [0, 1].
        pauc: partial area up to a false-positive rate of .1, McClish-standardised (chance = .5).
        n_normal: normal clips.
        n_anomalous: anomalous clips.
    """

    auc: float
    pauc: float
    n_normal: int
    n_anomalous: int


def evaluate(labels: np.ndarray, scores: np.ndarray, *, max_fpr: float = MAX_FPR) -> Metrics | None:
    """AUC and pAUC, as the DCASE 2020 Task 2 evaluator computes them.

    Args:
        labels: (n_clips,) int, 1 = anomaly, 0 = normal, negative = unknown (left out).
        scores: (n_clips,) float, higher = more anomalous.
        max_fpr: largest false-positive rate of pAUC.

    Returns:
        The metrics, or None where one of the two classes has no clip: neither area exists then.

    Raises:
        SettingsError: a score is not finite, or the shapes differ.

    Source: scikit-learn 1.9 `roc_auc_score(y, s)` and `roc_auc_score(y, s, max_fpr=0.1)`.
    """
    from sklearn.metrics import (
        roc_auc_score,  # a second to import, which a command without labels need not wait
    )

    labels, scores = np.asarray(labels), np.asarray(scores)
    if labels.shape != scores.shape or labels.ndim != 1:
        raise SettingsError(f"labels {labels.shape} and scores {scores.shape} must be one of each a clip")
    if not np.all(np.isfinite(scores)):
        raise SettingsError(f"{np.sum(~np.isfinite(scores))} of {len(scores)} scores are not finite")
    known = labels >= 0
    y, s = labels[known], scores[known]
    if len(np.unique(y)) < 2:
        return None
    return Metrics(
        auc=float(roc_auc_score(y, s)),
        pauc=float(roc_auc_score(y, s, max_fpr=max_fpr)),
        n_normal=int(np.sum(y == 0)),
        n_anomalous=int(np.sum(y == 1)),
    )


def auc_interval(
    labels: np.ndarray,
    scores: np.ndarray,
    *,
    seed: int,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
) -> tuple[float, float]:
    """Bootstrap interval of the AUC; normal and anomalous clips are resampled apart (percentile method).

    Args:
        labels: (n_clips,) int as in `evaluate`; both classes present.
        scores: (n_clips,) finite float.
        seed: of the resampling.
        n_resamples: bootstrap samples.
        confidence_level: in (0, 1).

    Returns:
        (low, high). With perfect separation both are 1: the bootstrap cannot see beyond the clips it has.

    Source: scipy.stats.bootstrap; AUC = U / (n_normal · n_anomalous) of Mann and Whitney.
    """
    from scipy import stats

    def auc(anomalous: np.ndarray, normal: np.ndarray, axis: int) -> np.ndarray:
        u = stats.mannwhitneyu(anomalous, normal, axis=axis, method="asymptotic").statistic
        return u / (anomalous.shape[axis] * normal.shape[axis])

    groups = (np.asarray(scores, float)[labels == 1], np.asarray(scores, float)[labels == 0])
    if min(map(len, groups)) < 2:
        return 0.0, 1.0
    resampled = stats.bootstrap(
        groups,
        auc,
        n_resamples=n_resamples,
        batch=100,
        confidence_level=confidence_level,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = resampled.confidence_interval
    return float(low), float(high)


def arithmetic_mean(metrics: Iterable[Metrics]) -> Metrics:
    """Average over machine ids as in DCASE 2020; the counts are summed."""
    return _average(list(metrics), lambda values: float(np.mean(values)))


def harmonic_mean(metrics: Iterable[Metrics]) -> Metrics:
    """Average over sections as in DCASE 2021 and later; 0 where one value is 0. The counts are summed."""
    from scipy import stats

    return _average(list(metrics), lambda values: float(stats.hmean(values)) if min(values) > 0 else 0.0)


def _average(metrics: list[Metrics], mean: Callable[[Sequence[float]], float]) -> Metrics:
    if not metrics:
        raise SettingsError("there is nothing to average")
    auc, pauc, n_normal, n_anomalous = zip(*metrics, strict=True)
    return Metrics(mean(auc), mean(pauc), sum(n_normal), sum(n_anomalous))
