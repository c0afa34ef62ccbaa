"""One step of EM for a Gaussian mixture: responsibilities, sufficient statistics, new parameters.

A block of rows comes transposed, (n_features, n_rows): reductions over features then run along whole vectors, and
every product has its long axis last, which is up to twice as fast on a CPU. Rows are centred and scaled before they
come here (see `gmm.Frame`), and second moments are taken about the means of the iteration before and corrected by
how far these moved, so that float32 loses nothing to cancellation and the correction vanishes as EM converges.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.lax import Precision

from adjax.detectors.triangular import inverse_factor, lower_matmul, symmetric_matmul

CovarianceType = Literal["full", "tied", "diag", "spherical"]

_EXPANSION_ERROR = 5e-3  # nats of a row's log-likelihood that the fast form of a quadratic may lose at most


class Mixture(NamedTuple):
    """k Gaussians in d dimensions; a component of weight 0 does not take part.

    Attributes:
        weights: (k,), sum to 1.
        means: (k, d).
        covariances: (k, d, d) full, (d, d) tied, (k, d) diag, (k,) spherical.
        whiteners: the same shape: L with L C L' = 1, lower-triangular (1/standard deviation for diag, spherical).
    """

    weights: Array
    means: Array
    covariances: Array
    whiteners: Array


class Statistics(NamedTuple):
    """Sums over rows, deviations taken from reference means m; plain sums, so blocks and devices add up.

    Attributes:
        log_likelihood: () sum of w log p(x), nats.
        mass: (k,) sum of r, the responsibilities times the row's weight.
        shift: (k, d) sum of r (x - m).
        scatter: sum of r (x - m)(x - m)': (k, d, d) full, (d, d) tied, its diagonal (k, d) for diag and spherical.
    """

    log_likelihood: Array
    mass: Array
    shift: Array
    scatter: Array


def zero_statistics(kind: CovarianceType, k: int, d: int, dtype: Any) -> Statistics:
    """What the sums start from."""
    shape = {"full": (k, d, d), "tied": (d, d), "diag": (k, d), "spherical": (k, d)}[kind]
    return Statistics(*(jnp.zeros(s, dtype) for s in ((), (k,), (k, d), shape)))


def over_components(fn: Callable[..., Any], active: Array, *arguments: Any) -> Any:
    """Apply `fn` to each component's `arguments` and stack the results.

    One by one on a CPU, where the working set then stays in cache and components of `active` (k,) False cost
    nothing and give zeros; all at once elsewhere.
    """
    if jax.default_backend() != "cpu":
        return jax.vmap(fn)(*arguments)

    def one(item: tuple[Array, Any]) -> Any:
        on, args = item
        empty = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(fn, *args))
        return lax.cond(on, fn, lambda *_: empty, *args)

    return lax.map(one, (active, arguments))


def log_component_densities(kind: CovarianceType, mixture: Mixture, x: Array) -> Array:
    """Log N_k(x), (k, n) nats, of the columns of `x` (d, n); -inf for components of weight 0."""
    k, d = mixture.means.shape
    active = mixture.weights > 0
    whiteners = mixture.whiteners
    if kind == "full":
        log_det = jnp.sum(jnp.log(jnp.diagonal(whiteners, axis1=1, axis2=2)), axis=1)
        squares = over_components(
            lambda mean, lower: jnp.sum(jnp.square(lower_matmul(lower, x - mean[:, None])), axis=0),
            active,
            mixture.means,
            whiteners,
        )
    elif kind == "tied":
        log_det = jnp.full(k, jnp.sum(jnp.log(jnp.diagonal(whiteners))))
        white, white_means = lower_matmul(whiteners, x), lower_matmul(whiteners, mixture.means.T)
        squares = over_components(
            lambda mean: jnp.sum(jnp.square(white - mean[:, None]), axis=0), active, white_means.T
        )
    else:
        per_feature = whiteners if kind == "diag" else jnp.broadcast_to(whiteners[:, None], (k, d))
        log_det = jnp.sum(jnp.log(per_feature), axis=1)
        squares = _diagonal_squares(mixture.means, per_feature, active, x)
    log_density = log_det[:, None] - 0.5 * (d * math.log(2 * math.pi) + squares)
    return jnp.where(active[:, None], log_density, -jnp.inf)


def log_joint(kind: CovarianceType, mixture: Mixture, x: Array) -> Array:
    """log(weight_k N_k(x)), (k, n) nats, of the columns of `x` (d, n)."""
    return log_component_densities(kind, mixture, x) + jnp.log(mixture.weights)[:, None]


def gather(kind: CovarianceType, mixture: Mixture, x: Array, weights: Array) -> Statistics:
    """E-step and statistics of one block, deviations about the mixture's means.

    Args:
        kind: covariance type.
        mixture: the current parameters.
        x: (d, n) rows of the block as columns; finite, also where the weight is 0.
        weights: (n,) >= 0.
    """
    joint = log_joint(kind, mixture, x)
    log_norm = jax.nn.logsumexp(joint, axis=0)
    resp = jnp.exp(joint - log_norm[None, :]) * weights[None, :]
    if kind in ("diag", "spherical"):
        narrow = _too_narrow(mixture.means, _inverse_std(kind, mixture), x)
        moments = _diagonal_moments(mixture.means, x, resp, narrow)
    else:
        moments = given_moments(kind, mixture.means, x, resp)
    return Statistics(jnp.sum(weights * log_norm), *moments)


def given_moments(kind: CovarianceType, means: Array, x: Array, resp: Array) -> tuple[Array, Array, Array]:
    """Mass, shift and scatter of a block about `means` (k, d), under `resp` (k, n) that hold the rows' weights."""

    def one(mean: Array, r: Array) -> tuple[Array, Array]:
        deviations = x - mean[:, None]
        weighted = r[None, :] * deviations
        scatter = (
            symmetric_matmul(deviations, weighted)
            if kind in ("full", "tied")
            else jnp.matmul(jnp.square(deviations), r, precision=Precision.HIGHEST)
        )
        return jnp.matmul(deviations, r, precision=Precision.HIGHEST), scatter

    mass = jnp.sum(resp, axis=1)
    if kind != "tied":
        return mass, *over_components(one, mass > 0, means, resp)

    def add(total: Array, component: tuple[Array, Array]) -> tuple[Array, Array]:
        shift, scatter = one(*component)
        return total + scatter, shift

    pooled, shift = lax.scan(add, jnp.zeros((x.shape[0], x.shape[0]), x.dtype), (means, resp))
    return mass, shift, pooled


def maximise(
    kind: CovarianceType, sums: Statistics, means: Array, reg: Array, active: Array
) -> tuple[Mixture, Array]:
    """The M-step: parameters from statistics taken about `means`.

    Args:
        kind: covariance type.
        sums: of all blocks.
        means: (k, d) that the statistics refer to.
        reg: (d,) added to the variances.
        active: (k,) bool, the components that take part.

    Returns:
        The parameters, and whether a covariance needed more than `reg` to be positive definite.
    """
    mass = jnp.where(active, safe_mass(sums.mass), 0)
    share = jnp.where(active, mass, 1)
    moved = sums.shift / share[:, None]
    raised = jnp.array(False)
    if kind == "full":

        def one(scatter: Array, moved: Array, mass: Array) -> tuple[Array, Array, Array]:
            covariance = scatter / mass - moved[:, None] * moved[None, :] + jnp.diag(reg)
            return _factorise(covariance, reg)

        covariances, whiteners, each = over_components(one, active, sums.scatter, moved, share)
        raised = jnp.any(each & active)
        identity = jnp.eye(means.shape[1], dtype=mass.dtype)[None]
        covariances = jnp.where(active[:, None, None], covariances, identity)
        whiteners = jnp.where(active[:, None, None], whiteners, identity)
    elif kind == "tied":
        between = jnp.matmul((mass[:, None] * moved).T, moved, precision=Precision.HIGHEST)
        covariances, whiteners, raised = _factorise(
            (sums.scatter - between) / jnp.sum(mass) + jnp.diag(reg), reg
        )
    else:
        variances = jnp.maximum(sums.scatter / share[:, None] - jnp.square(moved), 0) + reg[None, :]
        variances = jnp.where(active[:, None], variances, 1)
        covariances = variances if kind == "diag" else jnp.mean(variances, axis=1)
        whiteners = 1 / jnp.sqrt(covariances)
    moved = jnp.where(active[:, None], moved, 0)
    return Mixture(mass / jnp.sum(mass), means + moved, covariances, whiteners), raised


def safe_mass(mass: Array) -> Array:
    """scikit-learn's guard against a component without rows."""
    return mass + 10 * jnp.finfo(mass.dtype).eps


def _factorise(covariance: Array, reg: Array) -> tuple[Array, Array, Array]:
    """Inverse factor of a covariance; if it is singular in this precision, of one with more on its diagonal.

    A Cholesky factor whose pivot is all rounding error can pass for one, and its inverse is noise: a pivot counts
    only above a few units in the last place. What is added grows in tens, relative to each variance, and nothing is
    added where `reg` (d,) is 0, since nobody asked for it then.

    Returns:
        The covariance that was used, its `inverse_factor`, and whether anything was added; NaN where it failed.
    """
    d = covariance.shape[0]
    floor = 2 * d * jnp.finfo(covariance.dtype).eps
    variances = jnp.diagonal(covariance)

    def attempt(extra: Array) -> tuple[Array, Array]:
        candidate = covariance + jnp.diag(extra * variances)
        lower = jnp.linalg.cholesky(candidate, symmetrize_input=False)
        pivots = jnp.square(jnp.diagonal(lower)) / variances
        return lower, jnp.all(jnp.isfinite(lower)) & jnp.all(pivots > floor)

    def retry(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        extra = jnp.maximum(10 * state[0], 2 * floor)
        return extra, *attempt(extra)

    hopeful = jnp.all(jnp.isfinite(covariance)) & jnp.all(variances > 0) & jnp.any(reg > 0)
    none = jnp.zeros((), covariance.dtype)
    extra, lower, _ = lax.while_loop(lambda s: ~s[2] & hopeful & (s[0] < 1e-2), retry, (none, *attempt(none)))
    return covariance + jnp.diag(extra * variances), inverse_factor(lower), extra > 0


def _inverse_std(kind: CovarianceType, mixture: Mixture) -> Array:
    return (
        mixture.whiteners
        if kind == "diag"
        else jnp.broadcast_to(mixture.whiteners[:, None], mixture.means.shape)
    )


def _too_narrow(means: Array, inverse_std: Array, x: Array) -> Array:
    """Whether expanding (x - m)² into x² - 2xm + m² could cost more than `_EXPANSION_ERROR` nats in a row.

    The rounding error is at most one unit in the last place of the expanded terms, summed over features.
    """
    reach = jnp.square(jnp.max(jnp.abs(x), axis=1))
    terms = jnp.square(inverse_std) * (reach[None, :] + jnp.square(means))
    return ~(jnp.finfo(x.dtype).eps * jnp.max(jnp.sum(terms, axis=1)) < _EXPANSION_ERROR)


def _diagonal_squares(means: Array, inverse_std: Array, active: Array, x: Array) -> Array:
    """Sum over features of ((x - m) / std)², (k, n)."""

    def exact() -> Array:
        return over_components(
            lambda mean, u: jnp.sum(jnp.square((x - mean[:, None]) * u[:, None]), axis=0),
            active,
            means,
            inverse_std,
        )

    def expanded() -> Array:
        precisions = jnp.square(inverse_std)
        factors = jnp.concatenate([precisions, -2 * precisions * means], axis=1)
        products = jnp.matmul(factors, jnp.concatenate([jnp.square(x), x]), precision=Precision.HIGHEST)
        return products + jnp.sum(precisions * jnp.square(means), axis=1)[:, None]

    if jax.default_backend() != "cpu":  # memory-bound there: the products gain nothing
        return exact()
    return lax.cond(_too_narrow(means, inverse_std, x), exact, expanded)


def _diagonal_moments(means: Array, x: Array, resp: Array, narrow: Array) -> tuple[Array, Array, Array]:
    """`given_moments` of a diagonal mixture, by products of the uncentred powers where that is exact enough."""

    def exact() -> tuple[Array, Array, Array]:
        return given_moments("diag", means, x, resp)

    def expanded() -> tuple[Array, Array, Array]:
        mass = jnp.sum(resp, axis=1)
        powers = jnp.matmul(resp, jnp.concatenate([x, jnp.square(x)]).T, precision=Precision.HIGHEST)
        first, second = jnp.split(powers, 2, axis=1)
        shift = first - mass[:, None] * means
        return mass, shift, second - means * (first + shift)

    if jax.default_backend() != "cpu":
        return exact()
    return lax.cond(narrow, exact, expanded)
