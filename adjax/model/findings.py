"""What is odd about the training clips of one machine, before they are trained on, and when they must not be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from adjax.data.clips import first_of
from adjax.data.descriptors import RECOVERED_WORDS, SILENCE_DB, ClipInfo
from adjax.model.comparable import CLIPPED, DC_LIMIT, SILENT

MIN_RECORDINGS = 2
MIN_HEARD = 3  # where others are silent: then something is wrong with the recorder, not with two clips
LEVEL_DB = 6.0  # from the median level, or 5 times the median distance from it


class Finding(NamedTuple):
    """One thing about some training clips that a person should know.

    Attributes:
        name: the kind, a name of `comparable.Flag` where there is one.
        evidence: one sentence with the numbers.
        clips: names of the clips concerned.
    """

    name: str
    evidence: str
    clips: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.evidence} ({first_of(self.clips)})"


@dataclass(frozen=True)
class TrainingFindings:
    """What `check_training` has found.

    Attributes:
        findings: to be listed.
        refuse: why nothing must be fitted to these clips, each with its remedy; () if it may.
    """

    findings: tuple[Finding, ...]
    refuse: tuple[str, ...]


def check_training(
    names: Sequence[str],
    infos: Sequence[ClipInfo],
    *,
    machine: str = "this machine",
    least: int = MIN_RECORDINGS,
) -> TrainingFindings:
    """Look at the training clips of one machine.

    Args:
        names: of the clips.
        infos: of the clips, in the same order.
        machine: what to call it in the reasons.
        least: recordings that there must be; 1 where others tell how normal clips differ.
    """
    pairs = list(zip(names, infos, strict=True))
    heard = [(name, info) for name, info in pairs if not info.is_silent]
    findings = [
        *_those(pairs, "silence", f"quieter than {SILENCE_DB:.0f} dBFS throughout", lambda i: i.is_silent),
        *_those(heard, "silence", "partly digital silence", lambda i: i.silent > SILENT),
        *_identical(heard),
        *_those(heard, "repeated", "one recording, several times over", lambda i: i.period > 0),
        *_mixed(heard, "rate", "sampling rates", "Hz", lambda i: i.sr_file),
        *_mixed(heard, "bandwidth", "bandwidths", "Hz", lambda i: round(i.bandwidth_hz)),
        *_mixed(heard, "channels", "numbers of channels", "", lambda i: i.n_channels),
        *_levels(heard),
        *_those(heard, "clipping", "samples cut off at the largest value", lambda i: i.clipped > CLIPPED),
        *_those(heard, "full-scale", "samples beyond full scale", lambda i: i.peak > 1),
        *_those(heard, "dc", "an offset as large as the sound", lambda i: abs(i.dc) > DC_LIMIT * _rms(i)),
        *_those(heard, "codec", "a lossy format", lambda i: i.lossy),
        *(
            finding
            for code, words in RECOVERED_WORDS.items()
            for finding in _those(heard, "header", words, partial(_was_mended, code))
        ),
    ]
    return TrainingFindings(tuple(findings), tuple(_reasons(len(pairs), heard, machine, least)))


def _reasons(n: int, heard: list[tuple[str, ClipInfo]], machine: str, least: int) -> Iterable[str]:
    distinct = len({info.fingerprint for _, info in heard})
    if n == 0:
        yield f"{machine} has no training clip: give at least {MIN_RECORDINGS} recordings"
    elif not heard:
        yield f"all {n} training clips of {machine} are silent: check the recorder, its channel and its gain"
    elif len(heard) < n and len(heard) < MIN_HEARD:
        yield (
            f"only {len(heard)} of {n} training clips of {machine} are not silent: check the recorder, and give at "
            f"least {MIN_HEARD}"
        )
    elif n == 1 and least > 1:
        yield (
            f"{machine} has one training clip, from which nobody can tell how normal clips differ: give at least "
            f"{MIN_RECORDINGS} recordings"
        )
    elif n > 1 and distinct < MIN_RECORDINGS:
        yield f"{len(heard)} training clips of {machine} are the same recording: give different recordings"


def _those(
    pairs: list[tuple[str, ClipInfo]], name: str, evidence: str, chosen: Callable[[ClipInfo], bool]
) -> Iterable[Finding]:
    """A finding about the clips that are chosen, if there are any."""
    if clips := tuple(clip for clip, info in pairs if chosen(info)):
        yield Finding(name, f"{evidence}: {len(clips)} of {len(pairs)} clips", clips)


def _mixed(
    pairs: list[tuple[str, ClipInfo]], name: str, what: str, unit: str, value: Callable[[ClipInfo], Hashable]
) -> Iterable[Finding]:
    """A finding about the clips that differ from most, if not all are alike."""
    counts = Counter(value(info) for _, info in pairs).most_common()
    if len(counts) > 1:
        words = ", ".join(f"{n} of {v:,} {unit}".rstrip() for v, n in counts)
        clips = tuple(clip for clip, info in pairs if value(info) != counts[0][0])
        yield Finding(name, f"different {what}: {words}", clips)


def _identical(pairs: list[tuple[str, ClipInfo]]) -> Iterable[Finding]:
    groups: dict[int, list[str]] = {}
    for name, info in pairs:
        groups.setdefault(info.fingerprint, []).append(name)
    for clips in groups.values():
        if len(clips) > 1:
            yield Finding("repeated", f"the same audio in {len(clips)} clips", tuple(clips))


def _levels(pairs: list[tuple[str, ClipInfo]]) -> Iterable[Finding]:
    if not pairs:
        return
    levels = np.array([info.rms_db for _, info in pairs])
    middle = float(np.median(levels))
    limit = max(LEVEL_DB, 5 * float(np.median(np.abs(levels - middle))))
    if clips := tuple(name for (name, info) in pairs if abs(info.rms_db - middle) > limit):
        evidence = f"more than {limit:.0f} dB from the median level of {middle:.1f} dBFS"
        yield Finding("level", f"{evidence}: {len(clips)} of {len(pairs)} clips", clips)


def _was_mended(code: int, info: ClipInfo) -> bool:
    return info.recovered == code


def _rms(info: ClipInfo) -> float:
    return float(10 ** (info.rms_db / 20))
