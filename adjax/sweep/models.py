"""Fit the lanes of one chunk, which share a compile, and score their machine's test clips."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adjax.batching import map_clips
from adjax.detectors.autoencoder import make_lanes
from adjax.detectors.gmm import GmmConfig, GmmHyper, GmmParams, make_gmm
from adjax.detectors.gmm.lanes import fit_lanes
from adjax.extraction import ClipFeatures
from adjax.features.normalize import fit_standardizer, standardize
from adjax.lanes import LaneSpec, make_table, score_lanes
from adjax.pipeline import RunConfig, pad_rows, pool_scores
from adjax.resumable import jit_program, train_lanes
from adjax.sweep.data import Machine
from adjax.types import NOT_FINITE, STATUS_NAMES


class Scored(NamedTuple):
    """What the lanes of a chunk found out.

    Attributes:
        scores: (n_lanes, n_clips) float32; all NaN in a lane that failed.
        objective: (n_lanes,) float.
        n_steps: (n_lanes,) int.
        status: (n_lanes,) str, how each fit ended.
    """

    scores: np.ndarray
    objective: np.ndarray
    n_steps: np.ndarray
    status: np.ndarray


def score_mixtures(machine: Machine, static: RunConfig, configs: Sequence[RunConfig], size: int) -> Scored:
    """Mixtures, each on the set of rows of its r; lane i is `fit_and_score` with `configs[i]`, to rounding.

    Args:
        machine: the data.
        static: `settings.static_part` of all lanes.
        configs: of each lane.
        size: lanes of the compiled program, of which the last ones repeat where there are fewer.
    """
    n_lanes, ratios = len(configs), machine.ratios
    padded = [configs[min(i, n_lanes - 1)] for i in range(size)]
    places = np.array([ratios.index(c.features.gwrp_r) if ratios else 0 for c in padded])
    used, set_of_lane = np.unique(places, return_inverse=True)
    used = np.resize(used, min(size, len(machine.sets[0])))  # one shape for all chunks
    train, test = (rows[used] for rows in machine.sets)
    if static.standardize:
        train, test = map(np.asarray, _standardize(train, test))
    n_rows, n_test = train.shape[1], test.shape[1]
    (train, weight), (test, _) = _pad_sets(train), _pad_sets(test)
    seeds = jnp.array([config.seed for config in padded])
    keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), machine.number))(seeds)
    reg_covar, tol = (
        jnp.array([getattr(config.gmm_hyper, name) for config in padded], jnp.float32)
        for name in ("reg_covar", "tol")
    )
    components = np.array([config.gmm.n_components for config in padded], np.int32)
    hyper = GmmHyper(reg_covar, tol, jnp.asarray(components))
    data = jnp.asarray(set_of_lane)
    params, info = fit_lanes(static.gmm, keys, jnp.asarray(train), jnp.asarray(weight), hyper, data=data)
    values = np.asarray(_score_mixtures(static.gmm, params, data, test))[:n_lanes, :n_test]
    info, components = jax.tree.map(lambda leaf: np.asarray(leaf)[:n_lanes], (info, components))
    too_few = components > n_rows
    status = [
        f"{n_rows} vectors for {n} components" if few else STATUS_NAMES[code]
        for code, n, few in zip(info.status.tolist(), components.tolist(), too_few, strict=True)
    ]
    if static.features.pooling == "none":
        values = np.stack([_pool(own, machine.test, static, 1) for own in values])
    return _scored(
        Scored(values, info.objective, info.n_steps, np.array(status)), too_few | (info.status == NOT_FINITE)
    )


def score_autoencoders(machine: Machine, static: RunConfig, configs: Sequence[RunConfig]) -> Scored:
    """Autoencoders of one architecture; bottlenecks by mask, learning rates, weight decays and seeds are traced."""
    train, test = machine.at(static.features.gwrp_r)
    widest = max(config.autoencoder.bottleneck for config in configs)
    config = replace(static.autoencoder, bottleneck=widest)
    clip = train.clips[0]
    specs = [
        LaneSpec(
            clip.machine_type,
            clip.machine_id,
            own.autoencoder.bottleneck,
            own.seed,
            float(own.autoencoder_hyper.learning_rate),
            float(own.autoencoder_hyper.weight_decay),
        )
        for own in configs
    ]
    if static.standardize:
        rows = _standardize(train.rows[None], test.rows[None])
        train, test = (
            replace(part, rows=np.asarray(own[0])) for part, own in zip((train, test), rows, strict=True)
        )
    table = make_table(train, specs, config, validation=0)
    trained = train_lanes(table, config)
    program = jit_program(make_lanes(config, table.sizes))
    scored = score_lanes(program, trained.params, specs, test)
    scores = np.stack([_pool(values, own, static, config.n_context) for own, values in scored])
    codes, n_epochs, losses = map(
        np.asarray, (trained.state.status, trained.state.n_epochs, trained.losses.train)
    )
    status = np.array([STATUS_NAMES[code] for code in codes.tolist()])
    has_window = np.diff(test.offsets) >= config.n_context
    return _scored(Scored(scores, losses[-1], n_epochs, status), codes == NOT_FINITE, has_window)


def _scored(scored: Scored, failed: np.ndarray, has_vector: np.ndarray | bool = True) -> Scored:
    """No score is invented: a lane that failed has none, nor one that gives something that is no number.

    Args:
        scored: as computed.
        failed: (n_lanes,) bool.
        has_vector: (n_clips,) bool, False for clips that are too short to have a score.
    """
    odd = ~failed & ~(np.isfinite(scored.scores) | ~np.asarray(has_vector)).all(axis=1)
    scores = np.where((failed | odd)[:, None], np.nan, scored.scores).astype(np.float32)
    return scored._replace(scores=scores, status=np.where(odd, "scores not finite", scored.status))


def _pool(values: np.ndarray, test: ClipFeatures, static: RunConfig, n_context: int) -> np.ndarray:
    """(n_clips,) scores of clips from those of their vectors; NaN where a clip is too short for one."""
    percentile = static.score_percentile
    return pool_scores(values, test, n_context, static.score_pooling, percentile=percentile)[0]


def _pad_sets(sets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n_sets, n_rows, n_features) and their weights, with as many rows as machines of like size have."""
    weight = np.ones(sets.shape[1], np.float32)
    padded = [pad_rows(rows, weight) for rows in sets]
    return np.stack([rows for rows, _ in padded]), np.stack([weight for _, weight in padded])


@functools.partial(jax.jit, static_argnums=0)
def _score_mixtures(config: GmmConfig, params: GmmParams, data: Array, x: Array) -> Array:
    detector = make_gmm(config)
    return map_clips(lambda lane: detector.score(lane[0], x[lane[1]]), (params, data), batch_size=64)


@jax.jit
def _standardize(train: Array, test: Array) -> tuple[Array, Array]:
    """Each set by its own training rows."""
    fitted = jax.vmap(fit_standardizer)(train)
    over_sets = jax.vmap(standardize)
    return over_sets(fitted, train), over_sets(fitted, test)
