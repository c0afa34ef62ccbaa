"""Mel filterbank, mel spectrogram and its logarithm in decibels."""

from __future__ import annotations

from functools import partial

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp
from jax.typing import ArrayLike

from adjax.checks import check_number
from adjax.features.stft import check_power, spectrogram
from adjax.features.strategy import Dft, Filterbank, compute
from adjax.types import SettingsError

NORMS = ("slaney", None)
FLOORS = ("max", "add")
MAX_N_FFT = 2**20  # a minute at 16 kHz: no frame is longer
_BANDS_TOGETHER = 32  # of a banded filterbank: fewer save operations, but make products too small to be fast


def hz_to_mel(frequencies: ArrayLike, *, htk: bool = False) -> np.ndarray:
    """Frequencies in Hz as mels (NumPy, float64), on Slaney's scale or HTK's. Source: librosa 0.11."""
    hz = np.asarray(frequencies, dtype=np.float64)
    if htk:
        return 2595.0 * np.log10(1.0 + hz / 700.0)
    return np.where(
        hz < 1000.0, 3.0 * hz / 200.0, 15.0 + 27.0 * np.log(np.maximum(hz, 1e-9) / 1000.0) / np.log(6.4)
    )


def mel_to_hz(mels: ArrayLike, *, htk: bool = False) -> np.ndarray:
    """Mels as frequencies in Hz (NumPy, float64), the inverse of `hz_to_mel`."""
    mel = np.asarray(mels, dtype=np.float64)
    if htk:
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    return np.where(mel < 15.0, 200.0 * mel / 3.0, 1000.0 * np.exp((mel - 15.0) * np.log(6.4) / 27.0))


def mel_filterbank(
    *,
    sr: float,
    n_fft: int,
    n_mels: int = 128,
    fmin: float = 0.0,
    fmax: float | None = None,
    htk: bool = False,
    norm: str | None = "slaney",
) -> np.ndarray:
    """Triangular filters that sum FFT bins into mel bands.

    Args:
        sr: sampling rate in Hz.
        n_fft: length of the FFT in samples.
        n_mels: number of bands.
        fmin: lowest frequency in Hz.
        fmax: highest frequency in Hz; default sr / 2.
        htk: HTK's mel scale instead of Slaney's.
        norm: "slaney" divides each triangle by half its width in Hz (equal areas); None leaves peaks of 1.

    Returns:
        (n_mels, 1 + n_fft // 2) float64 >= 0, a NumPy constant. Source: librosa 0.11 `filters.mel`.

    Raises:
        SettingsError: frequencies out of order or above sr / 2, an unknown norm, or a band that holds no FFT
            bin (librosa only warns, and the band is then silent for good).
    """
    if norm not in NORMS:
        raise SettingsError(f"norm={norm!r} is not one of {NORMS}")
    edges = mel_edges(sr=sr, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax, htk=htk)
    widths = np.diff(edges)[:, None]
    distances = np.fft.rfftfreq(n_fft, d=1.0 / sr)[None, :] - edges[:, None]
    rising, falling = distances[:-2] / widths[:-1], -distances[2:] / widths[1:]
    filters = np.maximum(0.0, np.minimum(rising, falling))
    if norm == "slaney":
        filters *= 2.0 / (edges[2:] - edges[:-2])[:, None]
    return filters


def mel_edges(
    *, sr: float, n_fft: int, n_mels: int, fmin: float = 0.0, fmax: float | None = None, htk: bool = False
) -> np.ndarray:
    """Where the bands of `mel_filterbank` begin, peak and end, which has the arguments: (n_mels + 2,) float64 Hz.

    Raises:
        SettingsError: a setting out of range, or a band that holds no FFT bin.
    """
    check_number("n_fft", n_fft, low=1, high=MAX_N_FFT, whole=True)
    check_number("sr", sr, above=0)
    check_number("n_mels", n_mels, low=1, high=n_fft, whole=True)
    fmax = sr / 2 if fmax is None else fmax
    check_number("fmax", fmax, above=0, high=sr / 2)
    check_number("fmin", fmin, low=0, below=fmax)
    mel_range = hz_to_mel(fmin, htk=htk), hz_to_mel(fmax, htk=htk)
    edges = mel_to_hz(np.linspace(*mel_range, n_mels + 2), htk=htk)
    bins = np.fft.rfftfreq(n_fft, d=1.0 / sr)
    first, after = np.searchsorted(bins, edges[:-2], "right"), np.searchsorted(bins, edges[2:], "left")
    empty = np.flatnonzero(first >= after)
    if empty.size:
        band = empty[0]
        raise SettingsError(
            f"{empty.size} of {n_mels} mel bands hold no FFT bin (first: band {band}, {edges[band]:.1f} to "
            f"{edges[band + 2]:.1f} Hz, with bins {sr / n_fft:.1f} Hz apart): "
            "lower n_mels, or raise n_fft or fmin"
        )
    return edges


def mel_spectrogram(
    y: Array,
    *,
    sr: float,
    n_fft: int = 2048,
    hop_length: int = 512,
    win_length: int | None = None,
    window: str | tuple | float = "hann",
    center: bool = True,
    pad_mode: str = "constant",
    power: float = 2.0,
    n_mels: int = 128,
    fmin: float = 0.0,
    fmax: float | None = None,
    htk: bool = False,
    norm: str | None = "slaney",
    n_valid: ArrayLike | None = None,
    dft: Dft = "auto",
    filterbank: Filterbank = "auto",
) -> Array:
    """Mel spectrogram of one clip. Every setting but `n_valid` is static.

    Args:
        y: (n_samples,) float, one clip.
        sr: sampling rate in Hz.
        n_fft: see `stft.stft`.
        hop_length: see `stft.stft`.
        win_length: see `stft.stft`.
        window: see `stft.stft`.
        center: see `stft.stft`.
        pad_mode: see `stft.stft`.
        power: exponent of the magnitude before the bands are summed: 1.0 magnitude, 2.0 power.
        n_mels: see `mel_filterbank`.
        fmin: see `mel_filterbank`.
        fmax: see `mel_filterbank`.
        htk: see `mel_filterbank`.
        norm: see `mel_filterbank`.
        n_valid: () integer, traced: how many leading samples are real (see `framing.frame`). None: all.
        dft: see `stft.stft`.
        filterbank: "banded" leaves out most of the filterbank's zeros, "dense" is one product, "auto" chooses
            by platform (see `strategy`). The two agree to rounding.

    Returns:
        (n_frames, n_mels) float >= 0. The transpose of librosa's array. Source: librosa 0.11
        `feature.melspectrogram`.

    Raises:
        SettingsError: see `stft.stft` and `mel_filterbank`.
    """
    filters = mel_filterbank(sr=sr, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax, htk=htk, norm=norm)
    energies = spectrogram(
        y,
        n_fft=n_fft,
        hop_length=hop_length,
        win_length=win_length,
        window=window,
        center=center,
        pad_mode=pad_mode,
        power=power,
        n_valid=n_valid,
        dft=dft,
    )
    forms = {"banded": partial(_sum_banded, filters), "dense": partial(_sum_dense, filters)}
    return compute("filterbank", filterbank, forms, energies)


def _sum_dense(filters: np.ndarray, energies: Array) -> Array:
    """(n_frames, n_bins) energies times the transpose of the (n_mels, n_bins) filters: (n_frames, n_mels)."""
    weights = jnp.asarray(filters.T, dtype=energies.dtype)
    # Accelerators would round the product to TF32 or bf16: visible in decibels.
    return jnp.matmul(energies, weights, precision=jax.lax.Precision.HIGHEST)


def _sum_banded(filters: np.ndarray, energies: Array) -> Array:
    """The same, a group of neighbouring bands after the other, with the bins that they hold."""
    products = []
    for group in np.array_split(filters, max(1, len(filters) // _BANDS_TOGETHER)):
        held = np.flatnonzero(group.any(axis=0))
        bins = slice(held[0], held[-1] + 1)
        products.append(_sum_dense(group[:, bins], energies[:, bins]))
    return jnp.concatenate(products, axis=1)


def to_decibels(
    s: Array,
    *,
    power: float = 2.0,
    ref: ArrayLike = 1.0,
    amin: ArrayLike = 1e-10,
    floor: str = "max",
    top_db: ArrayLike | None = None,
) -> Array:
    """Spectrogram in decibels: 20 / power · log10(s / ref), floored.

    With `power=2.0` this is librosa 0.11 `power_to_db`, with `power=1.0` `amplitude_to_db` (given the same
    amin).

    Args:
        s: any shape, float >= 0: magnitudes to the power `power`.
        power: that power, static.
        ref: the value of 0 dB, > 0, in the units of `s`; traced.
        amin: the floor, > 0, in the units of `s`; traced.
        floor: how `amin` floors, static: "max" takes log10(max(s, amin)) (librosa, DCASE 2023 baseline),
            "add" log10(s + amin) (DCASE 2020 baseline); both baselines have amin = 2.2e-16.
        top_db: everything more than `top_db` below the maximum of `s` is raised to that level; traced. None:
            off.

    Returns:
        The shape and dtype of `s`, dB re `ref`; with gradient 0 at silence.

    Raises:
        SettingsError: an unknown floor, or a power that is not a positive number.
    """
    check_power(power)
    if floor not in FLOORS:
        raise SettingsError(f"floor={floor!r} is not one of {FLOORS}")
    floored = s + amin if floor == "add" else jnp.maximum(s, amin)
    scale = 20.0 / power
    decibels = scale * jnp.log10(floored) - scale * jnp.log10(jnp.maximum(ref, amin))
    if top_db is None:
        return decibels
    return jnp.maximum(decibels, decibels.max() - top_db)


def log_mel_spectrogram(
    y: Array,
    *,
    sr: float,
    n_fft: int = 2048,
    hop_length: int = 512,
    win_length: int | None = None,
    window: str | tuple | float = "hann",
    center: bool = True,
    pad_mode: str = "constant",
    power: float = 2.0,
    n_mels: int = 128,
    fmin: float = 0.0,
    fmax: float | None = None,
    htk: bool = False,
    norm: str | None = "slaney",
    ref: ArrayLike = 1.0,
    amin: ArrayLike = 1e-10,
    floor: str = "max",
    top_db: ArrayLike | None = None,
    n_valid: ArrayLike | None = None,
    dft: Dft = "auto",
    filterbank: Filterbank = "auto",
) -> Array:
    """Mel spectrogram of one clip in decibels: `mel_spectrogram`, then `to_decibels`.

    The DCASE 2020 Task 2 baseline's log-mel is `n_fft=1024, hop_length=512, n_mels=128, amin=2.2e-16,
    floor="add"`; that of 2023 to 2026 the same with `floor="max"`.

    Args:
        y: (n_samples,) float, one clip.
        sr: sampling rate in Hz.
        n_fft: see `stft.stft`.
        hop_length: see `stft.stft`.
        win_length: see `stft.stft`.
        window: see `stft.stft`.
        center: see `stft.stft`.
        pad_mode: see `stft.stft`.
        power: exponent of the magnitude before the bands are summed: 1.0 magnitude, 2.0 power.
        n_mels: see `mel_filterbank`.
        fmin: see `mel_filterbank`.
        fmax: see `mel_filterbank`.
        htk: see `mel_filterbank`.
        norm: see `mel_filterbank`.
        ref: see `to_decibels`.
        amin: see `to_decibels`.
        floor: see `to_decibels`.
        top_db: see `to_decibels`; unlike in librosa, off by default (a clip's level then does not depend on
            its loudest frame).
        n_valid: () integer, traced: how many leading samples are real (see `framing.frame`). The frames after
            them hold the floor, and count for nothing in `top_db`. None: all.
        dft: see `stft.stft`.
        filterbank: see `mel_spectrogram`.

    Returns:
        (n_frames, n_mels) float, dB re `ref`. The transpose of librosa's array.

    Raises:
        SettingsError: see `stft.stft`, `mel_filterbank` and `to_decibels`.
    """
    mel = mel_spectrogram(
        y,
        sr=sr,
        n_fft=n_fft,
        hop_length=hop_length,
        win_length=win_length,
        window=window,
        center=center,
        pad_mode=pad_mode,
        power=power,
        n_mels=n_mels,
        fmin=fmin,
        fmax=fmax,
        htk=htk,
        norm=norm,
        n_valid=n_valid,
        dft=dft,
        filterbank=filterbank,
    )
    return to_decibels(mel, power=power, ref=ref, amin=amin, floor=floor, top_db=top_db)
