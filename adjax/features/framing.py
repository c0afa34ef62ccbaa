"""Windows and frames: one clip cut into overlapping pieces, as librosa 0.11 cuts it.

A clip padded to the length of its batch is cut as if it had never been padded: pass the number of real
samples as `n_valid`, and the frames are those of the bare clip, followed by frames of zeros.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jax import Array
from jax import numpy as jnp
from jax.typing import ArrayLike

from adjax.checks import check_number
from adjax.types import SettingsError

PAD_MODES = ("constant", "reflect")


def get_window(window: str | tuple | float, win_length: int, n_fft: int) -> np.ndarray:
    """Periodic analysis window, padded with zeros on both sides to the length of the FFT.

    Args:
        window: a name that `scipy.signal.get_window` knows ("hann", "hamming", ("kaiser", 8.0), ...).
        win_length: length of the window in samples, 1 <= win_length <= n_fft.
        n_fft: length of the FFT in samples.

    Returns:
        (n_fft,) float64. Source: librosa 0.11 `filters.get_window(fftbins=True)` and `util.pad_center`.

    Raises:
        SettingsError: a length out of range or a window that SciPy does not know.
    """
    check_number("n_fft", n_fft, low=1, whole=True)
    check_number("win_length", win_length, low=1, high=n_fft, whole=True)
    if window == "hann":  # SciPy's formula; its import takes half a second, longer than scoring a clip
        turn = np.linspace(-np.pi, np.pi, win_length + 1)[:-1]
        return _pad_centre(0.5 + 0.5 * np.cos(turn) if win_length > 1 else np.ones(1), n_fft)
    import scipy.signal

    try:
        values = scipy.signal.get_window(window, win_length, fftbins=True)
    except ValueError as error:
        raise SettingsError(
            f"window={window!r}: {error}; see scipy.signal.get_window for the names"
        ) from error
    return _pad_centre(values, n_fft)


def _pad_centre(values: np.ndarray, n_fft: int) -> np.ndarray:
    before = (n_fft - len(values)) // 2
    return np.pad(values, (before, n_fft - len(values) - before))


def n_frames(n_samples: Any, *, n_fft: int, hop_length: int, center: bool = True) -> Any:
    """How many frames a clip has.

    Args:
        n_samples: length of the clip in samples; a Python int, or an integer array (traced or not) of any
            shape.
        n_fft: length of a frame in samples.
        hop_length: samples between the starts of two frames.
        center: whether `n_fft // 2` samples are padded at both ends.

    Returns:
        Number of whole frames: an int for an int, else an array like `n_samples`. A clip of 0 samples has
        none, and neither has one shorter than `n_fft` when not centred.
    """
    extra = 2 * (n_fft // 2) - n_fft if center else -n_fft
    if isinstance(n_samples, (int, np.integer)):
        return max(0, 1 + (int(n_samples) + extra) // hop_length) if n_samples > 0 else 0
    n_samples = jnp.asarray(n_samples)
    return jnp.where(n_samples > 0, jnp.maximum(0, 1 + (n_samples + extra) // hop_length), 0)


def frame_weights(n_valid: ArrayLike, n_rows: int) -> Array:
    """Weights of the rows of a padded array: 1 for the first `n_valid`, 0 for the rest.

    Args:
        n_valid: () integer, how many leading rows (frames) are real; from `n_frames` of the real samples. For
            windows of `n_context` stacked frames, pass `n_valid - n_context + 1`.
        n_rows: rows of the array.

    Returns:
        (n_rows,) float.
    """
    return (jnp.arange(n_rows) < n_valid).astype(float)


def frame(
    y: Array,
    *,
    n_fft: int,
    hop_length: int,
    center: bool = True,
    pad_mode: str = "constant",
    n_valid: ArrayLike | None = None,
) -> Array:
    """Cut one clip into overlapping frames.

    Args:
        y: (n_samples,) float, one clip; `jax.vmap` or `adjax.batching.map_clips` for more.
        n_fft: length of a frame in samples, static.
        hop_length: samples between the starts of two frames, static.
        center: pad `n_fft // 2` samples at both ends, so that frame t is centred on sample t · hop_length.
            Static.
        pad_mode: what that padding holds: "constant" (zeros; librosa >= 0.10) or "reflect" (librosa before
            0.10; clips shorter than the padding are reflected again and again, as by `numpy.pad`). Static.
        n_valid: () integer, traced: how many leading samples are real. The samples after them are ignored,
            and the frames after `n_frames(n_valid)` are zeros. None: all.

    Returns:
        (n_frames, n_fft), the dtype of `y`. The transpose of librosa's frames.

    Raises:
        SettingsError: settings out of range, `y` not a float vector, or no single frame in a clip of this
            length.
    """
    y = jnp.asarray(y)
    _check_framing(y, n_fft=n_fft, hop_length=hop_length, pad_mode=pad_mode)
    n_samples = y.shape[0]
    n_rows = n_frames(n_samples, n_fft=n_fft, hop_length=hop_length, center=center)
    if n_rows == 0:
        raise SettingsError(
            f"a clip of {n_samples} samples has no frame with n_fft={n_fft}, center={center}: "
            "drop the clip, pad it, or choose a smaller n_fft"
        )
    if n_valid is not None:
        y = jnp.where(jnp.arange(n_samples) < n_valid, y, 0)
    padded = _pad_ends(y, n_fft // 2 if center else 0, pad_mode, n_samples if n_valid is None else n_valid)
    starts = hop_length * np.arange(n_rows)
    frames = padded[starts[:, None] + np.arange(n_fft)[None, :]]
    if n_valid is None:
        return frames
    n_real = n_frames(jnp.asarray(n_valid), n_fft=n_fft, hop_length=hop_length, center=center)
    return jnp.where((jnp.arange(n_rows) < n_real)[:, None], frames, 0)


def _check_framing(y: Array, *, n_fft: int, hop_length: int, pad_mode: str) -> None:
    """Raise SettingsError for an array or settings that `frame` cannot take; shapes and dtypes are static."""
    if y.ndim != 1 or not jnp.issubdtype(y.dtype, jnp.floating):
        raise SettingsError(
            f"y must be one clip, (n_samples,) float, not {y.dtype}{y.shape}; "
            "scale integers to [-1, 1], and batch with jax.vmap or adjax.batching.map_clips"
        )
    check_number("n_fft", n_fft, low=1, whole=True)
    check_number("hop_length", hop_length, low=1, whole=True)
    if pad_mode not in PAD_MODES:
        raise SettingsError(f"pad_mode={pad_mode!r} is not one of {PAD_MODES}")


def _pad_ends(y: Array, width: int, pad_mode: str, n_valid: ArrayLike) -> Array:
    """The clip with `width` samples put at both sides; reflected about its first and its last real sample."""
    if pad_mode == "constant" or width == 0:
        return jnp.pad(y, width)
    # Reflection makes the index a triangle wave; a clip of 1 sample, whose period would be 0, repeats itself.
    period = jnp.maximum(1, 2 * (n_valid - 1))
    phase = jnp.arange(-width, y.shape[0] + width) % period
    return y[jnp.minimum(phase, period - phase) % jnp.maximum(1, n_valid)]
