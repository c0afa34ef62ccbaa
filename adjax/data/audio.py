"""Read and write one clip: mono float32 at the wanted rate, or a `ClipError` that says what to do.

libsndfile is forgiving: a truncated WAV file just looks shorter, a cut header gives 0 samples, a rate of 1 Hz
passes. None of that may become a score, so every such case is looked for here.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import soundfile
import soxr

from adjax.types import ClipError, SettingsError

Channel = int | Literal["mean"]

MIN_SR = 1_000
MAX_SR = 1_000_000
MAX_SAMPLES = 2**31 - 1  # `ClipBatch.n_valid` is int32
# Sizes that sox and ffmpeg write into a pipe, where they cannot know the length.
_UNKNOWN_SIZES = (0x7FFFF000, 0xFFFFFFFF)
_RENEW = "copy or download it again"
# Samples of all channels decoded at once: of 8 channels only the wanted one is held for a whole clip.
_BLOCK = 2**18


@dataclass(frozen=True)
class AudioInfo:
    """What the header of an audio file says.

    Attributes:
        sr: sampling rate in Hz.
        n_samples: samples in each channel.
        n_channels: number of channels.
        plain: whether it is WAV of 16-bit integers, which takes no decoding but a copy.
    """

    sr: int
    n_samples: int
    n_channels: int
    plain: bool


@dataclass(frozen=True)
class AudioClip:
    """One decoded clip.

    Attributes:
        samples: (n_samples,) float32, nominally in [-1, 1]; a float file may reach beyond and is kept so.
        sr: sampling rate of `samples` in Hz.
        sr_file: sampling rate of the file; resampled where it differs from `sr`.
        n_channels: channels of the file, of which `samples` is one or the mean.
        peak: largest absolute value before resampling; above 1 the file exceeds full scale, 0 is silence.
    """

    samples: np.ndarray
    sr: int
    sr_file: int
    n_channels: int
    peak: float


def read_info(path: str | os.PathLike[str]) -> AudioInfo:
    """Read the header of an audio file (WAV, FLAC, whatever libsndfile knows) without decoding it.

    Raises:
        ClipError: missing, unreadable, empty, absurd sampling rate, or a WAV file shorter than its header
            says. A truncated FLAC file shows only when it is decoded.
    """
    with _open(path) as file:
        plain = file.subtype == "PCM_16" and file.format in ("WAV", "WAVEX", "RF64")
        return AudioInfo(file.samplerate, file.frames, file.channels, plain)


def read_clip(
    path: str | os.PathLike[str],
    *,
    sr: int | None = 16000,
    channel: Channel = 0,
    out: np.ndarray | None = None,
) -> AudioClip:
    """Decode one clip to mono float32.

    Integer samples are divided by 2^(bits - 1). Float files are taken as they are, beyond 1.0 too: rescaling
    them would change the level that a detector sees; `AudioClip.peak` lets the caller report it.

    Args:
        path: the file.
        sr: wanted rate in Hz; None keeps the file's. Another rate is converted by soxr, quality "HQ".
        channel: which channel of a multi-channel file, counted from 0 (DCASE took channel 0 of MIMII), or
            "mean" of all.
        out: (n_samples,) float32 that the samples are written to, a row of a batch for example; None: a new array.

    Returns:
        The clip; `samples` (`out`, if given) has exactly `resampled_length(n_samples, sr_file, sr)` samples.

    Raises:
        ClipError: what `read_info` raises, and: no such channel, truncated or damaged data, NaN or infinity, or not
            as many samples as `out` has room for.
        SettingsError: `sr` or `channel` make no sense.
    """
    check_settings(sr=sr, channel=channel)
    with _open(path) as file:
        check_channel(path, channel, file.channels)
        n_samples, sr_file, n_channels = file.frames, file.samplerate, file.channels
        sr = sr_file if sr is None else sr
        if out is not None and len(out) != resampled_length(n_samples, sr_file, sr):
            raise ClipError(
                path,
                "changed while it was read, or `out` has another length; run again when nobody writes to it",
            )
        samples = out if out is not None and sr == sr_file else np.empty(n_samples, np.float32)
        _decode(path, file, channel, samples)
    peak = float(max(samples.max(), -samples.min()))
    if not np.isfinite(peak):
        raise ClipError(path, "holds NaN or infinite samples; export it again or leave it out")
    samples = resample(samples, sr_file, sr)
    if out is not None and out is not samples:
        out[:] = samples
        samples = out
    return AudioClip(samples, sr, sr_file, n_channels, peak)


def write_wav(path: str | os.PathLike[str], samples: np.ndarray, sr: int) -> None:
    """Write a mono clip as 16-bit PCM WAV; an interrupted call leaves no half-written file under `path`.

    Samples are scaled by 32768, rounded and clipped to the 16-bit range [-1, 1 - 2^-15], so that what
    `read_clip` returns from a 16-bit file is written back bit for bit.

    Args:
        path: the file to write or replace; its folder must exist.
        samples: (n_samples,) float, nominally in [-1, 1].
        sr: sampling rate in Hz.

    Raises:
        ClipError: nothing to write, not one-dimensional, not finite, an absurd rate, or the disk refuses.
    """
    path, samples = Path(path), np.asarray(samples)
    if samples.ndim != 1 or samples.size == 0:
        raise ClipError(
            path, f"cannot write samples of shape {samples.shape}; give one channel, (n_samples,)"
        )
    if not np.isfinite(samples).all():
        raise ClipError(path, "cannot write NaN or infinite samples")
    if not MIN_SR <= sr <= MAX_SR:
        raise ClipError(path, f"cannot write at {sr} Hz; give a rate from {MIN_SR} to {MAX_SR} Hz")
    pcm = np.clip(np.rint(samples.astype(np.float64) * 32768), -32768, 32767).astype(np.int16)
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        soundfile.write(partial, pcm, int(sr), subtype="PCM_16", format="WAV")
        os.replace(partial, path)
    except (OSError, soundfile.LibsndfileError) as error:
        raise ClipError(
            path, f"cannot be written ({error}); does its folder exist, is there room?"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def resampled_length(n_samples: int, sr_file: int, sr: int | None) -> int:
    """Samples of a clip at rate `sr`: ceil(n_samples · sr / sr_file), as librosa.resample counts them."""
    return n_samples if sr is None else -(-n_samples * sr // sr_file)


def check_settings(*, sr: int | None, channel: Channel) -> None:
    """Raise SettingsError unless `sr` is a rate (or None) and `channel` a channel number (or "mean")."""
    if sr is not None and not MIN_SR <= sr <= MAX_SR:
        raise SettingsError(
            f"sr={sr!r} is no sampling rate; give {MIN_SR} to {MAX_SR} Hz, or None for the file's"
        )
    if channel != "mean" and (not isinstance(channel, int) or channel < 0):
        raise SettingsError(f'channel={channel!r}; give a channel counted from 0, or "mean"')


def check_channel(path: str | os.PathLike[str], channel: Channel, n_channels: int) -> None:
    """Raise ClipError if the file has no such channel."""
    if channel != "mean" and channel >= n_channels:
        raise ClipError(
            path, f"has no channel {channel}, only {n_channels} counted from 0; choose one of those"
        )


@contextmanager
def _open(path: str | os.PathLike[str]) -> Iterator[soundfile.SoundFile]:
    """Open a file whose header makes sense."""
    try:
        with open(path, "rb") as raw:
            n_missing = _missing_bytes(raw)
        file = soundfile.SoundFile(path)
    except FileNotFoundError as error:
        raise ClipError(path, "no such file; check the path") from error
    except OSError as error:
        raise ClipError(path, f"cannot be opened ({error.strerror})") from error
    except soundfile.LibsndfileError as error:
        raise ClipError(path, f"is no readable audio file ({_what(error)}); {_RENEW}") from error
    with file:
        if n_missing:
            raise ClipError(path, f"is truncated (bytes missing: {n_missing}); {_RENEW}")
        if file.frames < 1:
            raise ClipError(path, "is empty: 0 samples; record it again or leave it out")
        if file.frames > MAX_SAMPLES:
            raise ClipError(
                path, "its header gives no length, or more than 2^31 samples; re-encode or cut it"
            )
        if not MIN_SR <= file.samplerate <= MAX_SR:
            raise ClipError(
                path, f"its header says {file.samplerate} Hz, which is no audio rate; correct the header"
            )
        yield file


def _missing_bytes(raw: BinaryIO) -> int:
    """How many bytes the data chunk of a RIFF or RF64 file promises beyond its end; 0 for other formats."""
    head = raw.read(12)
    if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
        return 0
    size, position, long_length = os.fstat(raw.fileno()).st_size, 12, None
    while position + 8 <= size:
        raw.seek(position)
        name, length = struct.unpack("<4sI", raw.read(8))
        if name == b"ds64":  # RF64 keeps lengths of 64 bits here: of the file, then of the data
            long_length = int.from_bytes(raw.read(16)[8:], "little")
        if name == b"data":
            if long_length is None and length in _UNKNOWN_SIZES:
                return 0
            return max(0, position + 8 + (long_length or length) - size)
        position += 8 + length + length % 2  # chunks start at even positions
    return 0


def _decode(
    path: str | os.PathLike[str], file: soundfile.SoundFile, channel: Channel, out: np.ndarray
) -> None:
    """Fill `out` (n_samples,) with one channel, or the mean, of the whole file."""
    # NumPy converts 16 bits to float32 in a quarter of libsndfile's time, to the same values.
    dtype, scale = ("int16", np.float32(2**-15)) if file.subtype == "PCM_16" else ("float32", np.float32(1))
    n_block = min(len(out), max(1, _BLOCK // file.channels))
    block = np.empty((n_block, file.channels), dtype)
    n_read = 0
    while n_read < len(out):
        try:
            n = file.buffer_read_into(block, dtype)
        except soundfile.LibsndfileError as error:
            raise ClipError(path, f"is truncated or damaged ({_what(error)}); {_RENEW}") from error
        if n == 0:
            raise ClipError(path, f"is truncated: {n_read} of {len(out)} samples are there; {_RENEW}")
        place = out[n_read : n_read + n]
        if channel == "mean":
            np.mean(block[: len(place)] * scale, axis=1, out=place)
        else:
            np.multiply(block[: len(place), channel], scale, out=place)
        n_read += n


def resample(samples: np.ndarray, sr_file: int, sr: int) -> np.ndarray:
    """Convert the rate of one channel, (n_samples,) float32; soxr may miss the ceiling by a sample: a zero is appended, or the end cut."""
    if sr == sr_file:
        return samples
    n_samples = resampled_length(len(samples), sr_file, sr)
    out = np.asarray(soxr.resample(samples, sr_file, sr, quality="HQ"), np.float32)[:n_samples]
    return np.pad(out, (0, n_samples - len(out)))


def _what(error: soundfile.LibsndfileError) -> str:
    """What libsndfile says, without its decoration."""
    return error.error_string.removeprefix("Error : ").rstrip(".")
