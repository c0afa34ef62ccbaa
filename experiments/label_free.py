"""Is the label-free model, on recordings, as good as the best of its kinds, which only labels could name?

Run:     python -m experiments.label_free --out DIR [--size full] [--seeds 0 1 2] [--snr-db -6 -12] [--leave-out]
         python -m experiments.label_free --out DIR --data ROOT --folds 5 [--leave-out]
         Without --data: simulated slide rails (--size full: 2,370 + 1,101 clips for each seed and SNR), fitted on
         subsets of --n-train normal clips for each machine; AUC also by kind of fault.
         With --data ROOT --folds 5: few real clips, cross-validated over the normal clips of each machine: every fold
         tests its own normal clips (every fifth) and all anomalous ones. All types are learnt together.
Work:    one fit of `auto` gives the scores of each kind and the evidence that all rules of fusion get
         (`experiments._fusions`). "gaussians" alone is what `auto` was before: the loudest of one-view Gaussians.
Settings chosen on: see experiments/README.md for how often labels were looked at while `auto` was made. Labels judge
         here, and name the best kind; they choose nothing.
Result:  experiments/README.md, "Settings without labels". AUC / pAUC of auto: simulated at full size .998 / .994
         (-6 dB) and .986 / .963 (-12 dB), 19 minutes; real clips .898 / .900 (before: .898 / .918), 1 minute; two
         busy cores of an Intel Xeon. Brackets: 95% bootstrap, over machines with folds, else over clips; the best kind
         is named anew in each resample.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from adjax import simulator
from adjax.data.cache import default_folder
from adjax.data.index import index_folder
from adjax.model.inputs import extract_for
from adjax.model.named import make_spec
from adjax.types import AdjaxError
from experiments._fusion_areas import Over
from experiments._fusion_report import conduct
from experiments._fusions import ALL, Features, Task, at, halves, subset

COUNTS = {"small": simulator.SMALL, "full": simulator.FULL}


@dataclass(frozen=True)
class Study:
    """`auto`, its kinds and other fusions on recordings."""

    out: Path = Path("runs/label_free")
    """Folder for the areas, the figures and what is simulated."""
    data: Path | None = None
    """Root of a data set; default: simulated slide rails, made in OUT."""
    folds: int = 0
    """Cross-validation over all normal clips of the data set; 0: its own split."""
    size: Literal["small", "full"] = "small"
    """Of a simulated set."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Simulated sets."""
    snr_db: tuple[float, ...] = (-6.0, -12.0)
    """Of the simulated machines over their background."""
    n_train: tuple[int, ...] = (8, 40, 200, 968)
    """Normal clips of each simulated machine, as far as it has them."""
    leave_out: bool = False
    """Also auto without each of its kinds."""


def main() -> int:
    """Run the study; the exit code is 1 if a clip or a fit failed."""
    study = tyro.cli(Study, description=__doc__)
    tasks = of_folder(study, study.data) if study.data else simulated(study)
    over: Over = "machines" if study.data and study.folds else "clips"
    return conduct(study, tasks, over=over, leave_out=study.leave_out)


def of_folder(study: Study, root: Path) -> Iterator[Task]:
    """A data set as it is split, or in folds."""
    spec = make_spec("auto")
    features = extract_for(spec, index_folder(root), cache=default_folder())
    name = f"{root.name}, {study.folds} folds" if study.folds else root.name
    failures = failures_of(features)
    for fold in range(study.folds or 1):
        parts = in_fold(features, fold, study.folds) if study.folds else halves(features)
        yield Task(name, ALL, fold, spec, *parts, failures=failures)


def in_fold(features: Features, fold: int, folds: int) -> tuple[Features, Features]:
    """Training and test clips: tested are, of each machine, the normal clips of the fold and all anomalous ones."""
    clips = features[0].clips
    train, test = [], []
    for machine in clips.machines:
        own = [i for i, clip in enumerate(clips) if clip.machine == machine]
        normal = [i for i in own if clips[i].label == 0]
        train += [i for place, i in enumerate(normal) if place % folds != fold]
        test += normal[fold::folds] + [i for i in own if clips[i].label == 1]
    return at(features, sorted(train)), at(features, sorted(test))


def simulated(study: Study) -> Iterator[Task]:
    """Slide rails of every SNR and seed, at every size; machines of different seeds count as different ones."""
    spec, counts = make_spec("auto"), COUNTS[study.size]
    most = max(own.train for own in counts.values())
    for snr_db in study.snr_db:
        for seed in study.seeds:
            root = study.out / "simulated" / f"seed_{seed}_{snr_db:g}_dB"
            home = simulator.write_tree(root, counts=counts, snr_db=snr_db, seed=seed)
            truth = simulator.read_ground_truth(home / simulator.GROUND_TRUTH)
            faults = {name: row.fault for name, row in truth.items()}
            features = extract_for(spec, index_folder(root), cache=default_folder())
            train, test = halves(features)
            for size in dict.fromkeys(min(n, most) for n in study.n_train):
                own = subset(train, size, seed)
                name = f"simulated, {snr_db:g} dB"
                yield Task(name, size, 0, spec, own, test, faults, f", seed {seed}", failures_of(features))


def failures_of(features: Features) -> list[AdjaxError]:
    """Clips that could not be read, each once."""
    return list(dict.fromkeys(failure for own in features for failure in own.failures))


if __name__ == "__main__":
    sys.exit(main())
