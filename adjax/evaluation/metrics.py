"""AUC and partial AUC of anomaly scores, per machine and averaged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

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


class DomainMetrics(NamedTuple):
    """How well scores separate the clips of a machine that is heard in two domains.

    DCASE 2022 reports `source.auc`, `target.auc` and `both.pauc` of it.

    Attributes:
        source: of the source domain's normal clips.
        target: of the target domain's normal clips.
        both: of all clips.
    """

    source: Metrics
    target: Metrics
    both: Metrics


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


def evaluate_domains(
    labels: np.ndarray,
    domains: np.ndarray,
    scores: np.ndarray,
    *,
    anomalies: Literal["all", "own"] = "all",
    max_fpr: float = MAX_FPR,
) -> DomainMetrics | None:
    """AUC and pAUC by domain, as the DCASE Task 2 evaluators of 2021 and later compute them.

    Args:
        labels: (n_clips,) int as in `evaluate`.
        domains: (n_clips,) str, "source" or "target"; normal clips of any other count in neither, only in both.
        scores: (n_clips,) float, higher = more anomalous.
        anomalies: which anomalous clips a domain's normal ones are judged against: "all" of them, as the AUC of 2022
            and later, or the domain's "own", as all of 2021 and the `pAUC (source)` and `pAUC (target)` of 2023.
        max_fpr: largest false-positive rate of pAUC.

    Returns:
        The metrics, or None where a domain has no normal clip, or none that is anomalous to judge it against.

    Raises:
        SettingsError: a score is not finite, the shapes differ, or `anomalies` is something else.
    """
    labels, domains, scores = np.asarray(labels), np.asarray(domains), np.asarray(scores)
    if anomalies not in ("all", "own"):
        raise SettingsError(f"anomalies={anomalies!r}: give one of all, own")
    if domains.shape != labels.shape:
        raise SettingsError(f"labels {labels.shape} and domains {domains.shape} must be one of each a clip")
    both = evaluate(labels, scores, max_fpr=max_fpr)
    found = []
    for domain in ("source", "target"):
        chosen = domains == domain
        if anomalies == "all":
            chosen |= labels == 1
        found.append(evaluate(labels[chosen], scores[chosen], max_fpr=max_fpr))
    source, target = found
    return DomainMetrics(source, target, both) if source and target and both else None


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
    return _average(metrics, _arithmetic)


def harmonic_mean(metrics: Iterable[Metrics]) -> Metrics:
    """Average over sections as in DCASE 2021 and later; 0 where one value is 0. The counts are summed."""
    return _average(metrics, _harmonic)


def domain_means(
    metrics: Iterable[DomainMetrics], mean: Callable[[Iterable[Metrics]], Metrics]
) -> DomainMetrics:
    """`arithmetic_mean` or `harmonic_mean` over sections, each number by itself."""
    return DomainMetrics(*map(mean, _columns(metrics)))


def official_score(metrics: Iterable[DomainMetrics]) -> float:
    """The one number of DCASE 2022 and later: the harmonic mean of all sections' AUC source, AUC target and pAUC."""
    source, target, both = _columns(metrics)
    return _harmonic([*(m.auc for m in source), *(m.auc for m in target), *(m.pauc for m in both)])


def _arithmetic(values: Sequence[float]) -> float:
    return _sum(values) / len(values)


def _harmonic(values: Sequence[float]) -> float:
    return len(values) / _sum([1.0 / value for value in values]) if min(values) > 0 else 0.0


def _sum(values: Sequence[float]) -> float:
    """One after the other, as the evaluators' means over the rows of a table: to the last digit.

    `numpy.sum` of a vector adds pairs, and `sum` compensates from Python 3.12 on.
    """
    return float(np.cumsum(values)[-1])


def _average(metrics: Iterable[Metrics], mean: Callable[[Sequence[float]], float]) -> Metrics:
    auc, pauc, n_normal, n_anomalous = _columns(metrics)
    return Metrics(mean(auc), mean(pauc), sum(n_normal), sum(n_anomalous))


def _columns(metrics: Iterable[tuple[Any, ...]]) -> tuple[tuple[Any, ...], ...]:
    if not (rows := list(metrics)):
        raise SettingsError("there is nothing to average")
    return tuple(zip(*rows, strict=True))
