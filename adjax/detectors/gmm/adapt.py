"""A mixture for a new machine from few clips: MAP adaptation of a universal mixture (Reynolds et al. 2000).

The universal mixture says how clips of one machine lie about that machine's own mean. It is the mates' mixtures, each
about its mean, as one, merged down to as many components as a mixture has (`merge_mixtures`): it so rests on all clips
that they were fitted to, not only on those that were kept, and the differences between machines, which are large, do
not widen it.

It is put at the mean of the new clips. These then count beside `relevance` imagined ones, drawn from it, for weights,
means and covariances: Reynolds' relevance factor of a component is relevance times its weight, and so the same number
is right for the weights. It is learnt from the source: each mate is adapted to from the others, by as many of its clips
as the new machine has, and the relevance is taken by which its other clips are the most likely (`learn_relevance`).

The mean itself is the machine's own from its first clip on. A second number, for clips at the mates' mean, was tried:
the likelihood took one, since a wrong mean widens the mixture towards the mates, and faults were no longer heard there.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from threadpoolctl import threadpool_limits

from adjax.batching import on_cpu
from adjax.detectors.gmm import em
from adjax.detectors.gmm.config import GmmConfig, GmmHyper, GmmParams, PlacedConfig, place
from adjax.detectors.gmm.detector import log_component_densities, log_joint
from adjax.detectors.gmm.fit import gather, out_of_frame
from adjax.detectors.gmm.merge import about, merge_mixtures, one_each
from adjax.detectors.rows import weighted_mean
from adjax.types import CONVERGED, NOT_FINITE, FitInfo, Training

N_DRAWS = 4  # of a mate's clips, while relevance is learnt
RELEVANCES = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0)  # in clips
DEFAULT = 16.0  # where there is nothing to learn it from


def adapt(
    config: GmmConfig, hyper: GmmHyper, key: Array, params: GmmParams, memory: Training, new: Training
) -> tuple[GmmParams, FitInfo]:
    """See `Kind.adapt`; the objective is the mean log-likelihood of a new row, in nats."""
    config = place(config, on_cpu())
    n_mates = len(params.weights)
    with threadpool_limits(1, user_api="blas"):  # see `fit_lanes`
        relevance = learn_relevance(config, hyper, key, params, memory, _n_clips(new))
        universal = jax.tree.map(lambda leaf: leaf[0], _merge(config, hyper, params, jnp.ones((1, n_mates))))
        found, objective = _adapt(
            config,
            hyper,
            universal,
            jnp.asarray(new.rows),
            _by_clips(new),
            jnp.float32(relevance),
        )
    finite = all(bool(jnp.isfinite(leaf).all()) for leaf in (*found, objective))
    status = np.array([CONVERGED if finite else NOT_FINITE], np.int32)
    return jax.tree.map(lambda leaf: leaf[None], found), FitInfo(
        objective[None], np.ones(1, np.int32), status
    )


def map_estimate(
    config: PlacedConfig, hyper: GmmHyper, universal: GmmParams, x: Array, weight: Array, relevance: Array
) -> GmmParams:
    """The mixture after one step of EM in which imagined clips of the universal mixture take part.

    Args:
        config: static settings.
        hyper: traced settings; `reg_covar` is what the universal mixture's covariances have been given already.
        universal: what the step starts from; a component of weight 0 takes no part.
        x: (n_rows, d) float.
        weight: (n_rows,) float >= 0, which sum to the number of clips; rows of weight 0 change nothing.
        relevance: () float >= 0, imagined clips.
    """
    kind, centre = config.covariance_type, weighted_mean(x, weight, config.rows_a_block)
    frame, mixture = about(kind, universal, centre, jnp.asarray(hyper.reg_covar, x.dtype))
    reach = jnp.where(weight[:, None] > 0, jnp.abs(x - centre[None, :]), 0).max(axis=0) / frame.scale
    frame = frame._replace(reach=reach)
    sums = gather(config, frame, x, weight, mixture)
    imagined = _imagined(kind, mixture, relevance * mixture.weights, frame.reg)
    sums = jax.tree.map(jnp.add, sums, imagined)
    found, _ = em.maximise(kind, sums, mixture.means, frame.reg, mixture.weights > 0, on_cpu=config.on_cpu)
    return out_of_frame(kind, found, frame)


def learn_relevance(
    config: PlacedConfig, hyper: GmmHyper, key: Array, params: GmmParams, memory: Training, n_clips: int
) -> float:
    """The relevance by which left-out clips of the mates are the most likely, when `n_clips` others adapt to them.

    `DEFAULT` where there is one mate only, or none with two clips in memory.
    """
    n_mates = len(params.weights)
    rows, clip = np.asarray(memory.rows), np.asarray(memory.clip)
    owner = np.where(np.asarray(memory.weight) > 0, np.asarray(memory.machine)[clip], -1)
    each = [np.unique(clip[owner == mate]) for mate in range(n_mates)]
    if n_mates < 2 or max(map(len, each)) < 2:
        return DEFAULT
    universals = _merge(config, hyper, params, 1 - jnp.eye(n_mates))
    most = max(int(np.sum(owner == mate)) for mate in range(n_mates))
    grid, total = jnp.array(RELEVANCES), np.zeros(len(RELEVANCES))
    for mate, clips in enumerate(each):
        if len(clips) < 2:
            continue
        places = np.flatnonzero(owner == mate)
        padding = (0, most - len(places))
        x, own = np.pad(rows[places], (padding, (0, 0))), np.pad(clip[places], padding, constant_values=-1)
        universal = jax.tree.map(lambda leaf, mate=mate: leaf[mate], universals)
        weight = _per_clip(own, own >= 0)
        for key_draw in jax.random.split(jax.random.fold_in(key, memory.seed[mate]), N_DRAWS):
            order = np.asarray(jax.random.permutation(key_draw, len(clips)))
            chosen = np.isin(own, clips[order[: min(n_clips, len(clips) // 2)]])
            held_out = np.where(chosen, 0, weight)
            total += np.asarray(
                _held_out(config, hyper, universal, x, np.where(chosen, weight, 0), held_out, grid)
            )
    return RELEVANCES[int(np.argmax(np.where(np.isfinite(total), total, -np.inf)))]


def _imagined(kind: em.CovarianceType, mixture: em.Mixture, mass: Array, reg: Array) -> em.Statistics:
    """Those of `mass` (k,) rows of each component, drawn from it; `em.maximise` gives the components back.

    Args:
        kind: covariance type.
        mixture: whose covariances have been given `reg`.
        mass: (k,) >= 0.
        reg: (d,) that `em.maximise` adds to the variances.
    """
    k, d = mixture.means.shape
    if kind == "full":
        scatter = mass[:, None, None] * (mixture.covariances - jnp.diag(reg)[None])
    elif kind == "tied":
        scatter = jnp.sum(mass) * (mixture.covariances - jnp.diag(reg))
    else:
        variances = mixture.covariances if kind == "diag" else mixture.covariances[:, None]
        scatter = mass[:, None] * (jnp.broadcast_to(variances, (k, d)) - reg[None, :])
    return em.Statistics(jnp.zeros((), mass.dtype), mass, jnp.zeros((k, d), mass.dtype), scatter)


def _n_clips(training: Training) -> int:
    return len(np.unique(np.asarray(training.clip)[np.asarray(training.weight) > 0]))


def _by_clips(training: Training) -> Array:
    """(n_rows,) weights of which each clip's sum to 1."""
    return jnp.asarray(_per_clip(np.asarray(training.clip), np.asarray(training.weight) > 0))


def _per_clip(clip: np.ndarray, there: np.ndarray) -> np.ndarray:
    count = np.bincount(clip[there], minlength=int(clip.max(initial=0)) + 1)
    return np.where(there, 1 / np.maximum(count[clip], 1), 0).astype(np.float32)


@partial(jax.jit, static_argnums=0)
def _merge(config: PlacedConfig, hyper: GmmHyper, params: GmmParams, shares: Array) -> GmmParams:
    """A universal mixture for each of `shares` (n, n_mates)."""
    return lax.map(lambda share: merge_mixtures(config, hyper, params, share), shares)


@partial(jax.jit, static_argnums=0)
def _adapt(
    config: PlacedConfig, hyper: GmmHyper, universal: GmmParams, x: Array, weight: Array, relevance: Array
) -> tuple[GmmParams, Array]:
    found = map_estimate(config, hyper, universal, x, weight, relevance)
    return found, _mean(jax.nn.logsumexp(log_joint(config.covariance_type, found, x), axis=1), weight)


@partial(jax.jit, static_argnums=0)
def _held_out(
    config: PlacedConfig,
    hyper: GmmHyper,
    universal: GmmParams,
    x: Array,
    weight: Array,
    held_out: Array,
    grid: Array,
) -> Array:
    """(n,) mean log-likelihood of the rows of weight `held_out`, for each relevance of `grid` (n,)."""

    def one(relevance: Array) -> Array:
        found = map_estimate(config, hyper, universal, x, weight, relevance)
        return _mean(heavy_tailed(config.covariance_type, found, x), held_out)

    return lax.map(one, grid)


def heavy_tailed(kind: em.CovarianceType, params: GmmParams, x: Array) -> Array:
    """(n_rows,) log-densities, but for a constant, of the mixture with Student's t in place of each Gaussian.

    With as many degrees of freedom as columns: normal clips have tails, and what makes a mixture wide enough for the
    few in them would otherwise count more than what shapes it for all.
    """
    d = x.shape[1]
    factors = one_each(kind, params.precisions_chol, params.offsets)
    diagonals = jnp.diagonal(factors, axis1=1, axis2=2) if kind in ("full", "tied") else factors
    log_det = jnp.sum(jnp.log(diagonals), axis=1)[None, :]
    squares = 2 * (log_det - 0.5 * d * math.log(2 * math.pi) - log_component_densities(kind, params, x))
    there = (params.weights > 0)[None, :]
    tails = d * jnp.log1p(jnp.where(there, jnp.maximum(squares, 0), 0) / d)
    return jax.nn.logsumexp(jnp.log(params.weights)[None, :] + log_det - tails, axis=1)


def _mean(values: Array, weight: Array) -> Array:
    return jnp.sum(jnp.where(weight > 0, weight * values, 0)) / jnp.sum(weight)
