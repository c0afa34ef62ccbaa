"""Is a recording like the training ones? A score says how a machine sounds only as far as the recorder is the same.

    profile = fit_profile(infos of one machine's training clips)
    flags = compare(profile, info of a clip)

Every flag has its evidence and says whether a score can still mean something. It cannot where the difference is one
that no machine makes: silence, a dead channel, bands that the file cannot hold, samples out of scale, a header that
lies. Whatever a faulty machine can do, sound louder for example, leaves the clip comparable: there a flag informs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from adjax.data.descriptors import N_BANDS, PERCEPTUAL, RECOVERED_WORDS, SILENCE_DB, ClipInfo
from adjax.model.profile import Profile, Range, fit_profile
from adjax.types import SettingsError

__all__ = ["NAMES", "Flag", "Profile", "comparable", "compare", "fit_profile"]

NAMES = (
    *("header", "rate", "bandwidth", "duration", "silence", "dead-channel", "channels"),
    *("level", "clipping", "full-scale", "dc", "codec", "repeated"),
)

# How far outside the training clips a clip may lie. On the real clips of MIMII (6 to train on, 9 to test per
# machine), faults change the level by 2.6 dB, the median band by 6 dB and the top bands by 5 dB at most.
LEVEL_DB, LEVEL_LIMIT_DB = 2.5, 20.0
TOP_BAND_DB, CLIFF_DB = 10.0, 20.0
OTHER_RATE_DB = 3.0  # of the median band, for a clip at a rate not seen
CHANNEL_DB, DEAD_CHANNEL_DB = 6.0, 20.0
SHORTER, MUCH_SHORTER, LONGER, MUCH_LONGER = 0.85, 0.5, 1.2, 3.0
CLIPPED, SILENT = 0.001, 0.1
DC, DC_LIMIT = 0.1, 0.5  # in units of the clip's own level


class Flag(NamedTuple):
    """One way in which a recording is not like the training ones.

    Attributes:
        name: one of `NAMES`.
        evidence: one sentence with the numbers.
        comparable: False if the score cannot mean anything.
    """

    name: str
    evidence: str
    comparable: bool = True

    def __str__(self) -> str:
        return f"{self.name}: {self.evidence}"


def compare(profile: Profile, info: ClipInfo) -> tuple[Flag, ...]:
    """The ways in which a clip is not like the training recordings; () if it is like them.

    A training clip itself is "repeated": ask only about clips that were not trained on.

    Raises:
        SettingsError: the clip was described at another rate than the training clips.
    """
    if info.sr != profile.sr:
        raise SettingsError(
            f"the clip was read at {info.sr} Hz, the training clips at {profile.sr} Hz; read both alike"
        )
    flags = [*_header(info), *_channels(profile, info), *_silence(profile, info)]
    if not info.is_silent:  # of silence, nothing else can be said
        for check in (_rate, _bandwidth, _duration, _level, _clipping, _full_scale, _dc, _codec, _repeated):
            flags += check(profile, info)
    return tuple(flags)


def comparable(flags: Iterable[Flag]) -> bool:
    """Whether the score of a clip with these flags can mean anything."""
    return all(flag.comparable for flag in flags)


def _header(info: ClipInfo) -> Iterable[Flag]:
    if info.recovered:
        yield Flag("header", RECOVERED_WORDS.get(info.recovered, "its header was wrong and could be mended"))


def _channels(profile: Profile, info: ClipInfo) -> Iterable[Flag]:
    low, high = profile.channel_db
    others = f"training: {profile.channel_db} dB"
    if info.channel_db < min(low, 0.0) - DEAD_CHANNEL_DB:
        evidence = f"the channel taken is {-info.channel_db:.0f} dB below the loudest of {info.n_channels} ({others})"
        yield Flag("dead-channel", evidence, False)
        return
    if info.n_channels not in profile.n_channels:
        yield Flag("channels", f"{info.n_channels} channels (training: {_list(profile.n_channels)})")
    elif not low - CHANNEL_DB <= info.channel_db <= high + CHANNEL_DB:
        evidence = (
            f"the channel taken is {info.channel_db:+.0f} dB against the loudest other ({others}); swapped?"
        )
        yield Flag("channels", evidence)
    if info.channel_corr < -0.9 < profile.channel_corr.low:
        yield Flag(
            "channels", f"the first two channels are in antiphase (correlation {info.channel_corr:.2f})"
        )


def _silence(profile: Profile, info: ClipInfo) -> Iterable[Flag]:
    if info.is_silent and profile.level.low >= SILENCE_DB:
        yield Flag("silence", f"nothing above {SILENCE_DB:.0f} dBFS (training: {profile.level} dBFS)", False)
    elif not info.is_silent and info.silent > profile.silent + SILENT:
        evidence = (
            f"{info.silent:.0%} of the clip is digital silence (training: at most {profile.silent:.0%})"
        )
        yield Flag("silence", evidence, False)


def _rate(profile: Profile, info: ClipInfo) -> Iterable[Flag]:
    if info.sr_file in profile.rates:
        return
    evidence = f"{info.sr_file:,} Hz (training: {_list(profile.rates)} Hz)"
    if info.n_samples in profile.lengths and not _within(info.duration, profile.duration, 0.95, 1.05):
        evidence += (
            f", but as many samples ({info.n_samples:,}) as training clips have: the header's rate is wrong"
        )
        yield Flag("rate", evidence, False)
        return
    # Every band off by as much: another recorder or another rate than the header's, not a fault of the machine.
    missing = _n_missing(_lack(profile, info))
    off = float(np.median((np.array(info.spectrum_db) - profile.spectrum_mean)[: N_BANDS - missing]))
    same = abs(off) <= OTHER_RATE_DB + _width(profile)
    yield Flag("rate", evidence + ("" if same else f", and its bands are {off:+.1f} dB off throughout"), same)


def _bandwidth(profile: Profile, info: ClipInfo) -> Iterable[Flag]:
    lack = _lack(profile, info)
    if n_missing := _n_missing(lack):
        edge, worst = (1 - n_missing / N_BANDS) * info.sr / 2, lack[-n_missing:].max()
        clear = worst > CLIFF_DB or info.sr_file not in profile.rates
        evidence = f"little above {edge:,.0f} Hz: {worst:.0f} dB less than in the faintest training clip"
        yield Flag("bandwidth", evidence, not clear)
    elif info.bandwidth_hz > profile.bandwidth.high:
        first = round(profile.bandwidth.high / (info.sr / 2) * N_BANDS)
        excess = float(np.max((np.array(info.spectrum_db) - profile.spectrum_high)[first:]))
        if excess > CLIFF_DB:
            evidence = (
                f"sound up to {info.bandwidth_hz:,.0f} Hz, {excess:.0f} dB more than in the training clips, "
                f"which end at {profile.bandwidth.high:,.0f} Hz"
            )
            yield Flag("bandwidth", evidence, False)


def _lack(profile: Profile, info: ClipInfo) -> np.ndarray:
    """(N_BANDS,) how far each band is below the faintest training clip, in dB.

    A clip that is fainter as a whole is "level", not "bandwidth": what its best bands lack is taken off all.
    """
    lack = np.array(profile.spectrum_low) - info.spectrum_db
    return lack - max(0.0, float(np.quantile(lack, 0.1)))


def _n_missing(lack: np.ndarray) -> int:
    """How many bands are missing at the top, without a gap."""
    present = np.flatnonzero(lack <= TOP_BAND_DB)
    return N_BANDS - 1 - int(present[-1]) if len(present) else 0


def _duration(profile: Profile, info: ClipInfo) -> Iterable[Flag]:
    if not _within(info.duration, profile.duration, SHORTER, LONGER):
        evidence = f"{info.duration:.4g} s (training: {profile.duration} s)"
        yield Flag("duration", evidence, _within(info.duration, profile.duration, MUCH_SHORTER, MUCH_LONGER))


def _level(profile: Profile, info: ClipInfo) -> Iterable[Flag]:
    low, high = profile.level
    beyond = max(low - info.rms_db, info.rms_db - high)
    if beyond > max(LEVEL_DB, high - low):
        where = "below the faintest" if info.rms_db < low else "above the loudest"
        evidence = f"{info.rms_db:.1f} dBFS, {beyond:.1f} dB {where} training clip"
        yield Flag("level", evidence, beyond <= LEVEL_LIMIT_DB)


def _clipping(profile: Profile, info: ClipInfo) -> Iterable[Flag]:
    if info.clipped > max(CLIPPED, 3 * profile.clipped):
        evidence = f"{info.clipped:.2%} of the samples are cut off at {info.peak:.3g} of full scale"
        yield Flag("clipping", f"{evidence} (training: at most {profile.clipped:.2%})")


def _full_scale(profile: Profile, info: ClipInfo) -> Iterable[Flag]:
    if info.peak > max(1.0, profile.peak):
        evidence = f"samples up to {info.peak:,.4g} times full scale (training: {profile.peak:.3g})"
        yield Flag("full-scale", evidence, info.peak <= 2 * max(1.0, profile.peak))


def _dc(profile: Profile, info: ClipInfo) -> Iterable[Flag]:
    beyond = max(profile.dc.low - info.dc, info.dc - profile.dc.high)
    level = 10 ** (info.rms_db / 20)
    if beyond > DC * level:
        evidence = f"an offset of {info.dc:+.3g}, {beyond / level:.2g} times the sound's own level"
        yield Flag("dc", f"{evidence} (training: {profile.dc})", beyond <= DC_LIMIT * level)


def _codec(profile: Profile, info: ClipInfo) -> Iterable[Flag]:
    if info.lossy and info.codec not in profile.codecs:
        evidence = f"lossy: {info.codec} (training: {_list(profile.codecs)})"
        yield Flag("codec", evidence, info.codec not in PERCEPTUAL)


def _repeated(profile: Profile, info: ClipInfo) -> Iterable[Flag]:
    if info.fingerprint in profile.fingerprints:
        yield Flag("repeated", "the very recording that a training clip holds")
    if info.period and not profile.loops:
        times = info.n_samples / info.period
        yield Flag("repeated", f"its first {info.period / info.sr_file:.3g} s, {times:.3g} times over")


def _within(value: float, span: Range, below: float, above: float) -> bool:
    return below * span.low <= value <= above * span.high


def _width(profile: Profile) -> float:
    """How far the bands of the training clips lie from their mean, in the median band, in dB."""
    return float(np.median(np.array(profile.spectrum_high) - profile.spectrum_low)) / 2


def _list(values: Iterable[object]) -> str:
    words = [f"{value:,}" if isinstance(value, int) else str(value) for value in values]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
