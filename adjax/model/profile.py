"""What the training recordings of one machine looked like: what a new clip is compared with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from adjax.data.descriptors import ClipInfo
from adjax.types import FitError

MAX_FINGERPRINTS = 10_000  # of a profile: 8 bytes each
MAX_LENGTHS = 8  # with more different lengths, an equal number of samples is no evidence


class Range(NamedTuple):
    """The smallest and the largest value of the training clips."""

    low: float
    high: float

    def __str__(self) -> str:
        low, high = f"{self.low:.4g}", f"{self.high:.4g}"
        return low if low == high else f"{low} to {high}"


@dataclass(frozen=True)
class Profile:
    """What the training recordings of one machine looked like; `to_dict` and `from_dict` go through JSON.

    Attributes:
        n_clips: how many there were.
        sr: rate in Hz at which they were described, that of the front end.
        rates: sampling rates of the files in Hz.
        n_channels: numbers of channels.
        codecs: how the files hold samples, in libsndfile's words.
        lengths: numbers of samples of the files if there are few different ones, else ().
        duration: in seconds.
        level: `ClipInfo.rms_db`, dBFS.
        bandwidth: `ClipInfo.bandwidth_hz`, Hz.
        channel_db: level of the channel taken over the loudest other.
        channel_corr: correlation of the first two channels.
        dc: offset.
        peak: largest absolute value.
        clipped: largest share of clipped samples.
        silent: largest share of silent pieces.
        loops: whether a clip repeats itself.
        spectrum_low: (n_bands,) lowest level of each band in dBFS.
        spectrum_mean: (n_bands,) mean level.
        spectrum_high: (n_bands,) highest level.
        fingerprints: of the clips, at most `MAX_FINGERPRINTS`.
    """

    n_clips: int
    sr: int
    rates: tuple[int, ...]
    n_channels: tuple[int, ...]
    codecs: tuple[str, ...]
    lengths: tuple[int, ...]
    duration: Range
    level: Range
    bandwidth: Range
    channel_db: Range
    channel_corr: Range
    dc: Range
    peak: float
    clipped: float
    silent: float
    loops: bool
    spectrum_low: tuple[float, ...]
    spectrum_mean: tuple[float, ...]
    spectrum_high: tuple[float, ...]
    fingerprints: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Profile:
        """The profile that `to_dict` wrote.

        Raises:
            TypeError: a field is missing, or one too many.
        """
        tuples: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        ranges = [field.name for field in dataclasses.fields(cls) if field.type == "Range"]
        return cls(**(tuples | {name: Range(*tuples[name]) for name in ranges if name in tuples}))


def fit_profile(infos: Sequence[ClipInfo]) -> Profile:
    """What the training recordings of one machine have in common.

    Silent clips count for nothing but the share of silence, unless there are no others.

    Raises:
        FitError: not one clip, or clips described at different rates.
    """
    if not infos or len({info.sr for info in infos}) > 1:
        raise FitError(
            f"cannot describe {len(infos)} training clips; give at least one, all read at the same rate"
        )
    heard = [info for info in infos if not info.is_silent] or list(infos)
    lengths = sorted({info.n_samples for info in heard})
    spectra = np.array([info.spectrum_db for info in heard])

    def of(value: Callable[[ClipInfo], float]) -> Range:
        values = [float(value(info)) for info in heard]
        return Range(min(values), max(values))

    return Profile(
        n_clips=len(infos),
        sr=infos[0].sr,
        rates=tuple(sorted({info.sr_file for info in heard})),
        n_channels=tuple(sorted({info.n_channels for info in heard})),
        codecs=tuple(sorted({info.codec for info in heard})),
        lengths=tuple(lengths) if len(lengths) <= MAX_LENGTHS else (),
        duration=of(lambda info: info.duration),
        level=of(lambda info: info.rms_db),
        bandwidth=of(lambda info: info.bandwidth_hz),
        channel_db=of(lambda info: info.channel_db),
        channel_corr=of(lambda info: info.channel_corr),
        dc=of(lambda info: info.dc),
        peak=of(lambda info: info.peak).high,
        clipped=of(lambda info: info.clipped).high,
        silent=of(lambda info: info.silent).high,
        loops=any(info.period for info in heard),
        spectrum_low=tuple(spectra.min(axis=0).tolist()),
        spectrum_mean=tuple(spectra.mean(axis=0).tolist()),
        spectrum_high=tuple(spectra.max(axis=0).tolist()),
        fingerprints=tuple(dict.fromkeys(info.fingerprint for info in heard))[:MAX_FINGERPRINTS],
    )
