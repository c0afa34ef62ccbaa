"""What the cache of features holds, by setting; emptying it, and making room. Nothing else in its folder is touched."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
from dataclasses import dataclass
from pathlib import Path

from adjax.files import TEMPORARY

SETTINGS, CONTENTS = "settings.txt", "contents.json"
DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Usage:
    """What the cache holds for one setting: in words, how many clips, bytes, and the time of the last use."""

    settings: str
    n_clips: int
    n_bytes: int
    last_used: float


def show(folder: Path) -> list[Usage]:
    """What the cache holds, the last used setting first."""
    return sorted(homes_in(folder).values(), key=lambda usage: -usage.last_used)


def empty(folder: Path) -> int:
    """Delete everything the cache holds, and nothing else that may lie in the folder; returns the bytes freed."""
    homes = homes_in(folder)
    for home in homes:
        _drop(home)
    with contextlib.suppress(OSError):
        (folder / CONTENTS).unlink()
    return sum(usage.n_bytes for usage in homes.values())


def make_room(folder: Path, keep: Path, max_bytes: int) -> None:
    """Drop the settings longest unused, but one, until the rest fits."""
    homes = homes_in(folder)
    total = sum(usage.n_bytes for usage in homes.values())
    for home, usage in sorted(homes.items(), key=lambda item: item[1].last_used):
        if total > max_bytes and home != keep:
            _drop(home)
            total -= usage.n_bytes


def homes_in(folder: Path) -> dict[Path, Usage]:
    """The folders of the settings: their names are 64 hexadecimal digits, and they hold entries."""
    homes = {}
    for home in folder.iterdir() if folder.is_dir() else ():
        if DIGEST.fullmatch(home.name) and home.is_dir() and not home.is_symlink():
            own = _own(home)
            words = home / SETTINGS
            if not own:
                continue
            try:
                # Whatever became of it: it is for people, and decides nothing.
                text = words.read_text(encoding="utf-8", errors="backslashreplace")
                last_used = words.stat().st_mtime
            except OSError:
                text, last_used = "(being written)", _mtime(home)
            n_clips = sum(path.name != SETTINGS for path in own)
            homes[home] = Usage(text, n_clips, sum(map(_size, own)), last_used)
    return homes


def _own(home: Path) -> list[Path]:
    """The files of a setting's folder that a cache writes; whatever else lies there is somebody else's."""
    return [
        Path(where, name)
        for where, _, names in os.walk(home)
        for name in names
        if (Path(where) == home and name == SETTINGS)
        or (DIGEST.fullmatch(name) and Path(where) == home / name[:2])
        or fnmatch.fnmatch(name, TEMPORARY)
    ]


def _drop(home: Path) -> None:
    """Delete what `_own` finds, and the folders that are empty then."""
    own = _own(home)
    for path in own:
        with contextlib.suppress(OSError):
            path.unlink()
    for place in {path.parent for path in own} - {home}:
        with contextlib.suppress(OSError):
            place.rmdir()
    with contextlib.suppress(OSError):
        home.rmdir()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # it has just gone
        return 0


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
