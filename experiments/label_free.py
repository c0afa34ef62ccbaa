"""Is the label-free model as good as the best of its detectors, which only labels could name?

Run:     python -m experiments.label_free --out DIR [--data ROOT]
         Without --data: the simulated slide rail as it is split (--size full: 2,370 + 1,101 clips).
         With --data ROOT --folds 5: few real clips, cross-validated over the normal clips of each machine: every fold
         tests its own normal clips (every fifth) and all anomalous ones.
Settings chosen on: simulated machines; see `adjax.detectors.gaussians` for how often real clips were looked at. Labels
         judge here, and name the oracle; they choose nothing.
Result:  experiments/README.md, "Settings without labels": AUC averaged over machines (and folds) of the
         fused score, of other fusions, of each part and of the oracle, the part that is best on average over a type's
         machines (and the best of each machine apart, which with few clips is best by luck); regret = oracle - fusion.
         Brackets: 95% bootstrap, over machines with folds, else over clips; the oracle is picked anew in each resample.
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from scipy import stats

from adjax import simulator
from adjax.app.console import make_console
from adjax.data.cache import default_folder
from adjax.data.index import index_folder
from adjax.files import write_json
from adjax.model.extraction import ClipFeatures
from adjax.model.fit import fit_model
from adjax.model.inputs import extract_for
from adjax.model.record import versions
from adjax.model.spec import make_spec
from adjax.types import AdjaxError

N_RESAMPLES = 1000


@dataclass(frozen=True)
class Study:
    """The label-free model against its own parts."""

    out: Path = Path("runs/label_free")
    """Folder for the tables."""
    data: Path | None = None
    """Root of a data set; default: a simulated slide rail, made in OUT."""
    size: Literal["small", "full"] = "small"
    """Of the simulated one: small or full."""
    folds: int = 0
    """Cross-validation over all normal clips; 0: the data set's own split."""


class Cell(NamedTuple):
    """Test clips of one machine in one fold: (n,) labels and (n, n_parts) calibrated scores."""

    labels: np.ndarray
    z: np.ndarray


def fisher(z: np.ndarray) -> np.ndarray:
    """Sum of log p-values, taking each part's scores as standard normal."""
    return -stats.norm.logsf(z).sum(axis=1)


FUSIONS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "auto: the largest": lambda z: z.max(axis=1),
    "mean of the three largest": lambda z: np.sort(z, axis=1)[:, -3:].mean(axis=1),
    "mean": lambda z: z.mean(axis=1),
    "Fisher": fisher,
}


def main() -> int:
    """Score every type, judge, write; the exit code is 1 if a clip failed."""
    study = tyro.cli(Study, description=__doc__)
    console = make_console()
    started = time.perf_counter()
    root = study.data
    if root is None:
        root = study.out / "synthetic"
        simulator.write_tree(root, counts=simulator.FULL if study.size == "full" else simulator.SMALL)
    study.out.mkdir(parents=True, exist_ok=True)
    spec = make_spec("auto")
    (features,) = extract_for(spec, index_folder(root), cache=default_folder())
    failures: list[AdjaxError] = list(features.failures)
    found: dict[str, dict[str, list[Cell]]] = {}
    for train, test in splits(features, study.folds):
        model = fit_model(spec, train)
        result = model.score_features(test)
        failures += [*model.record.failures, *result.failures]
        for machine in result.clips.machines:
            own = result.places(*machine)
            cell = Cell(result.clips.labels[own], result.parts[own])
            found.setdefault(machine.machine_type, {}).setdefault(machine.machine_id, []).append(cell)
    judged = {
        machine_type: judge(list(machines.values()), over_machines=study.folds > 0, seed=seed)
        for seed, (machine_type, machines) in enumerate(found.items())
    }
    for machine_type, one in judged.items():
        report(study, machine_type, one, model.part_names, console)
    if len(judged) > 1:
        console.print(over_types(list(judged.values())))
    write_json(study.out / "settings.json", {"study": asdict(study), "versions": versions()})
    console.print(f"{time.perf_counter() - started:.0f} s")
    for failure in failures:
        console.print(f"Failed: {failure}", markup=False)
    return 1 if failures else 0


def splits(features: ClipFeatures, folds: int) -> list[tuple[ClipFeatures, ClipFeatures]]:
    """(train, test) pairs: the data set's own, or one for each fold of the normal clips of each machine."""
    if not folds:
        return [
            (
                features.where(lambda clip: clip.split == "train"),
                features.where(lambda clip: clip.split == "test"),
            )
        ]
    place: dict[Path, int] = {}
    for machine_type in features.clips.machine_types:
        clips = features.clips.select(machine_type=machine_type)
        for machine_id in clips.machine_ids:
            normal = [clip for clip in clips if clip.machine_id == machine_id and clip.label == 0]
            place |= {clip.path: i % folds for i, clip in enumerate(normal)}

    def split(k: int) -> tuple[ClipFeatures, ClipFeatures]:
        train = features.where(lambda clip: place.get(clip.path, k) != k)
        return train, features.where(lambda clip: place.get(clip.path, k) == k)

    return [split(k) for k in range(folds)]


class Judged(NamedTuple):
    """AUC of the fusions and then of the parts: (n_machines, n), and (N_RESAMPLES, n_machines, n) bootstrap draws."""

    auc: np.ndarray
    draws: np.ndarray


def judge(machines: list[list[Cell]], *, over_machines: bool, seed: int) -> Judged:
    """AUC of all systems on each machine; `machines` holds the folds of each."""
    rng = np.random.default_rng(seed)
    wins = [[_wins(cell) for cell in cells] for cells in machines]
    auc = np.array([np.mean([own.mean(axis=(0, 1)) for own in folds], axis=0) for folds in wins])
    if over_machines:
        return Judged(auc, auc[rng.integers(len(auc), size=(N_RESAMPLES, len(auc)))])
    draws = np.zeros((N_RESAMPLES, *auc.shape))
    for draw in draws:
        for machine, (own,) in enumerate(wins):  # one fold
            # The AUC of a resample is a product with how often each clip was drawn.
            rows, columns = (np.bincount(rng.integers(n, size=n), minlength=n) / n for n in own.shape[:2])
            draw[machine] = np.tensordot(rows, np.tensordot(columns, own, (0, 1)), (0, 0))
    return Judged(auc, draws)


def _wins(cell: Cell) -> np.ndarray:
    """(n_anomalous, n_normal, n_systems): 1 where the anomalous clip scores higher, 1/2 for a tie. Mean = AUC."""
    scores = np.column_stack([*(fusion(cell.z) for fusion in FUSIONS.values()), cell.z])
    difference = scores[cell.labels == 1][:, None, :] - scores[cell.labels == 0][None, :, :]
    return (np.sign(difference) + 1.0).astype(np.float32) / 2.0


def over_types(judged: list[Judged]) -> str:
    """One line: the mean over types of the fused score and of each type's oracle."""
    n = len(FUSIONS)
    auc = np.mean([one.auc.mean(axis=0)[0] for one in judged])
    oracle = np.mean([one.auc.mean(axis=0)[n:].max() for one in judged])
    draws = np.mean([one.draws.mean(axis=1)[:, 0] for one in judged], axis=0)
    regrets = np.mean([one.draws.mean(axis=1)[:, n:].max(axis=1) for one in judged], axis=0) - draws
    (low, high), (regret_low, regret_high) = (np.percentile(x, [2.5, 97.5]) for x in (draws, regrets))
    return (
        f"mean over types: auto {auc:.3f} [{low:.3f}, {high:.3f}], oracle parts {oracle:.3f}, "
        f"regret {oracle - auc:+.3f} [{regret_low:+.3f}, {regret_high:+.3f}]"
    )


def report(
    study: Study, machine_type: str, judged: Judged, part_names: Sequence[str], console: Console
) -> None:
    """Table and CSV of one type."""
    n = len(FUSIONS)
    auc, draws = judged.auc.mean(axis=0), judged.draws.mean(axis=1)
    best = part_names[int(auc[n:].argmax())]
    oracle, oracle_draws = auc[n:].max(), draws[:, n:].max(axis=1)
    each_best = judged.auc[:, n:].max(axis=1).mean(), judged.draws[:, :, n:].max(axis=2).mean(axis=1)
    names = (*FUSIONS, *(f"part: {part}" for part in part_names))
    systems = [(name, auc[i], draws[:, i]) for i, name in enumerate(names)]
    systems[n:n] = [
        (f"oracle: {best}", oracle, oracle_draws),
        ("oracle of each machine", *each_best),
        ("an average part", auc[n:].mean(), draws[:, n:].mean(axis=1)),
    ]
    table = Table(title=f"{machine_type}: mean AUC", title_justify="left")
    for name in ("system", "AUC [95%]", "regret [95%]"):
        table.add_column(name)
    with open(study.out / f"{machine_type}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["system", "auc", "low", "high", "regret", "low", "high"])
        for name, value, own in systems:
            low, high = np.percentile(own, [2.5, 97.5])
            regret_low, regret_high = np.percentile(oracle_draws - own, [2.5, 97.5])
            writer.writerow([name, value, low, high, oracle - value, regret_low, regret_high])
            regret = f"{oracle - value:+.3f} [{regret_low:+.3f}, {regret_high:+.3f}]"
            table.add_row(name, f"{value:.3f} [{low:.3f}, {high:.3f}]", regret)
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
