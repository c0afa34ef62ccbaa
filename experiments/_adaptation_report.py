"""Tables, CSV and figures of what adapting brings; intervals over machines and draws, paired."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from experiments._adaptation import AS_IS, CORAL, DEFAULT, KIND, LEDOIT_WOLF, MAP, OWN, SHIFTED

N_RESAMPLES = 2000
RATES = (0.05, 0.1, 0.2)
# Okabe and Ito (2008).
STYLES = {
    DEFAULT: ("#000000", "o", 2.6),
    OWN + "neighbours": ("#E69F00", "v", 1.4),
    LEDOIT_WOLF: ("#D55E00", "s", 1.4),
    SHIFTED + "joint": ("#0072B2", "D", 1.1),
    CORAL + "joint": ("#009E73", "^", 1.1),
    MAP: ("#CC79A7", "P", 1.1),
    AS_IS: ("#56B4E9", "X", 1.4),
}


class Row(NamedTuple):
    """How good one system was in one trial."""

    data: str
    machine: str
    k: int
    draw: int
    system: str
    auc: float
    pauc: float


class Alarms(NamedTuple):
    """How many normal test clips of one trial had a p-value of at most each of RATES."""

    data: str
    machine: str
    k: int
    draw: int
    shares: tuple[float, ...]


class Summary(NamedTuple):
    """A system at one number of clips: (3,) estimate, low and high end, of AUC, pAUC and AUC less that of own clips."""

    auc: np.ndarray
    pauc: np.ndarray
    gain: np.ndarray


def summarize(rows: Sequence[Row], data: str) -> dict[tuple[str, int], Summary]:
    """(system, k) -> what it is worth: machines are resampled, and within them draws, the same for all systems."""
    own = [row for row in rows if row.data == data]
    machines = sorted({row.machine for row in own})
    found = {}
    for k in sorted({row.k for row in own}):
        draws = sorted({row.draw for row in own if row.k == k})
        systems = list(dict.fromkeys(row.system for row in own if row.k == k))
        values = np.full((len(systems), len(machines), len(draws), 2), np.nan)
        for row in own:
            if row.k == k:
                place = (systems.index(row.system), machines.index(row.machine), draws.index(row.draw))
                values[place] = row.auc, row.pauc
        rng = np.random.default_rng(k)
        chosen = rng.integers(len(machines), size=(N_RESAMPLES, len(machines)))
        drawn = rng.integers(len(draws), size=(N_RESAMPLES, len(machines), len(draws)))
        resampled = values[:, chosen[:, :, None], drawn].mean(axis=(2, 3))  # (n_systems, N_RESAMPLES, 2)
        middle = values.mean(axis=(1, 2))
        base = systems.index(LEDOIT_WOLF) if LEDOIT_WOLF in systems else None
        for i, system in enumerate(systems):
            areas = [_interval(middle[i, j], resampled[i, :, j]) for j in range(2)]
            gain = np.full(3, np.nan)
            if base is not None:
                gain = _interval(middle[i, 0] - middle[base, 0], resampled[i, :, 0] - resampled[base, :, 0])
            found[system, k] = Summary(areas[0], areas[1], gain)
    return found


def _interval(value: float, resampled: np.ndarray) -> np.ndarray:
    return np.array([value, *np.percentile(resampled, [2.5, 97.5])])


def tables(summaries: Mapping[str, Mapping[tuple[str, int], Summary]]) -> list[Table]:
    """For each data set AUC and pAUC of each system by number of clips, and what it gains on own clips alone."""
    found = []
    for data, own in summaries.items():
        sizes = sorted({k for _, k in own})
        systems = list(dict.fromkeys(system for system, _ in own))
        table = Table(
            title=f"{data}: AUC / pAUC (AUC less that of {LEDOIT_WOLF} [95%])", title_justify="left"
        )
        for name in ("system", *(f"k = {k}" for k in sizes)):
            table.add_column(name)
        for system in systems:
            table.add_row(system, *(_cell(own.get((system, k))) for k in sizes))
        found.append(table)
    return found


def _cell(own: Summary | None) -> str:
    if own is None or np.isnan(own.auc[0]):
        return "–"
    text = f"{own.auc[0]:.3f} / {own.pauc[0]:.3f}"
    if np.isfinite(own.gain).all() and own.gain.any():
        text += f" ({own.gain[0]:+.3f} [{own.gain[1]:+.3f}, {own.gain[2]:+.3f}])"
    return text


def alarm_table(alarms: Sequence[Alarms]) -> Table:
    """Asked for and got: the share of normal test clips whose p-value is at most each rate."""
    table = Table(title="Normal test clips with a p-value of at most", title_justify="left")
    for name in ("data", "k", *map(str, RATES), "worst machine at .05"):
        table.add_column(name)
    for data, k in dict.fromkeys((own.data, own.k) for own in alarms):
        own = [one for one in alarms if (one.data, one.k) == (data, k)]
        shares = np.mean([one.shares for one in own], axis=0)
        worst = max(
            np.mean([one.shares[0] for one in own if one.machine == machine])
            for machine in {o.machine for o in own}
        )
        table.add_row(data, str(k), *(f"{share:.3f}" for share in shares), f"{worst:.3f}")
    return table


def write_csv(path: Path, rows: Sequence[Row], alarms: Sequence[Alarms]) -> None:
    """A row for each trial and system; false alarms beside it."""
    shares = [(*own[:-1], *own.shares) for own in alarms]
    files = (
        (path, Row._fields, rows),
        (path.with_name("alarms.csv"), (*Alarms._fields[:-1], *map(str, RATES)), shares),
    )
    for place, header, values in files:
        with place.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            writer.writerows(values)


def curves(summaries: Mapping[str, Mapping[tuple[str, int], Summary]]) -> Figure:
    """AUC and pAUC against the number of clips that were heard of the new machine; a column for each data set."""
    figure = Figure(figsize=(3.4 * len(summaries) + 2.2, 6.0), layout="constrained")
    axes = figure.subplots(2, len(summaries), squeeze=False, sharey="row")
    for column, (data, own) in enumerate(summaries.items()):
        sizes = sorted({k for _, k in own})
        for system, (colour, marker, width) in STYLES.items():
            x = [k for k in sizes if (system, k) in own and np.isfinite(own[system, k].auc[0])]
            for row in range(2) if x else ():
                axis: Axes = axes[row, column]
                values = np.array([own[system, k][row] for k in x])
                places = [sizes.index(k) for k in x]
                if system == DEFAULT:
                    axis.fill_between(
                        places, values[:, 1], values[:, 2], color=colour, alpha=0.12, linewidth=0
                    )
                axis.plot(places, values[:, 0], color=colour, marker=marker, linewidth=width, label=system)
                axis.set_xticks(range(len(sizes)), [str(k) for k in sizes])
                axis.grid(color="0.92")
        axes[0, column].set_title(data, fontsize=10)
        axes[1, column].set_xlabel("normal clips of the new machine, k")
    for row, name in enumerate(("AUC", "pAUC")):
        axes[row, 0].set_ylabel(f"{name}, mean over machines")
    handles: dict[str, Any] = {}
    for axis in axes[0]:
        handles |= {label: handle for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(list(handles.values()), list(handles), loc="outside right center")
    return figure


def gains(summaries: Mapping[str, Mapping[tuple[str, int], Summary]], sizes: Sequence[int]) -> Figure:
    """What each way gains in AUC on own clips alone, with intervals; a column for each data set, colours are sizes."""
    figure = Figure(figsize=(3.6 * len(summaries) + 2.4, 5.2), layout="constrained")
    axes = figure.subplots(1, len(summaries), squeeze=False, sharey=True)[0]
    systems = list(
        dict.fromkeys(s for own in summaries.values() for s, _ in own if s not in (LEDOIT_WOLF, AS_IS))
    )
    colours = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
    for axis, (data, own) in zip(axes, summaries.items(), strict=True):
        for number, k in enumerate(sizes):
            some = [(i, own[system, k].gain) for i, system in enumerate(systems) if (system, k) in own]
            some = [(i, gain) for i, gain in some if np.isfinite(gain).all()]
            if not some:
                continue
            values = np.array([gain for _, gain in some])
            y = np.array([-i - 0.22 * (number - (len(sizes) - 1) / 2) for i, _ in some])
            error = np.maximum(np.abs(values[:, 1:].T - values[:, 0]), 0)
            axis.errorbar(
                values[:, 0], y, xerr=error, fmt="osD^"[number % 4], color=colours[number % 4], markersize=4,
                linewidth=1, label=f"k = {k}",
            )  # fmt: skip
        axis.axvline(0, color="0.5", linewidth=1)
        axis.grid(color="0.92", axis="x")
        axis.set_title(data, fontsize=10)
        axis.set_xlabel(f"AUC gained on {LEDOIT_WOLF.removeprefix(OWN)} of own clips")
        axis.set_yticks([-i for i in range(len(systems))], [name.replace(KIND, "") for name in systems])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    return figure
