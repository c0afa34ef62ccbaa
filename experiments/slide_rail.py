"""Mixture against autoencoder on slide rails, DCASE 2020 Task 2: the study that adjax starts from.

Run:     python -m experiments.slide_rail --data ROOT --out DIR     (ROOT holds slider/train and slider/test)
         python -m experiments.slide_rail --out DIR                 (a synthetic slide rail)
Trials:  features {spectrum, log-mel, MFCC} x {as they are, standardised} x {mixture, autoencoder}
         x {one model for each machine, one for each type}: 24, all reported; none is picked.
Settings chosen on: nothing; they are the published ones (see `Trial.spec`), fixed before any test clip was heard.
Result:  experiments/README.md, "The study", with command, data and machine.
"""

from __future__ import annotations

import csv
import itertools
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from rich.table import Table

from adjax import simulator
from adjax.app.console import make_console, say
from adjax.data.index import index_folder
from adjax.features.recipes import FeatureKind
from adjax.files import write_json
from adjax.model.fit import fit_model
from adjax.model.inputs import extract_splits
from adjax.model.model import Model
from adjax.model.named import make_spec
from adjax.model.record import versions
from adjax.model.result import Result
from adjax.model.spec import ModelSpec, Per
from adjax.report.figures import save
from adjax.report.folder import draw_figures, write_run
from adjax.report.tables import Summary, results_table, summarise

ModelName = Literal["gmm", "autoencoder"]

FEATURES: tuple[FeatureKind, ...] = ("spectrum", "log-mel", "mfcc")
PER: tuple[Per, ...] = ("machine", "type")
# A full covariance of 513 bins would rest on fewer frames than it has entries: the spectrum's is diagonal.
COVARIANCE: dict[str, Literal["full", "diag"]] = {"spectrum": "diag", "log-mel": "full", "mfcc": "full"}
N_COMPONENTS = 4  # of the mixture; the autoencoder is that of the 2020 baseline

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
class Trial:
    """One cell of the study."""

    features: FeatureKind
    standardize: bool
    model: ModelName
    per: Per

    @property
    def name(self) -> str:
        """For tables and folders."""
        return f"{self.features}{'_standardized' if self.standardize else ''}_{self.model}_per_{self.per}"

    @property
    def label(self) -> str:
        """For a person."""
        model = {"gmm": "GMM", "autoencoder": "AE"}[self.model]
        return f"{self.features}{' std' if self.standardize else ''} {model} {self.per}"

    def spec(self, study: Study) -> ModelSpec:
        """The trial's settings."""
        settings: dict[str, dict[str, Any]] = {
            "gmm": {"n_components": N_COMPONENTS, "covariance_type": COVARIANCE[self.features]},
            "autoencoder": {"n_epochs": study.epochs},
        }
        return make_spec(
            self.model,
            settings=settings[self.model],
            features={"kind": self.features},
            standardize=self.standardize,
            per=self.per,
            calibration="none",
            seed=study.seed,
        )


def main() -> int:
    """Run the study; exit code 1 if a clip or a model failed."""
    study = tyro.cli(Study)
    console = make_console()
    root = study.data or synthetic(study, console)
    clips = index_folder(root, machine_type="slider", seed=study.seed)
    clips = type(clips)(tuple(c for c in clips if c.machine_id in study.ids), clips.rejected)
    summaries: dict[Trial, Summary] = {}
    failures: set[str] = set()
    for kind in study.features:
        console.print(f"Features: {kind}")
        trials = [Trial(kind, *rest) for rest in itertools.product((False, True), study.models, PER)]
        train, test = extract_splits(clips, trials[0].spec(study))
        for trial in track(trials, f"{kind}: models", console=console):
            started = time.perf_counter()
            model = fit_model(trial.spec(study), train)
            result = model.score_features(test)
            summary = summarise(result, seed=study.seed)
            record(study, trial, model, result, summary, started)
            failures |= {str(failure) for failure in (*model.record.failures, *result.failures)}
            if "slider" in summary:
                summaries[trial] = summary["slider"]
            if kind == "log-mel" and not trial.standardize and trial.per == "machine":
                for name, draw in draw_figures(trial.name, model=model, result=result, summaries=summary):
                    draw(study.out / name)
    report(study, summaries, synthetic_data=study.data is None, console=console)
    for failure in sorted(failures):
        say(console, failure, label="Failed:", style="red")
    return 1 if failures else 0


def synthetic(study: Study, console: Console) -> Path:
    """A small synthetic tree in the output folder."""
    console.print("No --data given: a synthetic slide rail. The published numbers beside are of real ones.")
    root = study.out / "synthetic"
    simulator.write_tree(root, counts=simulator.SMALL, seed=study.seed)
    return root


def record(
    study: Study, trial: Trial, model: Model, result: Result, summary: dict[str, Summary], started: float
) -> None:
    """Scores, settings and metrics of one trial, in a folder of its own."""
    write_run(
        study.out / trial.name,
        model=model,
        result=result,
        summaries=summary,
        data={"root": str(study.data or "synthetic"), "ids": study.ids},
        seconds={"fit and score": time.perf_counter() - started},
    )


def report(study: Study, summaries: dict[Trial, Summary], *, synthetic_data: bool, console: Console) -> None:
    """The table of all trials, the two published recipes in detail, the figure, the files."""
    for model in study.models:
        trial = Trial("log-mel", False, model, "machine")
        if trial in summaries:
            published = {} if synthetic_data else {"2020 baseline, real": BASELINE_2020}
            console.print(results_table(trial.name, summaries[trial], published))
    console.print(trials_table(summaries, study.ids))
    with open(study.out / "study.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["features", "standardize", "model", "per", "machine_id", "auc", "low", "high", "pauc"]
        )
        for trial, summary in summaries.items():
            for machine_id, m in summary.by_id.items():
                interval = summary.intervals[machine_id]
                writer.writerow([*asdict(trial).values(), machine_id, m.auc, *interval, m.pauc])
    write_json(study.out / "settings.json", {"study": asdict(study), "versions": versions()})
    figure = save(trials_figure(summaries, study.ids), study.out / "study.png")
    drawn = sorted(path for path in study.out.glob("*/figures/*.png"))
    for path in (study.out / "study.csv", study.out / "settings.json", figure, *drawn):
        console.print(f"  {path}", highlight=False, soft_wrap=True)


def trials_table(summaries: dict[Trial, Summary], ids: tuple[str, ...]) -> Table:
    """A row for each trial: AUC / pAUC of each machine and their mean; the published numbers last."""
    table = Table(
        title="AUC / pAUC; std: standardised features; one model for each machine or type",
        title_justify="left",
    )
    table.add_column("trial", no_wrap=True)
    for name in (*ids, "mean"):
        table.add_column(name, justify="right", no_wrap=True)

    def cell(pair: tuple[float, float] | None) -> str:
        return "/".join(f"{value:.3f}".removeprefix("0") for value in pair) if pair else "–"

    for trial, summary in summaries.items():
        metrics = [*map(summary.by_id.get, ids), summary.mean]
        table.add_row(trial.label, *(cell((m.auc, m.pauc) if m else None) for m in metrics))
    table.add_section()
    for model, auc in SEED_STUDY.items():
        table.add_row(f"study's {model}, real", *["–"] * len(ids), f"{auc:.4f}".removeprefix("0"))
    table.add_row("2020 baseline, real", *(cell(BASELINE_2020.get(name)) for name in (*ids, "mean")))
    return table


def trials_figure(summaries: dict[Trial, Summary], ids: tuple[str, ...]) -> Figure:
    """AUC with interval of every trial, a panel for each machine."""
    figure = Figure(figsize=(3.6 * len(ids) + 2.6, 0.28 * len(summaries) + 1.4), layout="constrained")
    axes = figure.subplots(1, len(ids), sharey=True, squeeze=False)[0]
    colours = {"gmm": "#1b7837", "autoencoder": "#762a83"}
    for axis, machine_id in zip(axes, ids, strict=True):
        for row, (trial, summary) in enumerate(reversed(summaries.items())):
            if machine_id not in summary.by_id:
                continue
            auc, (low, high) = summary.by_id[machine_id].auc, summary.intervals[machine_id]
            axis.plot([low, high], [row, row], color=colours[trial.model], linewidth=1.5)
            axis.plot(
                auc, row, "o" if trial.per == "machine" else "s", color=colours[trial.model], markersize=5
            )
        axis.axvline(0.5, color="0.6", linestyle="--", linewidth=1)
        axis.set(title=machine_id, xlabel="AUC (95% interval)", xlim=(0, 1.02))
    axes[0].set_yticks(range(len(summaries)), [trial.label for trial in reversed(summaries)])
    return figure


if __name__ == "__main__":
    sys.exit(main())
