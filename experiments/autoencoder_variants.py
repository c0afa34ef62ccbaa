"""What changes to the baseline autoencoder are worth: pooling, Mahalanobis residuals, IDNN, denoising, the 2023 recipe.

Run:     python -m experiments.autoencoder_variants --out DIR [--data ROOT --machine-type slider]
         Without --data: the small synthetic slide rail, trained and tested as it is split.
         With --data and --folds 5: few real clips, cross-validated over the normal clips of each machine; every fold
         tests its own normal clips and all anomalous ones, and has a model of its own.
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
from typing import Any, NamedTuple

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from adjax import simulator
from adjax.app.console import make_console
from adjax.data.cache import default_folder
from adjax.data.clips import Clip, ClipTable
from adjax.data.index import index_folder
from adjax.evaluation.metrics import evaluate
from adjax.files import write_json
from adjax.model.extraction import ClipFeatures
from adjax.model.fit import fit_model
from adjax.model.inputs import extract_for
from adjax.model.model import Model
from adjax.model.named import make_spec
from adjax.model.record import versions
from adjax.model.spec import ScorePooling

TRAININGS: Mapping[str, tuple[str, Mapping[str, Any]]] = {  # recipe, and what is changed in it
    "2020": ("autoencoder:2020", {}),
    "IDNN": ("autoencoder:2020", {"predict": "middle"}),
    "denoising": ("autoencoder:2020", {"denoising": True}),  # noise of 1 dB
    "2023": ("autoencoder:2023", {}),
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
    """Cross-validation over all normal clips, one model for each machine and fold; 0: the data set's own split."""
    epochs: int = 100
    """Of every variant."""
    trainings: tuple[str, ...] = tuple(TRAININGS)
    """Which; the first is what the others are compared with."""


class Cell(NamedTuple):
    """Test clips of one machine (and fold): (n_clips,) labels and scores."""

    labels: np.ndarray
    scores: np.ndarray


def main() -> int:
    """Train, score, compare; the exit code is 1 if a clip failed."""
    study = tyro.cli(Study, description=__doc__)
    console = make_console()
    started = time.perf_counter()
    root = study.data
    if root is None:
        root = study.out / "synthetic"
        simulator.write_tree(root, counts=simulator.SMALL)
    clips = index_folder(root, machine_type=study.machine_type)
    failures: dict[str, None] = {}
    found: dict[str, list[Cell]] = {}
    for name in study.trainings:
        recipe, changes = TRAININGS[name]
        # The residual's covariance comes after training: one training serves both scores.
        settings = {**changes, "n_epochs": study.epochs, "residual": "mahalanobis"}
        spec = make_spec(recipe, settings=settings, calibration="none")
        (features,) = extract_for(spec, clips, cache=default_folder())
        train, test = split(features, study.folds)
        model = fit_model(spec, train, checkpoints=study.out / name)
        failures |= dict.fromkeys(map(str, (*features.failures, *model.record.failures)))
        for residual in ("mean_square", "mahalanobis"):
            score = "Mahalanobis, " if residual == "mahalanobis" else ""
            for pooling in POOLINGS:
                found[f"{name}, {score}{pooling}"] = judge(read_as(model, residual, pooling), test)
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


def read_as(model: Model, residual: str, pooling: ScorePooling) -> Model:
    """The same trained networks, whose residuals become a clip's score in another way."""
    (own,), (numbers,) = model.spec.detectors, model.params.detectors
    own = replace(own, config=replace(own.config, residual=residual), pooling=pooling)
    if residual == "mean_square":
        numbers = numbers._replace(params=numbers.params._replace(whitening=None))
    spec = replace(model.spec, detectors=(own,))
    return replace(model, spec=spec, params=model.params._replace(detectors=(numbers,)))


def judge(model: Model, test: ClipFeatures) -> list[Cell]:
    """The scores of every machine's test clips."""
    result = model.score_features(test)
    found = [result.of(*machine) for machine in model.machines]
    return [Cell(clips.labels, scores) for clips, scores in found]


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
            difference = f"{gain:+.3f} [{gain_low:+.3f}, {gain_high:+.3f}]"
            table.add_row(name, f"{auc:.3f} [{low:.3f}, {high:.3f}]", f"{pauc:.3f}", difference)
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
