"""Small helpers: weights, and formulas whose values and gradients stay finite where the plain ones have a pole."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array


def safe_power(x: Array, exponent: float) -> Array:
    """`x ** exponent` for x >= 0 and 0 < exponent, with gradient 0 (not infinity or NaN) at x = 0.

    The inner `where` feeds the power a harmless 1 at the zeros: masking only its result would leave 0 · inf =
    NaN in the backward pass.

    Args:
        x: any shape, float >= 0.
        exponent: positive number, static.

    Returns:
        Same shape and dtype as `x`.
    """
    if exponent == 1.0:
        return x
    positive = x > 0
    base = jnp.where(positive, x, jnp.ones_like(x))
    raised = jnp.sqrt(base) if exponent == 0.5 else base**exponent
    return jnp.where(positive, raised, jnp.zeros_like(x))


def safe_divide(numerator: Array, denominator: Array) -> Array:
    """`numerator / denominator`, and 0 where the denominator is 0 (a sum over no frames has no mean)."""
    present = denominator != 0
    return jnp.where(present, numerator / jnp.where(present, denominator, jnp.ones_like(denominator)), 0.0)


def weights_or_ones(x: Array, weight: Array | None) -> Array:
    """The weights of the frames of `x`, (n_frames,) in its dtype; ones for None."""
    return jnp.ones(x.shape[0], x.dtype) if weight is None else jnp.asarray(weight, x.dtype)
