"""A machine that nobody has heard, and k of its normal clips: what is each way of adapting worth?

Run:     python -m experiments.adaptation --vectors FOLDER --out DIR [--clips 0 1 2 5 20 100] [--draws 5]
         python -m experiments.adaptation --data ROOT --out DIR --clips 0 1 2 5
         FOLDER holds tables as docs/vectors.md describes them (slider_egemaps.csv and fan_egemaps.csv, learnt together;
         fan_logmel_0dB.csv); ROOT any data set of recordings.
Work:    each machine is left out in turn; the others' normal clips are the source. k clips of the one left out, drawn
         at random from its training clips, adapt the source; its test clips are scored. Draws, and what calibration
         leaves out of them, are lanes of one program. Ways: `experiments._adaptation`.
Settings chosen on: see docs/adaptation.md for how often labels were looked at while the default was made. They choose
         nothing here.
Result:  docs/adaptation.md; AUC / pAUC of the default over 8 machines with 2, 5, 20, 100 clips: .882 / .770,
         .909 / .816, .923 / .825, .942 / .857 (3 draws; 17 minutes on two busy cores). Brackets: 95% bootstrap over
         machines and, within them, draws; the same for all systems.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import jax
import numpy as np
import tyro

from adjax.app.console import make_console
from adjax.app.startup import cache_compilations
from adjax.data.cache import default_folder
from adjax.data.index import index_folder
from adjax.evaluation.metrics import evaluate
from adjax.files import write_json
from adjax.model.extraction import ClipFeatures
from adjax.model.inputs import extract_for
from adjax.model.named import make_spec
from adjax.model.record import versions
from adjax.model.spec import ModelSpec
from adjax.model.vectors import config_of, read_vectors
from adjax.report.figures import save
from adjax.types import AdjaxError
from experiments._adaptation import Trial, bench_of, mixture_spec, trials
from experiments._adaptation_report import (
    RATES,
    Alarms,
    Row,
    alarm_table,
    curves,
    gains,
    summarize,
    tables,
    write_csv,
)
from experiments.real_vectors import together

N_FOLDS = 3  # of the source's calibration, by which it is scored as it is
TABLES = {"8 machines, eGeMAPS": ("slider_egemaps", "fan_egemaps"), "4 fans, log-mel": ("fan_logmel_0dB",)}


@dataclass(frozen=True)
class Study:
    """Leave one machine out, and adapt to it."""

    out: Path = Path("runs/adaptation")
    """Folder for the areas and the figures."""
    vectors: Path | None = None
    """Folder of tables of vectors."""
    tables: tuple[str, ...] = tuple(TABLES)
    """Which of them."""
    data: Path | None = None
    """Root of a data set of recordings."""
    clips: tuple[int, ...] = (0, 1, 2, 5, 20, 100)
    """Normal clips of the new machine."""
    draws: int = 5
    """Random choices of them."""


def main() -> int:
    """Run the study; the exit code is 1 if a clip or a fit failed."""
    study = tyro.cli(Study, description=__doc__)
    console, started = make_console(), time.perf_counter()
    cache_compilations()
    study.out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    alarms: list[Alarms] = []
    failures: list[AdjaxError] = []
    for name, spec, features in data_sets(study):
        for machine in features[0].clips.machines:
            begun = time.perf_counter()
            bench, failed = bench_of(spec, mixture_spec(spec.detectors[-1].features), features, machine)
            failures += failed
            labels = bench.test[0].clips.labels
            for trial in trials(bench, study.clips, study.draws):
                more, share = judged(name, trial, labels)
                rows, alarms = rows + more, alarms + share
            write_csv(study.out / "areas.csv", rows, alarms)
            jax.clear_caches()  # a process has room for so many programs; the next machine finds them on disk
            console.print(f"{name}, {machine.label}: {time.perf_counter() - begun:.0f} s", highlight=False)
    summaries = {name: summarize(rows, name) for name in dict.fromkeys(row.data for row in rows)}
    for table in (*tables(summaries), alarm_table(alarms)):
        console.print(table)
    compared = [k for k in (2, 5, 20) if k in study.clips]
    for name, figure in (("curves", curves(summaries)), ("gains", gains(summaries, compared))):
        console.print(f"  {save(figure, study.out / f'{name}.png')}", highlight=False)
    seconds = time.perf_counter() - started
    write_json(
        study.out / "settings.json", {"study": asdict(study), "versions": versions(), "seconds": seconds}
    )
    console.print(f"{seconds:.0f} s")
    for failure in dict.fromkeys(map(str, failures)):
        console.print(f"Failed: {failure}", markup=False)
    return 1 if failures else 0


def data_sets(study: Study) -> Iterator[tuple[str, ModelSpec, Sequence[ClipFeatures]]]:
    """Name, what the source is, and features for each of its detectors."""
    if study.vectors is not None:
        for name, files in ((name, TABLES[name]) for name in study.tables):
            features = together([read_vectors(study.vectors / f"{file}.csv") for file in files])
            spec = make_spec("auto", features=config_of(features), n_folds=N_FOLDS)
            yield name, spec, (features,) * len(spec.detectors)
    if study.data is not None:
        spec = make_spec("auto", n_folds=N_FOLDS)
        yield study.data.name, spec, extract_for(spec, index_folder(study.data), cache=default_folder())


def judged(name: str, trial: Trial, labels: np.ndarray) -> tuple[list[Row], list[Alarms]]:
    """Areas of every system, and the false alarms of the default."""
    where = (name, trial.machine.label, trial.k, trial.draw)
    rows = []
    for system, scores in trial.scores.items():
        found = evaluate(labels, scores)
        assert found is not None
        rows.append(Row(*where, system, found.auc, found.pauc))
    normal = trial.p_values[labels == 0]
    shares = tuple(float(np.mean(normal <= rate)) for rate in RATES)
    return rows, [Alarms(*where, shares)] if np.isfinite(normal).all() else []


if __name__ == "__main__":
    sys.exit(main())
