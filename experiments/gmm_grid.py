"""What matters in a mixture of pooled clips: feature, r, components, covariance, regularisation, seed, per machine.

Run:     python -m experiments.gmm_grid --out DIR [--data ROOT --machine-type slider]
         Without --data: the small synthetic slide rail. The same command goes on where an earlier one was stopped.
Trials:  2 features x 8 r x 4 numbers of components x 2 covariances x 3 regularisations x 3 seeds x 3 machines = 3,456.
Settings chosen on: nothing is chosen. Test labels judge every trial; the "best" cells of the heat map are an oracle's.
Result:  experiments/README.md, "A grid of mixtures": conclusions, figure, time and machine.
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.progress import Progress
from rich.table import Table

from adjax import simulator
from adjax.app.console import make_console
from adjax.app.sweep import show, summary_table
from adjax.batching import map_clips
from adjax.data.index import index_folder
from adjax.evaluation.device import bootstrap_areas, bootstrap_counts
from adjax.files import write_json
from adjax.model.named import make_spec
from adjax.model.record import versions
from adjax.report.figures import save
from adjax.report.sweep_figures import factor_effects, heat_maps, short
from adjax.sweep import SweepResult, TrialResult, grid, run_sweep

N_RESAMPLES = 200
Effects = dict[str, dict[str, tuple[float, float, float]]]  # setting -> value -> (difference, low, high)


@dataclass(frozen=True)
class Study:
    """The grid."""

    out: Path = Path("runs/gmm_grid")
    """Folder for trials, tables and figures."""
    data: Path | None = None
    """Root of a data set; default: a synthetic slide rail."""
    machine_type: str = "slider"
    """Which machines of it."""
    features: tuple[str, ...] = ("log-mel", "mfcc")
    """Front ends."""
    r: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 1.0)
    """Of GWRP: 1 is the mean, 0 the maximum."""
    n_components: tuple[int, ...] = (1, 2, 4, 8)
    """Gaussians."""
    covariance_type: tuple[str, ...] = ("full", "diag")
    """Shapes of their covariances."""
    reg_covar: tuple[float, ...] = (1e-3, 1.0, 10.0)
    """In dB squared."""
    seeds: int = 3
    """Starts of each."""


def main() -> int:
    """Run the study; the exit code is 1 if a trial or a clip failed."""
    study = tyro.cli(Study, description=__doc__)
    console = make_console()
    started = time.perf_counter()
    root = study.data
    if root is None:
        root = study.out / "synthetic"
        simulator.write_tree(root, counts=simulator.SMALL)
    clips = index_folder(root, machine_type=study.machine_type)
    axes = {
        "features.kind": study.features,
        "config.covariance_type": study.covariance_type,
        "hyper.reg_covar": study.reg_covar,
        "features.gwrp_r": study.r,
        "config.n_components": study.n_components,
        "seed": range(study.seeds),
    }
    sweep = grid(make_spec("gmm", features={"pooling": "gwrp"}, calibration="none"), axes)
    with Progress(console=console) as progress:
        result = run_sweep(clips, sweep, study.out, on_progress=show(progress))
    console.print(summary_table(result))
    effects = effects_of(result)
    console.print(effects_table(effects))
    write_effects(study.out / "effects.csv", effects)
    full = [trial for trial in result.trials if trial.settings["features.kind"] == study.features[0]]
    figures = {
        "heat_map": heat_maps(full, "features.gwrp_r", "config.n_components"),
        "effects": factor_effects(effects),
    }
    for name, figure in figures.items():
        console.print(f"  {save(figure, study.out / f'{name}.png')}", highlight=False)
    seconds = time.perf_counter() - started
    write_json(
        study.out / "settings.json", {"study": asdict(study), "versions": versions(), "seconds": seconds}
    )
    for failure in result.failures:
        console.print(f"Failed: {failure}", markup=False)
    return 1 if result.failures or any(trial.failed for trial in result.trials) else 0


def effects_of(result: SweepResult) -> Effects:
    """For each value of each setting: mean AUC of its trials minus that of all trials, mean over machines.

    Intervals are over resampled test clips, which all trials of a machine share. A grid has every combination, so the
    other settings cancel.
    """
    values = {axis: {trial.settings[axis] for trial in result.trials} for axis in result.trials[0].settings}
    axes = [axis for axis, own in values.items() if len(own) > 1]
    by_machine: list[tuple[list[TrialResult], np.ndarray]] = []
    for name in dict.fromkeys((trial.machine_type, trial.machine_id) for trial in result.trials):
        trials = [trial for trial in result.trials if (trial.machine_type, trial.machine_id) == name]
        trials = [trial for trial in trials if np.isfinite(trial.auc)]
        if trials:
            areas = resampled(np.stack([trial.scores for trial in trials]), trials[0].clips.labels)
            drawn = np.column_stack([[trial.auc for trial in trials], areas])
            by_machine.append((trials, drawn))
    return {axis: effects_of_axis(axis, by_machine) for axis in axes}


def effects_of_axis(
    axis: str, by_machine: Sequence[tuple[list[TrialResult], np.ndarray]]
) -> dict[str, tuple[float, float, float]]:
    """See `effects_of`; the first column of a machine's areas is that of the clips as they are."""
    found = {}
    for value in dict.fromkeys(trial.settings[axis] for trials, _ in by_machine for trial in trials):
        differences = []
        for trials, areas in by_machine:
            own = np.array([trial.settings[axis] == value for trial in trials])
            differences.append(areas[own].mean(axis=0) - areas.mean(axis=0))
        mean = np.mean(differences, axis=0)
        low, high = np.quantile(mean[1:], [0.025, 0.975])
        found[str(value)] = (float(mean[0]), float(low), float(high))
    return found


def resampled(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(n_trials, N_RESAMPLES) AUC of the bootstrap samples that all trials share."""
    weight = jnp.asarray(labels >= 0, jnp.float32)
    counts = bootstrap_counts(jax.random.key(0), jnp.asarray(labels), weight, N_RESAMPLES)
    one = partial(bootstrap_areas, labels=jnp.asarray(labels), counts=counts)
    return np.asarray(jax.jit(lambda x: map_clips(lambda own: one(own).auc, x))(scores))


def effects_table(effects: Effects) -> Table:
    """A row for each value of a setting."""
    table = Table(title="AUC of a value's trials, minus the mean of all [95% of clips]", title_justify="left")
    for heading in ("setting", "value", "difference"):
        table.add_column(heading)
    for name, values in effects.items():
        for value, (mean, low, high) in values.items():
            table.add_row(short(name), value, f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]")
    return table


def write_effects(path: Path, effects: Effects) -> None:
    """The table as CSV."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["setting", "value", "difference", "low", "high"])
        writer.writerows(
            [name, value, *own] for name, values in effects.items() for value, own in values.items()
        )


if __name__ == "__main__":
    sys.exit(main())
