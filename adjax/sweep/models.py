"""Fit the trials of one chunk, as lanes of one program, and score their machine's test clips."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from threadpoolctl import threadpool_limits

from adjax.batching import map_clips
from adjax.detectors.kinds import kind_of
from adjax.features.recipes import FeatureConfig
from adjax.model.lanes import compiled_standardize, compiled_standardizer, domain_of_clips, fit_rows, pad_rows
from adjax.model.lift import window_starts
from adjax.model.spec import DetectorSpec, ModelSpec
from adjax.sweep.data import Machine
from adjax.types import NOT_FINITE, STATUS_NAMES, EngineOptions


class Scored(NamedTuple):
    """What the trials of a chunk found out.

    Attributes:
        scores: (n_trials, n_clips) float32; all NaN in a trial that failed.
        objective: (n_trials,) float.
        n_steps: (n_trials,) int.
        status: (n_trials,) str, how each fit ended.
    """

    scores: np.ndarray
    objective: np.ndarray
    n_steps: np.ndarray
    status: np.ndarray


def score_trials(machine: Machine, specs: Sequence[ModelSpec], size: int) -> Scored:
    """All trials of a chunk, each on the rows of its r; a trial is a model fitted alone, to rounding.

    Args:
        machine: the data.
        specs: of each trial; `settings.static_part` is the same for all.
        size: lanes of the compiled program, of which the last ones repeat where there are fewer.
    """
    n_trials, ratios = len(specs), machine.ratios
    own = [specs[min(i, n_trials - 1)].detectors[0] for i in range(size)]
    kind, config = kind_of(own[0].kind), kind_of(own[0].kind).widen([detector.config for detector in own])
    detector: Any = kind.make(config, kind.hyper())
    places = np.array([ratios.index(r_of(one)) if ratios else 0 for one in own])
    used, set_of_lane = np.unique(places, return_inverse=True)
    set_of_lane = set_of_lane.reshape(-1)
    used = np.resize(used, min(size, len(machine.sets[0])))  # one shape for all chunks
    train, test = (rows[used] for rows in machine.sets)
    offsets = (np.arange(train.shape[1] + 1), np.arange(test.shape[1] + 1))
    if ratios is None:
        offsets = (machine.train.offsets, machine.test.offsets)
    n_test = test.shape[1]
    train, weight, clip = _pad_sets(train, offsets[0])
    test, _, _ = _pad_sets(test, offsets[1])
    if own[0].standardize:
        train, test = _standardize(train, test, weight)
    starts = window_starts(clip, weight, detector.n_context)
    seeds = jnp.array([specs[min(i, n_trials - 1)].seed for i in range(size)], jnp.uint32)
    keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), machine.name.seed))(seeds)
    hypers = [kind.narrow(one.config, one.hyper) for one in own]
    hyper = jax.tree.map(_stack, *hypers)
    with threadpool_limits(1, user_api="blas"):
        fold = np.zeros(size, np.int64)
        options = EngineOptions(domain=domain_of_clips(machine.train.clips)[clip])
        fitted = fit_rows(kind, config, hyper, keys, train, starts[None], set_of_lane, fold, options)
        data = jnp.asarray(set_of_lane)
        values = np.asarray(_score_rows(kind.make, config, type(own[0].hyper), fitted.params, data, test))
    values = values[:n_trials, :n_test]
    info = jax.tree.map(lambda leaf: np.asarray(leaf)[:n_trials], fitted.info)
    n_rows = int(np.sum(starts > 0))
    least = np.array([kind.least(one.config) for one in own[:n_trials]])
    status = [
        f"{n_rows} vectors, at least {needed} are needed" if n_rows < needed else STATUS_NAMES[code]
        for code, needed in zip(info.status.tolist(), least.tolist(), strict=True)
    ]
    n_context, first = detector.n_context, own[0]
    scores = np.stack(
        [
            pool_scores(row, offsets[1], n_context, first.pooling, percentile=first.percentile)
            for row in values
        ]
    )
    has_vector = np.diff(offsets[1]) >= n_context
    failed = (n_rows < least) | (info.status == NOT_FINITE)
    return _scored(Scored(scores, info.objective, info.n_steps, np.array(status)), failed, has_vector)


def pool_scores(
    values: np.ndarray, offsets: np.ndarray, n_context: int, pooling: str, *, percentile: float = 95.0
) -> np.ndarray:
    """Scores of windows to scores of clips.

    Args:
        values: (n_rows,) scores of the windows that start at each row.
        offsets: (n_clips + 1,) int, where each clip's rows begin and end.
        n_context: rows in a window.
        pooling: see `DetectorSpec.pooling`.
        percentile: of pooling "percentile".

    Returns:
        (n_clips,) float64, NaN for clips without a window.
    """
    poolings: dict[str, Callable[[np.ndarray], float]] = {
        "mean": np.mean,
        "std": np.std,
        "max": np.max,
        "percentile": lambda own: float(np.percentile(own, percentile)),
    }
    pool = poolings[pooling]
    pooled = np.full(len(offsets) - 1, np.nan)
    for i, (start, end) in enumerate(pairwise(offsets)):
        own = values[start : end - n_context + 1].astype(np.float64)
        if len(own):
            pooled[i] = pool(own)
    return pooled


def r_of(spec: DetectorSpec) -> float:
    """The r of GWRP; 0 where no front end pools."""
    return spec.features.gwrp_r if isinstance(spec.features, FeatureConfig) else 0.0


def _stack(*values: Any) -> np.ndarray:
    """(n_lanes,) of a traced setting: whole numbers stay whole."""
    return np.array(values, np.int32 if all(isinstance(value, int) for value in values) else np.float32)


def _scored(scored: Scored, failed: np.ndarray, has_vector: np.ndarray) -> Scored:
    """No score is invented: a trial that failed has none, nor one that gives something that is no number.

    Args:
        scored: as computed.
        failed: (n_trials,) bool.
        has_vector: (n_clips,) bool, False for clips that are too short to have a score.
    """
    odd = ~failed & ~(np.isfinite(scored.scores) | ~has_vector).all(axis=1)
    scores = np.where((failed | odd)[:, None], np.nan, scored.scores).astype(np.float32)
    return scored._replace(scores=scores, status=np.where(odd, "scores not finite", scored.status))


def _pad_sets(sets: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n_sets, n_rows, n_features), their weights and clips, with as many rows as machines of like size have."""
    weight = np.ones(sets.shape[1], np.float32)
    padded = [pad_rows(rows, weight) for rows in sets]
    clip = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    clip = np.pad(clip, (0, len(padded[0][1]) - len(clip)), mode="edge")
    return np.stack([rows for rows, _ in padded]), padded[0][1], clip


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _score_rows(
    make: Callable[[Any, Any], Any], config: Any, hyper_type: Any, params: Any, data: Array, x: Array
) -> Array:
    """(n_lanes, n_rows)."""
    detector = make(config, hyper_type())
    return map_clips(lambda lane: detector.score(lane[0], x[lane[1]]), (params, data), batch_size=64)


def _standardize(train: np.ndarray, test: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each set by its own training rows, as a run has them."""
    fitted = [compiled_standardizer(rows, weight) for rows in train]
    over = [
        [np.asarray(compiled_standardize(own, rows)) for own, rows in zip(fitted, sets, strict=True)]
        for sets in (train, test)
    ]
    return np.stack(over[0]), np.stack(over[1])
