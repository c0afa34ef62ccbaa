"""Results as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from adjax.evaluation.metrics import Metrics, arithmetic_mean, auc_interval, evaluate, harmonic_mean
from adjax.pipeline import Fit, Result
from adjax.types import STATUS_NAMES

Published = Mapping[str, Mapping[str, tuple[float, float]]]  # system -> machine id (or "mean") -> (AUC, pAUC)


@dataclass(frozen=True)
class Summary:
    """All metrics of one machine type.

    Attributes:
        by_id: machine id -> metrics.
        intervals: machine id -> 95% bootstrap interval of the AUC.
        mean: arithmetic mean over ids (DCASE 2020).
        harmonic: harmonic mean over ids (DCASE 2021 and later).
        pooled: of the clips of all ids together, one threshold for all.
    """

    by_id: Mapping[str, Metrics]
    intervals: Mapping[str, tuple[float, float]]
    mean: Metrics
    harmonic: Metrics
    pooled: Metrics


def summarise(result: Result, *, seed: int) -> dict[str, Summary]:
    """Machine type -> summary, for the types that have labelled test clips of both kinds."""
    summaries = {}
    for machine_type, by_id in result.metrics().items():
        intervals = {}
        for machine_id in by_id:
            clips, scores = result.of(machine_type, machine_id)
            intervals[machine_id] = auc_interval(clips.labels, scores, seed=seed)
        clips, scores = result.of(machine_type)
        judged = np.isin([clip.machine_id for clip in clips], list(by_id))
        pooled = evaluate(clips.labels[judged], scores[judged])
        assert pooled is not None  # each id alone has both labels
        summaries[machine_type] = Summary(
            by_id, intervals, arithmetic_mean(by_id.values()), harmonic_mean(by_id.values()), pooled
        )
    return summaries


def results_table(title: str, summary: Summary, published: Published | None = None) -> Table:
    """One machine type: a row an id, the averages, and published systems beside them."""
    published = published or {}
    table = Table(title=title, title_justify="left")
    table.add_column("machine")
    for name in ("AUC", "95% interval", "pAUC", "normal", "anomalous"):
        table.add_column(name, justify="right")
    for system in published:
        table.add_column(system, justify="right")

    def add(name: str, metrics: Metrics, interval: str = "", key: str = "", end: bool = False) -> None:
        others = [_pair(values.get(key)) for values in published.values()]
        counts = (str(metrics.n_normal), str(metrics.n_anomalous))
        table.add_row(
            name, f"{metrics.auc:.4f}", interval, f"{metrics.pauc:.4f}", *counts, *others, end_section=end
        )

    ids = sorted(summary.by_id)
    for machine_id in ids:
        low, high = summary.intervals[machine_id]
        add(
            machine_id,
            summary.by_id[machine_id],
            f"{low:.3f} to {high:.3f}",
            machine_id,
            machine_id == ids[-1],
        )
    add("mean", summary.mean, key="mean")
    add("harmonic mean", summary.harmonic)
    add("pooled", summary.pooled)
    return table


def fits_table(title: str, fits: tuple[Fit, ...]) -> Table:
    """How each model's fit ended."""
    table = Table(title=title, title_justify="left")
    for name in ("machine", "clips", "vectors", "steps", "objective", "ended"):
        table.add_column(name, justify="left" if name in ("machine", "ended") else "right")
    for fit in fits:
        name = f"{fit.machine_type} {fit.machine_id or '(all)'}"
        counts = (str(fit.n_clips), f"{fit.n_vectors:,}", str(fit.n_steps))
        table.add_row(name, *counts, f"{fit.objective:.4g}", STATUS_NAMES[fit.status])
    return table


def _pair(values: tuple[float, float] | None) -> str:
    return f"{values[0]:.3f} / {values[1]:.3f}" if values else "–"
