"""What whitens a covariance, also one that is singular in the precision at hand; with a gradient in both modes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.lax import Precision

from adjax.detectors.gmm.triangular import inverse_factor


def factorise(covariance: Array, reg: Array) -> tuple[Array, Array, Array]:
    """Inverse factor of a covariance plus `reg`; if that is singular in this precision, plus more.

    A Cholesky factor whose pivot is all rounding error can pass for one, and its inverse is noise: a pivot counts
    only above a few units in the last place. What is added grows in tens, relative to each variance, and nothing is
    added where `reg` (d,) is 0, since nobody asked for it then.

    Returns:
        The covariance that was used, its `inverse_factor`, and whether anything was added; NaN where it failed.
    """
    rounding = is_rounding(jnp.diagonal(covariance))
    covariance = jnp.where(rounding[:, None] | rounding[None, :], 0, covariance) + jnp.diag(reg)
    used, inverse, extra = _raise(covariance, reg)
    return used, inverse, extra > 0


@jax.custom_jvp
def _raise(covariance: Array, reg: Array) -> tuple[Array, Array, Array]:
    """The covariance plus `extra` of its variances, its inverse factor, and `extra`, which is 0 where `reg` is."""
    floor = 2 * covariance.shape[0] * jnp.finfo(covariance.dtype).eps
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
    return covariance + jnp.diag(extra * variances), inverse_factor(lower), extra


@_raise.defjvp
def _raise_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Any, Any]:
    """Of the factor that was found, not of the search for it: reverse mode cannot go through a loop without an end.

    With P C P' = 1 and lower-triangular P, dP = -half(P dC P') P, where `half` keeps what is below the diagonal, and
    half of what is on it.
    """
    used, inverse, extra = _raise(*primals)
    change = tangents[0] + jnp.diag(extra * jnp.diagonal(tangents[0]))
    white = jnp.matmul(
        jnp.matmul(inverse, change, precision=Precision.HIGHEST), inverse.T, precision=Precision.HIGHEST
    )
    half = jnp.tril(white) - jnp.diag(jnp.diagonal(white)) / 2
    moved = -jnp.matmul(half, inverse, precision=Precision.HIGHEST)
    return (used, inverse, extra), (change, moved, jnp.zeros_like(extra))


def is_rounding(variances: Array) -> Array:
    """Whether variances are no more than the rounding of the scaled rows; NaN is not."""
    return variances <= jnp.square(4 * jnp.finfo(variances.dtype).eps)
