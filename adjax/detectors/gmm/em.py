"""One step of EM for a Gaussian mixture: responsibilities, sufficient statistics, new parameters.

A block of rows comes transposed, (n_features, n_rows): reductions over features then run along whole vectors, and
every product has its long axis last, which is up to twice as fast on a CPU. Rows are centred and scaled before they
come here (see `fit.Frame`), and second moments are taken about the means of the iteration before and corrected by
how far these moved, so that float32 loses nothing to cancellation and the correction vanishes as EM converges.

What is static `on_cpu` chooses between loops that keep a CPU's cache warm and whole products for an accelerator
(see `config.PlacedConfig`); both give the same, to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.lax import Precision

from adjax.detectors.gmm.factorise import factorise, is_rounding
from adjax.detectors.gmm.triangular import lower_matmul, symmetric_matmul

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


def over_components(fn: Callable[..., Any], active: Array, *arguments: Any, on_cpu: bool) -> Any:
    """Apply `fn` to each component's `arguments` and stack the results.

    One by one on a CPU, where the working set then stays in cache and components of `active` (k,) False cost
    nothing and give zeros; all at once elsewhere.
    """
    if not on_cpu:
        return jax.vmap(fn)(*arguments)

    def one(item: tuple[Array, Any]) -> Any:
        on, args = item
        empty = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(fn, *args))
        return lax.cond(on, fn, lambda *_: empty, *args)

    return lax.map(one, (active, arguments))


def log_component_densities(kind: CovarianceType, mixture: Mixture, x: Array, *, on_cpu: bool) -> Array:
    """Log N_k(x), (k, n) nats, of the columns of `x` (d, n); -inf for components of weight 0."""
    k, d = mixture.means.shape
    active = mixture.weights > 0
    whiteners = mixture.whiteners
    if kind == "full":
        log_det = jnp.sum(jnp.log(jnp.diagonal(whiteners, axis1=1, axis2=2)), axis=1)
        squares = over_components(
            lambda mean, lower: jnp.sum(
                jnp.square(lower_matmul(lower, x - mean[:, None], panels=on_cpu)), axis=0
            ),
            active,
            mixture.means,
            whiteners,
            on_cpu=on_cpu,
        )
    elif kind == "tied":
        log_det = jnp.full(k, jnp.sum(jnp.log(jnp.diagonal(whiteners))))
        white, white_means = (lower_matmul(whiteners, v, panels=on_cpu) for v in (x, mixture.means.T))
        squares = over_components(
            lambda mean: jnp.sum(jnp.square(white - mean[:, None]), axis=0),
            active,
            white_means.T,
            on_cpu=on_cpu,
        )
    else:
        inverse_std = _per_feature(kind, mixture)
        log_det = jnp.sum(jnp.log(inverse_std), axis=1)
        squares = over_components(
            lambda mean, u: jnp.sum(jnp.square((x - mean[:, None]) * u[:, None]), axis=0),
            active,
            mixture.means,
            inverse_std,
            on_cpu=on_cpu,
        )
    log_density = log_det[:, None] - 0.5 * (d * math.log(2 * math.pi) + squares)
    return jnp.where(active[:, None], log_density, -jnp.inf)


def log_joint(kind: CovarianceType, mixture: Mixture, x: Array, *, on_cpu: bool) -> Array:
    """log(weight_k N_k(x)), (k, n) nats, of the columns of `x` (d, n)."""
    return log_component_densities(kind, mixture, x, on_cpu=on_cpu) + log_weights(mixture.weights)[:, None]


def gather(kind: CovarianceType, mixture: Mixture, x: Array, weights: Array, *, on_cpu: bool) -> Statistics:
    """E-step and statistics of one block, deviations about the mixture's means.

    Args:
        kind: covariance type.
        mixture: the current parameters.
        x: (d, n) rows of the block as columns; finite, also where the weight is 0.
        weights: (n,) >= 0.
        on_cpu: static, see above.
    """
    log_norm, resp = _responsibilities(log_joint(kind, mixture, x, on_cpu=on_cpu), weights)
    moments = given_moments(kind, mixture.means, x, resp, on_cpu=on_cpu)
    return Statistics(jnp.sum(weights * log_norm), *moments)


def gather_expanded(kind: CovarianceType, mixture: Mixture, x: Array, weights: Array) -> Statistics:
    """`gather` of a diag or spherical mixture by matrix products, (x - m)² expanded into x² - 2xm + m².

    In a trial on one core (64 features, 16 components) it was three times as fast; `is_narrow` says when rounding
    forbids it.
    """
    means, inverse_std = mixture.means, _per_feature(kind, mixture)
    d = means.shape[1]
    rows = x.T  # as they lie in memory
    squares = jnp.square(rows)

    def product(factors: Array, rows: Array) -> Array:
        return jnp.matmul(factors, rows, precision=Precision.HIGHEST)

    precisions = jnp.square(inverse_std)
    quadratic = product(precisions, squares.T) - product(2 * precisions * means, rows.T)
    constant = (
        log_weights(mixture.weights) + jnp.sum(jnp.log(inverse_std), axis=1) - 0.5 * d * math.log(2 * math.pi)
    )
    constant = constant - 0.5 * jnp.sum(precisions * jnp.square(means), axis=1)
    log_norm, resp = _responsibilities(constant[:, None] - 0.5 * quadratic, weights)
    mass, first, second = jnp.sum(resp, axis=1), product(resp, rows), product(resp, squares)
    shift = first - mass[:, None] * means
    return Statistics(jnp.sum(weights * log_norm), mass, shift, second - means * (first + shift))


def is_narrow(kind: CovarianceType, mixture: Mixture, reach: Array) -> Array:
    """() bool: whether `gather_expanded` could cost a row's log-likelihood more than `_EXPANSION_ERROR` nats.

    Its rounding error is about one unit in the last place of the expanded terms, summed over features.

    Args:
        kind: "diag" or "spherical".
        mixture: the current parameters.
        reach: (d,) largest absolute value of each feature.
    """
    terms = jnp.square(_per_feature(kind, mixture)) * (jnp.square(reach)[None, :] + jnp.square(mixture.means))
    return ~(jnp.finfo(reach.dtype).eps * jnp.max(jnp.sum(terms, axis=1)) < _EXPANSION_ERROR)


def given_moments(
    kind: CovarianceType, means: Array, x: Array, resp: Array, *, on_cpu: bool
) -> tuple[Array, Array, Array]:
    """Mass, shift and scatter of a block about `means` (k, d), under `resp` (k, n) that hold the rows' weights."""
    some = resp > 0
    root = jnp.where(some, jnp.sqrt(jnp.where(some, resp, 1)), 0)  # the slope of a root at 0 is infinite

    def one(mean: Array, r: Array, root: Array) -> Array:
        if kind in ("full", "tied"):
            weighted = root[None, :] * (x - mean[:, None])
            return symmetric_matmul(weighted, weighted, panels=on_cpu)
        return jnp.matmul(jnp.square(x - mean[:, None]), r, precision=Precision.HIGHEST)

    mass = jnp.sum(resp, axis=1)
    # One product for all components; it loses no more than the rounding of the rows did.
    shift = jnp.matmul(resp, x.T, precision=Precision.HIGHEST) - mass[:, None] * means
    if kind != "tied":
        return mass, shift, over_components(one, mass > 0, means, resp, root, on_cpu=on_cpu)

    def add(total: Array, component: tuple[Array, Array, Array]) -> tuple[Array, None]:
        return total + one(*component), None

    pooled, _ = lax.scan(add, jnp.zeros((x.shape[0], x.shape[0]), x.dtype), (means, resp, root))
    return mass, shift, pooled


def maximise(
    kind: CovarianceType, sums: Statistics, means: Array, reg: Array, active: Array, *, on_cpu: bool
) -> tuple[Mixture, Array]:
    """The M-step: parameters from statistics taken about `means`.

    Args:
        kind: covariance type.
        sums: of all blocks.
        means: (k, d) that the statistics refer to.
        reg: (d,) added to the variances.
        active: (k,) bool, the components that take part.
        on_cpu: static, see above.

    Returns:
        The parameters, and whether a covariance needed more than `reg` to be positive definite.
    """
    mass = jnp.where(active, safe_mass(sums.mass), 0)
    share = jnp.where(active, mass, 1)
    moved = sums.shift / share[:, None]
    raised = jnp.array(False)
    if kind == "full":

        def one(scatter: Array, moved: Array, mass: Array) -> tuple[Array, Array, Array]:
            return factorise(scatter / mass - moved[:, None] * moved[None, :], reg)

        covariances, whiteners, each = over_components(one, active, sums.scatter, moved, share, on_cpu=on_cpu)
        raised = jnp.any(each & active)
        identity = jnp.eye(means.shape[1], dtype=mass.dtype)[None]
        covariances = jnp.where(active[:, None, None], covariances, identity)
        whiteners = jnp.where(active[:, None, None], whiteners, identity)
    elif kind == "tied":
        between = jnp.matmul((mass[:, None] * moved).T, moved, precision=Precision.HIGHEST)
        covariances, whiteners, raised = factorise((sums.scatter - between) / jnp.sum(mass), reg)
    else:
        variances = sums.scatter / share[:, None] - jnp.square(moved)
        variances = jnp.where(is_rounding(variances), 0, variances) + reg[None, :]
        variances = jnp.where(active[:, None], variances, 1)
        covariances = variances if kind == "diag" else jnp.mean(variances, axis=1)
        whiteners = 1 / jnp.sqrt(covariances)
    moved = jnp.where(active[:, None], moved, 0)
    return Mixture(mass / jnp.sum(mass), means + moved, covariances, whiteners), raised


def safe_mass(mass: Array) -> Array:
    """scikit-learn's guard against a component without rows."""
    return mass + 10 * jnp.finfo(mass.dtype).eps


def log_weights(weights: Array) -> Array:
    """(k,) log of the weights: -inf of a component that takes no part, without a slope that is no number."""
    active = weights > 0
    return jnp.where(active, jnp.log(jnp.where(active, weights, 1)), -jnp.inf)


def _per_feature(kind: CovarianceType, mixture: Mixture) -> Array:
    """(k, d) inverse standard deviations of a diag or spherical mixture."""
    whiteners = mixture.whiteners
    return whiteners if kind == "diag" else jnp.broadcast_to(whiteners[:, None], mixture.means.shape)


def _responsibilities(joint: Array, weights: Array) -> tuple[Array, Array]:
    """Log p(x) (n,) and responsibilities times weights (k, n) from log joints (k, n)."""
    log_norm = jax.nn.logsumexp(joint, axis=0)
    return log_norm, jnp.exp(joint - log_norm[None, :]) * weights[None, :]
