"""Normalisation: of a machine's features on its normal training data, or of one clip's frames by themselves."""

from __future__ import annotations

from typing import NamedTuple

import jax
from jax import Array, lax
from jax import numpy as jnp

from adjax.checks import unit_weights
from adjax.features._numerics import safe_divide
from adjax.types import SettingsError

CLIP_NORMS = ("level", "feature")


class Standardizer(NamedTuple):
    """What `fit_standardizer` learned; a pytree.

    Attributes:
        mean: (n_features,) float.
        std: (n_features,) float > 0; 1 for a feature that was constant.
    """

    mean: Array
    std: Array


def fit_standardizer(x: Array, weight: Array | None = None) -> Standardizer:
    """Weighted mean and population standard deviation of each feature.

    The data are centred before they are squared: in float32, E[x²] − μ² would lose 5% of a variance at a mean
    of −60 dB, and a sum over many frames of −60 its last digits. They are centred first on a row of the data,
    which leaves exact zeros of a constant feature, then on the mean.

    Args:
        x: (n_vectors, n_features) float.
        weight: (n_vectors,) float >= 0; rows of weight 0 are padding and change nothing. None: all 1.

    Returns:
        The standardiser; mean 0 and std 1 when all the weights are 0, NaN when one is negative or not finite.
    """
    weight = jnp.ones(x.shape[0], x.dtype) if weight is None else unit_weights(weight).astype(x.dtype)
    total = weight.sum()

    def average(values: Array) -> Array:
        return safe_divide(jnp.matmul(weight, values, precision=jax.lax.Precision.HIGHEST), total)

    origin = jnp.where(total > 0, x[jnp.argmax(weight)], 0.0)
    rough_mean = origin + average(x - origin[None, :])
    centred = x - rough_mean[None, :]
    unit = _powers_of_two(jnp.max(jnp.where(weight[:, None] > 0, jnp.abs(centred), 0), axis=0))
    centred = centred / unit[None, :]  # exactly; no square overflows or vanishes, whatever the feature's unit
    correction = average(centred)
    variance = average(centred**2) - correction**2
    varies = variance > 0
    std = jnp.where(varies, jnp.sqrt(jnp.where(varies, variance, 1.0)) * unit, 1.0)
    return Standardizer(rough_mean + correction * unit, std)


def _powers_of_two(x: Array) -> Array:
    """About as large as each of `x` (n,) >= 0, with gradient 0; 1 for 0."""
    some = jnp.where((x > 0) & jnp.isfinite(x), lax.stop_gradient(x), 1)
    exponent = jnp.clip(jnp.floor(jnp.log2(some)), -100, 100)
    return jnp.power(2, exponent)  # exp2 is not exact


def standardize(standardizer: Standardizer, x: Array) -> Array:
    """(x − mean) / std.

    Args:
        standardizer: from `fit_standardizer`.
        x: (n_vectors, n_features) float.

    Returns:
        (n_vectors, n_features) float.
    """
    return (x - standardizer.mean[None, :]) / standardizer.std[None, :]


def unstandardize(standardizer: Standardizer, z: Array) -> Array:
    """Back to the original units: z · std + mean, the inverse of `standardize`.

    Args:
        standardizer: from `fit_standardizer`.
        z: (n_vectors, n_features) float.

    Returns:
        (n_vectors, n_features) float.
    """
    return z * standardizer.std[None, :] + standardizer.mean[None, :]


def normalize_clip(x: Array, weight: Array | None = None, *, by: str = "level") -> Array:
    """Make a clip's features independent of how loud the clip is.

    Args:
        x: (n_frames, n_features) float, one clip.
        weight: (n_frames,) float >= 0; frames of weight 0 are padding and change nothing. None: all 1.
        by: "level" subtracts one number, the clip's mean over frames and features: log-mels in dB then have no
            loudness and keep their colour. "feature" gives each feature zero mean and unit variance over the
            clip, which leaves only its movement. Static.

    Returns:
        (n_frames, n_features) float.

    Raises:
        SettingsError: an unknown `by`.
    """
    if by not in CLIP_NORMS:
        raise SettingsError(f"by={by!r} is not one of {CLIP_NORMS}")
    fitted = fit_standardizer(x, weight)
    return x - fitted.mean.mean() if by == "level" else standardize(fitted, x)
