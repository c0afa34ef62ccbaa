"""Small helpers: weights, a sort, and formulas whose values and gradients stay finite where plain ones have a pole."""

from __future__ import annotations

import jax
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


@jax.custom_jvp
def sort_rows(x: Array) -> Array:
    """`jnp.sort(x, axis=-1)` of numbers without NaN, a quarter of its time in float32 on a CPU.

    A sort spends its time comparing, and XLA compares floats with care for NaN and signed zeros. The bits of
    floats, read as integers, have the same order once those of the negative ones are flipped.
    """
    if x.dtype != jnp.float32:
        return jnp.sort(x, axis=-1)
    keys = jax.lax.sort(_flip_negative(jax.lax.bitcast_convert_type(x, jnp.int32)), is_stable=False)
    return jax.lax.bitcast_convert_type(_flip_negative(keys), jnp.float32)


@sort_rows.defjvp
def _sort_rows_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (slope,) = primals, tangents
    order = jnp.argsort(x, axis=-1)
    return jnp.take_along_axis(x, order, axis=-1), jnp.take_along_axis(slope, order, axis=-1)


def _flip_negative(bits: Array) -> Array:
    return jnp.where(bits < 0, bits ^ jnp.int32(0x7FFFFFFF), bits)
