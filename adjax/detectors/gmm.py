"""Gaussian mixture fitted by EM; the anomaly score is the negative log-likelihood.

Every iteration is one pass over blocks of rows (see `em`): no array of size rows x components x features exists
beyond a block, and the statistics are sums. Rows are centred and scaled inside and the parameters mapped back, so
that units and offsets (log-mels in dB lie far from 0) cost float32 no digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from adjax.detectors import em, kmeans
from adjax.detectors.em import CovarianceType, Mixture
from adjax.detectors.rows import fold_rows, map_rows, weighted_mean
from adjax.types import (
    COLLAPSED,
    CONVERGED,
    MAX_ITER,
    NOT_FINITE,
    REGULARIZED,
    Detector,
    FitInfo,
    SettingsError,
)

__all__ = ["CovarianceType", "GmmConfig", "GmmHyper", "GmmParams", "fit_gmm", "log_joint", "make_gmm"]


@dataclass(frozen=True)
class GmmConfig:
    """Static settings: each value is one compile.

    Attributes:
        n_components: Gaussians in the mixture; `GmmHyper.n_components` can use fewer of them.
        covariance_type: "full", "tied", "diag" or "spherical", as in scikit-learn.
        max_iter: EM iterations at most.
        n_init: starts, of which the one with the largest likelihood is kept.
        scoring: "log_likelihood", or "max_component": the largest component density, weights ignored (TWFR-GMM).
        n_kmeans_iter: Lloyd iterations at most of the default start.
        block_size: rows handled at once; memory and speed, not the result.
    """

    n_components: int = 4
    covariance_type: CovarianceType = "full"
    max_iter: int = 100
    n_init: int = 1
    scoring: Literal["log_likelihood", "max_component"] = "log_likelihood"
    n_kmeans_iter: int = 20
    block_size: int = 1024


class GmmHyper(NamedTuple):
    """Traced settings, swept without a new compile.

    Attributes:
        reg_covar: () added to the diagonals of the covariances, in squared units of `x`. Where a covariance is
            singular in the precision at hand all the same, more is added and the status says so; with 0, never.
        tol: () EM stops when the mean log-likelihood of a vector changes by less, in nats; a change below the
            float's resolution counts as less. With 0 it never stops early.
        n_components: () int, how many of `GmmConfig.n_components` take part; None: all. The masked mixture equals
            the small one, from the same key too.
    """

    reg_covar: Array | float = 1e-6
    tol: Array | float = 1e-3
    n_components: Array | int | None = None


class GmmParams(NamedTuple):
    """A fitted mixture of k components in d dimensions; what a mask left out has weight 0.

    Attributes:
        weights: (k,), sum to 1.
        offsets: (k, d) means relative to `centre`, so that float32 keeps their digits far from the origin.
        covariances: (k, d, d) full, (d, d) tied, (k, d) diag, (k,) spherical.
        precisions_chol: the same shape: Cholesky factors P of the precisions, P P' = inverse covariance.
        centre: (d,) the weighted mean of the training vectors.
    """

    weights: Array
    offsets: Array
    covariances: Array
    precisions_chol: Array
    centre: Array

    @property
    def means(self) -> Array:
        """(k, d) means of the components."""
        return self.centre[..., None, :] + self.offsets


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

Start = Array | GmmParams | None  # responsibilities, parameters, or k-means


def make_gmm(config: GmmConfig = GmmConfig(), hyper: GmmHyper = GmmHyper()) -> Detector:  # noqa: B008 (frozen)
    """Build the mixture as a `Detector`.

    Its `fit(key, x, weight, hyper, start=None)` is `fit_gmm`; `FitInfo.objective` is the mean log-likelihood of a
    training vector in nats, `score` is minus the log-likelihood.

    Args:
        config: static settings.
        hyper: default traced settings.

    Raises:
        SettingsError: a setting out of its range.
    """
    if min(config.n_components, config.n_init, config.block_size) < 1 or config.max_iter < 0:
        raise SettingsError(
            f"n_components, n_init and block_size must be at least 1, max_iter at least 0: {config}"
        )
    if config.covariance_type not in ("full", "tied", "diag", "spherical"):
        raise SettingsError(
            f"covariance_type must be full, tied, diag or spherical: {config.covariance_type!r}"
        )

    def fit(
        key: Array, x: Array, weight: Array, hyper: GmmHyper = hyper, start: Start = None
    ) -> tuple[GmmParams, FitInfo]:
        return fit_gmm(config, key, x, weight, hyper, start)

    def score(params: GmmParams, x: Array) -> Array:
        x = jnp.asarray(x)
        kind, size = config.covariance_type, config.block_size
        if config.scoring == "max_component":
            return -jnp.max(log_component_densities(kind, params, x, block_size=size), axis=1)
        return -jax.nn.logsumexp(log_joint(kind, params, x, block_size=size), axis=1)

    return Detector(fit=fit, score=score, hyper=hyper)


def fit_gmm(
    config: GmmConfig, key: Array, x: Array, weight: Array, hyper: GmmHyper, start: Start = None
) -> tuple[GmmParams, FitInfo]:
    """Fit a mixture by EM.

    The updates, the stopping rule and the order of the steps are those of scikit-learn 1.9 `GaussianMixture`, so
    that both agree from the same start.

    Args:
        config: static settings.
        key: typed PRNG key of the starts; unused where `start` is given.
        x: (n_rows, n_features) float.
        weight: (n_rows,) float >= 0; a row of weight 0 is padding.
        hyper: traced settings.
        start: (n_rows, n_components) responsibilities to start from, parameters to go on from (a warm start; for
            given means see `start_from_means`), or None: greedy k-means++ and Lloyd's iterations, `n_init` times.

    Returns:
        The parameters and how the fit ended: NOT_FINITE where data or covariances were unusable (the parameters
        are then the last finite ones, if there were any), COLLAPSED where a component rests on less than one
        average row, REGULARIZED where a covariance needed more than `reg_covar`.
    """
    x, weight = jnp.asarray(x), jnp.asarray(weight)
    frame = make_frame(config, x, weight, hyper)
    if start is not None or config.n_init == 1:
        state = run_em(config, frame, x, weight, hyper, start_em(config, frame, key, x, weight, hyper, start))
    else:

        def one(key: Array) -> EmState:
            return run_em(config, frame, x, weight, hyper, start_em(config, frame, key, x, weight, hyper))

        over = lax.map if jax.default_backend() == "cpu" else lambda f, keys: jax.vmap(f)(keys)
        state = best_start(over(one, start_keys(config, key)))
    return end_em(config, frame, weight, state)


def start_keys(config: GmmConfig, key: Array) -> Array:
    """(n_init,) keys; the first is `key` itself, so that more starts only ever add to one."""
    return jnp.concatenate([key[None], jax.random.split(key, config.n_init)[1:]])


def best_start(states: EmState) -> EmState:
    """The state with the largest likelihood of those stacked on the first axis; a failed one only if all failed."""
    best = jnp.argmax(jnp.where(states.status == NOT_FINITE, -jnp.inf, states.bound))
    return jax.tree.map(lambda leaf: leaf[best], states)


def make_frame(config: GmmConfig, x: Array, weight: Array, hyper: GmmHyper) -> Frame:
    """Centre and scale of the rows, in two passes."""
    centre = weighted_mean(x, weight, config.block_size)
    share = weight / jnp.maximum(jnp.sum(weight), jnp.finfo(x.dtype).tiny)

    def step(sums: tuple[Array, Array], rows: Array, shares: Array, start: Array) -> tuple[Array, Array]:
        deviations = jnp.where(shares[:, None] > 0, jnp.abs(rows - centre[None, :]), 0)
        mean = jnp.matmul(shares, deviations, precision=lax.Precision.HIGHEST)
        return sums[0] + mean, jnp.maximum(sums[1], jnp.max(deviations, axis=0))

    zeros = (jnp.zeros_like(centre), jnp.zeros_like(centre))
    deviation, reach = fold_rows(step, zeros, x, share, config.block_size)
    reg_std = jnp.sqrt(jnp.asarray(hyper.reg_covar, x.dtype))
    if config.covariance_type == "spherical":
        deviation = jnp.full_like(deviation, jnp.max(deviation))
    scale = jnp.maximum(deviation, reg_std)
    scale = jnp.where(scale > 0, scale, 1)
    return Frame(centre, scale, jnp.square(reg_std / scale), reach / scale)


def start_em(
    config: GmmConfig,
    frame: Frame,
    key: Array,
    x: Array,
    weight: Array,
    hyper: GmmHyper,
    start: Start = None,
) -> EmState:
    """The state before the first iteration; arguments as in `fit_gmm`."""
    kind, k, d = config.covariance_type, config.n_components, x.shape[1]
    active = _active(config, hyper)
    raised = jnp.array(False)
    if isinstance(start, GmmParams):
        mixture = _into_frame(kind, start, frame)
    else:
        if start is None:
            centres = kmeans.plus_plus(
                key, x, weight, k, origin=frame.centre, active=active, block_size=config.block_size
            )
            centres = kmeans.lloyd(
                x,
                weight,
                centres,
                origin=frame.centre,
                active=active,
                max_iter=config.n_kmeans_iter,
                block_size=config.block_size,
                tol=1e-4 * jnp.mean(jnp.square(frame.scale)),  # as scikit-learn's KMeans
            )
            means = jnp.where(active[:, None], centres / frame.scale[None, :], 0)

            def responsibilities(columns: Array, first: Array) -> Array:
                return kmeans.nearest(columns * frame.scale[:, None], centres, active)

        else:
            given = jnp.where(active[None, :], jnp.asarray(start, x.dtype), 0)
            means = jnp.zeros((k, d), x.dtype)

            def responsibilities(columns: Array, first: Array) -> Array:
                return lax.dynamic_slice_in_dim(given, first, columns.shape[1]).T

        def gather(means: Array) -> em.Statistics:
            def block(columns: Array, weights: Array, first: Array) -> em.Statistics:
                resp = responsibilities(columns, first) * weights[None, :]
                return em.Statistics(jnp.zeros((), x.dtype), *em.given_moments(kind, means, columns, resp))

            return _fold_blocks(config, frame, x, weight, block)

        if start is not None:  # k-means centres are close to the first means, as good references as those
            first = gather(means)
            share = jnp.where(active, em.safe_mass(first.mass), 1)
            means = first.shift / share[:, None]
        mixture, raised = em.maximise(kind, gather(means), means, frame.reg, active)
    usable = _all_finite(mixture) & (jnp.sum(weight) > 0)
    return EmState(
        mixture=mixture,
        bound=jnp.array(-jnp.inf, x.dtype),
        mass=jnp.where(active, jnp.sum(weight) / k, 0),
        raised=raised,
        n_steps=jnp.array(0, jnp.int32),
        status=jnp.where(usable, RUNNING, NOT_FINITE).astype(jnp.int32),
    )


def run_em(
    config: GmmConfig,
    frame: Frame,
    x: Array,
    weight: Array,
    hyper: GmmHyper,
    state: EmState,
    n_steps: int | None = None,
) -> EmState:
    """Iterate until EM converges, fails, or has made `max_iter` iterations (or `n_steps` more)."""
    kind = config.covariance_type
    active = _active(config, hyper)
    total = jnp.sum(weight)
    log_units = jnp.sum(jnp.log(frame.scale))
    last = config.max_iter if n_steps is None else jnp.minimum(state.n_steps + n_steps, config.max_iter)

    def statistics(mixture: Mixture, gather: Any) -> em.Statistics:
        def block(columns: Array, weights: Array, first: Array) -> em.Statistics:
            return gather(kind, mixture, columns, weights)

        return _fold_blocks(config, frame, x, weight, block)

    def step(state: EmState) -> EmState:
        if kind in ("diag", "spherical") and jax.default_backend() == "cpu":
            sums = lax.cond(
                em.is_narrow(kind, state.mixture, frame.reach),
                lambda mixture: statistics(mixture, em.gather),
                lambda mixture: statistics(mixture, em.gather_expanded),
                state.mixture,
            )
        else:
            sums = statistics(state.mixture, em.gather)
        bound = sums.log_likelihood / total - log_units
        mixture, raised = em.maximise(kind, sums, state.mixture.means, frame.reg, active)
        finite = _all_finite((mixture, bound))
        resolution = 2 * jnp.finfo(x.dtype).eps * jnp.abs(bound)
        tol = jnp.where(jnp.asarray(hyper.tol) > 0, jnp.maximum(hyper.tol, resolution), 0)
        done = jnp.abs(bound - state.bound) < tol
        status = jnp.where(finite, jnp.where(done, CONVERGED, RUNNING), NOT_FINITE)
        new = EmState(mixture, bound, sums.mass, raised, state.n_steps + 1, status.astype(jnp.int32))
        kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), new, state)
        return kept._replace(n_steps=new.n_steps, status=new.status)

    return lax.while_loop(lambda s: (s.status == RUNNING) & (s.n_steps < last), step, state)


def end_em(config: GmmConfig, frame: Frame, weight: Array, state: EmState) -> tuple[GmmParams, FitInfo]:
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
    return _out_of_frame(config.covariance_type, state.mixture, frame), info


def start_from_means(
    config: GmmConfig,
    x: Array,
    weight: Array,
    means: Array,
    hyper: GmmHyper = GmmHyper(),  # noqa: B008
) -> GmmParams:
    """Parameters to start from given means: weights and covariances are those of the rows nearest to each.

    Args:
        config: static settings.
        x: (n_rows, n_features) float.
        weight: (n_rows,) float >= 0.
        means: (n_components, n_features).
        hyper: traced settings.
    """
    x, weight, means = jnp.asarray(x), jnp.asarray(weight), jnp.asarray(means)
    frame = make_frame(config, x, weight, hyper)
    active = _active(config, hyper)
    offsets = means - frame.centre[None, :]

    def nearest(index: Array) -> Array:
        columns = (x[index] - frame.centre[None, :]).T
        return kmeans.nearest(columns, offsets, active).T

    resp = nearest(jnp.arange(x.shape[0]))
    state = start_em(config, frame, jax.random.key(0), x, weight, hyper, resp)
    params = _out_of_frame(config.covariance_type, state.mixture, frame)
    return params._replace(offsets=jnp.where(active[:, None], offsets, params.offsets))


def log_joint(kind: CovarianceType, params: GmmParams, x: Array, *, block_size: int = 1024) -> Array:
    """log(weight_k N_k(x)), (n_rows, k) nats, of `x` (n_rows, d); its softmax are the responsibilities."""
    return log_component_densities(kind, params, x, block_size=block_size) + jnp.log(params.weights)[None, :]


def log_component_densities(
    kind: CovarianceType, params: GmmParams, x: Array, *, block_size: int = 1024
) -> Array:
    """Log N_k(x), (n_rows, k) nats, of `x` (n_rows, d); -inf for components of weight 0."""
    mixture = _as_mixture(kind, params)

    def block(index: Array) -> Array:
        return em.log_component_densities(kind, mixture, (x[index] - params.centre[None, :]).T).T

    return map_rows(block, x.shape[0], block_size, x.dtype, params.weights.shape[0])


def _fold_blocks(config: GmmConfig, frame: Frame, x: Array, weight: Array, block: Any) -> em.Statistics:
    """Sum `block(columns, weights, first row)` over blocks; columns are centred, scaled rows."""

    def step(sums: em.Statistics, rows: Array, weights: Array, start: Array) -> em.Statistics:
        rows = jnp.where(weights[:, None] > 0, rows, frame.centre[None, :])  # padding may hold anything
        columns = ((rows - frame.centre[None, :]) / frame.scale[None, :]).T
        return jax.tree.map(jnp.add, sums, block(columns, weights, start))

    zeros = em.zero_statistics(config.covariance_type, config.n_components, x.shape[1], x.dtype)
    return fold_rows(step, zeros, x, weight, config.block_size)


def _active(config: GmmConfig, hyper: GmmHyper) -> Array:
    count = config.n_components if hyper.n_components is None else hyper.n_components
    return jnp.arange(config.n_components) < count


def _as_mixture(kind: CovarianceType, params: GmmParams) -> Mixture:
    """The parameters as `em` takes them, about `centre`, in the data's units."""
    factors = params.precisions_chol
    whiteners = jnp.swapaxes(factors, -1, -2) if kind in ("full", "tied") else factors
    return Mixture(params.weights, params.offsets, params.covariances, whiteners)


def _out_of_frame(kind: CovarianceType, mixture: Mixture, frame: Frame) -> GmmParams:
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


def _into_frame(kind: CovarianceType, params: GmmParams, frame: Frame) -> Mixture:
    inverse = frame._replace(scale=1 / frame.scale)
    scaled = _as_mixture(kind, _out_of_frame(kind, _as_mixture(kind, params), inverse))
    means = (params.offsets + (params.centre - frame.centre)[None, :]) / frame.scale[None, :]
    return scaled._replace(means=means)


def _all_finite(tree: object) -> Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))
