"""Short-time Fourier transform of one clip, time-major."""

from __future__ import annotations

from jax import Array
from jax import numpy as jnp
from jax.typing import ArrayLike

from adjax.checks import check_number
from adjax.features._numerics import safe_power
from adjax.features.framing import frame, get_window
from adjax.features.strategy import Dft, real_dft
from adjax.types import SettingsError


def stft(
    y: Array,
    *,
    n_fft: int = 2048,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: str | tuple | float = "hann",
    center: bool = True,
    pad_mode: str = "constant",
    n_valid: ArrayLike | None = None,
    dft: Dft = "auto",
) -> Array:
    """Short-time Fourier transform.

    Every setting but `n_valid` is static.

    Args:
        y: (n_samples,) float, one clip.
        n_fft: length of the FFT and of a frame, in samples.
        hop_length: samples between frames; default `win_length // 4`.
        win_length: length of the window, centred in the frame; default `n_fft`.
        window: a name that `scipy.signal.get_window` knows; periodic.
        center: pad `n_fft // 2` samples at both ends.
        pad_mode: what that padding holds, "constant" (zeros) or "reflect".
        n_valid: () integer, traced: how many leading samples are real (see `framing.frame`). None: all.
        dft: "fft", "matmul" (a product with a matrix of cosines and sines, in full float32), or "auto", by
            platform (see `strategy`). The two agree to 1e-6 of the largest value in float32.

    Returns:
        (n_frames, 1 + n_fft // 2) complex64 (complex128 for float64): the transpose of librosa's array.
        Source: librosa 0.11 `stft`.

    Raises:
        SettingsError: settings out of range, or a clip too short for one frame (0 samples; with
            `center=False` fewer than n_fft). A centred clip of 1 sample has 1 frame.
    """
    win_length = n_fft if win_length is None else win_length
    hop_length = max(1, win_length // 4) if hop_length is None else hop_length
    window_values = get_window(window, win_length, n_fft)
    frames = frame(y, n_fft=n_fft, hop_length=hop_length, center=center, pad_mode=pad_mode, n_valid=n_valid)
    return real_dft(frames * jnp.asarray(window_values, dtype=frames.dtype)[None, :], axis=1, dft=dft)


def spectrogram(
    y: Array,
    *,
    n_fft: int = 2048,
    hop_length: int | None = 512,
    win_length: int | None = None,
    window: str | tuple | float = "hann",
    center: bool = True,
    pad_mode: str = "constant",
    power: float = 2.0,
    n_valid: ArrayLike | None = None,
    dft: Dft = "auto",
) -> Array:
    """Magnitude of the short-time Fourier transform, raised to a power.

    Args:
        y: (n_samples,) float, one clip.
        n_fft: see `stft`.
        hop_length: see `stft`.
        win_length: see `stft`.
        window: see `stft`.
        center: see `stft`.
        pad_mode: see `stft`.
        power: exponent > 0 of the magnitude, static: 1.0 magnitude, 2.0 power.
        n_valid: see `stft`.
        dft: see `stft`.

    Returns:
        (n_frames, 1 + n_fft // 2) float >= 0, with gradient 0 at silence. The transpose of librosa's array.

    Raises:
        SettingsError: see `stft`; or a power that is not a positive number.
    """
    check_power(power)
    spectrum = stft(
        y,
        n_fft=n_fft,
        hop_length=hop_length,
        win_length=win_length,
        window=window,
        center=center,
        pad_mode=pad_mode,
        n_valid=n_valid,
        dft=dft,
    )
    # Not abs(): its square root would be taken only to be squared again, and has no gradient at 0.
    return safe_power(spectrum.real**2 + spectrum.imag**2, power / 2)


def check_power(power: float) -> None:
    """Raise SettingsError for a power that is not a positive Python number (it chooses code: no array)."""
    if not isinstance(power, (int, float)):
        raise SettingsError(f"power={power!r} must be a positive Python number: 1.0 magnitude, 2.0 power")
    check_number("power", power, above=0)
