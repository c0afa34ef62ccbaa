"""Read and write one clip: mono float32 at the wanted rate, or a `ClipError` that says what to do.

libsndfile is forgiving: a truncated WAV file just looks shorter, a cut header gives 0 samples, a rate of 1 Hz
passes. None of that may become a score, so every such case is looked for here.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile

from adjax.data.descriptors import ChannelLevels, ClipInfo, describe_file, describe_sound
from adjax.data.headers import RENEW, open_regular
from adjax.data.lengths import Length, Mended, read_length
from adjax.data.quiet import without_words_of_libraries
from adjax.data.rates import resample, resampled_length
from adjax.files import whole_file
from adjax.types import ClipError, SettingsError

Channel = int | Literal["mean"]

MIN_SR = 1_000
MAX_SR = 1_000_000
MAX_SAMPLES = 2**31 - 1  # `ClipBatch.n_valid` is int32
MAX_BYTES = 2**30  # of one decoded clip; an hour at 48 kHz has 0.7 · 10^9
# Float files are read as they are, also those of integers times 2^15 or 2^31; beyond are damage and other data,
# and what they make of energies would be infinite.
MAX_PEAK = 2.0**32
# What a header may claim in bytes of float32, whatever the file's size, and for each byte of the file: FLAC
# stores an hour of silence in a few hundred kB, but no format a minute in 100 bytes.
_MAX_CLAIM, _MAX_EXPANSION = 2**26, 2000
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
        info: what the file was, and numbers that tell whether the clip is like others.
    """

    samples: np.ndarray
    sr: int
    info: ClipInfo

    @property
    def sr_file(self) -> int:
        """Sampling rate of the file; resampled where it differs from `sr`."""
        return self.info.sr_file

    @property
    def n_channels(self) -> int:
        """Channels of the file, of which `samples` is one or the mean."""
        return self.info.n_channels

    @property
    def peak(self) -> float:
        """Largest absolute value before resampling; above 1 the file exceeds full scale, 0 is silence."""
        return self.info.peak


def read_info(path: str | os.PathLike[str]) -> AudioInfo:
    """Read the header of an audio file (WAV, FLAC, whatever libsndfile knows) without decoding it.

    Raises:
        ClipError: missing, unreadable, empty, absurd sampling rate, or shorter than it should be (see
            `adjax.data.lengths`). A truncated FLAC file shows only when it is decoded.
    """
    with _open(path) as (file, n_samples, _):
        plain = file.subtype == "PCM_16" and file.format in ("WAV", "WAVEX", "RF64")
        return AudioInfo(file.samplerate, n_samples, file.channels, plain)


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
        sr: wanted rate in Hz; None keeps the file's. Another rate is converted (`adjax.data.rates`).
        channel: which channel of a multi-channel file, counted from 0 (DCASE took channel 0 of MIMII), or
            "mean" of all.
        out: (n_samples,) float32 that the samples are written to, a row of a batch for example; None: a new array.

    Returns:
        The clip; `samples` (`out`, if given) has exactly `resampled_length(n_samples, sr_file, sr)` samples.

    Raises:
        ClipError: what `read_info` raises, and: no such channel, truncated or damaged data, NaN or infinity, a
            peak above `MAX_PEAK`, or not as many samples as `out` has room for.
        SettingsError: `sr` or `channel` make no sense.
    """
    check_settings(sr=sr, channel=channel)
    with _open(path) as (file, n_samples, recovered):
        check_channel(path, channel, file.channels)
        sr_file, n_channels, codec = file.samplerate, file.channels, file.subtype
        sr = sr_file if sr is None else sr
        check_size(path, n_samples, sr_file, sr)
        if out is not None and len(out) != resampled_length(n_samples, sr_file, sr):
            raise ClipError(
                path,
                "changed while it was read, or `out` has another length; run again when nobody writes to it",
            )
        samples = out if out is not None and sr == sr_file else np.empty(n_samples, np.float32)
        levels = ChannelLevels(n_channels) if n_channels > 1 else None
        with np.errstate(invalid="ignore", over="ignore"):  # of NaN and the like, which is looked for below
            _decode(path, file, channel, samples, levels)
            of_file = describe_file(samples, sr_file)
    check_peak(path, of_file.peak)
    if levels:  # of damage in another channel the levels would tell nonsense
        check_peak(path, levels.peak)
    samples = resample(samples, sr_file, sr)
    if out is not None and out is not samples:
        out[:] = samples
        samples = out
    channel_db, channel_corr = levels.result(channel) if levels else (0.0, 1.0)
    info = ClipInfo(
        sr_file=sr_file,
        n_channels=n_channels,
        n_samples=n_samples,
        codec=codec,
        recovered=recovered,
        channel_db=channel_db,
        channel_corr=channel_corr,
        sr=sr,
        **of_file._asdict(),
        **describe_sound(samples)._asdict(),
    )
    return AudioClip(samples, sr, info)


def write_wav(path: str | os.PathLike[str], samples: np.ndarray, sr: int) -> None:
    """Write a mono clip as 16-bit PCM WAV; an interrupted call leaves no half-written file under `path`.

    Samples are scaled by 32768, rounded and clipped to the 16-bit range [-1, 1 - 2^-15], so that what
    `read_clip` returns from a 16-bit file is written back bit for bit.

    Args:
        path: the file to write or replace; its folder must exist.
        samples: (n_samples,) float, nominally in [-1, 1].
        sr: sampling rate in Hz.

    Raises:
        ClipError: nothing to write, not one-dimensional, not finite, or an absurd rate.
        StoreError: the disk refuses.
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
    data = io.BytesIO()
    soundfile.write(data, pcm, int(sr), subtype="PCM_16", format="WAV")
    with whole_file(path, "wb", sync=False) as file:
        file.write(data.getbuffer())


def check_settings(*, sr: int | None, channel: Channel) -> None:
    """Raise SettingsError unless `sr` is a rate (or None) and `channel` a channel number (or "mean")."""
    if sr is not None and not MIN_SR <= sr <= MAX_SR:
        raise SettingsError(
            f"sr={sr!r} is no sampling rate; give {MIN_SR} to {MAX_SR} Hz, or None for the file's"
        )
    if channel != "mean" and (not isinstance(channel, int) or channel < 0):
        raise SettingsError(f'channel={channel!r}; give a channel counted from 0, or "mean"')


def check_peak(path: str | os.PathLike[str], peak: float) -> None:
    """Raise ClipError if the largest absolute value of a clip's samples is none that audio has."""
    if not np.isfinite(peak):
        raise ClipError(path, "holds NaN or infinite samples; export it again or leave it out")
    if peak > MAX_PEAK:
        raise ClipError(
            path,
            f"has samples of up to {peak:.3g}, and no audio exceeds {MAX_PEAK:.3g} (full scale is 1); "
            "export it again or leave it out",
        )


def check_channel(path: str | os.PathLike[str], channel: Channel, n_channels: int) -> None:
    """Raise ClipError if the file has no such channel."""
    if channel != "mean" and channel >= n_channels:
        raise ClipError(
            path, f"has no channel {channel}, only {n_channels} counted from 0; choose one of those"
        )


def check_size(path: str | os.PathLike[str], n_samples: int, sr_file: int, sr: int | None) -> None:
    """Raise ClipError if the clip, as it is or at rate `sr`, would take more than `MAX_BYTES` of memory."""
    n_bytes = 4 * max(n_samples, resampled_length(n_samples, sr_file, sr))
    if n_bytes > MAX_BYTES:
        raise ClipError(
            path,
            f"is too long: {n_samples / sr_file / 60:,.0f} minutes take {n_bytes / 2**30:.1f} GiB of memory, more "
            f"than the {MAX_BYTES / 2**30:g} GiB for one clip; cut it into shorter recordings",
        )


@contextmanager
def _open(path: str | os.PathLike[str]) -> Iterator[tuple[soundfile.SoundFile, int, int]]:
    """Open a file whose header makes sense, or can be mended; with it, samples per channel, and what was mended."""
    with open_regular(path) as raw, ExitStack() as stack:
        length, n_bytes = read_length(path, raw), os.fstat(raw.fileno()).st_size
        if length.n_missing:
            raise ClipError(path, f"is truncated (bytes missing: {length.n_missing}); {RENEW}")
        if length.talks:
            stack.enter_context(without_words_of_libraries())
        file = stack.enter_context(_understood(path, raw, length))
        n_samples = length.frames.length(path, file.frames) if length.frames else file.frames
        if n_samples < 1:
            raise ClipError(path, "is empty: 0 samples; record it again or leave it out")
        if n_samples > MAX_SAMPLES:
            raise ClipError(
                path, "its header gives no length, or more than 2^31 samples; re-encode or cut it"
            )
        if not MIN_SR <= file.samplerate <= MAX_SR:
            raise ClipError(
                path, f"its header says {file.samplerate} Hz, which is no audio rate; correct the header"
            )
        if 4 * n_samples * file.channels > max(_MAX_CLAIM, _MAX_EXPANSION * n_bytes):
            raise ClipError(
                path,
                f"its header claims {n_samples:,} samples, more than a file of {n_bytes:,} bytes can hold; {RENEW}",
            )
        yield file, n_samples, length.recovered


def _understood(path: str | os.PathLike[str], raw: io.FileIO, length: Length) -> soundfile.SoundFile:
    """The file as libsndfile sees it: as it was opened, never by its name, from which it would guess a format."""
    raw.seek(0)  # where libsndfile takes the file to start
    try:
        return soundfile.SoundFile(
            Mended(raw, length.patches) if length.patches else raw.fileno(), closefd=False
        )
    except soundfile.LibsndfileError as error:
        raise ClipError(path, f"is no readable audio file ({_what(error)}); {RENEW}") from error


def _decode(
    path: str | os.PathLike[str],
    file: soundfile.SoundFile,
    channel: Channel,
    out: np.ndarray,
    levels: ChannelLevels | None,
) -> None:
    """Fill `out` (n_samples,) with one channel, or the mean, of the whole file; `levels` hear all channels."""
    # NumPy converts 16 bits to float32 in a quarter of libsndfile's time, to the same values.
    dtype, scale = ("int16", np.float32(2**-15)) if file.subtype == "PCM_16" else ("float32", np.float32(1))
    n_block = min(len(out), max(1, _BLOCK // file.channels))
    block = np.empty((n_block, file.channels), dtype)
    n_read = 0
    while n_read < len(out):
        try:
            n = file.buffer_read_into(block, dtype)
        except soundfile.LibsndfileError as error:
            raise ClipError(path, f"is truncated or damaged ({_what(error)}); {RENEW}") from error
        if n == 0:
            raise ClipError(path, f"is truncated: {n_read} of {len(out)} samples are there; {RENEW}")
        place = out[n_read : n_read + n]
        if levels:
            levels.add(block[: len(place)])
        if channel == "mean":
            np.mean(block[: len(place)] * scale, axis=1, out=place)
        else:
            np.multiply(block[: len(place), channel], scale, out=place)
        n_read += n


def _what(error: soundfile.LibsndfileError) -> str:
    """What libsndfile says, without its decoration."""
    return error.error_string.removeprefix("Error : ").rstrip(".")
