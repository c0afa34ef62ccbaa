"""Conversion of the sampling rate, flat up to the Nyquist frequency of the wanted rate."""

from __future__ import annotations

import functools

import numpy as np
import soxr

# Half-band filter: 1,367 taps for a fall of 100 dB from .990 to 1.010 of the wanted Nyquist frequency.
_N_TAPS, _BETA = 1367, 10.06
_N_FFT = 2**14


def resampled_length(n_samples: int, sr_file: int, sr: int | None) -> int:
    """Samples of a clip at rate `sr`: ceil(n_samples · sr / sr_file), as librosa.resample counts them."""
    return n_samples if sr is None else -(-n_samples * sr // sr_file)


def resample(samples: np.ndarray, sr_file: int, sr: int) -> np.ndarray:
    """Convert the rate of (n_samples,) float32 to `sr`; returns `resampled_length` samples.

    soxr's best qualities begin to fall at .913 of the lower Nyquist frequency: the top bands of a clip that was
    reduced from 48 to 16 kHz are empty, which no recorder at 16 kHz leaves so. soxr therefore goes only to twice
    the wanted rate, where its fall lies beyond the band, and a steep half-band filter does the last step.
    """
    if sr == sr_file:
        return samples
    n_samples = resampled_length(len(samples), sr_file, sr)
    if sr_file < 1.1 * sr:  # nothing above can be kept: the file's own band ends where soxr's filter does
        out = soxr.resample(samples, sr_file, sr, quality="HQ")
    else:
        twice = samples if sr_file == 2 * sr else soxr.resample(samples, sr_file, 2 * sr, quality="HQ")
        out = _halve(np.asarray(twice, np.float32))
    out = np.asarray(out, np.float32)[:n_samples]
    return np.pad(out, (0, n_samples - len(out)))  # soxr may miss the ceiling by a sample


@functools.cache
def _half_band() -> np.ndarray:
    """The filter's spectrum for blocks of `_N_FFT`; float32 complex."""
    t = np.arange(_N_TAPS) - _N_TAPS // 2
    taps = np.sinc(t / 2) * np.kaiser(_N_TAPS, _BETA)
    return np.fft.rfft(taps / taps.sum(), _N_FFT).astype(np.complex64)


def _halve(samples: np.ndarray) -> np.ndarray:
    """Every second sample after the half-band filter, block by block (overlap-save); zeros around the clip."""
    delay, step = _N_TAPS // 2, _N_FFT - _N_TAPS + 1
    n_blocks = -(-len(samples) // step)
    padded = np.zeros((n_blocks - 1) * step + _N_FFT, np.float32)
    padded[delay : delay + len(samples)] = samples
    out = np.empty(n_blocks * step // 2, np.float32)
    for i in range(n_blocks):
        block = np.fft.irfft(np.fft.rfft(padded[i * step : i * step + _N_FFT]) * _half_band(), _N_FFT)
        out[i * step // 2 : (i + 1) * step // 2] = block[_N_TAPS - 1 :: 2]
    return out[: -(-len(samples) // 2)]
