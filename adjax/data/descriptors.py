"""What a decoded clip looks like, in a few dozen numbers: level, spectrum, clipping, silence, channels, fingerprint.

They cost a fraction of a feature's time, so every clip has them, also those that come from the cache; whether a
clip is like the training clips is judged from them alone (`adjax.model.comparable`).
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np

N_BANDS = 32  # of `ClipInfo.spectrum_db`, equally wide from 0 to the Nyquist frequency
FLOOR_DB = -200.0  # what is quieter, digital silence above all, counts as this
_CEILING_DB = 400.0
SILENCE_DB = -90.0  # dBFS; the rounding to 16 bits alone is at -101, a bare microphone never below -90
CLIFF_DB = 20.0  # a drop that a low-pass filter makes within a band or two, and a machine does not

# `ClipInfo.recovered`
AS_WRITTEN = 0
NO_LENGTH = 1
LENGTH_ZERO = 2
LENGTH_SHORT = 3
RECOVERED_WORDS = {
    NO_LENGTH: "its header gives no length, as of a stream; everything up to the end of the file was read",
    LENGTH_ZERO: "its header says 0 bytes of audio, but audio follows; everything up to the end was read",
    LENGTH_SHORT: "after the audio that its header speaks of, more bytes follow; they were not read",
}

# Subtypes of libsndfile that leave out what an ear would not miss, whole bands at times, ...
PERCEPTUAL = frozenset(["MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III", "VORBIS", "OPUS", "GSM610"])
# ... and those that add noise as well: 8 bits, or 16 bits made of fewer.
LOSSY = PERCEPTUAL | {
    *("PCM_S8", "PCM_U8", "DPCM_8", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "VOX_ADPCM"),
    *("NMS_ADPCM_16", "NMS_ADPCM_24", "NMS_ADPCM_32", "G721_32", "G723_24", "G723_40"),
}

_N_FRAMES, _N_FFT = 16, 512
_WINDOW = np.hanning(_N_FFT).astype(np.float32)
# A sine of amplitude a has a power of a²/2 in the sum over all bands, white noise its variance.
_SCALE = np.float32(2 / (_N_FRAMES * _N_FFT * np.sum(_WINDOW.astype(np.float64) ** 2)))
_MOST_BY_CHANCE = 4  # samples of equal, largest value
_MIN_PERIOD = 0.1  # s; what repeats faster is a tone


class ClipInfo(NamedTuple):
    """What became of one decoded clip, and what it looks like.

    Attributes:
        sr_file: sampling rate of the file in Hz.
        n_channels: channels of the file.
        n_samples: samples of one channel in the file, at `sr_file`.
        codec: how the file holds its samples, in libsndfile's words: "PCM_16", "FLOAT", "MPEG_LAYER_III".
        recovered: AS_WRITTEN, or what was wrong with the header and could be mended (`RECOVERED_WORDS`).
        peak: largest absolute value in the file's samples.
        clipped: share of the samples that pile up at the largest or the smallest value.
        period: after how many samples (at `sr_file`) the whole clip repeats itself exactly; 0 if it does not.
        fingerprint: of the file's samples: equal for equal audio, whatever the file's name or format.
        rms_db: level at the wanted rate in dBFS (a full-scale square wave has 0), without the offset.
        dc: the offset, mean of the samples.
        silent: share of 16 pieces, spread over the clip, that are quieter than `SILENCE_DB`.
        channel_db: level of the channel taken (or of the mean) over that of the loudest other channel in dB;
            0 for one channel.
        channel_corr: correlation of the first two channels: -1 is antiphase; 1 for one channel.
        spectrum_db: (N_BANDS,) power of the bands from 0 to half the wanted rate in dBFS, mean of 16 pieces.
        sr: the wanted rate in Hz, half of which is the upper end of the spectrum.
    """

    sr_file: int
    n_channels: int
    n_samples: int
    codec: str
    recovered: int
    peak: float
    clipped: float
    period: int
    fingerprint: int
    rms_db: float
    dc: float
    silent: float
    channel_db: float
    channel_corr: float
    spectrum_db: tuple[float, ...]
    sr: int

    @property
    def duration(self) -> float:
        """Length in seconds, as the header's rate has it."""
        return self.n_samples / self.sr_file

    @property
    def lossy(self) -> bool:
        """Whether the file's format has changed the sound: MP3, Vorbis, Opus, 8 bits."""
        return self.codec in LOSSY

    @property
    def is_silent(self) -> bool:
        """Whether there is nothing to hear in the whole clip."""
        return self.rms_db < SILENCE_DB

    @property
    def bandwidth_hz(self) -> float:
        """Where the spectrum ends at a cliff, as after a low rate or a low-pass filter; else half the rate.

        A cliff: all bands above lie `CLIFF_DB` below the median of the four bands beneath. Spectra of machines
        fall more slowly, and a single tone does not move a median.
        """
        spectrum = np.array(self.spectrum_db)
        above = np.maximum.accumulate(spectrum[::-1])[::-1]
        for band in range(2, len(spectrum)):
            if np.median(spectrum[max(0, band - 4) : band]) - above[band] > CLIFF_DB:
                return band / len(spectrum) * self.sr / 2
        return self.sr / 2


class OfFile(NamedTuple):
    """The fields of `ClipInfo` that the samples of a file decide, at its own rate."""

    peak: float
    clipped: float
    period: int
    fingerprint: int


class OfSound(NamedTuple):
    """The fields of `ClipInfo` that the samples decide at the wanted rate."""

    rms_db: float
    dc: float
    silent: float
    spectrum_db: tuple[float, ...]


class ChannelLevels:
    """Sums over a subset of the samples of all channels, block by block, for a clip of several channels."""

    def __init__(self, n_channels: int) -> None:
        self._n = 0
        self._sum = np.zeros(n_channels)
        self._products = np.zeros((n_channels, n_channels))
        self.peak = 0.0  # of all channels; NaN once there was one

    def add(self, block: np.ndarray) -> None:
        """Take (n, n_channels) samples into account: all for the peak, some 4,000 or fewer for the sums."""
        some = block[:: max(1, len(block) // max(1, min(4096, 2**15 // len(self._sum))))].astype(np.float64)
        self.peak = float(np.max([self.peak, block.max(), -float(block.min())]))
        self._n += len(some)
        self._sum += some.sum(axis=0)
        self._products += some.T @ some

    def result(self, channel: int | str) -> tuple[float, float]:
        """`ClipInfo.channel_db` and `ClipInfo.channel_corr`, for one channel or the "mean"."""
        mean = self._sum / self._n
        covariance = self._products / self._n - np.outer(mean, mean)
        power = np.maximum(np.diag(covariance), 0.0)
        taken = max(0.0, covariance.mean()) if channel == "mean" else power[int(channel)]
        others = power.max() if channel == "mean" else np.delete(power, int(channel)).max()
        # What is left of a sum that cancels is rounding; nothing in 16 bits is finer than this.
        tiny = max(1e-12 * float(power.max()), 1e-20)
        level = 10 * np.log10(max(taken, tiny) / max(others, tiny))
        spread = np.sqrt(power[0] * power[1])
        return float(level), float(np.clip(covariance[0, 1] / spread, -1, 1)) if spread > tiny else 0.0


def describe_file(samples: np.ndarray, sr_file: int) -> OfFile:
    """Describe (n_samples,) float32, as they are in the file."""
    high, low = samples.max(), samples.min()
    peak = float(max(high, -low))
    # A prime stride: no frequency that people choose repeats with it.
    some = samples[::29].copy()
    fingerprint = zlib.crc32(some.data, len(samples) & 0xFFFFFFFF) | zlib.adler32(some.data) << 32
    if not np.isfinite(peak) or high == low:
        return OfFile(peak, 0.0, 0, fingerprint)
    tops = np.flatnonzero(samples == high)
    n_clipped = _pile(samples, len(tops), float(high))
    if n_clipped or np.count_nonzero(some == low) > 1:
        n_clipped += _pile(-samples, int(np.count_nonzero(samples == low)), -float(low))
    return OfFile(peak, n_clipped / len(samples), _period(samples, tops, sr_file), fingerprint)


def describe_sound(samples: np.ndarray) -> OfSound:
    """Describe (n_samples,) float32, at the rate in which they will be analysed; levels end at `_CEILING_DB`."""
    with np.errstate(over="ignore", invalid="ignore"):  # float files may hold anything finite
        return _describe_sound(samples)


def _describe_sound(samples: np.ndarray) -> OfSound:
    samples = np.ascontiguousarray(samples, np.float32)  # the pieces are views of its memory
    if len(samples) < _N_FFT:
        samples = np.resize(samples, _N_FFT)  # over and over: zeros would make it fainter
    last = len(samples) - _N_FFT
    hop = last // (_N_FRAMES - 1)
    frames = np.ndarray(
        (_N_FRAMES, _N_FFT), np.float32, samples, 0, (hop * samples.itemsize, samples.itemsize)
    )
    means = frames.mean(axis=1)
    frames = frames - means[:, None]
    dc = float(means.mean())
    power = float(np.einsum("i,i->", samples, samples)) / len(samples) - dc**2
    # The mean of the pieces is not quite that of the clip: where the offset is most of it only the exact one will do.
    if dc**2 > 0.01 * max(power, 0.0):
        dc = float(samples.mean(dtype=np.float64))
        power = float(np.mean((samples - np.float32(dc)) ** 2))
    silent = np.count_nonzero(np.einsum("ij,ij->i", frames, frames) < _N_FFT * 10 ** (SILENCE_DB / 10))
    spectrum = np.fft.rfft(frames * _WINDOW)[:, 1:]
    bins = np.einsum("ij,ij->j", spectrum.real, spectrum.real)
    bins += np.einsum("ij,ij->j", spectrum.imag, spectrum.imag)
    *bands, level = _decibels([*(bins.reshape(N_BANDS, -1).sum(axis=1) * _SCALE), power])
    return OfSound(level, float(np.nan_to_num(dc)), silent / _N_FRAMES, tuple(bands))


def _decibels(power: list) -> list[float]:
    """In dB, rounded to what float32 holds, as the cache does."""
    levels = 10 * np.log10(np.maximum(np.array(power, np.float32), 10 ** (FLOOR_DB / 10)))
    return np.nan_to_num(levels, nan=_CEILING_DB, posinf=_CEILING_DB).tolist()


def _pile(samples: np.ndarray, n_at: int, high: float) -> int:
    """`n_at`, the number of samples at the largest value, if they are more than those just beneath; else 0.

    The crest of a slow tone and the few levels of a faint sound have many equal samples too, but more beneath.
    """
    if n_at < _MOST_BY_CHANCE:
        return 0
    just_beneath = high - max(0.02 * abs(high), 2 / 32768)
    n_beneath = int(np.count_nonzero(samples >= just_beneath)) - n_at
    return n_at if n_at > n_beneath else 0


def _period(samples: np.ndarray, tops: np.ndarray, sr_file: int) -> int:
    """The distance between two places of the largest value, if the whole clip repeats itself after it."""
    for period in np.diff(tops[:50]).tolist() if len(tops) > 1 else ():
        if period < _MIN_PERIOD * sr_file or period > len(samples) // 2:
            continue
        ahead, behind = samples[period:], samples[:-period]
        if np.array_equal(ahead[::101], behind[::101]) and np.array_equal(ahead, behind):
            return period if samples[:period].any() else 0
    return 0
