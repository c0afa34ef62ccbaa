"""How wide should the bottleneck be? Widths x machines x seeds of the 2020 autoencoder, as one compiled program.

Run:     python -m experiments.bottleneck --out DIR [--data ROOT]     (without --data: the small synthetic slide rail)
         The same command goes on where an earlier one was stopped.
Lanes:   widths {1, 2, 4, 8, 16, 32, 64} x machines x 5 seeds = 105 for three machines.
Settings chosen on: nothing is chosen. The question is whether the validation loss, which knows normal clips only,
         would have chosen the width that the labelled test clips prefer.
Result:  experiments/README.md, "Width of the bottleneck": table, figure, time and machine.
"""

from __future__ import annotations

import csv
import sys
import time
from dataclasses import asdict, dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import tyro
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from adjax import simulator
from adjax.app.console import make_console
from adjax.data.index import index_folder
from adjax.detectors.autoencoder import RECIPES, AutoencoderConfig, make_lanes
from adjax.detectors.autoencoder.resume import LaneTable, Trained, jit_program, train_lanes
from adjax.evaluation.metrics import evaluate
from adjax.files import write_json
from adjax.model.extraction import ClipFeatures
from adjax.model.inputs import extract_splits
from adjax.model.named import make_spec
from adjax.model.record import versions
from adjax.model.spec import ScorePooling
from adjax.report.figures import loss_curves, save
from adjax.store import save_model
from adjax.sweep.models import pool_scores
from adjax.types import NOT_FINITE
from experiments._autoencoder_lanes import LaneSpec, make_table, score_lanes

N_RESAMPLES = 200
Interval = tuple[float, float, float]  # value, low, high


@dataclass(frozen=True)
class Study:
    """The bottleneck's width."""

    out: Path = Path("runs/bottleneck")
    """Folder for checkpoints, models, tables and figures."""
    data: Path | None = None
    """Root of a data set; default: a synthetic slide rail."""
    machine_type: str = "slider"
    """Which machines of it."""
    widths: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    """Units of the bottleneck."""
    seeds: int = 5
    """Trainings of each."""
    epochs: int = 100
    """Of the autoencoder; 100 is the recipe's."""
    batch_size: int = 512
    """Of its steps; 512 is the recipe's."""
    score_pooling: ScorePooling = "mean"
    """Of a clip's window errors."""
    epochs_a_checkpoint: int = 2
    """Between two checkpoints."""


class Cell(NamedTuple):
    """One machine and width, over all seeds; 95% bootstrap intervals over test clips."""

    machine_id: str
    width: int
    auc: Interval
    pauc: Interval
    validation_loss: tuple[float, ...]


def main() -> int:
    """Run the study; the exit code is 1 if a lane or a clip failed."""
    study = tyro.cli(Study, description=__doc__)
    console = make_console()
    started = time.perf_counter()
    config = replace(
        RECIPES["2020"],
        bottleneck=max(study.widths),
        n_epochs=study.epochs,
        batch_size=study.batch_size,
    )
    root = study.data
    if root is None:
        root = study.out / "synthetic"
        simulator.write_tree(root, counts=simulator.SMALL)
    clips = index_folder(root, machine_type=study.machine_type)
    (train,), (test,) = extract_splits(clips, make_spec("autoencoder:2020"))
    specs = [
        LaneSpec(study.machine_type, machine_id, width, seed)
        for machine_id in train.clips.machine_ids
        for width in study.widths
        for seed in range(study.seeds)
    ]
    table = make_table(train, specs, config)
    trained = train_with_progress(study, config, table, console)
    for remark in trained.remarks:
        console.print(f"Note: {remark}", markup=False)
    cells, failures = judge(study, config, table, specs, trained, test)
    report(study, cells, console)
    train_loss, validation_loss = map(np.asarray, trained.losses)
    curves = loss_curves(train_loss, validation_loss, [spec.machine_id for spec in specs])
    save(curves, study.out / "losses.png")
    seconds = time.perf_counter() - started
    write_json(
        study.out / "settings.json", {"study": asdict(study), "versions": versions(), "seconds": seconds}
    )
    failures = [str(error) for error in (*train.failures, *test.failures)] + failures
    for failure in dict.fromkeys(failures):
        console.print(f"Failed: {failure}", markup=False)
    return 1 if failures else 0


def train_with_progress(
    study: Study, config: AutoencoderConfig, table: LaneTable, console: Console
) -> Trained:
    """Train all lanes into the folder of the study, with a bar that counts epochs."""
    with Progress(console=console) as progress:
        name = f"{len(table.lanes.train.first)} lanes: epochs"
        task = progress.add_task(name, total=study.epochs)

        def on_epoch(n_epochs: Any, losses: Any, validation: Any) -> None:
            text = f"{name}, validation loss {np.nanmedian(validation):.4g}"
            if stopped := int(np.sum(np.isnan(losses))):
                text += f", {stopped} stopped (not finite)"
            progress.update(task, completed=int(np.max(n_epochs)), description=text)

        every = study.epochs_a_checkpoint
        return train_lanes(table, config, folder=study.out, on_epoch=on_epoch, epochs_a_checkpoint=every)


def judge(
    study: Study,
    config: AutoencoderConfig,
    table: LaneTable,
    specs: list[LaneSpec],
    trained: Trained,
    test: ClipFeatures,
) -> tuple[list[Cell], list[str]]:
    """Score the test clips by every lane and save its model; the cells, and what failed."""
    failures = []
    clip_scores: dict[tuple[str, int], list[np.ndarray]] = {}
    losses: dict[tuple[str, int], list[float]] = {}
    labels: dict[str, np.ndarray] = {}
    program = jit_program(make_lanes(config, table.sizes))
    scored = score_lanes(program, trained.params, specs, test)
    for i, (spec, (own, values)) in enumerate(zip(specs, scored, strict=True)):
        if int(trained.state.status[i]) == NOT_FINITE:
            failures.append(f"{spec.name} did not stay finite after epoch {int(trained.state.n_epochs[i])}")
            continue
        scores = pool_scores(values, own.offsets, config.n_context, study.score_pooling)
        usable = np.isfinite(scores)
        failures += [
            f"{own.clips[int(row)].path}: too few frames for a score" for row in np.flatnonzero(~usable)
        ]
        labels[spec.machine_id] = own.clips.labels[usable]
        clip_scores.setdefault((spec.machine_id, spec.width), []).append(scores[usable])
        losses.setdefault((spec.machine_id, spec.width), []).append(float(trained.losses.validation[-1, i]))
        params = jax.tree.map(itemgetter(i), trained.params)
        settings = {"lane": asdict(spec), "config": asdict(config)}
        save_model(study.out / "models" / spec.name.replace(" ", "_"), params, settings)
    cells = [
        Cell(*key, *intervals(labels[key[0]], np.stack(scores)), validation_loss=tuple(losses[key]))
        for key, scores in clip_scores.items()
    ]
    return cells, failures


def intervals(labels: np.ndarray, scores: np.ndarray) -> tuple[Interval, Interval]:
    """AUC and pAUC, mean over the seeds, with bootstrap intervals; all seeds share a resample of the clips.

    Args:
        labels: (n_clips,) 0 or 1.
        scores: (n_seeds, n_clips).
    """
    rng = np.random.default_rng(0)
    groups = [np.flatnonzero(labels == label) for label in (0, 1)]
    draws = [np.concatenate(groups)] + [
        np.concatenate([rng.choice(group, len(group)) for group in groups]) for _ in range(N_RESAMPLES)
    ]
    found = [[evaluate(labels[draw], own[draw]) for own in scores] for draw in draws]
    means = np.array([np.mean([(m.auc, m.pauc) for m in row if m], axis=0) for row in found])
    low, high = np.percentile(means[1:], [2.5, 97.5], axis=0)
    auc, pauc = ((float(means[0, i]), float(low[i]), float(high[i])) for i in range(2))
    return auc, pauc


def report(study: Study, cells: list[Cell], console: Console) -> None:
    """Table, CSV and figure, and which width each criterion would take."""
    table = Table(title="AUC [95%] / pAUC, and validation loss; means over seeds", title_justify="left")
    table.add_column("width", justify="right")
    machines = list(dict.fromkeys(cell.machine_id for cell in cells))
    for machine_id in machines:
        table.add_column(machine_id)
    for width in study.widths:
        own = {cell.machine_id: cell for cell in cells if cell.width == width}
        table.add_row(str(width), *(_text(own.get(machine_id)) for machine_id in machines))
    console.print(table)
    for machine_id in machines:
        own_cells = [cell for cell in cells if cell.machine_id == machine_id]
        by_loss = min(own_cells, key=lambda cell: np.mean(cell.validation_loss))
        by_auc = max(own_cells, key=lambda cell: cell.auc[0])
        console.print(
            f"{machine_id}: the validation loss would take width {by_loss.width} (AUC {by_loss.auc[0]:.3f}); "
            f"the best AUC, {by_auc.auc[0]:.3f}, is width {by_auc.width}'s"
        )
    with open(study.out / "bottleneck.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["machine_id", "width", "auc", "auc_low", "auc_high", "pauc", "pauc_low", "pauc_high", "loss"]
        )
        writer.writerows([c.machine_id, c.width, *c.auc, *c.pauc, np.mean(c.validation_loss)] for c in cells)
    console.print(f"  {save(figure_of(cells), study.out / 'bottleneck.png')}", highlight=False)


def _text(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    auc, low, high = (f"{value:.3f}" for value in cell.auc)
    return f"{auc} [{low}, {high}] / {cell.pauc[0]:.3f}; {np.mean(cell.validation_loss):.2f}"


def figure_of(cells: list[Cell]) -> Figure:
    """AUC and pAUC against width above, the validation loss of every seed below, a column for each machine."""
    machines = list(dict.fromkeys(cell.machine_id for cell in cells))
    figure = Figure(figsize=(3.8 * len(machines) + 0.4, 5.4), layout="constrained")
    axes = figure.subplots(2, len(machines), squeeze=False, sharex=True, sharey="row")
    for column, machine_id in enumerate(machines):
        own = [cell for cell in cells if cell.machine_id == machine_id]
        widths = [cell.width for cell in own]
        top, bottom = axes[:, column]
        for name, colour in (("auc", "#762a83"), ("pauc", "#1b7837")):
            value, low, high = np.array([getattr(cell, name) for cell in own]).T
            label = {"auc": "AUC", "pauc": "pAUC"}[name]
            top.errorbar(
                widths, value, [value - low, high - value], fmt="o-", color=colour, capsize=3, label=label
            )
        top.axhline(0.5, color="0.6", linestyle="--", linewidth=1)
        for cell in own:
            bottom.plot([cell.width] * len(cell.validation_loss), cell.validation_loss, ".", color="0.5")
        bottom.plot(widths, [np.mean(cell.validation_loss) for cell in own], "-", color="0.2")
        top.set(title=machine_id, xscale="log")
        bottom.set_xlabel("bottleneck width")
        bottom.set_xticks(widths, [str(width) for width in widths])
        bottom.minorticks_off()
    axes[0, 0].set_ylabel("mean over seeds, 95% of clips")
    axes[1, 0].set_ylabel("validation loss (dB²)")
    axes[0, 0].legend()
    return figure


if __name__ == "__main__":
    sys.exit(main())
