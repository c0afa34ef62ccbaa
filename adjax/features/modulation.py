"""How a clip's features move over its frames: flux, and the rhythm of their envelopes.

A slide rail that runs unevenly may have the same mean spectrum as a healthy one; its strokes come in another
rhythm. Both poolings take frame weights, as those of `pooling` do.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp
from jax.typing import ArrayLike

from adjax.features._numerics import safe_divide, weights_or_ones
from adjax.features.pooling import mean_pool

# Octaves below half the frame rate; at 16 kHz and a hop of 512 (31.25 frames a second) the lowest band ends at
# .24 Hz, the others reach up to .5, 1, 2, 4, 8 and 16 Hz.
OCTAVES = (0.0, 1 / 128, 1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)


def flux_pool(x: Array, weight: Array | None = None) -> Array:
    """Mean absolute change from frame to frame.

    Args:
        x: (n_frames, n_features) float.
        weight: (n_frames,) float >= 0; a pair of neighbours counts with the product of their weights. None:
            all 1.

    Returns:
        (n_features,) float >= 0, per frame, in the unit of `x`; 0 for a clip of one frame.
    """
    weight = weights_or_ones(x, weight)
    return mean_pool(jnp.abs(x[1:] - x[:-1]), weight[1:] * weight[:-1])


def modulation_pool(
    x: Array, weight: Array | None = None, edges: ArrayLike | Sequence[float] = OCTAVES
) -> Array:
    """Shares of modulation bands in the variance of each feature over time.

    The periodogram of a feature's frames, less their mean, is integrated over each band, exactly: the integral
    is a sum over the lags of the autocorrelation. (A sum over FFT bins would change with the padding.)

    Args:
        x: (n_frames, n_features) float.
        weight: (n_frames,) float >= 0, which multiplies the centred frames: 0 for padding. None: all 1.
        edges: (n_bands + 1,) float, rising, in cycles per frame, traced; bands from 0 to 1/2 share out the
            whole variance.

    Returns:
        (n_bands * n_features,) float in [0, 1], band after band. Scale-free: neither the level of a feature nor
        the size of its swings matters. 0 for a constant feature.
    """
    n_frames = x.shape[0]
    weight = weights_or_ones(x, weight)
    # Centred on one frame first, which leaves exact zeros of a constant feature at any level.
    x = x - x[jnp.argmax(weight)][None, :]
    centred = weight[:, None] * (x - mean_pool(x, weight)[None, :])
    spectrum = jnp.fft.rfft(centred, n=2 * n_frames, axis=0)  # twice the length: no lag wraps around
    power = spectrum.real**2 + spectrum.imag**2
    autocorrelation = jnp.fft.irfft(power, n=2 * n_frames, axis=0)[:n_frames]
    lags = np.arange(n_frames)
    upto = jnp.asarray(edges, x.dtype)[:, None]
    # Integral of cos(2 π f lag) over |f| < edge; the lags below 0 are those above it.
    integrals = 2.0 * upto * jnp.sinc(2.0 * upto * lags[None, :]) * np.where(lags == 0, 1.0, 2.0)[None, :]
    kernels = (integrals[1:] - integrals[:-1]).astype(x.dtype)
    energies = jnp.matmul(kernels, autocorrelation, precision=jax.lax.Precision.HIGHEST)
    shares = safe_divide(energies, jnp.broadcast_to(autocorrelation[:1], energies.shape))
    return jnp.clip(shares, 0.0, 1.0).reshape(-1)
