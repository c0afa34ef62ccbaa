"""Mahalanobis distance to one machine's normal vectors, for machines of which there are few.

The covariance of 8 vectors of 128 numbers is mostly noise, so a machine borrows from its mates, the other machines of
its type: each is standardised by its own variances, drawn towards the mates', and the correlations that the
mates agree on are mixed with the machine's own and then shrunken towards the identity. Hierarchical shrinkage in
the spirit of Friedman (1989, regularised discriminant analysis) and of Ledoit and Wolf (2004), whose intensity it
uses. A machine without mates has its own vectors alone, by the same formulae.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax.numpy as jnp
from jax import Array

from adjax.checks import unit_weights
from adjax.detectors.products import times, whitening_of
from adjax.types import SettingsError

Covariance = Literal["full", "diag"]

# Chosen on simulated machines (see `adjax.detectors.gaussians`); within a factor of two nothing much changes.
PRIOR_VECTORS = 8.0  # as many vectors the mates' variance counts in a machine's
PRIOR_CORRELATION = 256.0  # as many the mates' correlation does; it has more numbers to be learnt
FLOOR = 1e-4  # added to the variances, in squared units of the vectors: a constant number has a distance too
MIN_SHRINKAGE = 1e-3  # keeps the correlation's condition below 1e3 · d, which float32 can take


class Gaussian(NamedTuple):
    """One machine's normal vectors.

    Attributes:
        mean: (d,) float.
        scale: (d,) float > 0, what each number is divided by.
        whitening: (d, d) float, lower triangle: inverse Cholesky factor of the correlation.
    """

    mean: Array
    scale: Array
    whitening: Array


def fit_gaussian(
    x: Array, weight: Array, machine: Array, own: Array, *, n_machines: int, covariance: Covariance = "full"
) -> Gaussian:
    """Fit the Gaussian of one machine, with those of its type beside it.

    Args:
        x: (n, d) float, the normal vectors of all machines of the type.
        weight: (n,) float, 1 for the vectors to fit on (or any other number above 0), 0 for those held out or padded,
            which change nothing.
        machine: (n,) int in [0, n_machines), whose each vector is; a machine without one of weight 1 lends nothing.
        own: () int, the machine to fit.
        n_machines: static.
        covariance: "full" as told above; "diag": the machine's own variances and no correlation. Static.

    Returns:
        The Gaussian, not finite if `x` or a weight is not, or a weight is negative.

    Raises:
        SettingsError: an unknown covariance.
    """
    if covariance not in ("full", "diag"):
        raise SettingsError(f"covariance={covariance!r} is neither 'full' nor 'diag'")
    d = x.shape[1]
    weight = unit_weights(weight)
    # They count vectors, and the largest is one of them.
    weight = weight / jnp.where(jnp.max(weight) > 0, jnp.max(weight), 1)
    # Centred on all vectors first: float32 has few digits left for a variance at -60 dB. And `where`: a padded
    # vector may hold anything, also NaN.
    present = weight[:, None] > 0
    x = jnp.where(present, x, 0.0)
    offset = times(weight, x) / weight.sum()
    x = jnp.where(present, x - offset[None, :], 0.0)
    member = jnp.where(machine[None, :] == jnp.arange(n_machines)[:, None], weight[None, :], 0.0)
    count = member.sum(axis=1)
    means = times(member, x) / count[:, None]
    residual = jnp.where(present, x - means[machine], 0.0)
    freedom = jnp.maximum(count - 1.0, 1.0) * (count > 0)
    squares = times(member, residual**2)
    mean = offset + means[own]
    if covariance == "diag":
        scale = jnp.sqrt(squares[own] / freedom[own] + FLOOR)
        return Gaussian(mean, scale, jnp.eye(d, dtype=x.dtype))
    pooled = squares.sum(axis=0) / freedom.sum()
    prior = PRIOR_VECTORS
    variance = (squares + prior * pooled[None, :]) / (freedom + prior)[:, None] + FLOOR
    z = residual / jnp.sqrt(variance)[machine]
    share = freedom[own] / (freedom[own] + PRIOR_CORRELATION)
    of_mates, of_own = (1.0 - share) / freedom.sum(), share / freedom[own]
    row_weight = weight * (of_mates + jnp.where(machine == own, of_own, 0.0))
    n_effective = 1.0 / (of_mates**2 * freedom.sum() + (of_own**2 + 2 * of_own * of_mates) * freedom[own])
    correlation = _shrink(z, row_weight, n_effective)
    return Gaussian(mean, jnp.sqrt(variance[own]), whitening_of(correlation))


def log_distance(gaussian: Gaussian, x: Array) -> Array:
    """Log of the mean squared whitened deviation.

    Args:
        gaussian: of (d,) numbers.
        x: (n, d) float.

    Returns:
        (n,) float, around 0 for the vectors fitted on, higher = farther away; finite also at the mean itself.
    """
    z = (x - gaussian.mean[None, :]) / gaussian.scale[None, :]
    squares = jnp.mean(times(z, gaussian.whitening.T) ** 2, axis=1)
    return jnp.log(jnp.maximum(squares, 1e-12))


def _shrink(z: Array, weight: Array, n_effective: Array) -> Array:
    """Weighted second moment of `z` (n, d), known to have mean 0, shrunken towards a multiple of the identity.

    The intensity is Ledoit and Wolf's (2004, "A well-conditioned estimator for large-dimensional covariance
    matrices"), with weights in place of 1/n.
    """
    d = z.shape[1]
    moment = times((weight[:, None] * z).T, z)
    mu = jnp.trace(moment) / d
    norm = jnp.sum(moment**2)
    noise = jnp.sum((weight * jnp.sum(z**2, axis=1)) ** 2) - norm / n_effective
    # At least 1e-6 on the diagonal: vectors that are all alike have no correlation, yet a distance.
    intensity = jnp.clip(noise / jnp.maximum(norm - d * mu**2, 1e-12), MIN_SHRINKAGE, 1.0)
    return (1.0 - intensity) * moment + intensity * jnp.maximum(mu, 1e-6) * jnp.eye(d, dtype=z.dtype)
