"""Clip-level pooling: the frames of one clip become one vector.

Every pooling takes frame weights (see `framing.frame_weights`), so that padding changes nothing. A clip
without a single frame of weight above 0 pools to zeros, which are finite but mean nothing: give that clip
weight 0 too.
"""

from __future__ import annotations

import jax
from jax import Array
from jax import numpy as jnp
from jax.typing import ArrayLike

from adjax.features._numerics import safe_divide, safe_power, sort_rows, weights_or_ones
from adjax.features.normalize import fit_standardizer, standardize


def mean_pool(x: Array, weight: Array | None = None) -> Array:
    """Weighted mean over frames.

    Args:
        x: (n_frames, n_features) float.
        weight: (n_frames,) float >= 0; None: all 1.

    Returns:
        (n_features,) float.
    """
    weight = weights_or_ones(x, weight)
    return safe_divide((weight[:, None] * x).sum(axis=0), weight.sum())


def std_pool(x: Array, weight: Array | None = None) -> Array:
    """Weighted standard deviation over frames, of the population (ddof = 0), from centred data.

    Args:
        x: (n_frames, n_features) float.
        weight: (n_frames,) float >= 0; None: all 1.

    Returns:
        (n_features,) float >= 0, with gradient 0 where a feature is constant.
    """
    return safe_power(mean_pool((x - mean_pool(x, weight)[None, :]) ** 2, weight), 0.5)


def max_pool(x: Array, weight: Array | None = None) -> Array:
    """Maximum over the frames of weight above 0.

    Args:
        x: (n_frames, n_features) float.
        weight: (n_frames,) float >= 0; None: all 1.

    Returns:
        (n_features,) float.
    """
    present = weights_or_ones(x, weight) > 0
    return jnp.where(present.any(), jnp.where(present[:, None], x, -jnp.inf).max(axis=0), 0.0)


def gwrp(x: Array, r: ArrayLike, weight: Array | None = None) -> Array:
    """Global weighted ranking pooling: frames in descending order, averaged with weights r^rank.

    Each feature sorts its own frames. Source: the time-weighted frequency representation of TWFR-GMM (Guan et
    al., ICASSP 2023; liuyoude/TWFR-GMM). When `r` is vmapped and `x` is not, the frames are sorted once.

    Args:
        x: (n_frames, n_features) float.
        r: () float in [0, 1], traced: 1 is the mean, 0 the maximum.
        weight: (n_frames,) float >= 0; frames of weight 0 are left out, all others count alike (a rank has no
            fractions). None: all 1.

    Returns:
        (n_features,) float, between mean and maximum, and falling as `r` grows.
    """
    present = weights_or_ones(x, weight) > 0
    n_present = present.sum()
    # -inf sorts the absent frames behind all others; zeros then keep 0 · inf out of the sum and its gradient.
    descending = -sort_rows(-jnp.where(present[:, None], x, -jnp.inf).T)
    ranks = jnp.arange(x.shape[0])
    real = ranks < n_present
    ranked = jnp.where(real[None, :], descending, 0.0)
    # Rank 0 apart: 0**0 is 1, but its gradient is NaN.
    powers = jnp.where(ranks == 0, 1.0, jnp.asarray(r, x.dtype) ** jnp.maximum(ranks, 1).astype(x.dtype))
    decay = jnp.where(real, powers, 0.0)
    return safe_divide(jnp.matmul(ranked, decay, precision=jax.lax.Precision.HIGHEST), decay.sum())


def percentile_pool(x: Array, q: ArrayLike, weight: Array | None = None) -> Array:
    """A percentile over frames, interpolated linearly between ranks, as `numpy.percentile` does.

    When `q` is vmapped and `x` is not, the frames are sorted once.

    Args:
        x: (n_frames, n_features) float.
        q: () float in [0, 100], traced: 0 is the minimum, 50 the median, 100 the maximum.
        weight: (n_frames,) float >= 0; frames of weight 0 are left out, all others count alike. None: all 1.

    Returns:
        (n_features,) float.
    """
    present = weights_or_ones(x, weight) > 0
    n_present = present.sum()
    ascending = sort_rows(jnp.where(present[:, None], x, jnp.inf).T).T
    ascending = jnp.where((jnp.arange(x.shape[0]) < n_present)[:, None], ascending, 0.0)
    rank = jnp.asarray(q, x.dtype) / 100.0 * jnp.maximum(n_present - 1, 0)
    below = jnp.floor(rank).astype(int)
    above = jnp.minimum(below + 1, jnp.maximum(n_present - 1, 0))
    return ascending[below] + (rank - below) * (ascending[above] - ascending[below])


def moment_pool(x: Array, weight: Array | None = None) -> Array:
    """Mean, standard deviation, skewness and excess kurtosis over frames.

    Args:
        x: (n_frames, n_features) float.
        weight: (n_frames,) float >= 0; None: all 1.

    Returns:
        (4 * n_features,) float: all means, then all standard deviations, and so on, of the population. The
        shape of a constant feature has no meaning in statistics (SciPy says NaN); here it is 0.
    """
    fitted = fit_standardizer(x, weight)
    z = standardize(fitted, x)
    variance = mean_pool(z**2, weight)  # 1, or 0 for a constant feature
    std = fitted.std * safe_power(variance, 0.5)
    kurtosis = mean_pool(z**4, weight) - 3.0 * variance**2
    return jnp.concatenate([fitted.mean, std, mean_pool(z**3, weight), kurtosis])
