"""Which clips belong together, and in which order they were recorded, as far as names and folders tell.

Clips cut from one recording resemble each other more than those of another day. Where normal clips are scored by a
model that was fitted without them, the folds must not part such clips: the held-out scores would look better than
those of new recordings, and the threshold would be too low.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Hashable, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from adjax.data.clips import Clip, count
from adjax.data.layouts import LABEL_FOLDERS, is_dcase_name
from adjax.files import read_text
from adjax.types import DataError, SettingsError, readable

SESSION_GAP = 10.0  # a pause of so many median gaps ends a session

_STAMP = re.compile(
    r"(?<!\d)(?P<year>(?:19|20)\d\d)(?P<a>[-_.]?)(?P<month>0[1-9]|1[0-2])(?P=a)(?P<day>0[1-9]|[12]\d|3[01])"
    r"(?:(?P<clock>[T\s_/.-]*(?P<hour>[01]\d|2[0-3])(?P<b>[-:._h ]?)(?P<minute>[0-5]\d)"
    r"(?:(?P=b)(?P<second>[0-5]\d)(?:[.,]\d{1,6})?)?)(?!\d)|(?!\d))",
    re.ASCII,
)
_UNIT = r"\s*(?:ms|s|sec|min)"
_RUNNING_NUMBER = re.compile(
    r"[\s_.-]*(?:"
    r"\(\s*\d+\s*\)|\[\s*\d+\s*\]|"  # long recording (3)
    rf"(?<!\d)\d+(?:\.\d+)?(?:{_UNIT})?\s*[-_]\s*\d+(?:\.\d+)?{_UNIT}|"  # rec_0-10s
    r"(?:segment|seg|part|chunk|clip|slice|split|cut|piece|frame|file|teil|no|nr)?[\s_.-]*"  # rec03_seg017
    r"\d+(?:[\s_-]*of[\s_-]*\d+)?"  # rec 3, 2 of 12
    r")$",
    re.IGNORECASE | re.ASCII,
)
# Words that tell clips of one recording apart, not recordings.
_NO_STEM = re.compile(r"(?<![a-z])(?:normal|abnormal|anomaly|anomalous|train|test)(?![a-z])[\s_.-]*", re.I)

_RULES = {
    "pattern": "the pattern given",
    "folder": "each sub-folder is one recording",
    "stem": "names that differ only in the running number at their end are cut from one recording",
    "session": f"by the times in the names; a pause of {SESSION_GAP:g} median gaps, or a new day, begins a session",
    "day": "by the dates in the names; each day is one session",
    "alone": "names and folders do not tell which clips belong together; each clip stands alone",
}


class Grouping(NamedTuple):
    """Clips that belong together.

    Attributes:
        group: (n_clips,) int64, the group of each clip, counted from 0 in recording order, machine after machine.
            No group holds clips of two machines.
        rule: by what they were grouped, in a sentence for people.
    """

    group: np.ndarray
    rule: str


class _Rule(NamedTuple):
    name: str
    keys: list[Hashable]  # of each clip: equal keys, one group


def group_clips(clips: Sequence[Clip], *, pattern: str | None = None) -> Grouping:
    """Group the clips that are cut from one recording, or recorded in one session.

    With a pattern, the clips of a machine in which it finds the same text. Otherwise the first of these that tells
    something about a machine's clips, for each machine on its own:

    1. several sub-folders below the machine's folder, one of them with several clips: each is a recording;
    2. stems: the names without a running number at their end, as in `rec03_seg017.wav`, `2024-05-01_pump_part2.wav`,
       `long recording (3).wav`, `rec_0-10s.wav`, if there are at least 2 and at most n / 2 different ones, and two or
       more of them have several clips;
    3. times: a session is a run of clips of one day in which no gap is as long as `SESSION_GAP` median gaps; the
       day, where some names hold a date only. Not if that leaves one session.

    Where none does, each clip is its own group: the names of DCASE and MIMII have a plain running number, which tells
    nothing. Neighbours in recording order may then still resemble each other; take folds of contiguous blocks.

    Args:
        clips: of one machine or several.
        pattern: a regular expression, searched for in each clip's path (with "/"): what its first group matched, or
            the whole match if it has no group, names the recording.

    Raises:
        SettingsError: the pattern is no regular expression, or is not found in some path.
    """
    recorded = [_text(clip) for clip in clips] if pattern is None else _match(clips, pattern)
    group = np.zeros(len(clips), np.int64)
    n_groups = 0
    clips_by, groups_by, machines_by = Counter[str](), Counter[str](), Counter[str]()
    for rows in _machines(clips):
        texts = [recorded[row] for row in rows]
        rule = _Rule("pattern", list(texts)) if pattern is not None else _choose(texts)
        numbers = {key: i for i, key in enumerate(dict.fromkeys(rule.keys), start=n_groups)}
        group[rows] = [numbers[key] for key in rule.keys]
        n_groups += len(numbers)
        clips_by[rule.name] += len(rows)
        groups_by[rule.name] += len(numbers)
        machines_by[rule.name] += 1
    sentences = []
    for name, text in _RULES.items():
        if n_machines := machines_by[name]:
            counts = [count(groups_by[name], "group")] if name != "alone" else []
            counts += [count(clips_by[name], "clip")]
            counts += [count(n_machines, "machine")] if n_machines > 1 else []
            text = f"{text} {pattern!r}" if name == "pattern" else text
            sentences.append(f"{text} ({', '.join(counts)})")
    return Grouping(group, "; ".join(sentences) or "no clips")


def read_groups(
    path: str | os.PathLike[str], clips: Sequence[Clip], *, column: str | None = None
) -> Grouping:
    """Groups from a table: which recording or session each clip belongs to.

    Args:
        path: CSV with a header; its column `file` holds names or ends of paths.
        clips: of one machine or several.
        column: that names the recording; None: the first one besides `file`.

    Raises:
        DataError: the table cannot be read, has no such column, or says nothing of a clip.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(Path(path)))))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a CSV table of recordings ({error})") from error
    columns = list(rows[0]) if rows else []
    column = column or next((name for name in columns if name != "file"), None)
    if "file" not in columns or column not in columns:
        raise DataError(
            f"{path}: needs a header with the columns file and {column or 'recording'}; it has "
            f"{', '.join(columns) or 'none'}"
        )
    said = {Path(row["file"]).as_posix(): row[column] for row in rows}
    by_name = {Path(name).name: group for name, group in said.items()}
    keys: dict[tuple[str, str, str], int] = {}
    group = []
    for clip in clips:
        whole = clip.path.as_posix()
        own = next((said[name] for name in (whole, clip.name) if name in said), by_name.get(clip.path.name))
        if own is None:
            raise DataError(f"{path}: has no row for {readable(whole)}; give each training clip its {column}")
        group.append(keys.setdefault((*clip.machine, own), len(keys)))
    rule = f"the column {column} of a table ({count(len(keys), 'group')}, {count(len(group), 'clip')})"
    return Grouping(np.array(group, np.int64), rule)


def recording_order(clips: Sequence[Clip]) -> np.ndarray:
    """The order in which clips were recorded, as far as their names tell.

    By machine type and id; then by time, if all names of the machine hold a date; then by row, in a table of vectors;
    then by name, in which numbers count as numbers ("rec 9" comes before "rec 10").

    Returns:
        (n_clips,) int64: row numbers, so that `[clips[i] for i in order]` is in order.
    """
    return np.array([row for rows in _machines(clips) for row in rows], np.int64)


def _machines(clips: Sequence[Clip]) -> list[list[int]]:
    """The rows of each machine in recording order, machines by natural order of type and id."""
    machines: dict[tuple[str, str], list[int]] = {}
    for row, clip in enumerate(clips):
        machines.setdefault((clip.machine_type, clip.machine_id), []).append(row)
    names = sorted(machines, key=lambda names: (_natural(names[0]), _natural(names[1]), names))
    return [_in_order(clips, machines[name]) for name in names]


def _in_order(clips: Sequence[Clip], rows: list[int]) -> list[int]:
    texts = {row: _text(clips[row]) for row in rows}
    stamps = {row: _stamp(text) for row, text in texts.items()}
    times = {row: stamp.time for row, stamp in stamps.items() if stamp is not None}
    if len(times) < len(rows):
        times = {}
    return sorted(
        rows,
        key=lambda row: (
            times.get(row, datetime.min),
            -1 if (place := clips[row].row) is None else place,
            _natural(texts[row]),
            texts[row],
            str(clips[row].path),
        ),
    )


def _text(clip: Clip) -> str:
    """A clip's path below its machine's folder, without suffix and folders that only say the label."""
    path = PurePosixPath(clip.key or clip.path.name)
    folders = [folder for folder in path.parts[:-1] if folder.lower() not in LABEL_FOLDERS]
    return "/".join((*folders, path.stem))


def _tells_nothing(text: str) -> bool:
    """Whether a name is one of DCASE's, whose running number is not that of a recording."""
    return is_dcase_name(text.rpartition("/")[2])


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """The pattern of `group_clips`.

    Raises:
        SettingsError: it is no regular expression.
    """
    try:
        return re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise SettingsError(
            f"group={pattern!r} is no regular expression ({error}); give one such as r'(rec\\d+)_', or a table FILE.csv"
        ) from error


def _match(clips: Sequence[Clip], pattern: str) -> list[str]:
    compiled = compile_pattern(pattern)
    texts = []
    for clip in clips:
        match = compiled.search(clip.path.as_posix())
        text = match and match[1 if compiled.groups else 0]
        if text is None:
            raise SettingsError(
                f"{clip.path}: the pattern {pattern!r} is not found in this path; correct it, so that it finds "
                "the name of the recording in each"
            )
        texts.append(text)
    return texts


def _choose(texts: list[str]) -> _Rule:
    """The rule for the clips of one machine, given in recording order."""
    folders = [text.rpartition("/")[0] for text in texts]
    counts = Counter(folder for folder in folders if folder)
    if len(counts) >= 2 and max(counts.values()) > 1:  # clips beside the folders stand alone
        return _Rule("folder", [folder or i for i, folder in enumerate(folders)])
    stamps = [_stamp(text) for text in texts]
    stems = [_stem(text, stamp) for text, stamp in zip(texts, stamps, strict=True)]
    counts = Counter(stems)
    if 2 <= len(counts) <= len(stems) / 2 and sum(n > 1 for n in counts.values()) >= 2:
        return _Rule("stem", list(stems))
    known = [stamp for stamp in stamps if stamp is not None]
    if len(known) == len(texts) and not all(map(_tells_nothing, texts)):
        rule = _sessions(known)
        if 2 <= len(set(rule.keys)) < len(texts):
            return rule
    return _Rule("alone", list(range(len(texts))))


class _Stamp(NamedTuple):
    time: datetime
    has_clock: bool
    end: int  # where the text after it begins


def _stamp(text: str) -> _Stamp | None:
    """The first date in a name, with the time of day if that follows."""
    for match in _STAMP.finditer(text):
        parts = ("year", "month", "day", "hour", "minute", "second")
        year, month, day, hour, minute, second = (int(match[part] or 0) for part in parts)
        try:
            time = datetime(year, month, day, hour, minute, second)
        except ValueError:  # the 31st of June
            continue
        return _Stamp(time, match["clock"] is not None, match.end())
    return None


def _stem(text: str, stamp: _Stamp | None) -> str:
    """A name without its running number, which is never part of a date or time."""
    if _tells_nothing(text):
        return text
    start = stamp.end if stamp else 0
    return _NO_STEM.sub("", text[:start] + _RUNNING_NUMBER.sub("", text[start:]))


def _sessions(stamps: list[_Stamp]) -> _Rule:
    """Sessions of clips in the order of their times; days, where not every name has a time of day."""
    if not all(stamp.has_clock for stamp in stamps):
        return _Rule("day", [stamp.time.date() for stamp in stamps])
    times = [stamp.time for stamp in stamps]
    gaps = np.array([(b - a).total_seconds() for a, b in pairwise(times)])
    same_day = np.array([a.date() == b.date() for a, b in pairwise(times)], bool)
    usual = gaps[same_day & (gaps > 0)]
    longest = SESSION_GAP * np.median(usual) if len(usual) else np.inf
    number = np.concatenate([[0], np.cumsum(~same_day | (gaps >= longest))])
    return _Rule("session", number.tolist())


def _natural(text: str) -> list[str | int]:
    """Text and numbers in turn, so that lists compare part by part."""
    return [int(part) if i % 2 else part.casefold() for i, part in enumerate(re.split(r"([0-9]+)", text))]
