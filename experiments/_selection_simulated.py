"""Simulated slide rails for `experiments.feature_selection`: bands of faults, bands that drift, and r of GWRP."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adjax import simulator
from adjax.data.cache import default_folder
from adjax.data.index import index_folder
from adjax.detectors.gmm import fit_gmm, make_gmm
from adjax.evaluation.metrics import evaluate
from adjax.features.pooling import gwrp
from adjax.features.recipes import FeatureConfig
from adjax.model.extraction import ClipFeatures, extract
from adjax.model.gates import HYPER, MIXTURE, learn_ratio

N_VIEWS, N_BANDS = 2, simulator.N_MELS  # mean and loud: of each band one number
TEST_BLOCKS, TRAIN_BLOCKS = 9, 5
DRIFT_BANDS = slice(20, 60)
DRIFT = 3.0  # spreads within a machine


class Sweep(NamedTuple):
    """r of GWRP on one set: by aim the r that was learnt, and mean AUC and pAUC over machines by r."""

    data: str
    learnt: Mapping[str, float]
    losses: Mapping[str, tuple[float, float]]
    areas: Mapping[float, tuple[float, float]]


def two_views(root: Path) -> ClipFeatures:
    """Mean and GWRP of each mel band, as vectors with names."""
    features = extract(index_folder(root), FeatureConfig(pooling="views"), cache=default_folder())
    rows = features.rows.reshape(len(features.rows), 5, N_BANDS)[:, [0, 2]].reshape(len(features.rows), -1)
    names = tuple(f"{view} {band}" for view in ("mean", "loud") for band in range(N_BANDS))
    return ClipFeatures(features.clips, rows, features.offsets, columns=names)


def drifting(features: ClipFeatures) -> ClipFeatures:
    """The same beside a neighbour that comes and goes: some bands are shifted, by blocks of clips, in each its own way.

    Of training clips a block is a fifth of a machine's in a row; of test clips every ninth one, normal or not.
    """
    rows = features.rows.copy()
    for machine in features.clips.machines:
        rng = np.random.default_rng(machine.seed)
        for split, n_blocks in (("train", TRAIN_BLOCKS), ("test", TEST_BLOCKS)):
            own = [
                i for i, clip in enumerate(features.clips) if clip.machine == machine and clip.split == split
            ]
            spread = features.rows[own].std(axis=0).reshape(N_VIEWS, N_BANDS)
            place = np.arange(len(own))
            block = place * n_blocks // len(own) if split == "train" else place % n_blocks
            shift = np.zeros((n_blocks, N_VIEWS, N_BANDS))
            width = DRIFT_BANDS.stop - DRIFT_BANDS.start
            shift[:, :, DRIFT_BANDS] = DRIFT * rng.normal(size=(n_blocks, 1, width))
            rows[own] += (shift * spread).reshape(n_blocks, -1)[block].astype(np.float32)
    return replace(features, rows=rows)


def true_bands(
    truth: Mapping[str, simulator.TruthRow], features: ClipFeatures
) -> dict[tuple[str, str], np.ndarray]:
    """By machine and fault: (N_BANDS,) bool, heard in more than half of its clips."""
    heard: dict[tuple[str, str], list[np.ndarray]] = {}
    for clip in features.clips:
        if (row := truth.get(clip.name)) is not None:
            mask = np.zeros(N_BANDS, bool)
            for first, last in row.spans.mel_bands:
                mask[first : last + 1] = True
            heard.setdefault((clip.machine_id, row.fault), []).append(mask)
    return {key: np.mean(own, axis=0) > 0.5 for key, own in heard.items()}


def found(
    weights: Mapping[str, np.ndarray], bands: Mapping[tuple[str, str], np.ndarray]
) -> dict[tuple[str, str], list[float]]:
    """By criterion and fault: for each machine, the AUC of the bands' weights against the fault's bands."""
    result: dict[tuple[str, str], list[float]] = {}
    for name, own in weights.items():
        for (_, fault), mask in bands.items():
            if 0 < mask.sum() < N_BANDS:
                judged = evaluate(mask.astype(int), own.reshape(N_VIEWS, N_BANDS).mean(axis=0))
                assert judged is not None
                result.setdefault((name, fault), []).append(judged.auc)
    return result


def sweep_ratio(
    data: str, root: Path, n_each: int, grid: Sequence[float], say: Callable[[str], None], n_mels: int = 32
) -> list[Sweep]:
    """R learnt by two aims, and what it is worth, for each machine type of a set; labels only judge.

    Args:
        data: name of the set.
        root: of the clips.
        n_each: normal training clips of each machine that r is learnt from, at most.
        grid: values of r to judge.
        say: told of each step.
        n_mels: bands, fewer than usual, for speed.
    """
    features = extract(index_folder(root), FeatureConfig(n_mels=n_mels), cache=default_folder())
    lengths = np.diff(features.offsets)
    frames = np.zeros((len(lengths), lengths.max(), n_mels), np.float32)
    weight = (np.arange(lengths.max())[None] < lengths[:, None]).astype(np.float32)
    for i, (start, end) in enumerate(zip(features.offsets, features.offsets[1:], strict=False)):
        frames[i, : end - start] = features.rows[start:end]
    sweeps = []
    for machine_type in features.clips.machine_types:
        names = [machine for machine in features.clips.machines if machine.machine_type == machine_type]
        owner = np.array([names.index(c.machine) if c.machine in names else -1 for c in features.clips])
        train = np.array([c.split == "train" for c in features.clips])
        some = np.concatenate([np.flatnonzero((owner == m) & train)[:n_each] for m in range(len(names))])
        learn = jax.jit(partial(learn_ratio, n_machines=len(names)))
        learnt, losses = {}, {}
        for aim, make in (("clips of mates", mates_of), ("moments of mates", spliced)):
            foreign, theirs = make(frames[some], owner[some])
            ones = np.ones(foreign.shape[:2], np.float32) if aim != "clips of mates" else weight[some]
            result = learn(jax.random.key(0), frames[some], weight[some], owner[some], foreign, ones, theirs)
            learnt[aim], losses[aim] = (
                float(result.value),
                (float(result.losses[0]), float(result.losses[-1])),
            )
            say(f"{data}, {machine_type}: r = {learnt[aim]:.3f} by {aim}, loss {losses[aim]}")
        areas = {}
        for r in sorted({*grid, *learnt.values()}):
            rows = np.asarray(_pool(frames, weight, r))
            each = []
            for m in range(len(names)):
                own = owner == m
                scores = np.asarray(_score(rows[own & train], rows[own & ~train]))
                judged = evaluate(features.clips.labels[own & ~train], scores)
                assert judged is not None
                each.append((judged.auc, judged.pauc))
            areas[r] = tuple(np.mean(each, axis=0).tolist())
        sweeps.append(Sweep(f"{data}, {machine_type}", learnt, losses, areas))
    return sweeps


def mates_of(frames: np.ndarray, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every clip as one that the next machine is asked about."""
    return frames, ((owner + 1) % (owner.max() + 1)).astype(np.int32)


def spliced(frames: np.ndarray, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every clip with a tenth of its frames, in a row, from a clip of the next machine: a short event."""
    rng, made = np.random.default_rng(0), frames.copy()
    length = max(frames.shape[1] // 10, 1)
    for i, own in enumerate(owner):
        other = rng.choice(np.flatnonzero(owner == (own + 1) % (owner.max() + 1)))
        at, start = rng.integers(0, frames.shape[1] - length, size=2)
        made[i, at : at + length] = frames[other, start : start + length]
    return made, owner.astype(np.int32)


@jax.jit
def _pool(frames: jax.Array, weight: jax.Array, r: float) -> jax.Array:
    return jax.lax.map(lambda clip: gwrp(clip[0], r, clip[1]), (frames, weight))


@jax.jit
def _score(train: jax.Array, test: jax.Array) -> jax.Array:
    params, _ = fit_gmm(MIXTURE, jax.random.key(0), train, jnp.ones(len(train)), HYPER)
    return make_gmm(MIXTURE, HYPER).score(params, test)
