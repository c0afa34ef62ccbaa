"""What the two branches see of a wave: the spectrum of the whole clip, and its spectrogram, without logarithms."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array

from adjax.detectors.network.config import NetworkConfig


def spectrum(config: NetworkConfig, waves: Array) -> Array:
    """(n, 1 + n_samples // 2) magnitudes of the whole clips `waves` (n, n_samples)."""
    return jnp.abs(jnp.fft.rfft(waves[:, : config.n_samples]))


def spectrogram(config: NetworkConfig, waves: Array) -> Array:
    """Magnitudes of short frames.

    Args:
        config: static settings.
        waves: (n, n_samples).

    Returns:
        (n, n_frames, n_bins) under a Hann window of unit energy; frames centred, the ends padded with zeros. Source:
        the toolkit's `asdkit/models/audio_feature/stft.py` (torchaudio's `Spectrogram` with `normalized=True`).
    """
    hop, ratio = config.hop_length, config.n_fft // config.hop_length
    n_frames, n_bins = config.spectrogram_size
    before = config.n_fft // 2
    n_blocks = n_frames + ratio - 1
    padded = jnp.pad(waves, ((0, 0), (before, max(0, n_blocks * hop - before - waves.shape[1]))))
    blocks = padded[:, : n_blocks * hop].reshape(len(waves), n_blocks, hop)
    frames = jnp.concatenate([blocks[:, i : i + n_frames] for i in range(ratio)], axis=2)
    window = _window(config.n_fft).astype(waves.dtype)
    return jnp.abs(jnp.fft.rfft(frames * window[None, None, :]))[:, :, -n_bins:]


def _window(n_fft: int) -> np.ndarray:
    """(n_fft,) periodic Hann window of unit energy."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    return window / np.sqrt(np.sum(window**2))
