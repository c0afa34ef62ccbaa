"""A machine in two conditions, few clips of one of them: judged together, or apart, the target adapted to?

Run:     python -m experiments.domains --out DIR [--size small|full] [--shifts 0.5 1] [--seeds 0]
Work:    simulated slide rails of three sections with a source and a target domain (`adjax.simulator.write_domains`;
         full: 990 + 10 training clips of each section, 50 normal and 50 anomalous test clips of each domain, as DCASE
         2022).
         `auto` is fitted three times: to the source alone, to both as if there were one, and to both apart
         (`adjax.model.domains`). Judged by DCASE 2022's metrics, and by decisions at a false-alarm rate of 5%.
Settings chosen on: how far the target lies from the source was tuned until `auto` lost a tenth or two of its AUC
         there (see `adjax.simulator.conditions`); that a target is adapted to, and not fitted beside the source, was
         chosen on these sets at seed 0.
Result:  docs/adaptation.md, "Two domains of one machine".
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from rich.table import Table

from adjax import simulator
from adjax.app.console import make_console
from adjax.data.cache import default_folder
from adjax.data.index import index_folder
from adjax.evaluation.metrics import evaluate_domains, official_score
from adjax.files import write_json
from adjax.model.fit import fit_model
from adjax.model.inputs import extract_for
from adjax.model.named import make_spec
from adjax.model.record import versions
from adjax.model.result import ANOMALOUS, Result
from experiments._fusions import halves

COUNTS = {"small": simulator.SMALL_DOMAINS, "full": simulator.FULL_DOMAINS}
WAYS = ("source alone", "together", "apart (default)")


@dataclass(frozen=True)
class Study:
    """Two domains of one machine."""

    out: Path = Path("runs/domains")
    """Folder for the table and what is simulated."""
    size: Literal["small", "full"] = "small"
    """Of a simulated set."""
    shifts: tuple[float, ...] = (0.5, 1.0)
    """How far the target lies from the source, 0 to 1."""
    seeds: tuple[int, ...] = (0,)
    """Simulated sets of each shift."""


def main() -> int:
    """Run the study."""
    study = tyro.cli(Study, description=__doc__)
    console, started = make_console(), time.perf_counter()
    rows = []
    for row in results(study):
        rows.append(row)
        console.print(row, highlight=False)
    table = Table(title=f"Two domains, {study.size}", title_justify="left")
    for name in rows[0]:
        table.add_column(name)
    for row in rows:
        table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values()))
    console.print(table)
    seconds = time.perf_counter() - started
    write_json(
        study.out / "domains.json",
        {"study": asdict(study), "rows": rows, "versions": versions(), "seconds": seconds},
    )
    console.print(f"{seconds:.0f} s")
    return 0


def results(study: Study) -> Iterator[dict[str, Any]]:
    """A row for each set and way."""
    spec = make_spec("auto")
    for shift in study.shifts:
        for seed in study.seeds:
            root = study.out / "simulated" / f"{study.size}_{shift:g}_{seed}"
            simulator.write_domains(root, counts=COUNTS[study.size], shift=shift, seed=seed)
            features = extract_for(spec, index_folder(root), cache=default_folder())
            train, test = halves(features)
            source = [own.where(lambda clip: clip.domain == "source") for own in train]
            for way in WAYS:
                chosen = replace(spec, domains="apart" if way == WAYS[2] else "together")
                model = fit_model(chosen, source if way == WAYS[0] else train)
                yield {"shift": shift, "seed": seed, "way": way, **judged(model.score_features(test))}


def judged(result: Result) -> dict[str, Any]:
    """DCASE 2022's numbers, means over sections; and how many clips of each domain are called anomalous."""
    found = []
    domains = np.array([clip.domain for clip in result.clips])
    for machine in result.clips.machines:
        own = result.places(*machine)
        areas = evaluate_domains(result.clips.labels[own], domains[own], result.scores[own])
        assert areas is not None
        found.append(areas)
    told: dict[str, Any] = {
        "AUC source": float(np.mean([own.source.auc for own in found])),
        "AUC target": float(np.mean([own.target.auc for own in found])),
        "pAUC": float(np.mean([own.both.pauc for own in found])),
        "harmonic mean": official_score(found),
    }
    for domain in ("source", "target"):
        for label, name in enumerate(("false alarms", "anomalies found")):
            chosen = (domains == domain) & (result.clips.labels == label)
            alarms = int(np.sum(result.decisions[chosen] == ANOMALOUS))
            told[f"{name}, {domain}"] = f"{alarms} of {int(chosen.sum())}"
    return told


if __name__ == "__main__":
    sys.exit(main())
