"""EM from start to end: the frame that rows are seen from, the start, the iterations, the parameters.

Every iteration is one pass over blocks of rows (see `em`): no array of size rows x components x features exists
beyond a block, and the statistics are sums. Rows are centred and scaled inside and the parameters mapped back, so
that units and offsets (log-mels in dB lie far from 0) cost float32 no digits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from adjax.detectors import kmeans
from adjax.detectors.gmm import em
from adjax.detectors.gmm.checks import is_usable
from adjax.detectors.gmm.config import (
    CovarianceType,
    GmmConfig,
    GmmHyper,
    GmmParams,
    PlacedConfig,
    Start,
    as_mixture,
)
from adjax.detectors.gmm.em import Mixture
from adjax.detectors.rows import fold_rows, weighted_mean
from adjax.types import COLLAPSED, CONVERGED, MAX_ITER, NOT_FINITE, REGULARIZED, FitInfo


class Frame(NamedTuple):
    """Where the rows are seen from while a mixture is fitted.

    Attributes:
        centre: (d,) weighted mean.
        scale: (d,) mean absolute deviation, at least the standard deviation that `reg_covar` stands for (its
            square cannot overflow, unlike a variance's); one number for all features of a spherical mixture.
        reg: (d,) `reg_covar` in units of `scale`.
        reach: (d,) largest absolute value of the centred, scaled rows.
    """

    centre: Array
    scale: Array
    reg: Array
    reach: Array


class EmState(NamedTuple):
    """EM between two iterations; the mixture is in the units of the `Frame`.

    Attributes:
        mixture: the parameters; the last finite ones if the fit went wrong.
        bound: () mean log-likelihood of a row, in nats of the data's units, before the last update.
        mass: (k,) rows of each component.
        raised: () bool, whether a covariance needed more than `reg_covar`.
        n_steps: () int32.
        status: () int32, RUNNING or a code of `FitInfo.status`.
    """

    mixture: Mixture
    bound: Array
    mass: Array
    raised: Array
    n_steps: Array
    status: Array


RUNNING = -1
# Nats a feature. In a trial with 128 features, steps that moved nothing else changed the likelihood by 2e-5 a feature.
_RAISED_ERROR = 1e-4


def start_keys(config: GmmConfig, key: Array) -> Array:
    """(n_init,) keys; the first is `key` itself, so that more starts only ever add to one."""
    return jnp.concatenate([key[None], jax.random.split(key, config.n_init)[1:]])


def best_start(states: EmState) -> EmState:
    """The state with the largest likelihood of those stacked on the first axis; a failed one only if all failed."""
    best = jnp.argmax(jnp.where(states.status == NOT_FINITE, -jnp.inf, states.bound))
    return jax.tree.map(lambda leaf: leaf[best], states)


def make_frame(config: PlacedConfig, x: Array, weight: Array, hyper: GmmHyper) -> Frame:
    """Centre and scale of the rows, in two passes."""
    centre = weighted_mean(x, weight, config.rows_a_block)
    share = weight / jnp.maximum(jnp.sum(weight), jnp.finfo(x.dtype).tiny)

    def step(sums: tuple[Array, Array], rows: Array, shares: Array, start: Array) -> tuple[Array, Array]:
        deviations = jnp.where(shares[:, None] > 0, jnp.abs(rows - centre[None, :]), 0)
        mean = jnp.matmul(shares, deviations, precision=lax.Precision.HIGHEST)
        return sums[0] + mean, jnp.maximum(sums[1], jnp.max(deviations, axis=0))

    zeros = (jnp.zeros_like(centre), jnp.zeros_like(centre))
    deviation, reach = fold_rows(step, zeros, x, share, config.rows_a_block)
    reg_std = jnp.sqrt(jnp.asarray(hyper.reg_covar, x.dtype))
    if config.covariance_type == "spherical":
        deviation = jnp.full_like(deviation, jnp.max(deviation))
    scale = jnp.maximum(deviation, reg_std)
    scale = jnp.where(scale > 0, scale, 1)
    return Frame(centre, scale, jnp.square(reg_std / scale), reach / scale)


def start_em(
    config: PlacedConfig,
    frame: Frame,
    key: Array,
    x: Array,
    weight: Array,
    hyper: GmmHyper,
    start: Start = None,
) -> EmState:
    """The state before the first iteration; arguments as in `fit_gmm`, weights of any scale near 1."""
    kind, k = config.covariance_type, config.n_components
    active = active_components(config, hyper)
    raised = jnp.array(False)
    if isinstance(start, GmmParams):
        mixture = into_frame(kind, start, frame)
    else:
        if start is None:
            means, responsibilities = _kmeans(config, frame, key, x, weight, active)
        else:
            means, responsibilities = _given(config, frame, x, weight, jnp.asarray(start, x.dtype), active)
        sums = _gather_given(config, frame, x, weight, means, responsibilities)
        mixture, raised = em.maximise(kind, sums, means, frame.reg, active, on_cpu=config.on_cpu)
    usable = _all_finite(mixture) & (jnp.sum(weight) > 0) & is_usable(config, hyper)
    return EmState(
        mixture=mixture,
        bound=jnp.where(usable, -jnp.inf, jnp.nan).astype(x.dtype),
        mass=jnp.where(active, jnp.sum(weight) / k, 0),
        raised=raised,
        n_steps=jnp.array(0, jnp.int32),
        status=jnp.where(usable, RUNNING, NOT_FINITE).astype(jnp.int32),
    )


_Responsibilities = Callable[[Array, Array], Array]  # columns (d, n), index of the first row -> (k, n)


def _kmeans(
    config: PlacedConfig, frame: Frame, key: Array, x: Array, weight: Array, active: Array
) -> tuple[Array, _Responsibilities]:
    """Centres in the frame's units, and the rows nearest to each; k-means sees the data's own units."""
    settings: Any = {"origin": frame.centre, "active": active, "block_size": config.rows_a_block}
    centres = kmeans.plus_plus(key, x, weight, config.n_components, **settings)
    tol = 1e-4 * jnp.mean(jnp.square(frame.scale))  # as scikit-learn's KMeans
    centres = kmeans.lloyd(x, weight, centres, max_iter=config.n_kmeans_iter, tol=tol, **settings)

    def responsibilities(columns: Array, first: Array) -> Array:
        return kmeans.nearest(columns * frame.scale[:, None], centres, active)

    return jnp.where(active[:, None], centres / frame.scale[None, :], 0), responsibilities


def _given(
    config: PlacedConfig, frame: Frame, x: Array, weight: Array, resp: Array, active: Array
) -> tuple[Array, _Responsibilities]:
    """Means under given responsibilities (n_rows, k), and those of a block."""
    resp = jnp.where(active[None, :], resp, 0)

    def responsibilities(columns: Array, first: Array) -> Array:
        return lax.dynamic_slice_in_dim(resp, first, columns.shape[1]).T

    origin = jnp.zeros((config.n_components, x.shape[1]), x.dtype)
    sums = _gather_given(config, frame, x, weight, origin, responsibilities)
    return sums.shift / jnp.where(active, em.safe_mass(sums.mass), 1)[:, None], responsibilities


def _gather_given(
    config: PlacedConfig,
    frame: Frame,
    x: Array,
    weight: Array,
    means: Array,
    responsibilities: _Responsibilities,
) -> em.Statistics:
    def block(columns: Array, weights: Array, first: Array) -> em.Statistics:
        resp = responsibilities(columns, first) * weights[None, :]
        moments = em.given_moments(config.covariance_type, means, columns, resp, on_cpu=config.on_cpu)
        return em.Statistics(jnp.zeros((), x.dtype), *moments)

    return _fold_blocks(config, frame, x, weight, block)


def run_em(
    config: PlacedConfig,
    frame: Frame,
    x: Array,
    weight: Array,
    hyper: GmmHyper,
    state: EmState,
    n_steps: int | None = None,
) -> EmState:
    """Iterate until EM converges, fails, or has made `max_iter` iterations (or `n_steps` more)."""
    total = jnp.sum(weight)
    last = config.max_iter if n_steps is None else jnp.minimum(state.n_steps + n_steps, config.max_iter)

    def step(state: EmState) -> EmState:
        return update(config, frame, total, hyper, state, gather(config, frame, x, weight, state.mixture))

    return lax.while_loop(lambda s: (s.status == RUNNING) & (s.n_steps < last), step, state)


def gather(
    config: PlacedConfig,
    frame: Frame,
    x: Array,
    weight: Array,
    mixture: Mixture,
    blocks: tuple[Array, Array] | None = None,
) -> em.Statistics:
    """The E-step and its sums over all rows, or some `blocks` of them (see `fold_rows`)."""
    kind = config.covariance_type

    def statistics(mixture: Mixture, form: Any) -> em.Statistics:
        def block(columns: Array, weights: Array, first: Array) -> em.Statistics:
            return form(kind, mixture, columns, weights)

        return _fold_blocks(config, frame, x, weight, block, blocks)

    gather_exactly = partial(em.gather, on_cpu=config.on_cpu)
    if kind in ("diag", "spherical") and config.on_cpu:
        return lax.cond(
            em.is_narrow(kind, mixture, frame.reach),
            lambda mixture: statistics(mixture, gather_exactly),
            lambda mixture: statistics(mixture, em.gather_expanded),
            mixture,
        )
    return statistics(mixture, gather_exactly)


def update(
    config: PlacedConfig, frame: Frame, total: Array, hyper: GmmHyper, state: EmState, sums: em.Statistics
) -> EmState:
    """The M-step, and whether EM is done; `total` is the sum of all rows' weights."""
    active = active_components(config, hyper)
    bound = sums.log_likelihood / total - jnp.sum(jnp.log(frame.scale))
    mixture, raised = em.maximise(
        config.covariance_type, sums, state.mixture.means, frame.reg, active, on_cpu=config.on_cpu
    )
    finite = _all_finite((mixture, bound))
    resolution = 2 * jnp.finfo(total.dtype).eps * jnp.abs(bound)
    # The smallest pivots of a covariance that had to be raised are part rounding error; the bound is the old mixture's.
    resolution += jnp.where(state.raised, _RAISED_ERROR * frame.centre.shape[0], 0)
    tol = jnp.where(jnp.asarray(hyper.tol) > 0, jnp.maximum(hyper.tol, resolution), 0)
    done = jnp.abs(bound - state.bound) < tol
    status = jnp.where(finite, jnp.where(done, CONVERGED, RUNNING), NOT_FINITE)
    new = EmState(mixture, bound, sums.mass, raised, state.n_steps + 1, status.astype(jnp.int32))
    kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), new, state)
    return kept._replace(n_steps=new.n_steps, status=new.status)


def end_em(config: PlacedConfig, frame: Frame, weight: Array, state: EmState) -> tuple[GmmParams, FitInfo]:
    """Parameters in the data's units, and how the fit ended."""
    total = jnp.sum(weight)
    rows_per_weight = jnp.sum(weight > 0) / jnp.maximum(total, jnp.finfo(total.dtype).tiny)
    present = state.mixture.weights > 0
    collapsed = jnp.any(present & (state.mass * rows_per_weight < 1)) & (state.n_steps > 0)
    status = jnp.where(state.status == RUNNING, MAX_ITER, state.status)
    status = jnp.where(state.raised, REGULARIZED, status)
    status = jnp.where(collapsed, COLLAPSED, status)
    status = jnp.where(state.status == NOT_FINITE, NOT_FINITE, status)
    info = FitInfo(state.bound, state.n_steps, status.astype(jnp.int32))
    return out_of_frame(config.covariance_type, state.mixture, frame), info


def _fold_blocks(
    config: PlacedConfig,
    frame: Frame,
    x: Array,
    weight: Array,
    block: Any,
    blocks: tuple[Array, Array] | None = None,
) -> em.Statistics:
    """Sum `block(columns, weights, first row)` over blocks; columns are centred, scaled rows."""

    def step(sums: em.Statistics, rows: Array, weights: Array, start: Array) -> em.Statistics:
        rows = jnp.where(weights[:, None] > 0, rows, frame.centre[None, :])  # padding may hold anything
        columns = ((rows - frame.centre[None, :]) / frame.scale[None, :]).T
        return jax.tree.map(jnp.add, sums, block(columns, weights, start))

    zeros = em.zero_statistics(config.covariance_type, config.n_components, x.shape[1], x.dtype)
    return fold_rows(step, zeros, x, weight, config.rows_a_block, blocks)


def active_components(config: GmmConfig, hyper: GmmHyper) -> Array:
    """(n_components,) bool, which components take part."""
    count = config.n_components if hyper.n_components is None else hyper.n_components
    return jnp.arange(config.n_components) < count


def out_of_frame(kind: CovarianceType, mixture: Mixture, frame: Frame) -> GmmParams:
    """The parameters in the data's units."""
    scale = frame.scale
    covariances, factors = mixture.covariances, mixture.whiteners
    if kind in ("full", "tied"):
        covariances = (
            covariances * scale[:, None] * scale[None, :]
            if kind == "tied"
            else (covariances * scale[None, :, None] * scale[None, None, :])
        )
        factors = jnp.swapaxes(factors, -1, -2)
        factors = factors / (scale[:, None] if kind == "tied" else scale[None, :, None])
    elif kind == "diag":
        covariances, factors = covariances * jnp.square(scale)[None, :], factors / scale[None, :]
    else:
        covariances, factors = covariances * jnp.square(scale[0]), factors / scale[0]
    offsets = mixture.means * scale[None, :]
    return GmmParams(mixture.weights, offsets, covariances, factors, frame.centre)


def into_frame(kind: CovarianceType, params: GmmParams, frame: Frame) -> Mixture:
    """The inverse of `out_of_frame`, of a frame that need not be the one that they were fitted in."""
    inverse = frame._replace(scale=1 / frame.scale)
    scaled = as_mixture(kind, out_of_frame(kind, as_mixture(kind, params), inverse))
    means = (params.offsets + (params.centre - frame.centre)[None, :]) / frame.scale[None, :]
    return scaled._replace(means=means)


def _all_finite(tree: object) -> Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))
