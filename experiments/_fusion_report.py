"""Tables, CSV and figures of how good fusions and kinds are; the frame of a study that makes them."""

from __future__ import annotations

import csv
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from rich.table import Table

from adjax.app.console import make_console
from adjax.files import write_json
from adjax.model.record import versions
from adjax.report.figures import save
from adjax.types import AdjaxError
from experiments._fusion_areas import MEAN, Group, Judged, Over, areas_of, judge
from experiments._fusions import ALL, AUTO, EVIDENCE, KIND, RULES, Cell, Task, cells_of

METRICS = ("AUC", "pAUC")
# Okabe and Ito (2008): told apart by people who see colours differently. The first is auto's.
COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "osD^vP"
HEIGHTS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998)  # ticks of areas


def conduct(study: Any, tasks: Iterable[Task], *, over: Over, leave_out: bool = False) -> int:
    """Fit, judge, report; the exit code is 1 if a clip or a fit failed.

    Args:
        study: a dataclass with the folder `out`; its settings are written down.
        tasks: what to fit.
        over: see `experiments._fusion_areas.judge`.
        leave_out: also `auto` without each of its kinds.
    """
    console, started = make_console(), time.perf_counter()
    out: Path = study.out
    out.mkdir(parents=True, exist_ok=True)
    cells: list[Cell] = []
    failures: list[AdjaxError] = []
    for task in tasks:
        begun = time.perf_counter()
        found, failed = cells_of(task, leave_out=leave_out)
        cells, failures = cells + found, failures + failed
        seconds = time.perf_counter() - begun
        console.print(
            f"{task.data}{task.tag}, {size_name(task.size)} clips, {task.draw}: {seconds:.0f} s",
            highlight=False,
        )
    write_csv(out / "areas.csv", cells)
    judged = judge(cells, over=over)
    for table in (*tables(judged), *fault_tables(cells)):
        console.print(table)
    figures = {"regret": regrets(judged)}
    if len({size for *_, size in judged}) > 1:
        figures["learning_curves"] = learning_curves(judged)
    for name, figure in figures.items():
        console.print(f"  {save(figure, out / f'{name}.png')}", highlight=False)
    seconds = time.perf_counter() - started
    write_json(out / "settings.json", {"study": asdict(study), "versions": versions(), "seconds": seconds})
    console.print(f"{seconds:.0f} s")
    for failure, n in Counter(map(str, failures)).items():
        console.print(f"Failed (in {n} fits): {failure}", markup=False)
    return 1 if failures else 0


def size_name(size: int) -> str:
    """A number of clips, for people."""
    return "all" if size == ALL else str(size)


def write_csv(path: Path, cells: Sequence[Cell]) -> None:
    """A row for each machine, draw and system; where faults are known, also one for each of them."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["data", "type", "size", "draw", "machine", "fault", "system", "auc", "pauc"])
        for cell in cells:
            for fault in ("", *sorted({*cell.faults} - {""})):
                where = (cell.data, cell.machine_type, size_name(cell.size), cell.draw, cell.machine, fault)
                for name, (auc, pauc) in areas_of(cell, fault).items():
                    writer.writerow([*where, name, f"{auc:.5f}", f"{pauc:.5f}"])


def number(value: float, *, sign: bool = False) -> str:
    """Three digits, without the zero before them."""
    return f"{value:{'+' if sign else ''}.3f}".replace("0.", ".", 1)


def shown(values: np.ndarray, *, sign: bool = False) -> str:
    """A number with the 95% interval of its resamples: .925 [.912, .938]."""
    low, high = (number(one, sign=sign) for one in np.percentile(values[1:], [2.5, 97.5]))
    return f"{number(values[0], sign=sign)} [{low}, {high}]"


def both(values: np.ndarray, *, sign: bool = False) -> str:
    """AUC and under it pAUC."""
    return "\n".join(shown(values[:, i], sign=sign) for i in range(2))


def tables(judged: Mapping[Group, Judged]) -> Iterable[Table]:
    """For each data set and type, a column for each size: how good each system is, and what each rule loses."""
    for data, machine_type in dict.fromkeys(group[:2] for group in judged):
        sizes = {group[2]: own for group, own in judged.items() if group[:2] == (data, machine_type)}
        names = next(iter(sizes.values())).names
        good = Table(title=f"{data}, {machine_type}: AUC, below it pAUC [95%]", title_justify="left")
        lost = Table(
            title=f"{data}, {machine_type}: what the best kind of the type (labels name it) has more; "
            "below that, the best kind of each machine",
            title_justify="left",
        )
        for table in (good, lost):
            for heading in ("system", *(f"{size_name(size)} clips" for size in sizes)):
                table.add_column(heading)
        for i, name in enumerate(names):
            values = [both(own.values[:, i]) for own in sizes.values()]
            if not name.startswith(EVIDENCE):
                good.add_row(name, *values)
            if name in RULES:
                regret = [
                    "\n".join(both(best - own.values[:, i], sign=True) for best in (own.oracle, own.each))
                    for own in sizes.values()
                ]
                lost.add_row(name, *regret)
        good.add_row("best kind of the type", *(both(own.oracle) for own in sizes.values()))
        good.add_row("best kind of each machine", *(both(own.each) for own in sizes.values()))
        yield from (good, lost)


def fault_tables(cells: Sequence[Cell]) -> Iterable[Table]:
    """AUC of auto and its kinds by kind of fault: mean over machines and draws, where faults are known."""
    for data in dict.fromkeys(cell.data for cell in cells):
        own = [cell for cell in cells if cell.data == data]
        faults = sorted({fault for cell in own for fault in cell.faults} - {""})
        if not faults:
            continue
        table = Table(title=f"{data}: AUC by fault", title_justify="left")
        for heading in ("clips", "system", *faults):
            table.add_column(heading)
        for size in dict.fromkeys(cell.size for cell in own):
            some = [cell for cell in own if cell.size == size]
            by_fault = {fault: [areas_of(cell, fault) for cell in some] for fault in faults}
            for name in (name for name in some[0].systems if name == AUTO or name.startswith(KIND)):
                means = [
                    np.mean([one[name][0] for one in areas if name in one]) for areas in by_fault.values()
                ]
                table.add_row(size_name(size), name, *(number(float(mean)) for mean in means))
        yield table


def learning_curves(judged: Mapping[Group, Judged]) -> Figure:
    """AUC and pAUC against the number of normal clips: auto, thick, and its kinds; a column for each set and type."""
    panels = panels_of(judged)
    figure = Figure(figsize=(2.9 * len(panels) + 2.0, 5.4), layout="constrained")
    axes = figure.subplots(2, len(panels), squeeze=False, sharey="row")
    names = next(iter(judged.values())).names
    lines = [AUTO, *(name for name in names if name.startswith(KIND))]
    styles = zip(lines, COLOURS, strict=False)
    for number, (name, colour) in enumerate(styles):
        for column, panel in enumerate(panels):
            own = sorted(
                (one for group, one in judged.items() if group[:2] == panel), key=lambda one: one.n_train
            )
            x = [one.n_train for one in own]
            for row in range(2):
                axis: Axes = axes[row, column]
                values = np.stack([one.values[:, one.names.index(name), row] for one in own], axis=1)
                if name == AUTO:
                    low, high = np.percentile(values[1:], [2.5, 97.5], axis=0)
                    axis.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
                axis.plot(
                    x, values[0], color=colour, marker=MARKERS[number % len(MARKERS)],
                    linewidth=2.6 if name == AUTO else 1.1, markersize=5 if name == AUTO else 4,
                    label="auto\n(95% interval)" if name == AUTO else name.removeprefix(KIND),
                )  # fmt: skip
                axis.set_xscale("log")
                axis.set_xticks(x, [f"{value:.0f}" for value in x])
                axis.set_yscale("logit")  # .99 is as far from .9 as that from .5
                axis.minorticks_off()
                axis.grid(color="0.92")
                axis.set_title("\n".join(panel) if row == 0 else "", fontsize=9)
    for row, metric in enumerate(METRICS):
        axes[row, 0].set_ylabel(f"{metric}, mean over machines")
        low, high = axes[row, 0].get_ylim()  # which all share
        ticks = [value for value in HEIGHTS if low <= value <= high]
        axes[row, 0].set_yticks(ticks, [f"{value:g}".removeprefix("0") for value in ticks], minor=False)
        axes[row, 0].yaxis.set_minor_locator(NullLocator())
    for axis in axes[1]:
        axis.set_xlabel("normal clips of each machine")
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside right center")
    return figure


def regrets(judged: Mapping[Group, Judged]) -> Figure:
    """What each rule loses against the best kind of a type: a column for each data set and type, colours are sizes."""
    panels = panels_of(judged)
    figure = Figure(figsize=(3.1 * len(panels) + 1.8, 5.4), layout="constrained")
    axes = figure.subplots(2, len(panels), squeeze=False, sharey=True, sharex="row")
    sizes = sorted({size for *_, size in judged}, key=lambda size: size or np.inf)
    places = np.arange(len(RULES))[::-1]
    for column, panel in enumerate(panels):
        for number, size in enumerate(sizes):
            own = judged.get((*panel, size))
            if own is None:
                continue
            shift = 0.3 * (number - (len(sizes) - 1) / 2) / max(len(sizes) / 2, 1)
            for row in range(2):
                values = own.oracle[:, None] - own.values[:, [own.names.index(name) for name in RULES]]
                low, high = np.percentile(values[1:, :, row], [2.5, 97.5], axis=0)
                middle = values[0, :, row]
                error = np.maximum([middle - low, high - middle], 0)
                axes[row, column].errorbar(
                    middle, places - shift, xerr=error,
                    fmt=MARKERS[number % len(MARKERS)],
                    color=COLOURS[-number % len(COLOURS)], markersize=4, linewidth=1, label=size_name(size),
                )  # fmt: skip
        for row, metric in enumerate(METRICS):
            axis: Axes = axes[row, column]
            axis.axvline(0, color="0.5", linewidth=1)
            axis.grid(color="0.92", axis="x")
            axis.set_yticks(places, RULES)
            axis.locator_params(axis="x", nbins=5)
            axis.set_xlabel(f"{metric} lost to the best kind")
            axis.set_title("\n".join(panel) if row == 0 else "", fontsize=9)
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, title="normal clips", loc="outside right center")
    return figure


def panels_of(judged: Mapping[Group, Judged]) -> list[tuple[str, str]]:
    """Data set and type, without means over types."""
    return list(dict.fromkeys((data, name) for data, name, _ in judged if name != MEAN))
