"""The views of a clip against a plain NumPy version; padding, short clips, silence."""

from __future__ import annotations

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from adjax.features import VIEWS, clip_views, envelope_spectrum
from adjax.features.views import EDGES, FLOOR_POWER

N_MELS = 16


def log_mel(n_frames: int, seed: int = 0) -> np.ndarray:
    return 5.0 * np.random.default_rng(seed).normal(size=(n_frames, N_MELS)) - 60.0


def plain_rhythm(x: np.ndarray) -> np.ndarray:
    """Window by window, for clips of at least 128 frames."""
    groups = np.stack([x[:, :8].mean(axis=1), x[:, 8:].mean(axis=1)], axis=1)
    groups -= groups.mean(axis=0)
    powers = [
        np.abs(np.fft.rfft(groups[start : start + 128] * np.hanning(128)[:, None], axis=0)) ** 2
        for start in range(0, len(x) - 127, 61)
    ]
    power = np.mean(powers, axis=0)
    bands = [power[low:high].mean(axis=0) for low, high in pairwise(EDGES)]
    return np.log(np.concatenate(bands) + FLOOR_POWER)


@pytest.mark.parametrize("n_frames", [128, 200, 313])
def test_views_equal_plain_numpy(x64, n_frames: int) -> None:
    x = log_mel(n_frames)
    falling = -np.sort(-x, axis=0)
    decay = 0.5 ** np.arange(n_frames)
    expected = {
        "mean": x.mean(axis=0),
        "spread": np.log(x.std(axis=0) + 0.1),
        "loud": decay @ falling / decay.sum(),
        "peaks": np.percentile(x, 95, axis=0),
        "rhythm": plain_rhythm(x),
    }
    got = np.asarray(clip_views(jnp.asarray(x))).reshape(len(VIEWS), N_MELS)
    for view, values in zip(VIEWS, got, strict=True):
        assert_allclose(values, expected[view], rtol=1e-9, atol=1e-9, err_msg=view)


@pytest.mark.parametrize("n_frames", [1, 2, 40, 127, 128, 200])
def test_padding_is_inert(n_frames: int) -> None:
    x = log_mel(n_frames).astype(np.float32)
    views = jax.jit(clip_views)
    padded = np.full((313, N_MELS), 99.0, np.float32)
    padded[:n_frames] = x
    weight = (np.arange(313) < n_frames).astype(np.float32)
    assert_allclose(views(padded, weight), views(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("n_frames", [313, 100, 64])
@pytest.mark.parametrize("cycles_per_frame", [10 / 128, 30 / 128])
def test_a_rhythm_keeps_its_band_in_a_short_clip(n_frames: int, cycles_per_frame: float) -> None:
    wave = np.sin(2 * np.pi * cycles_per_frame * np.arange(n_frames))[:, None] * np.ones((1, N_MELS))
    bands = np.asarray(envelope_spectrum(jnp.asarray(wave, jnp.float32))).reshape(len(EDGES) - 1, -1)
    expected = np.searchsorted(EDGES, cycles_per_frame * 128, side="right") - 1
    assert (bands.argmax(axis=0) == expected).all()


@pytest.mark.parametrize("n_frames", [1, 2, 30, 313])
def test_silence_is_finite(n_frames: int) -> None:
    assert np.isfinite(clip_views(jnp.full((n_frames, N_MELS), -156.5))).all()
