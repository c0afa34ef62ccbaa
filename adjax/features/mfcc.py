"""Mel-frequency cepstral coefficients and their slopes over time."""

from __future__ import annotations

import math

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp
from jax.typing import ArrayLike

from adjax.checks import check_number
from adjax.types import SettingsError


def mfcc(log_mel: Array, *, n_mfcc: int = 20, lifter: ArrayLike = 0.0) -> Array:
    """Mel-frequency cepstral coefficients: the first `n_mfcc` of the orthonormal DCT-II of all the mel bands.

    librosa's `mfcc(y)` is `mfcc(log_mel_spectrogram(y, ..., top_db=80.0))`.

    Args:
        log_mel: (n_frames, n_mels) float, dB.
        n_mfcc: how many coefficients to keep, 1 to n_mels; static.
        lifter: liftering parameter L >= 0, traced: coefficient k = 1 ... n_mfcc is multiplied by
            1 + L/2 · sin(π k / L). 0: not at all.

    Returns:
        (n_frames, n_mfcc) float. The transpose of librosa's array. Source: librosa 0.11 `feature.mfcc(S=...)`
        with its defaults `dct_type=2, norm="ortho"`.

    Raises:
        SettingsError: `n_mfcc` out of range, or a negative number as `lifter`.
    """
    n_mels = log_mel.shape[1]
    if isinstance(lifter, (int, float)):
        check_number("lifter", lifter, low=0)
    check_number("n_mfcc", n_mfcc, low=1, high=n_mels, whole=True)
    import scipy.fft  # it takes a moment, which other features need not wait for

    basis = jnp.asarray(scipy.fft.dct(np.eye(n_mels), axis=1, norm="ortho")[:, :n_mfcc], dtype=log_mel.dtype)
    coefficients = jnp.matmul(log_mel, basis, precision=jax.lax.Precision.HIGHEST)
    lifter = jnp.asarray(lifter, dtype=log_mel.dtype)
    order = jnp.arange(1, n_mfcc + 1, dtype=log_mel.dtype)
    lift = 1.0 + lifter / 2.0 * jnp.sin(jnp.pi * order / jnp.where(lifter > 0, lifter, 1.0))
    return coefficients * lift[None, :]


def delta(x: Array, *, width: int = 9, order: int = 1, n_valid: ArrayLike | None = None) -> Array:
    """Slope (order 1) or curvature (order 2) over time, by a local polynomial fit (Savitzky–Golay).

    Around each frame a polynomial of degree `order` is fitted to `width` frames and differentiated `order`
    times; near the ends the window stays inside the clip.

    Args:
        x: (n_frames, n_features) float, one clip.
        width: frames in the window, odd and above `order`, at least 3; static.
        order: order of the derivative, at least 1; static.
        n_valid: () integer, traced: how many leading frames are real. The rows after them are 0, and so are
            all rows of a clip with fewer real frames than `width`, which has no slope to fit. None: all.

    Returns:
        (n_frames, n_features), per frame to the power `order`. The transpose of librosa's array. Source:
        librosa 0.11 `feature.delta(mode="interp")`.

    Raises:
        SettingsError: a width or order out of range, or an array of fewer frames than `width`.
    """
    n_frames = x.shape[0]
    if width < 3 or width % 2 == 0 or not 1 <= order < width:
        raise SettingsError(
            f"width={width} must be odd and at least 3, and order={order} between 1 and width - 1"
        )
    if n_frames < width:
        raise SettingsError(
            f"width={width} frames do not fit into a clip of {n_frames}: lower width, or lengthen it"
        )
    n_real = jnp.asarray(n_frames if n_valid is None else n_valid)
    kernel = _savgol_kernel(width, order)
    middle, n_windows = width // 2, n_frames - width + 1
    centre = x[middle : middle + n_windows]
    # Differences from the window's middle: a slope is blind to the level, float32 sums are not.
    slopes = jnp.zeros_like(centre)
    for k, tap in enumerate(kernel):
        slopes += tap * (x[k : k + n_windows] - centre)
    frames = jnp.arange(n_frames)
    # A polynomial of degree `order` has one `order`-th derivative all over its window, so the first and last
    # frames take that of the first and last window.
    nearest = slopes[jnp.clip(frames - middle, 0, jnp.maximum(0, n_real - width))]
    return jnp.where(((frames < n_real) & (n_real >= width))[:, None], nearest, 0)


def _savgol_kernel(width: int, order: int) -> list[float]:
    """Taps for the `order`-th derivative of the polynomial of degree `order` fitted to a window."""
    times = np.arange(width) - width // 2
    fit = np.linalg.pinv(np.vander(times, order + 1, increasing=True))
    return (math.factorial(order) * fit[order]).tolist()
