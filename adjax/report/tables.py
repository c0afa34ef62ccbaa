"""Results as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from rich.table import Table

from adjax.data.clips import first_of
from adjax.evaluation.metrics import (
    DomainMetrics,
    Metrics,
    arithmetic_mean,
    auc_interval,
    domain_means,
    evaluate,
    evaluate_domains,
    harmonic_mean,
    official_score,
)
from adjax.model.leaning import Leaning
from adjax.model.model import RATES, Model
from adjax.model.result import ANOMALOUS, Fit, Result
from adjax.types import STATUS_NAMES, readable

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
        by_domain: machine id -> metrics by domain, where every id of `by_id` has both domains; else empty.
    """

    by_id: Mapping[str, Metrics]
    intervals: Mapping[str, tuple[float, float]]
    mean: Metrics
    harmonic: Metrics
    pooled: Metrics
    by_domain: Mapping[str, DomainMetrics] = field(default_factory=dict)


def summarise(result: Result, *, seed: int) -> dict[str, Summary]:
    """Machine type -> summary, for the types that have labelled test clips of both kinds."""
    summaries = {}
    for machine_type, by_id in result.metrics().items():
        intervals, by_domain = {}, {}
        for machine_id in by_id:
            clips, scores = result.of(machine_type, machine_id)
            intervals[machine_id] = auc_interval(clips.labels, scores, seed=seed)
            domains = np.array([clip.domain for clip in clips])
            if metrics := evaluate_domains(clips.labels, domains, scores):
                by_domain[machine_id] = metrics
        clips, scores = result.of(machine_type)
        judged = np.isin([clip.machine_id for clip in clips], list(by_id))
        pooled = evaluate(clips.labels[judged], scores[judged])
        assert pooled is not None  # each id alone has both labels
        summaries[machine_type] = Summary(
            by_id,
            intervals,
            arithmetic_mean(by_id.values()),
            harmonic_mean(by_id.values()),
            pooled,
            by_domain if len(by_domain) == len(by_id) else {},
        )
    return summaries


def results_table(title: str, summary: Summary, published: Published | None = None) -> Table:
    """One machine type: a row an id, the averages, published systems beside them; AUC by domain where there are."""
    published = published or {}
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.add_column("machine")
    shown_domains = ("AUC source", "AUC target") if summary.by_domain else ()
    for name in ("AUC", "95% interval", *shown_domains, "pAUC", "normal", "anomalous"):
        table.add_column(name, justify="right")
    for system in published:
        table.add_column(system, justify="right")

    def add(
        name: str,
        metrics: Metrics,
        by_domain: DomainMetrics | None,
        interval: str = "",
        key: str = "",
        end: bool = False,
    ) -> None:
        others = [_pair(values.get(key)) for values in published.values()]
        counts = (str(metrics.n_normal), str(metrics.n_anomalous))
        own = (by_domain.source, by_domain.target) if by_domain else (None,) * len(shown_domains)
        domains = [f"{one.auc:.4f}" if one else "–" for one in own]
        cells = (f"{metrics.auc:.4f}", interval, *domains, f"{metrics.pauc:.4f}", *counts, *others)
        table.add_row(name, *cells, end_section=end)

    ids, sections = sorted(summary.by_id), list(summary.by_domain.values())
    for machine_id in ids:
        low, high = summary.intervals[machine_id]
        add(
            machine_id,
            summary.by_id[machine_id],
            summary.by_domain.get(machine_id),
            f"{low:.3f} to {high:.3f}",
            machine_id,
            machine_id == ids[-1],
        )
    add("mean", summary.mean, domain_means(sections, arithmetic_mean) if sections else None, key="mean")
    add("harmonic mean", summary.harmonic, domain_means(sections, harmonic_mean) if sections else None)
    add("pooled", summary.pooled, None)
    if sections:
        table.caption = (
            f"harmonic mean of all AUC source, AUC target and pAUC: {official_score(sections):.4f}; "
            "each domain's normal clips against all anomalies, as in DCASE 2022"
        )
    return table


def fits_table(title: str, fits: tuple[Fit, ...]) -> Table:
    """How each model's fit ended."""
    table = Table(title=title, title_justify="left")
    for name in ("detector", "machine", "clips", "vectors", "steps", "objective", "ended"):
        table.add_column(name, justify="left" if name in ("detector", "machine", "ended") else "right")
    for fit in fits:
        name = " ".join(part for part in (fit.machine_type, fit.machine_id) if part)
        counts = (str(fit.n_clips), f"{fit.n_vectors:,}", str(fit.n_steps))
        table.add_row(
            fit.kind,
            name,
            *counts,
            "–" if np.isnan(fit.objective) else f"{fit.objective:.4g}",
            STATUS_NAMES[fit.status],
        )
    return table


def decisions_table(title: str, result: Result) -> Table:
    """For each machine how many clips of each label were called anomalous."""
    table = Table(title=title, title_justify="left")
    for name in ("machine", "normal clips called anomalous", "anomalous clips found", "clips without label"):
        table.add_column(name, justify="left" if name == "machine" else "right")
    for machine in result.clips.machines:
        places = result.places(*machine)
        labels, called = result.clips.labels[places], result.decisions[places] == ANOMALOUS
        cells = [_share(called[labels == label]) for label in (0, 1, -1)]
        table.add_row(machine.label, *cells)
    return table


def thresholds_table(model: Model, rates: Sequence[float] = RATES) -> Table:
    """For each machine the score above which a clip is anomalous, at several rates of false alarms."""
    chosen = sorted({*rates, model.false_alarm_rate})
    table = Table(
        title="Thresholds by false-alarm rate",
        caption="[ ] the rate in force; * beyond all held-out clips, extrapolated",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("machine")
    table.add_column("held out", justify="right")
    for rate in chosen:
        text = f"{rate:.4g}".removeprefix("0")
        table.add_column(
            f"[{text}]" if rate == model.false_alarm_rate else text, justify="right", no_wrap=True
        )
    counts = model.params.calibration.n_held_out
    for (name, rows), n in zip(model.thresholds(chosen).items(), counts, strict=True):
        table.add_row(
            name, str(int(n)), *(f"{limit:.2f}{'*' if beyond else ''}" for _, limit, beyond in rows)
        )
    return table


def leaning_table(found: Sequence[Leaning], *, most: int = 5) -> Table:
    """The few bands or columns that each machine leans on most, with their shares, and those it does without."""
    table = Table(title="Leans on", title_justify="left")
    for heading in ("machine", "most on", "without"):
        table.add_column(heading)
    for own in found:
        first = [i for i in np.argsort(-own.shares, kind="stable")[:most] if own.shares[i] > 0]
        named = [f"{own.columns[i]} {own.shares[i]:.1%}" for i in first]
        idle = []
        for why, places in (("constant", own.constant), ("no effect near normal clips", own.unused)):
            if places.any():
                names = first_of((own.columns[i] for i in np.flatnonzero(places)), 3)
                idle.append(f"{names} ({why})")
        cells = (own.machine.label, ", ".join(named) or "nothing", "; ".join(idle))
        table.add_row(*map(readable, cells))
    return table


def scores_table(title: str, result: Result, *, most: int = 20, total: int | None = None) -> Table:
    """The clips, worst first; only the first ones of many, `total` where they are not all in the result."""
    table = Table(title=title, title_justify="left")
    shown_flags = any(len(own) for own in result.flags)
    names = ("clip", "machine", "score", "p-value", "decision", "part") + (("flags",) if shown_flags else ())
    for name in names:
        table.add_column(name, justify="right" if name in ("score", "p-value") else "left", overflow="fold")
    p_values = np.where(np.isfinite(result.p_values), result.p_values, np.inf)
    order = np.lexsort((-result.scores, p_values))
    for i in order[:most]:
        clip, p_value = result.clips[int(i)], result.p_values[i]
        shown = "" if np.isnan(p_value) else f"{p_value:.2g}{'*' if result.extrapolated[i] else ''}"
        flags = ", ".join(dict.fromkeys(flag.name for flag in result.flags[i]))
        table.add_row(
            clip.name, clip.machine.label, f"{result.scores[i]:.2f}", shown, result.verdicts[i],
            result.loudest[i], *([flags] if shown_flags else []),
        )  # fmt: skip
    if len(order) > most:
        table.caption = f"and {(total or len(order)) - most:,} more"
    return table


def _share(called: np.ndarray) -> str:
    return f"{int(called.sum())} of {len(called)}" if len(called) else "–"


def _pair(values: tuple[float, float] | None) -> str:
    return f"{values[0]:.3f} / {values[1]:.3f}" if values else "–"
