"""Figures of a sweep: AUC over two of its settings, and what each setting does on average."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from adjax.report.figures import plain
from adjax.sweep import TrialResult
from adjax.types import MachineId


def heat_maps(trials: Sequence[TrialResult], across: str, down: str) -> Figure:
    """AUC against two settings, a panel a machine; the mean over everything else.

    Args:
        trials: with AUC; those without are left out.
        across: dotted name of the setting on the horizontal axis.
        down: of the one on the vertical axis.
    """
    measured = [trial for trial in trials if np.isfinite(trial.auc)]
    machines = list(dict.fromkeys((trial.machine_type, trial.machine_id) for trial in measured))
    columns, rows = (list(dict.fromkeys(trial.settings[name] for trial in trials)) for name in (across, down))
    panels = []
    for machine in machines:
        cells: dict[tuple[int, int], list[float]] = {}
        for trial in measured:
            if (trial.machine_type, trial.machine_id) == machine:
                place = rows.index(trial.settings[down]), columns.index(trial.settings[across])
                cells.setdefault(place, []).append(trial.auc)
        panel = np.full((len(rows), len(columns)), np.nan)
        for place, values in cells.items():
            panel[place] = np.mean(values)
        panels.append(panel)
    figure = Figure(figsize=(4.2 * len(machines) + 1, 0.42 * len(rows) + 1.7), layout="constrained")
    axes = figure.subplots(1, len(machines), squeeze=False, sharey=True)[0]
    low, high = np.nanmin(panels), np.nanmax(panels)
    few = len(columns) <= 12
    for axis, (machine_type, machine_id), panel in zip(axes, machines, panels, strict=True):
        drawn = axis.imshow(panel, aspect="auto", cmap="viridis", vmin=low, vmax=high)
        best = np.unravel_index(np.nanargmax(panel), panel.shape)
        axis.plot(best[1], best[0], "s", markerfacecolor="none", markeredgecolor="white", markersize=16)
        title = plain(MachineId(machine_type, machine_id).label)
        axis.set(title=f"{title}: best {panel[best]:.3f}", xlabel=short(across))
        shown = range(0, len(columns), 1 if few else -(-len(columns) // 10))
        axis.set_xticks(list(shown), [f"{columns[i]}" for i in shown])
        axis.set_yticks(range(len(rows)), [f"{value}" for value in rows])
        if few:
            for (i, j), value in np.ndenumerate(panel):
                dark = value < (low + high) / 2
                axis.text(
                    j, i, f"{value:.2f}"[1:] if value < 1 else "1", ha="center", va="center",
                    fontsize=8, color="white" if dark else "black",
                )  # fmt: skip
    axes[0].set_ylabel(short(down))
    figure.colorbar(drawn, ax=list(axes), label="AUC")
    return figure


def factor_effects(effects: dict[str, dict[str, tuple[float, float, float]]]) -> Figure:
    """What each value of each setting does to the AUC: its difference from the mean over all trials.

    Args:
        effects: setting -> value -> (difference, low, high).
    """
    widths = [max(len(values), 2) for values in effects.values()]
    figure = Figure(figsize=(0.62 * sum(widths) + 1.5, 3.2), layout="constrained")
    axes = figure.subplots(1, len(effects), squeeze=False, sharey=True, width_ratios=widths)[0]
    for axis, (name, values) in zip(axes, effects.items(), strict=True):
        middle, low, high = np.array(list(values.values())).T
        axis.errorbar(range(len(values)), middle, [middle - low, high - middle], fmt="o", capsize=3)
        axis.axhline(0, color="0.6", linewidth=1)
        axis.set_xticks(range(len(values)), list(values), rotation=45 if len(values) > 4 else 0)
        axis.set(title=short(name), xlim=(-0.5, len(values) - 0.5))
    axes[0].set_ylabel("AUC, difference from the mean")
    return figure


def short(name: str) -> str:
    """The last part of a dotted name."""
    return name.rpartition(".")[2]
