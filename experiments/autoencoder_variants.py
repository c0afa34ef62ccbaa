"""What changes to the baseline autoencoder are worth: pooling, Mahalanobis residuals, IDNN, denoising, the 2023 recipe.

Run:     python -m experiments.autoencoder_variants --out DIR [--data ROOT --machine-type slider]
         Without --data: the small synthetic slide rail, trained and tested as it is split.
         With --data and --folds 5: few real clips, cross-validated over the normal clips of each machine; every fold
         tests its own normal clips and all anomalous ones, and is a lane.
Settings chosen on: nothing; every variant is reported. No test label chooses anything.
Result:  experiments/README.md, "Other autoencoders": AUC, mean over machines (and folds), and the difference from the
         baseline on the same clips, each with a 95% bootstrap interval: over test clips, or with folds over
         (machine, fold).
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from adjax import simulator
from adjax.data.cache import default_folder
from adjax.data.clips import Clip, ClipTable
from adjax.data.index import index_folder
from adjax.detectors.autoencoder import RECIPES, AutoencoderConfig, Sizes, make_lanes
from adjax.evaluation.metrics import evaluate
from adjax.features.recipes import BASELINE_FLOORS, FeatureConfig
from adjax.lanes import LaneSpec, make_table, score_lanes
from adjax.pipeline import ClipFeatures, ScorePooling, extract, pool_scores
from adjax.report.folder import versions, write_json
from adjax.resumable import Trained, jit_program, train_lanes
from adjax.types import MAX_ITER

TRAININGS: Mapping[str, AutoencoderConfig] = {
    "2020": RECIPES["2020"],
    "IDNN": replace(RECIPES["2020"], predict="middle"),
    "denoising": replace(RECIPES["2020"], denoising=True),  # noise of 1 dB
    "2023": RECIPES["2023"],
}
POOLINGS: tuple[ScorePooling, ...] = ("mean", "std", "max", "percentile")
N_RESAMPLES = 500


@dataclass(frozen=True)
class Study:
    """Variants of the autoencoder."""

    out: Path = Path("runs/autoencoder_variants")
    """Folder for the table and checkpoints."""
    data: Path | None = None
    """Root of a data set; default: a synthetic slide rail."""
    machine_type: str = "slider"
    """Which machines of it."""
    folds: int = 0
    """Cross-validation over all normal clips, a model a machine and fold; 0: the data set's own split."""
    epochs: int = 100
    """Of every variant."""
    trainings: tuple[str, ...] = tuple(TRAININGS)
    """Which; the first is what the others are compared with."""


class Cell(NamedTuple):
    """Test clips of one lane: (n_clips,) labels and scores."""

    labels: np.ndarray
    scores: np.ndarray


def main() -> int:
    """Train, score, compare; the exit code is 1 if a clip failed."""
    study = tyro.cli(Study, description=__doc__)
    console = Console()
    started = time.perf_counter()
    root = study.data
    if root is None:
        root = study.out / "synthetic"
        simulator.write_tree(root, counts=simulator.SMALL)
    clips = index_folder(root, machine_type=study.machine_type)
    failures: dict[str, None] = {}
    found: dict[str, list[Cell]] = {}
    for name in study.trainings:
        front_end = FeatureConfig(floor=BASELINE_FLOORS["2023" if name == "2023" else "2020"])
        features = extract(clips, front_end, cache=default_folder())
        failures |= dict.fromkeys(map(str, features.failures))
        train, test = split(features, study.folds)
        specs = [LaneSpec(study.machine_type, machine_id) for machine_id in train.clips.machine_ids]
        config = replace(TRAININGS[name], n_epochs=study.epochs)
        table = make_table(train, specs, config, validation=0.0)
        # The residual's covariance comes after training: one training serves both scores.
        with_covariance = replace(config, residual="mahalanobis")
        trained = train_lanes(table, with_covariance, folder=study.out / name.replace(" ", "_"))
        assert np.all(np.asarray(trained.state.status) == MAX_ITER), f"{name}: a lane did not stay finite"
        for residual in ("mean_square", "mahalanobis"):
            scored = replace(config, residual=residual)
            score = "Mahalanobis, " if residual == "mahalanobis" else ""
            for pooling, cells in judge(scored, trained, specs, test).items():
                found[f"{name}, {score}{pooling}"] = cells
        console.print(f"{name}: {time.perf_counter() - started:.0f} s")
    report(study, found, console)
    for failure in failures:
        console.print(f"Failed: {failure}", markup=False)
    return 1 if failures else 0


def split(features: ClipFeatures, folds: int) -> tuple[ClipFeatures, ClipFeatures]:
    """Training and test clips, as the data set has them or by cross-validation."""
    if folds:
        return fold(features, folds)
    train = features.where(lambda clip: clip.split == "train")
    return train, features.where(lambda clip: clip.split == "test")


def fold(features: ClipFeatures, folds: int) -> tuple[ClipFeatures, ClipFeatures]:
    """Every (machine, fold) becomes a machine of its own; its training clips are the normal ones of the other folds."""
    number: dict[Clip, int] = {}
    for machine_id in features.clips.machine_ids:
        normal = [clip for clip in features.clips if clip.machine_id == machine_id and clip.label == 0]
        order = np.random.default_rng(0).permutation(len(normal))
        number |= {normal[i]: place % folds for place, i in enumerate(order)}

    def of_all(keep: Callable[[int, Clip], bool]) -> ClipFeatures:
        parts = [features.where(partial(keep, k)) for k in range(folds)]
        clips = [
            replace(clip, machine_id=f"{clip.machine_id} fold {k}")
            for k, part in enumerate(parts)
            for clip in part.clips
        ]
        lengths = np.concatenate([np.diff(part.offsets) for part in parts])
        return ClipFeatures(
            ClipTable(tuple(clips)),
            np.concatenate([part.rows for part in parts]),
            np.concatenate([[0], np.cumsum(lengths)]),
        )

    return of_all(lambda k, clip: number.get(clip, k) != k), of_all(lambda k, clip: number.get(clip, k) == k)


def judge(
    config: AutoencoderConfig, trained: Trained, specs: list[LaneSpec], test: ClipFeatures
) -> dict[str, list[Cell]]:
    """The scores of every lane's test clips, under each pooling."""
    params = trained.params
    if config.residual == "mean_square":
        params = params._replace(whitening=None)
    program = jit_program(make_lanes(config, Sizes(1, 0)))  # scoring depends on no size
    scored = score_lanes(program, params, specs, test)
    return {
        pooling: [
            Cell(own.clips.labels, pool_scores(values, own, config.n_context, pooling)[0])
            for own, values in scored
        ]
        for pooling in POOLINGS
    }


def report(study: Study, found: dict[str, list[Cell]], console: Console) -> None:
    """Table and CSV."""
    reference = found[f"{study.trainings[0]}, mean"]
    table = Table(
        title=f"{study.machine_type}: mean AUC, difference from {study.trainings[0]}, mean",
        title_justify="left",
    )
    for name in ("variant", "AUC [95%]", "pAUC", "difference [95%]"):
        table.add_column(name)
    with open(study.out / f"variants_{study.machine_type}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["variant", "auc", "low", "high", "pauc", "difference", "low", "high"])
        for name, cells in found.items():
            auc, pauc = mean_areas(cells)
            gain = auc - mean_areas(reference)[0]
            draws = draw_means(cells, over_cells=study.folds > 0)
            low, high = np.percentile(draws, [2.5, 97.5])
            gains = draws - draw_means(reference, over_cells=study.folds > 0)
            gain_low, gain_high = np.percentile(gains, [2.5, 97.5])
            writer.writerow([name, auc, low, high, pauc, gain, gain_low, gain_high])
            difference = f"{gain:+.3f} \\[{gain_low:+.3f}, {gain_high:+.3f}]"
            table.add_row(name, f"{auc:.3f} \\[{low:.3f}, {high:.3f}]", f"{pauc:.3f}", difference)
    write_json(study.out / "settings.json", {"study": asdict(study), "versions": versions()})
    console.print(table)


def mean_areas(cells: list[Cell]) -> tuple[float, float]:
    """Mean AUC and pAUC of the cells that have clips of both labels."""
    found = [metrics for cell in cells if (metrics := evaluate(*cell))]
    return float(np.mean([m.auc for m in found])), float(np.mean([m.pauc for m in found]))


def draw_means(cells: list[Cell], *, over_cells: bool) -> np.ndarray:
    """(N_RESAMPLES,) bootstrap draws of the mean AUC; the draws of two systems on the same clips belong together."""
    rng = np.random.default_rng(0)
    wins = [
        (cell.scores[cell.labels == 1][:, None] > cell.scores[cell.labels == 0][None, :])
        + 0.5 * (cell.scores[cell.labels == 1][:, None] == cell.scores[cell.labels == 0][None, :])
        for cell in cells
    ]
    if over_cells:
        aucs = np.array([np.mean(own) for own in wins])
        return np.mean(aucs[rng.integers(len(cells), size=(N_RESAMPLES, len(cells)))], axis=1)
    draws = np.zeros((N_RESAMPLES, len(cells)))
    for i in range(N_RESAMPLES):
        for j, own in enumerate(wins):
            rows, columns = (rng.integers(n, size=n) for n in own.shape)
            draws[i, j] = np.mean(own[np.ix_(rows, columns)])
    return np.mean(draws, axis=1)


if __name__ == "__main__":
    sys.exit(main())
