"""The whole TWFR-GMM study as one sweep, beside the published way of doing it.

Run:     python -m experiments.benchmarks.sweep [--quick] [--json FILE]
Work:    twfr_study   51 r x {1, 2, 4, 8} components x 5 seeds x 3 machines = 3,060 mixtures of full covariance on the
                      full-size synthetic slide rail: from wav files to every clip's score, AUC and pAUC with
                      intervals, compilation included, no cache. (--quick: the small set, 5 r, 2 seeds.)
Peer:    one setting after another, and for each of them: librosa's log-mels of all the machine's clips again, GWRP,
         scikit-learn's mixture in float64, AUC and pAUC, as liuyoude/TWFR-GMM does (r in the outer loop, nothing kept).
         Timed on one setting for each machine and number of components, r and seed drawn; the rest is EXTRAPOLATED:
         every setting is taken to cost what its sample does. BLAS has one thread in their fits, which is faster there.
         "features kept" is what the same would cost if it extracted every clip only once.
Result:  README.md beside this file.
"""

from __future__ import annotations

import atexit
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from adjax import simulator
from adjax.data.clips import ClipTable
from adjax.data.index import index_folder
from adjax.model.named import make_spec
from adjax.sweep import Sweep, SweepResult, grid, run_sweep
from experiments.benchmarks._harness import Case, Row, find_peer, main

N_R, N_COMPONENTS, N_SEEDS = 51, (1, 2, 4, 8), 5
TOL, REG_COVAR = 1e-6, 1e-6  # TWFR-GMM's
EPS = np.finfo(np.float64).eps


class Sample(NamedTuple):
    """One setting done the published way: what it was, what it took, what came out."""

    machine_id: str
    r: float
    n_components: int
    seed: int
    extract_s: float
    fit_s: float
    auc: float


def make_sweep(quick: bool) -> Sweep:
    """The grid of TWFR-GMM, with seeds."""
    base = make_spec("gmm:twfr", settings={"reg_covar": REG_COVAR, "tol": TOL}, calibration="none")
    ratios = np.linspace(0, 1, 5 if quick else N_R).round(2).tolist()
    seeds = range(2 if quick else N_SEEDS)
    return grid(base, {"features.gwrp_r": ratios, "config.n_components": N_COMPONENTS, "seed": seeds})


def published_way(clips: ClipTable, r: float, n_components: int, seed: int) -> Sample:
    """One setting of one machine, from files to metrics."""
    start = time.perf_counter()
    train, test = (
        np.stack([pooled_log_mel(clip.path, r) for clip in clips.select(split=split)])
        for split in ("train", "test")
    )
    extracted = time.perf_counter()
    with threadpool_limits(1):
        model = GaussianMixture(n_components, tol=TOL, reg_covar=REG_COVAR, random_state=seed).fit(train)
        scores = -max_component(model, test)
    labels = clips.select(split="test").labels
    auc = roc_auc_score(labels, scores)
    roc_auc_score(labels, scores, max_fpr=0.1)
    end = time.perf_counter()
    return Sample(clips[0].machine_id, r, n_components, seed, extracted - start, end - extracted, float(auc))


def pooled_log_mel(path: Path, r: float) -> np.ndarray:
    """(n_mels,) float64."""
    librosa = find_peer("librosa")
    y, sr = librosa.load(path, sr=None)
    mel = librosa.feature.melspectrogram(y=y, sr=sr, n_fft=1024, hop_length=512, n_mels=128)
    falling = -np.sort(-10 * np.log10(mel + EPS), axis=1)
    weights = np.power(r, np.arange(falling.shape[1]))
    return falling @ (weights / weights.sum())


def max_component(model: GaussianMixture, x: np.ndarray) -> np.ndarray:
    """Largest log density of a component, weights ignored (TWFR-GMM)."""
    return np.max(model._estimate_log_prob(x), axis=1)


def make_cases(quick: bool) -> list[Case]:
    """One case of one round, on clips that vanish when the benchmark ends."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="adjax-benchmark-")))
    simulator.write_tree(root / "data", counts=simulator.SMALL if quick else simulator.FULL)
    clips, sweep = index_folder(root / "data"), make_sweep(quick)
    ours: list[SweepResult] = []
    samples: list[Sample] = []

    def run_ours() -> None:
        ours.append(run_sweep(clips, sweep, root / "sweep"))

    def run_sample() -> None:
        rng = np.random.default_rng(0)
        for machine_id in clips.machine_ids:
            own = clips.select(machine_id=machine_id)
            for n_components in N_COMPONENTS:
                settings = [s for s in sweep.settings if s["config.n_components"] == n_components]
                drawn = settings[rng.integers(len(settings))]
                samples.append(published_way(own, drawn["features.gwrp_r"], n_components, drawn["seed"]))

    def facts(row: Row) -> dict[str, float]:
        return compare(row, ours[0], samples, len(clips))

    peers: dict[str, Callable[[], None]] = {}
    if find_peer("librosa") is not None:
        pooled_log_mel(clips[0].path, 0.5)  # compiles what librosa compiles
        peers[f"published way, 12 of its {3 * len(sweep.settings):,} settings"] = run_sample
    return [Case("twfr_study", run_ours, peers, rounds=1, facts=facts if peers else None)]


def compare(row: Row, ours: SweepResult, samples: list[Sample], n_clips: int) -> dict[str, float]:
    """The extrapolation, and whether both found the same."""
    n_trials = len(ours.trials)
    each = n_trials / len(samples)  # settings that a sample stands for
    published = each * sum(sample.extract_s + sample.fit_s for sample in samples)
    # A machine's clips were extracted once for every number of components.
    kept = sum(sample.extract_s for sample in samples) / len(N_COMPONENTS)
    kept += each * sum(sample.fit_s for sample in samples)
    pairs = list(_pairs(ours, samples))
    exact = [abs(a - b) for sample, a, b in pairs if sample.n_components == 1]
    return {
        "trials": n_trials,
        "trials that failed": sum(trial.failed for trial in ours.trials),
        "trials/s": n_trials / row.ours_s,
        "published way, EXTRAPOLATED from the sample (s)": published,
        "published way (extrapolated) / ours": published / row.ours_s,
        "published way with features kept, EXTRAPOLATED (s)": kept,
        "published way with features kept (extrapolated) / ours": kept / row.ours_s,
        "mean AUC of the sample's settings, ours": float(np.mean([a for _, a, _ in pairs])),
        "mean AUC of the sample's settings, theirs": float(np.mean([b for _, _, b in pairs])),
        "largest difference of AUC where no start is drawn (1 component)": max(exact),
    }


def _pairs(ours: SweepResult, samples: list[Sample]) -> Iterator[tuple[Sample, float, float]]:
    for sample in samples:
        settings = {
            "features.gwrp_r": sample.r,
            "config.n_components": sample.n_components,
            "seed": sample.seed,
        }
        trial = next(
            trial
            for trial in ours.trials
            if (trial.machine_id, trial.settings) == (sample.machine_id, settings)
        )
        yield sample, trial.auc, sample.auc


if __name__ == "__main__":
    main("A study of pooling and components", make_cases, packages=("librosa", "scikit-learn"), rounds=1)
