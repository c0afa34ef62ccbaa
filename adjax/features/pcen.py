"""Per-channel energy normalisation: a gain control for each mel band, then a root."""

from __future__ import annotations

import jax
from jax import Array
from jax import numpy as jnp
from jax.typing import ArrayLike


def pcen(
    s: Array,
    *,
    sr: float,
    hop_length: int,
    gain: ArrayLike = 0.98,
    bias: ArrayLike = 2.0,
    power: ArrayLike = 0.5,
    time_constant: ArrayLike = 0.4,
    eps: ArrayLike = 1e-6,
) -> Array:
    """(s / (eps + smooth)^gain + bias)^power − bias^power, where `smooth` is `s` after a first-order low-pass.

    Every setting but `sr` and `hop_length` is traced, so it can be swept or learned. The filter looks back
    only: padding after a clip changes nothing before it.

    Args:
        s: (n_frames, n_bands) float >= 0, magnitudes. The defaults are for samples in ±2^31: multiply the
            magnitudes of samples in [-1, 1] by 2^31.
        sr: sampling rate in Hz.
        hop_length: samples between frames.
        gain: exponent of the gain control, usually just below 1.
        bias: > 0.
        power: > 0.
        time_constant: of the low-pass, in s, > 0.
        eps: > 0, in the units of `s`.

    Returns:
        (n_frames, n_bands) float >= 0. The transpose of librosa's array. Source: librosa 0.11 `pcen` with
        `max_size=1`, its filter starting from 1.
    """
    n_steps = jnp.asarray(time_constant, s.dtype) * (sr / hop_length)
    b = (jnp.sqrt(1.0 + 4.0 * n_steps**2) - 1.0) / (2.0 * n_steps**2)

    def join(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
        (decay, value), (next_decay, next_value) = first, second
        return decay * next_decay, next_decay * value + next_value

    # smooth[t] = (1 - b) · smooth[t - 1] + b · s[t], all frames at once.
    decays = jnp.full_like(s, 1.0 - b)
    decay, value = jax.lax.associative_scan(join, (decays, b * s))
    smooth = decay + value
    # librosa's form of the formula, which keeps its digits for small s.
    gained = s * jnp.exp(
        -jnp.asarray(gain, s.dtype) * (jnp.log(jnp.asarray(eps, s.dtype)) + jnp.log1p(smooth / eps))
    )
    return jnp.asarray(bias, s.dtype) ** power * jnp.expm1(power * jnp.log1p(gained / bias))
