"""Does a model call as many normal clips anomalous as it was asked to? Rate asked for against rate got.

Run:     python -m experiments.false_alarms --out DIR [--vectors FOLDER]
         Simulated slide rails, whose clips do not depend on each other. With --vectors: also every CSV table of FOLDER,
         as docs/vectors.md describes them.
Work:    normal clips only. Each machine's are halved; a model of n clips of one half judges the other half.
         "any order": halves and n clips are drawn at random, so that nothing but the number of clips can go wrong.
         "in order": the second half, as the clips come, is judged by a block of n clips of the first: as in use, where
         the machine and its surroundings go on changing.
Settings chosen on: nothing; they are defaults, and one Gaussian for each machine of the tables.
Result:  experiments/README.md, "False alarms: asked for and got": the share of normal clips called anomalous, mean over
         machines and draws, with 95% bootstrap intervals over those (draws share clips: they are on the narrow side),
         and the 10% and 90% quantiles over single machines and draws, which is what one model may do.
"""

from __future__ import annotations

import csv
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import tyro
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from rich.table import Table

from adjax import simulator
from adjax.app.console import make_console
from adjax.data.cache import default_folder
from adjax.data.index import index_folder
from adjax.files import write_json
from adjax.model.extraction import ClipFeatures
from adjax.model.fit import fit_model
from adjax.model.inputs import extract_for
from adjax.model.named import make_spec
from adjax.model.record import versions
from adjax.model.spec import ModelSpec
from adjax.model.vectors import config_of, read_vectors
from adjax.report.figures import save
from adjax.types import AdjaxError

MODELS: dict[str, ModelSpec] = {  # of sound
    "auto": make_spec("auto"),
    "mixture of pooled clips": make_spec("gmm", features={"pooling": "gwrp"}),
}
N_RESAMPLES = 1000
ALL = 0  # in place of a number of clips
Order = Literal["any order", "in order"]
Calibrating = Literal["folds", "split"]


@dataclass(frozen=True)
class Study:
    """Rate of false alarms asked for, and got."""

    out: Path = Path("runs/false_alarms")
    """Folder for the table and the figure."""
    vectors: Path | None = None
    """Folder of CSV tables of numbers; default: simulated machines only."""
    simulated: int = 200
    """Clips in a half of each simulated machine; 0: none are simulated."""
    n: tuple[int, ...] = (8, 20, 60, 200)
    """Training clips of a model; all of the half come last by themselves."""
    rates: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2)
    """Asked for."""
    draws: int = 5
    """Of halves and training clips."""
    calibrations: tuple[Calibrating, ...] = ("folds", "split")
    """Ways to hold clips out."""


class Source(NamedTuple):
    """Normal clips and the model that they are for."""

    name: str
    spec: ModelSpec
    features: ClipFeatures
    orders: tuple[Order, ...]


class Setting(NamedTuple):
    """What a line of the figure stands for."""

    source: str
    order: Order
    calibration: Calibrating
    n: int


class Cell(NamedTuple):
    """One machine of one model: (n_rates,) shares of its normal clips that are called anomalous."""

    shares: np.ndarray
    extrapolated: float


def main() -> int:
    """Fit, judge, report; the exit code is 1 if a clip or a fit failed."""
    study = tyro.cli(Study, description=__doc__)
    console = make_console()
    started = time.perf_counter()
    study.out.mkdir(parents=True, exist_ok=True)
    found: dict[Setting, list[Cell]] = {}
    failures: list[AdjaxError] = []
    for source in sources(study):
        failures += source.features.failures
        fits = list(plan(study, source))
        for setting, train, test in track(fits, source.name, console=console):
            spec = replace(source.spec, calibration=setting.calibration)
            try:
                cells, failed = judge(spec, source.features.at(train), source.features.at(test), study.rates)
            except AdjaxError as error:
                cells, failed = [], (error,)
            found.setdefault(setting, []).extend(cells)
            failures += failed
    found = {setting: cells for setting, cells in found.items() if cells}
    report(study, found, console)
    seconds = time.perf_counter() - started
    write_json(
        study.out / "settings.json", {"study": asdict(study), "versions": versions(), "seconds": seconds}
    )
    console.print(f"{seconds:.0f} s")
    for failure, n in Counter(map(str, failures)).items():
        console.print(f"Failed ({n} times): {failure}", markup=False)
    return 1 if failures else 0


def sources(study: Study) -> Iterator[Source]:
    """Simulated machines for each model of sound, then the tables."""
    if study.simulated:
        root = study.out / "synthetic"
        counts = dict.fromkeys(simulator.SMALL, simulator.ClipCounts(2 * study.simulated, 0, 0))
        simulator.write_tree(root, counts=counts)
        clips = index_folder(root)
        for name, spec in MODELS.items():
            features, *_ = extract_for(spec, clips, cache=default_folder())  # all detectors share a front end
            yield Source(f"simulated, {name}", spec, features, ("any order",))
    for path in sorted(study.vectors.glob("*.csv")) if study.vectors else ():
        features = read_vectors(path).where(lambda clip: clip.label == 0)
        spec = make_spec("gmm", features=config_of(features), settings={"n_components": 1})
        yield Source(path.stem, spec, features, ("any order", "in order"))


def plan(study: Study, source: Source) -> Iterator[tuple[Setting, list[int], list[int]]]:
    """What is fitted: a setting, and the places of the training and of the test clips of all machines."""
    clips = source.features.clips
    machine = np.array([clips.machines.index(clip.machine) for clip in clips])
    own = [np.flatnonzero(machine == number) for number in range(len(clips.machines))]
    smallest = min(len(places) // 2 for places in own)
    numbers = [*(n for n in study.n if n < smallest), ALL]
    for order in source.orders:
        for n in numbers:
            # Halves in order are always the same, and so is a model of all clips of the first.
            for draw in range(1 if n == ALL and order == "in order" else study.draws):
                rng = np.random.default_rng([draw, n])
                pairs = [halve(places, n, order, draw / max(study.draws - 1, 1), rng) for places in own]
                train, test = (np.sort(np.concatenate(part)).tolist() for part in zip(*pairs, strict=True))
                for calibration in study.calibrations:
                    yield Setting(source.name, order, calibration, n), train, test


def halve(
    places: np.ndarray, n: int, order: Order, where: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Places of n training clips of one machine and of its test clips.

    Args:
        places: of all its clips, as they come.
        n: how many; ALL: the whole half.
        order: see the top of the file.
        where: in [0, 1], which block of the half, in order.
        rng: of what is drawn.
    """
    if order == "any order":
        places = rng.permutation(places)
    half = len(places) // 2
    size = half if n == ALL else n
    start = round(where * (half - size)) if order == "in order" else 0
    return places[start : start + size], places[half:]


def judge(
    spec: ModelSpec, train: ClipFeatures, test: ClipFeatures, rates: Sequence[float]
) -> tuple[list[Cell], tuple[AdjaxError, ...]]:
    """What each machine of one model does, and what failed."""
    model = fit_model(spec, train)
    result = model.score_features(test)
    cells = []
    for machine in model.machines:
        own = result.places(*machine)
        # As the model decides: in its own precision.
        shares = [np.mean(result.p_values[own] <= np.float32(rate)) for rate in rates]
        cells.append(Cell(np.array(shares), float(np.mean(result.extrapolated[own]))))
    return cells, (*model.record.failures, *result.failures)


class Got(NamedTuple):
    """Of one setting, (n_rates,) each: mean, its 95% interval, and 10% and 90% quantiles over machines and draws."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p10: np.ndarray
    p90: np.ndarray


def summarise(cells: Sequence[Cell]) -> Got:
    """Mean and spread over machines and draws."""
    shares = np.stack([cell.shares for cell in cells])
    rng = np.random.default_rng(0)
    drawn = shares[rng.integers(len(shares), size=(N_RESAMPLES, len(shares)))].mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return Got(shares.mean(axis=0), low, high, *np.quantile(shares, [0.1, 0.9], axis=0))


def report(study: Study, found: dict[Setting, list[Cell]], console: Console) -> None:
    """Table, CSV and figure."""
    got = {setting: summarise(cells) for setting, cells in found.items()}
    table = Table(
        title="Normal clips called anomalous, % [95%], by rate asked for; below it 10% to 90% of single models",
        title_justify="left",
    )
    for name in ("clips", "order", "held out by", "n"):
        table.add_column(name)
    for rate in study.rates:
        table.add_column(f"{rate:.0%}", justify="right")
    table.add_column("beyond all held-out", justify="right")
    with open(study.out / "false_alarms.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*Setting._fields, "models", "asked", *Got._fields, "extrapolated"])
        for setting, own in got.items():
            beyond = float(np.mean([cell.extrapolated for cell in found[setting]]))
            name = number_of(setting)
            for i, rate in enumerate(study.rates):
                values = [f"{column[i]:.5f}" for column in own]
                writer.writerow([*setting[:3], name, len(found[setting]), rate, *values, f"{beyond:.5f}"])
            percent = [
                f"{100 * mean:.1f} [{100 * low:.1f}, {100 * high:.1f}]\n{100 * p10:.1f} to {100 * p90:.1f}"
                for mean, low, high, p10, p90 in zip(*own, strict=True)
            ]
            table.add_row(*setting[:3], name, *percent, f"{beyond:.1%}")
    console.print(table)
    console.print(f"  {save(figure_of(study, got), study.out / 'false_alarms.png')}", highlight=False)


def number_of(setting: Setting) -> str:
    """The number of clips, for people."""
    return "all" if setting.n == ALL else str(setting.n)


def figure_of(study: Study, got: dict[Setting, Got]) -> Figure:
    """Rate got against rate asked for: a column for each set of clips, a row for each way to draw and to hold out."""
    sources = list(dict.fromkeys(setting.source for setting in got))
    rows = list(dict.fromkeys((setting.order, setting.calibration) for setting in got))
    numbers = sorted({setting.n for setting in got}, key=lambda n: n or sys.maxsize)
    colours = dict(zip(numbers, colormaps["viridis"](np.linspace(0, 0.9, len(numbers))), strict=True))
    figure = Figure(figsize=(2.9 * len(sources) + 0.6, 2.6 * len(rows) + 0.8), layout="constrained")
    axes = figure.subplots(len(rows), len(sources), squeeze=False, sharex=True, sharey=True)
    asked = np.array(study.rates)
    heights = (0.001, 0.01, 0.05, 0.2, 1.0)
    for row, (order, calibration) in enumerate(rows):
        for column, source in enumerate(sources):
            axis: Axes = axes[row, column]
            lines = {s: own for s, own in got.items() if s[:3] == (source, order, calibration)}
            if not lines:
                axis.set_visible(False)
                continue
            axis.plot(asked, asked, color="0.6", linestyle="--", linewidth=1)
            for i, (setting, own) in enumerate(lines.items()):
                place = asked * 1.04 ** (i - (len(lines) - 1) / 2)  # side by side
                error = np.maximum([own.mean - own.low, own.high - own.mean], 0)
                axis.errorbar(
                    place, own.mean, error, fmt="o-", color=colours[setting.n], markersize=3, linewidth=1,
                    label=number_of(setting),
                )  # fmt: skip
            axis.set(xscale="log", yscale="log", ylim=(0.0008, 1.25))
            axis.set_xticks(asked, [f"{100 * rate:g}" for rate in asked])
            axis.set_yticks(heights, [f"{100 * rate:g}" for rate in heights])
            axis.minorticks_off()
            axis.grid(color="0.92")
            axis.set_title(f"{source}\n{order}, {calibration}", fontsize=9)
            axis.tick_params(labelbottom=True, labelleft=True)
    for axis in axes[:, 0]:
        axis.set_ylabel("called anomalous (%)")
    for axis in axes[-1]:
        axis.set_xlabel("asked for (%)")
    if got:
        lines = axes[0, -1].get_legend_handles_labels()
        figure.legend(*lines, title="training clips", loc="outside right center")
    return figure


if __name__ == "__main__":
    sys.exit(main())
