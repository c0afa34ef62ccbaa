"""Mixture against autoencoder on slide rails, DCASE 2020 Task 2: the study that adjax starts from.

Run:     python -m experiments.slide_rail --data ROOT --out DIR     (ROOT holds slider/train and slider/test)
         python -m experiments.slide_rail --out DIR                 (a synthetic slide rail)
Lanes:   features {spectrum, log-mel, MFCC} x {as they are, standardised} x {mixture, autoencoder}
         x {one model a machine, one a type}: 24, all reported; none is picked.
Settings chosen on: nothing; they are the published ones (see SETTINGS), fixed before any test clip was heard.
Result:  experiments/README.md, "The study", with command, data and machine.
"""

from __future__ import annotations

import csv
import itertools
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import tyro
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from rich.table import Table

from adjax import simulator
from adjax.data.index import index_folder
from adjax.detectors.autoencoder import AutoencoderConfig
from adjax.detectors.gmm import GmmConfig
from adjax.features.recipes import FeatureConfig, FeatureKind
from adjax.pipeline import ModelName, Result, RunConfig, extract_splits, fit_and_score
from adjax.report.figures import save
from adjax.report.folder import versions, write_figures, write_json, write_run
from adjax.report.tables import Summary, results_table, summarise

FEATURES: tuple[FeatureKind, ...] = ("spectrum", "log-mel", "mfcc")
PER: tuple[Literal["machine", "type"], ...] = ("machine", "type")
# A full covariance of 513 bins would rest on fewer frames than it has entries: the spectrum's is diagonal.
COVARIANCE: dict[str, Literal["full", "diag"]] = {"spectrum": "diag", "log-mel": "full", "mfcc": "full"}
SETTINGS = RunConfig(
    gmm=GmmConfig(n_components=4), autoencoder=AutoencoderConfig()
)  # recipe of the 2020 baseline

# AUC / pAUC on the real development test set, for comparison; a synthetic rail has nothing to do with them.
SEED_STUDY = {"gmm": 0.9234, "autoencoder": 0.8997}
BASELINE_2020 = {
    "id_00": (0.963, 0.818),
    "id_02": (0.788, 0.629),
    "id_04": (0.946, 0.740),
    "id_06": (0.702, 0.490),
    "mean": (0.899, 0.729),  # of ids 00, 02 and 04, as in the study
}


@dataclass(frozen=True)
class Study:
    """The slide-rail study."""

    out: Path = Path("runs/slide_rail")
    """Folder for tables, scores and figures."""
    data: Path | None = None
    """Root of a data set with slide rails; default: a synthetic one."""
    ids: tuple[str, ...] = ("id_00", "id_02", "id_04")
    """Machines; the study leaves id_06 out."""
    epochs: int = 100
    """Of the autoencoder."""
    features: tuple[FeatureKind, ...] = FEATURES
    """Front ends."""
    models: tuple[ModelName, ...] = ("gmm", "autoencoder")
    """Detectors."""
    seed: int = 0
    """Of everything random."""


@dataclass(frozen=True)
class Lane:
    """One cell of the study."""

    features: FeatureKind
    standardize: bool
    model: ModelName
    per: Literal["machine", "type"]

    @property
    def name(self) -> str:
        """For tables and folders."""
        return f"{self.features}{'_standardized' if self.standardize else ''}_{self.model}_per_{self.per}"

    @property
    def label(self) -> str:
        """For a person."""
        model = {"gmm": "GMM", "autoencoder": "AE"}[self.model]
        return f"{self.features}{' std' if self.standardize else ''} {model} {self.per}"

    def config(self, study: Study) -> RunConfig:
        """The lane's settings."""
        return replace(
            SETTINGS,
            model=self.model,
            features=FeatureConfig(kind=self.features),
            standardize=self.standardize,
            per=self.per,
            gmm=replace(SETTINGS.gmm, covariance_type=COVARIANCE[self.features]),
            autoencoder=replace(SETTINGS.autoencoder, n_epochs=study.epochs),
            seed=study.seed,
        )


def main() -> int:
    """Run the study; exit code 1 if a clip or a model failed."""
    study = tyro.cli(Study)
    console = Console()
    root = study.data or synthetic(study, console)
    clips = index_folder(root, machine_type="slider", seed=study.seed)
    clips = type(clips)(tuple(c for c in clips if c.machine_id in study.ids), clips.rejected)
    summaries: dict[Lane, Summary] = {}
    failures: set[str] = set()
    for kind in study.features:
        console.print(f"Features: {kind}")
        config = replace(SETTINGS, features=FeatureConfig(kind=kind))
        train, test = extract_splits(clips, config)
        lanes = [Lane(kind, *rest) for rest in itertools.product((False, True), study.models, PER)]
        for lane in track(lanes, f"{kind}: models", console=console):
            started = time.perf_counter()
            result = fit_and_score(train, test, lane.config(study))
            summary = summarise(result, seed=study.seed)
            record(study, lane, result, summary, started)
            failures |= {str(failure) for failure in result.failures}
            if "slider" in summary:
                summaries[lane] = summary["slider"]
            if kind == "log-mel" and not lane.standardize and lane.per == "machine":
                write_figures(
                    study.out / lane.name,
                    result=result,
                    summaries=summary,
                    test=test,
                    config=lane.config(study),
                )
    report(study, summaries, synthetic_data=study.data is None, console=console)
    for failure in sorted(failures):
        console.print(f"[red]Failed:[/] {failure}", markup=True)
    return 1 if failures else 0


def synthetic(study: Study, console: Console) -> Path:
    """A small synthetic tree in the output folder."""
    console.print("No --data given: a synthetic slide rail. The published numbers beside are of real ones.")
    root = study.out / "synthetic"
    simulator.write_tree(root, counts=simulator.SMALL, seed=study.seed)
    return root


def record(study: Study, lane: Lane, result: Result, summary: dict[str, Summary], started: float) -> None:
    """Scores, settings and metrics of one lane, in a folder of its own."""
    write_run(
        study.out / lane.name,
        result=result,
        summaries=summary,
        config=lane.config(study),
        data={"root": str(study.data or "synthetic"), "ids": study.ids},
        seconds={"fit and score": time.perf_counter() - started},
    )


def report(study: Study, summaries: dict[Lane, Summary], *, synthetic_data: bool, console: Console) -> None:
    """The table of all lanes, the two published recipes in detail, the figure, the files."""
    for model in study.models:
        lane = Lane("log-mel", False, model, "machine")
        if lane in summaries:
            published = {} if synthetic_data else {"2020 baseline, real": BASELINE_2020}
            console.print(results_table(lane.name, summaries[lane], published))
    console.print(lanes_table(summaries, study.ids))
    with open(study.out / "study.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["features", "standardize", "model", "per", "machine_id", "auc", "low", "high", "pauc"]
        )
        for lane, summary in summaries.items():
            for machine_id, m in summary.by_id.items():
                interval = summary.intervals[machine_id]
                writer.writerow([*asdict(lane).values(), machine_id, m.auc, *interval, m.pauc])
    write_json(study.out / "settings.json", {"study": asdict(study), "versions": versions()})
    figure = save(lanes_figure(summaries, study.ids), study.out / "study.png")
    drawn = sorted(path for path in study.out.glob("*/figures/*.png"))
    for path in (study.out / "study.csv", study.out / "settings.json", figure, *drawn):
        console.print(f"  {path}", highlight=False, soft_wrap=True)


def lanes_table(summaries: dict[Lane, Summary], ids: tuple[str, ...]) -> Table:
    """A row a lane: AUC / pAUC of each machine and their mean; the published numbers last."""
    table = Table(
        title="AUC / pAUC; std: standardised features; one model a machine or a type", title_justify="left"
    )
    table.add_column("lane", no_wrap=True)
    for name in (*ids, "mean"):
        table.add_column(name, justify="right", no_wrap=True)

    def cell(pair: tuple[float, float] | None) -> str:
        return "/".join(f"{value:.3f}".removeprefix("0") for value in pair) if pair else "–"

    for lane, summary in summaries.items():
        metrics = [*map(summary.by_id.get, ids), summary.mean]
        table.add_row(lane.label, *(cell((m.auc, m.pauc) if m else None) for m in metrics))
    table.add_section()
    for model, auc in SEED_STUDY.items():
        table.add_row(f"study's {model}, real", *["–"] * len(ids), f"{auc:.4f}".removeprefix("0"))
    table.add_row("2020 baseline, real", *(cell(BASELINE_2020.get(name)) for name in (*ids, "mean")))
    return table


def lanes_figure(summaries: dict[Lane, Summary], ids: tuple[str, ...]) -> Figure:
    """AUC with interval of every lane, a panel a machine."""
    figure = Figure(figsize=(3.6 * len(ids) + 2.6, 0.28 * len(summaries) + 1.4), layout="constrained")
    axes = figure.subplots(1, len(ids), sharey=True, squeeze=False)[0]
    colours = {"gmm": "#1b7837", "autoencoder": "#762a83"}
    for axis, machine_id in zip(axes, ids, strict=True):
        for row, (lane, summary) in enumerate(reversed(summaries.items())):
            if machine_id not in summary.by_id:
                continue
            auc, (low, high) = summary.by_id[machine_id].auc, summary.intervals[machine_id]
            axis.plot([low, high], [row, row], color=colours[lane.model], linewidth=1.5)
            axis.plot(
                auc, row, "o" if lane.per == "machine" else "s", color=colours[lane.model], markersize=5
            )
        axis.axvline(0.5, color="0.6", linestyle="--", linewidth=1)
        axis.set(title=machine_id, xlabel="AUC (95% interval)", xlim=(0, 1.02))
    axes[0].set_yticks(range(len(summaries)), [lane.label for lane in reversed(summaries)])
    return figure


if __name__ == "__main__":
    sys.exit(main())
