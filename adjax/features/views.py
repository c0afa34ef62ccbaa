"""Five views of one clip's log-mel, each with one number a band: what small Gaussians look at.

A fault shows in few of them: a louder machine in the mean, clicks in the largest frames, an uneven run in the
spread or in the rhythm. Which, nobody knows beforehand (`adjax.detectors.gaussians`).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from jax import Array
from jax import numpy as jnp

from adjax.features._numerics import safe_divide, weights_or_ones
from adjax.features.pooling import gwrp, mean_pool, percentile_pool, std_pool
from adjax.features.strategy import real_dft

VIEWS = ("mean", "spread", "loud", "peaks", "rhythm")
GROUP = 8  # mel bands that share an envelope, and modulation bands of each: as many numbers as mel bands
WINDOW, HOP = 128, 61  # frames; 4.1 s at 31.25 frames a second, four windows in a clip of 10 s
# Modulation bands in bins of 1/WINDOW cycles a frame: .24 to 15.9 Hz at 31.25 frames a second, two a ratio of 2.7.
EDGES = (1, 2, 3, 5, 8, 13, 22, 38, 65)
# What is added before a logarithm, so that silence stays finite: in dB, and in squared dB of a window.
FLOOR_STD, FLOOR_POWER = 0.1, 2.5e-4


def clip_views(log_mel: Array, weight: Array | None = None) -> Array:
    """Mean, log standard deviation, GWRP with r = .5, 95th percentile, and `envelope_spectrum`.

    Args:
        log_mel: (n_frames, n_mels) float, dB; n_mels a multiple of GROUP.
        weight: (n_frames,) 1 for the frames of the clip, then 0 for padding; None: all 1.

    Returns:
        (5 * n_mels,) float, view after view in the order of VIEWS, finite for any clip of at least one frame.
    """
    return jnp.concatenate(
        [
            mean_pool(log_mel, weight),
            jnp.log(std_pool(log_mel, weight) + FLOOR_STD),
            gwrp(log_mel, 0.5, weight),
            percentile_pool(log_mel, 95.0, weight),
            envelope_spectrum(log_mel, weight),
        ]
    )


def envelope_spectrum(log_mel: Array, weight: Array | None = None) -> Array:
    """Log power of the envelopes' movements: groups of 8 mel bands by 8 bands of modulation frequency.

    The power is the mean over windows (symmetric Hann, WINDOW frames, every HOP) that lie wholly in the clip. A
    clip shorter than WINDOW has one window of its own length, padded with zeros to WINDOW and scaled to its
    energy: the bands keep their frequencies, and lose resolution. Unlike `modulation_pool` it keeps the
    size of the swings, which is where a fault may show.

    Args:
        log_mel: (n_frames, n_mels) float, dB; n_mels a multiple of GROUP.
        weight: (n_frames,) 1 for the frames of the clip, then 0 for padding; None: all 1.

    Returns:
        (n_mels,) float: the groups' lowest modulation band, then the next one.
    """
    weight = weights_or_ones(log_mel, weight)
    envelopes = log_mel.reshape(len(log_mel), -1, GROUP).mean(axis=2)
    envelopes = weight[:, None] * (envelopes - mean_pool(envelopes, weight)[None, :])
    missing = max(WINDOW - len(log_mel), 0)
    envelopes = jnp.pad(envelopes, ((0, missing), (0, 0)))
    n_real = (weight > 0).sum()

    starts = np.arange(0, len(envelopes) - WINDOW + 1, HOP)
    length = jnp.minimum(n_real, WINDOW)
    place = jnp.arange(WINDOW)
    hann = 0.5 - 0.5 * jnp.cos(2.0 * np.pi * place / jnp.maximum(length - 1, 1))
    hann = jnp.where(place < length, hann, 0.0).astype(log_mel.dtype)
    windows = envelopes[starts[:, None] + np.arange(WINDOW)[None, :]] * hann[None, :, None]
    spectrum = real_dft(windows, axis=1)
    power = spectrum.real**2 + spectrum.imag**2  # (n_windows, WINDOW // 2 + 1, n_groups)
    whole = ((starts == 0) | (starts + WINDOW <= n_real)).astype(power.dtype)
    power = (whole[:, None, None] * power).sum(axis=0) / whole.sum()
    power = safe_divide(power * (np.hanning(WINDOW) ** 2).sum().astype(power.dtype), (hann**2).sum())
    bands = [power[low:high].mean(axis=0) for low, high in pairwise(EDGES)]
    return jnp.log(jnp.concatenate(bands) + FLOOR_POWER)
