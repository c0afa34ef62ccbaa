"""Gaussian mixture fitted by EM; the anomaly score is the negative log-likelihood.

Every iteration is one pass over blocks of rows: responsibilities and sufficient statistics of a block are formed
together, and the statistics are sums. The second moments are taken about the means of the iteration before, and
corrected by how far the means moved: float32 loses nothing to cancellation (log-mels in dB lie far from 0), and
the correction vanishes as EM converges.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.lax import Precision

from adjax.detectors import kmeans
from adjax.detectors.rows import fold_rows, map_rows, weighted_mean
from adjax.types import COLLAPSED, CONVERGED, MAX_ITER, NOT_FINITE, Detector, FitInfo, SettingsError

CovarianceType = Literal["full", "tied", "diag", "spherical"]


@dataclass(frozen=True)
class GmmConfig:
    """Static settings: each value is one compile.

    Attributes:
        n_components: Gaussians in the mixture.
        covariance_type: "full", "tied", "diag" or "spherical", as in scikit-learn.
        max_iter: EM iterations at most.
        scoring: "log_likelihood", or "max_component": the largest component density, weights ignored (TWFR-GMM).
        n_kmeans_iter: Lloyd iterations at most of the default start.
        block_size: rows handled at once; memory and speed, not the result.
    """

    n_components: int = 4
    covariance_type: CovarianceType = "full"
    max_iter: int = 100
    scoring: Literal["log_likelihood", "max_component"] = "log_likelihood"
    n_kmeans_iter: int = 20
    block_size: int = 4096


class GmmHyper(NamedTuple):
    """Traced settings, swept without a new compile.

    Attributes:
        reg_covar: () added to the diagonals of the covariances, in squared units of `x`; > 0.
        tol: () EM stops when the mean log-likelihood of a vector changes by less, in nats.
    """

    reg_covar: Array | float = 1e-6
    tol: Array | float = 1e-3


class GmmParams(NamedTuple):
    """A fitted mixture of k components in d dimensions.

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


class _Statistics(NamedTuple):
    """Sums over rows x responsibility r, deviations taken from reference means m."""

    log_likelihood: Array  # () sum of w log p(x)
    mass: Array  # (k,) sum of r
    shift: Array  # (k, d) sum of r (x - m)
    scatter: Array  # covariance's shape: sum of r (x - m)(x - m)'


_Responsibilities = Callable[[Array, Array, Array], tuple[Array, Array]]


def make_gmm(config: GmmConfig = GmmConfig(), hyper: GmmHyper = GmmHyper()) -> Detector:  # noqa: B008 (frozen)
    """Build the mixture as a `Detector`.

    Its `fit(key, x, weight, hyper)` starts from greedy k-means++ and Lloyd's iterations, its `FitInfo.objective`
    is the mean log-likelihood of a training vector in nats; `score` is minus the log-likelihood.

    Args:
        config: static settings.
        hyper: default traced settings.

    Raises:
        SettingsError: a setting out of its range.
    """
    if config.n_components < 1 or config.max_iter < 1 or config.block_size < 1:
        raise SettingsError(f"n_components, max_iter and block_size must be at least 1: {config}")
    if config.covariance_type not in ("full", "tied", "diag", "spherical"):
        raise SettingsError(
            f"covariance_type must be full, tied, diag or spherical: {config.covariance_type!r}"
        )

    def fit(
        key: Array, x: Array, weight: Array, hyper: GmmHyper = hyper, resp: Array | None = None
    ) -> tuple[GmmParams, FitInfo]:
        return fit_gmm(config, key, x, weight, hyper, resp)

    def score(params: GmmParams, x: Array) -> Array:
        x = jnp.asarray(x)
        log_densities = log_component_densities if config.scoring == "max_component" else log_joint
        reduce = jnp.max if config.scoring == "max_component" else jax.nn.logsumexp

        def score_block(index: Array) -> Array:
            return -reduce(
                log_densities(config.covariance_type, params, x[index] - params.centre[None, :]), axis=1
            )

        return map_rows(score_block, x.shape[0], config.block_size, x.dtype)

    return Detector(fit=fit, score=score, hyper=hyper)


def fit_gmm(
    config: GmmConfig, key: Array, x: Array, weight: Array, hyper: GmmHyper, resp: Array | None = None
) -> tuple[GmmParams, FitInfo]:
    """Fit a mixture by EM.

    The updates, the stopping rule and the order of the steps are those of scikit-learn 1.9 `GaussianMixture`, so
    that both agree from the same responsibilities.

    Args:
        config: static settings.
        key: typed PRNG key of the start; unused where `resp` is given.
        x: (n_rows, n_features) float.
        weight: (n_rows,) float >= 0; a row of weight 0 is padding.
        hyper: traced settings.
        resp: (n_rows, n_components) responsibilities to start from, or None for k-means.

    Returns:
        The parameters and how the fit ended: NOT_FINITE where data or covariances were unusable (the parameters
        are then the last finite ones, if there were any), COLLAPSED where a component rests on less than one
        average row.
    """
    kind = config.covariance_type
    x, weight = jnp.asarray(x), jnp.asarray(weight)
    centre = weighted_mean(x, weight, config.block_size)
    total = jnp.sum(weight)

    def statistics(responsibilities: _Responsibilities, offsets: Array) -> _Statistics:
        def step(sums: _Statistics, rows: Array, weights: Array, start: Array) -> _Statistics:
            rows = jnp.where(weights[:, None] > 0, rows - centre[None, :], 0)  # padding may hold anything
            resp, log_norm = responsibilities(rows, weights, start)
            mass, shift, scatter = _moments(kind, rows, resp, offsets)
            block = _Statistics(jnp.sum(weights * log_norm), mass, shift, scatter)
            return jax.tree.map(jnp.add, sums, block)

        d = x.shape[1]
        k = config.n_components
        shape = {"full": (k, d, d), "tied": (d, d), "diag": (k, d), "spherical": (k, d)}[kind]
        zeros = [jnp.zeros(s, x.dtype) for s in ((), (k,), (k, d), shape)]
        return fold_rows(step, _Statistics(*zeros), x, weight, config.block_size)

    def start() -> GmmParams:
        if resp is None:  # k-means centres are close to the first means, as good references as those
            offsets = _kmeans_offsets(config, key, x, weight, centre)
            given = _nearest(offsets)
        else:
            given = _from_rows(resp)
            origin = jnp.zeros((config.n_components, x.shape[1]), x.dtype)
            first = statistics(given, origin)
            offsets = first.shift / _safe_mass(first.mass)[:, None]
        return _maximise(kind, statistics(given, offsets), offsets, centre, hyper.reg_covar)

    def step(state: _State) -> _State:
        def e_step(rows: Array, weights: Array, start: Array) -> tuple[Array, Array]:
            log_prob = log_joint(kind, state.params, rows)
            log_norm = jax.nn.logsumexp(log_prob, axis=1)
            return jnp.exp(log_prob - log_norm[:, None]) * weights[:, None], log_norm

        sums = statistics(e_step, state.params.offsets)
        bound = sums.log_likelihood / total
        params = _maximise(kind, sums, state.params.offsets, centre, hyper.reg_covar)
        finite = _all_finite((params, bound))
        done = jnp.abs(bound - state.bound) < hyper.tol
        status = jnp.where(finite, jnp.where(done, CONVERGED, _RUNNING), NOT_FINITE)
        kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), params, state.params)
        return _State(kept, jnp.where(finite, bound, state.bound), sums.mass, state.n_steps + 1, status)

    params = start()
    state = _State(
        params=params,
        bound=jnp.array(-jnp.inf, x.dtype),
        mass=jnp.zeros(config.n_components, x.dtype),
        n_steps=jnp.array(0),
        status=jnp.where(_all_finite(params) & (total > 0), _RUNNING, NOT_FINITE),
    )
    state = lax.while_loop(lambda s: (s.status == _RUNNING) & (s.n_steps < config.max_iter), step, state)
    rows_per_weight = jnp.sum(weight > 0) / jnp.maximum(total, jnp.finfo(x.dtype).tiny)
    collapsed = (state.status != NOT_FINITE) & jnp.any(state.mass * rows_per_weight < 1)
    status = jnp.where(state.status == _RUNNING, MAX_ITER, state.status)
    return state.params, FitInfo(state.bound, state.n_steps, jnp.where(collapsed, COLLAPSED, status))


def log_component_densities(kind: CovarianceType, params: GmmParams, rows: Array) -> Array:
    """Log N_k(x), (n_rows, k) nats; `rows` (n_rows, d) relative to `params.centre`."""
    k, d = params.offsets.shape
    chol = params.precisions_chol

    def squared_norm(component: tuple[Array, Array]) -> Array:
        offset, factor = component
        deviations = rows - offset[None, :]
        if kind in ("full", "tied"):
            # float32 on every device: by default these products are TF32 on a GPU and bfloat16 on a TPU.
            return jnp.sum(jnp.square(jnp.matmul(deviations, factor, precision=Precision.HIGHEST)), axis=1)
        return jnp.sum(jnp.square(deviations * factor), axis=1)

    if kind == "full":
        log_det = jnp.sum(jnp.log(jnp.diagonal(chol, axis1=1, axis2=2)), axis=1)
    elif kind == "tied":
        log_det = jnp.full(k, jnp.sum(jnp.log(jnp.diagonal(chol))))
        chol = jnp.broadcast_to(chol, (k, d, d))
    elif kind == "diag":
        log_det = jnp.sum(jnp.log(chol), axis=1)
        chol = chol[:, None, :]
    else:
        log_det = d * jnp.log(chol)
        chol = chol[:, None, None]
    return log_det[None, :] - 0.5 * (
        d * math.log(2 * math.pi) + lax.map(squared_norm, (params.offsets, chol)).T
    )


def log_joint(kind: CovarianceType, params: GmmParams, rows: Array) -> Array:
    """log(weight_k N_k(x)), (n_rows, k) nats; `rows` (n_rows, d) relative to `params.centre`."""
    return log_component_densities(kind, params, rows) + jnp.log(params.weights)[None, :]


_RUNNING = -1


class _State(NamedTuple):
    params: GmmParams
    bound: Array  # () mean log-likelihood of a row under the parameters before the last update
    mass: Array  # (k,)
    n_steps: Array
    status: Array


def _moments(kind: CovarianceType, rows: Array, resp: Array, offsets: Array) -> tuple[Array, Array, Array]:
    """Sums of r, r (x - m) and r (x - m)(x - m)' over a block; `resp` (b, k) already holds the row weights."""

    def one(component: tuple[Array, Array]) -> tuple[Array, Array]:
        r, offset = component
        deviations = rows - offset[None, :]
        weighted = r[:, None] * deviations
        shift = jnp.sum(weighted, axis=0)
        if kind in ("full", "tied"):
            return shift, jnp.matmul(weighted.T, deviations, precision=Precision.HIGHEST)
        return shift, jnp.sum(weighted * deviations, axis=0)

    if kind != "tied":
        shift, scatter = lax.map(one, (resp.T, offsets))
        return jnp.sum(resp, axis=0), shift, scatter

    def add(total: Array, component: tuple[Array, Array]) -> tuple[Array, Array]:
        shift, scatter = one(component)
        return total + scatter, shift

    pooled, shift = lax.scan(add, jnp.zeros((rows.shape[1], rows.shape[1]), rows.dtype), (resp.T, offsets))
    return jnp.sum(resp, axis=0), shift, pooled


def _maximise(
    kind: CovarianceType, sums: _Statistics, offsets: Array, centre: Array, reg_covar: Array | float
) -> GmmParams:
    """The M-step: parameters from statistics taken about `offsets`."""
    mass = _safe_mass(sums.mass)
    moved = sums.shift / mass[:, None]
    if kind == "full":
        covariances = sums.scatter / mass[:, None, None] - moved[:, :, None] * moved[:, None, :]
        covariances = covariances + reg_covar * jnp.eye(offsets.shape[1], dtype=mass.dtype)[None, :, :]
    elif kind == "tied":
        between = jnp.matmul((mass[:, None] * moved).T, moved, precision=Precision.HIGHEST)
        covariances = (sums.scatter - between) / jnp.sum(mass)
        covariances = covariances + reg_covar * jnp.eye(offsets.shape[1], dtype=mass.dtype)
    else:
        covariances = sums.scatter / mass[:, None] - jnp.square(moved) + reg_covar
        if kind == "spherical":
            covariances = jnp.mean(covariances, axis=1)
    return GmmParams(
        weights=mass / jnp.sum(mass),
        offsets=offsets + moved,
        covariances=covariances,
        precisions_chol=_precisions_chol(kind, covariances),
        centre=centre,
    )


def _precisions_chol(kind: CovarianceType, covariances: Array) -> Array:
    """Cholesky factors of the precisions; NaN where a covariance is not positive definite."""
    if kind in ("diag", "spherical"):
        return 1 / jnp.sqrt(covariances)
    lower = jnp.linalg.cholesky(covariances)
    identity = jnp.broadcast_to(jnp.eye(lower.shape[-1], dtype=lower.dtype), lower.shape)
    return jnp.swapaxes(lax.linalg.triangular_solve(lower, identity, left_side=True, lower=True), -1, -2)


def _safe_mass(mass: Array) -> Array:
    """scikit-learn's guard against a component without rows."""
    return mass + 10 * jnp.finfo(mass.dtype).eps


def _kmeans_offsets(config: GmmConfig, key: Array, x: Array, weight: Array, centre: Array) -> Array:
    centres = kmeans.plus_plus(key, x, weight, config.n_components)
    centres = kmeans.lloyd(x, weight, centres, max_iter=config.n_kmeans_iter, block_size=config.block_size)
    return centres - centre[None, :]


def _nearest(offsets: Array) -> _Responsibilities:
    def responsibilities(rows: Array, weights: Array, start: Array) -> tuple[Array, Array]:
        return kmeans.nearest_one_hot(rows, offsets) * weights[:, None], jnp.zeros(rows.shape[0], rows.dtype)

    return responsibilities


def _from_rows(resp: Array) -> _Responsibilities:
    def responsibilities(rows: Array, weights: Array, start: Array) -> tuple[Array, Array]:
        block = lax.dynamic_slice_in_dim(resp, start, rows.shape[0])
        return block * weights[:, None], jnp.zeros(rows.shape[0], rows.dtype)

    return responsibilities


def _all_finite(tree: object) -> Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))
