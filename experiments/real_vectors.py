"""How good is `auto` on vectors of whole real machines, by number of normal clips; and would another fusion be better?

Run:     python -m experiments.real_vectors --vectors FOLDER --out DIR [--sizes 8 20 60 200 0] [--draws 3] [--leave-out]
         FOLDER holds tables as docs/vectors.md describes them: slider_egemaps.csv and fan_egemaps.csv (88 eGeMAPS),
         fan_logmel_0dB.csv (64 log-mel bands, mean and spread), four machines each. The eGeMAPS tables are learnt
         together, so that each machine is told apart from seven others, and judged by type; sliders also alone.
Work:    for each size and draw (a random subset of the normal training clips of each machine) one fit of `auto`. It
         gives the scores of each kind and the evidence that all rules of fusion get (`experiments._fusions`).
Settings chosen on: these labels were looked at about 12 times while rule and priors of `auto` were made, and again
         when identity's score became a distance (see experiments/README.md); nothing is chosen here. The best kind is
         named by labels.
Result:  experiments/README.md, "Settings without labels". AUC / pAUC of auto, all normal clips: sliders
         .939 / .853 (best kind .921 / .858), fans .987 / .953 (.981 / .948), on log-mels .979 / .937 (.978 / .938);
         sliders learnt alone .922 / .853 (.910 / .858); 8 minutes on two busy cores of an Intel Xeon. Brackets: 95%
         bootstrap over test clips and draws, the same for all systems; the best kind is named anew in each resample.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from adjax.model.extraction import ClipFeatures
from adjax.model.named import make_spec
from adjax.model.vectors import config_of, read_vectors
from experiments._fusion_report import conduct
from experiments._fusions import ALL, Task, halves, subset

DATA = {  # name -> tables that are learnt together
    "slider + fan, eGeMAPS": ("slider_egemaps", "fan_egemaps"),
    "fan, log-mel": ("fan_logmel_0dB",),
    "slider alone, eGeMAPS": ("slider_egemaps",),
}


@dataclass(frozen=True)
class Study:
    """`auto`, its kinds and other fusions on tables of vectors."""

    vectors: Path
    """Folder of the tables."""
    out: Path = Path("runs/real_vectors")
    """Folder for the areas and the figures."""
    sizes: tuple[int, ...] = (8, 20, 60, 200, ALL)
    """Normal clips of each machine; 0: all."""
    draws: int = 3
    """Random subsets of each size."""
    leave_out: bool = False
    """Also auto without each of its kinds."""


def main() -> int:
    """Run the study; the exit code is 1 if a row or a fit failed."""
    study = tyro.cli(Study, description=__doc__)
    return conduct(study, tasks(study), over="clips", leave_out=study.leave_out)


def tasks(study: Study) -> Iterator[Task]:
    """What is fitted: each data set at each size."""
    for name, tables in DATA.items():
        features = together([read_vectors(study.vectors / f"{table}.csv") for table in tables])
        spec = make_spec("auto", features=config_of(features))
        train, test = halves((features,) * len(spec.detectors))
        for size in study.sizes:
            for draw in range(study.draws if size != ALL else 1):
                own = subset(train, size, draw)
                yield Task(name, size, draw, spec, own, test, failures=features.failures)


def together(tables: Sequence[ClipFeatures]) -> ClipFeatures:
    """Tables with the same columns as one."""
    first, rows = tables[0], functools.reduce(ClipFeatures.followed_by, tables)
    assert all(own.columns == first.columns for own in tables)
    return replace(rows, columns=first.columns, failures=tuple(f for own in tables for f in own.failures))


if __name__ == "__main__":
    sys.exit(main())
