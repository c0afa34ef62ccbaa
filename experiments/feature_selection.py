"""Do criteria without labels find the columns worth looking at, and does dropping the others help?

Run:     python -m experiments.feature_selection --vectors FOLDER --out DIR [--mini ROOT] [--shares .25 .5 .75]
         FOLDER: tables as in experiments.real_vectors. ROOT: few real clips, for r alone. Without: simulated only.
Work:    each criterion of `adjax.model.selection` and `adjax.model.gates` weighs the columns from normal training
         clips; the best share of them stays, and joint, neighbours, identity and their fusion are fitted to these.
         Simulated slide rails, of which the bands of each fault are known; with `drift` a third of the bands is
         shifted by blocks of clips, which is what selection is for. r of GWRP is learnt through pooling and EM.
Settings chosen on: nothing is chosen by labels; shares were fixed beforehand. "true bands", those that most faults
         are heard in, uses them, as a bound.
Result:  experiments/README.md, "Feature selection". A quarter of the columns by gates, AUC of the fusion less that of
         all columns: eGeMAPS +.008 [-.001, .019], fan log-mels +.007 [.001, .015], simulated -.061 [-.094, -.033].
         Half of them by steadiness: with drift +.051 [.019, .086], without .000, real tables -.055 and -.037. 7 minutes
         on two busy cores, 14 with everything to be compiled.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tyro
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from adjax import simulator
from adjax.app.console import make_console
from adjax.files import csv_table, write_json
from adjax.model.extraction import ClipFeatures
from adjax.model.record import versions
from adjax.model.vectors import read_vectors
from adjax.report.figures import save
from experiments._fusion_report import COLOURS, number, shown
from experiments._fusions import AUTO
from experiments._selection import TRUTH, Change, Weights, changes, judge_columns, of_bands, weigh
from experiments._selection_simulated import (
    DRIFT_BANDS,
    N_BANDS,
    N_VIEWS,
    Sweep,
    drifting,
    found,
    sweep_ratio,
    true_bands,
    two_views,
)
from experiments.real_vectors import DATA, together

COUNTS = {f"id_{i:02d}": simulator.ClipCounts(60, 45, 45) for i in range(6)}
RATIOS = (0.0, 0.5, 0.9, 1.0)  # of GWRP, to compare with
TABLES = ("slider + fan, eGeMAPS", "fan, log-mel")
SHOWN = (0.25, 0.5)  # shares in the figure
Judged = dict[str, tuple[dict[str, np.ndarray], list[Change]]]


@dataclass(frozen=True)
class Study:
    """Columns chosen without labels."""

    vectors: Path | None = None
    """Folder of the tables."""
    mini: Path | None = None
    """Root of few real clips."""
    out: Path = Path("runs/feature_selection")
    """Folder for the changes, the figure and what is simulated."""
    shares: tuple[float, ...] = (0.25, 0.5, 0.75)
    """Of the columns that stay."""


def main() -> int:
    """Run the study."""
    study, console, started = tyro.cli(Study, description=__doc__), make_console(), time.perf_counter()

    def say(text: str) -> None:
        console.print(f"{time.perf_counter() - started:.0f} s {text}")

    study.out.mkdir(parents=True, exist_ok=True)
    root = study.out / "simulated"
    home = simulator.write_tree(root, counts=COUNTS)
    truth = simulator.read_ground_truth(home / simulator.GROUND_TRUTH)
    sweeps = sweep_ratio("simulated", root, 40, RATIOS, say)
    if study.mini:
        sweeps += sweep_ratio("real clips", study.mini, 6, RATIOS, say)
    judged: Judged = {}
    features = two_views(root)
    bands = true_bands(truth, features)
    where: dict[tuple[str, str], list[float]] = {}
    for data, own in (("simulated", features), ("simulated, drift", drifting(features))):
        weights = of_bands(weigh(training(own)), np.tile(np.arange(N_BANDS), N_VIEWS))
        where |= {(f"{data}|{name}", fault): aucs for (name, fault), aucs in found(weights, bands).items()}
        if own is not features:
            steady = np.ones(N_BANDS, bool)
            steady[DRIFT_BANDS] = False
            where |= {
                (f"{data}|{name}", "steady bands"): aucs
                for (name, _), aucs in found(weights, {("", "steady"): steady}).items()
            }
        weights[TRUTH] = np.tile(1e-3 + np.mean(list(bands.values()), axis=0), N_VIEWS)
        judged[data] = changes(judge_columns(data, own, weights, study.shares, say))
    for name, tables in tables_of(study.vectors).items():
        own = together([read_vectors(table) for table in tables])
        weights = {**weigh(training(own)), **ranges(own)}
        judged[name] = changes(judge_columns(name, own, weights, study.shares, say))
    report(study, console, judged, where, sweeps)
    seconds = time.perf_counter() - started
    write_json(
        study.out / "settings.json", {"study": asdict(study), "versions": versions(), "seconds": seconds}
    )
    say("done")
    return 0


def tables_of(folder: Path | None) -> dict[str, list[Path]]:
    """The tables that are learnt together, by name."""
    return {name: [folder / f"{table}.csv" for table in DATA[name]] for name in TABLES} if folder else {}


def training(features: ClipFeatures) -> ClipFeatures:
    """The normal training clips."""
    return features.where(lambda clip: clip.split == "train")


def ranges(features: ClipFeatures) -> Weights:
    """Low and high bands first, where columns are bands."""
    if not all("_band_" in name for name in features.columns):
        return {}
    band = np.array([int(name.rsplit("_", 1)[1]) for name in features.columns], float)
    return {"low bands": 1 + band.max() - band, "high bands": band}


def report(
    study: Study,
    console: Console,
    judged: Judged,
    where: Mapping[tuple[str, str], Sequence[float]],
    sweeps: Sequence[Sweep],
) -> None:
    """Tables, CSV and the figure of what there is by now."""
    with csv_table(
        study.out / "changes.csv",
        ("data", "criterion", "share", "system", "auc", "low", "high", "pauc", "low", "high"),
    ) as write:
        for data, (_, every) in judged.items():
            for own in every:
                limits = np.percentile(own.change[1:], [2.5, 97.5], axis=0)
                write(
                    [
                        data,
                        own.criterion,
                        own.share,
                        own.system,
                        *(f"{x:.5f}" for i in range(2) for x in (own.change[0, i], *limits[:, i])),
                    ]
                )
    for data, (base, every) in judged.items():
        table = Table(
            title=f"{data}: AUC on all columns, then what choosing changes [95%]", title_justify="left"
        )
        for heading in ("criterion", "share", *base):
            table.add_column(heading)
        table.add_row("all columns", "1", *(f"{shown(v[:, 0])}\n{shown(v[:, 1])}" for v in base.values()))
        rows: dict[tuple[str, float], list[str]] = {}
        for own in every:
            text = f"{shown(own.change[:, 0], sign=True)}\n{shown(own.change[:, 1], sign=True)}"
            rows.setdefault((own.criterion, own.share), []).append(text)
        for (criterion, share), cells in rows.items():
            table.add_row(criterion, f"{share:g}", *cells)
        console.print(table)
    finds = Table(
        title="AUC of a band's weight against the true bands, mean over machines", title_justify="left"
    )
    faults = list(dict.fromkeys(fault for _, fault in where))
    for heading in ("criterion", *faults):
        finds.add_column(heading)
    for name in dict.fromkeys(name for name, _ in where):
        finds.add_row(
            name, *(number(float(np.mean(where[name, f]))) if (name, f) in where else "" for f in faults)
        )
    console.print(finds)
    for sweep in sweeps:
        learnt = ", ".join(
            f"{r:.3f} by {aim} (loss {sweep.losses[aim][0]:.3f} to {sweep.losses[aim][1]:.3f})"
            for aim, r in sweep.learnt.items()
        )
        console.print(
            f"{sweep.data}: r {learnt}; AUC / pAUC by r: "
            + ", ".join(f"{r:.3f} {number(a)}/{number(p)}" for r, (a, p) in sweep.areas.items())
        )
    save(draw(judged, where), study.out / "feature_selection.png")


def draw(judged: Judged, where: Mapping[tuple[str, str], Sequence[float]]) -> Figure:
    """What each criterion finds, and what the fusion's AUC changes by when a quarter or half of the columns stay."""
    n_rows = -(-(1 + len(judged)) // 3)
    figure = Figure(figsize=(13, 4.2 * n_rows), layout="constrained")
    axes = figure.subplots(n_rows, 3, squeeze=False).ravel()
    for axis in axes[1 + len(judged) :]:
        axis.set_axis_off()
    faults = list(dict.fromkeys(fault for _, fault in where))
    names = list(dict.fromkeys(name for name, _ in where))
    for i, fault in enumerate(faults):
        at = [y for y, name in enumerate(names) if (name, fault) in where]
        axes[0].plot([np.mean(where[names[y], fault]) for y in at], at, "o", color=COLOURS[i], label=fault)
    axes[0].set_yticks(range(len(names)), [name.replace("|", ": ") for name in names], fontsize=6)
    axes[0].axvline(0.5, color="0.6", linewidth=1)
    axes[0].set(xlabel="AUC of weights against true bands", title="what is found")
    figure.legend(loc="outside lower center", ncols=len(faults), fontsize=8)
    for axis, (data, (_, every)) in zip(axes[1:], judged.items(), strict=False):
        criteria = list(dict.fromkeys(own.criterion for own in every))
        for own in every:
            if own.share in SHOWN and own.system == AUTO:
                y = criteria.index(own.criterion) + (0.15 if own.share == SHOWN[0] else -0.15)
                low, high = np.percentile(own.change[1:, 0], [2.5, 97.5])
                axis.plot([low, high], [y, y], color="0.4", linewidth=1)
                axis.plot(
                    own.change[0, 0], y, "^" if own.share == SHOWN[0] else "s", color=COLOURS[2], markersize=5
                )
        axis.set_yticks(range(len(criteria)), criteria, fontsize=6)
        axis.axvline(0, color="0.6", linewidth=1)
        axis.set(title=data, xlabel="change of AUC, ▲ a quarter, ■ half kept")
    return figure


if __name__ == "__main__":
    sys.exit(main())
