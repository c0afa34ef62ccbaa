"""A cache on disk of what was computed from clips, keyed by the file's content and the settings.

    <folder>/contents.json                    which content a path had, when it was last looked at
    <folder>/<settings>/settings.txt          the settings in words; its time is that of the last use
    <folder>/<settings>/<2 digits>/<content>  one clip's rows: a header with a checksum, then float32

Never stale: an entry's name is the SHA-256 of the file's bytes, in the folder of the SHA-256 of everything that
decides the rows. A file is hashed again unless its size, times of modification and change, inode and device are
those of the last time; a file changed within the last `SETTLE_NS` may change again unseen, so it is hashed each
time and not stored. Entries appear whole (`os.replace`) and equal names hold equal rows, so processes share the
folder without locks. An entry that does not match its checksum is dropped and computed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import struct
import time
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from adjax.batching import n_cores
from adjax.data.cache_usage import CONTENTS, DIGEST, SETTINGS, make_room
from adjax.data.descriptors import N_BANDS, ClipInfo
from adjax.data.headers import open_regular
from adjax.files import make_folder, read_text, whole_file
from adjax.types import ClipError, StoreError

MAX_BYTES = 10 * 2**30
SETTLE_NS = 2 * 10**9
_THREADS = min(n_cores(), 8)
_MAGIC = b"adjax-2\n"  # 1: fewer fields in ClipInfo
# Rows, columns, and the clip's info without its spectrum, then the spectrum; the checksum covers these and the rows.
_INFO = "2IQ16sBddQQ5dI"
_FIELDS = struct.Struct(f"<2I{_INFO}{N_BANDS}f")
_HEADER = struct.Struct(f"<8sI{_FIELDS.size}s")


class Content(NamedTuple):
    """What a file held when it was looked at.

    Attributes:
        path: the file.
        stat: its size, times of modification and change in ns, inode and device.
        digest: SHA-256 of its bytes.
        settled: whether the file had been at rest for `SETTLE_NS`.
    """

    path: Path
    stat: tuple[int, ...]
    digest: str
    settled: bool


def default_folder() -> Path:
    """$ADJAX_CACHE, or `adjax` in $XDG_CACHE_HOME or ~/.cache."""
    if chosen := os.environ.get("ADJAX_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "adjax"


class ClipCache:
    """The cached rows of clips under one setting.

    Args:
        folder: the cache; made when something is stored.
        settings: everything that decides the rows apart from the file, in words.
        n_columns: columns of the rows.
    """

    def __init__(self, folder: Path, settings: str, n_columns: int) -> None:
        self._folder, self._settings, self._n_columns = folder, settings, n_columns
        self._home = folder / hashlib.sha256(settings.encode()).hexdigest()
        self._home_name = str(self._home)
        self._has_grown = False
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="adjax-cache")

    def contents(self, paths: Sequence[Path]) -> list[Content | None]:
        """What the files hold; None for a file that cannot be read. Only files that may have changed are read."""
        known = _read_contents(self._folder)
        names = [os.path.abspath(path) for path in paths]
        found = [_as_known(path, known.get(name)) for path, name in zip(paths, names, strict=True)]
        new = [i for i, content in enumerate(found) if content is None]
        learned = {}
        for i, content in zip(new, self._pool.map(_look, [paths[i] for i in new]), strict=True):
            found[i] = content
            if content is not None and content.settled:
                learned[names[i]] = [*content.stat, content.digest]
        if learned:
            everything = _read_contents(self._folder) | learned  # another process may have learned others
            _try_write(self._folder / CONTENTS, json.dumps(everything).encode())
        return found

    def n_rows(self, content: Content) -> int | None:
        """Rows of a clip, by the size of its entry; None if there is none."""
        try:
            size = os.stat(self._entry(content)).st_size - _HEADER.size
        except OSError:
            return None
        return size // (4 * self._n_columns) if size >= 0 else None

    def read(self, content: Content, out: np.ndarray) -> ClipInfo | None:
        """Read a clip's rows into `out`, (n_rows, n_columns) float32 and contiguous.

        Returns:
            The clip's info; None if the entry is gone or damaged. A damaged one is deleted.
        """
        path = self._entry(content)
        with contextlib.suppress(OSError, struct.error):
            with open(path, "rb", buffering=0) as file:
                magic, checksum, fields = _HEADER.unpack(file.read(_HEADER.size))
                n_bytes = file.readinto(out.data.cast("B")) if out.size else 0
            n_rows, n_columns, *values = _FIELDS.unpack(fields)
            whole = (magic, n_rows, n_columns, n_bytes) == (_MAGIC, *out.shape, out.nbytes)
            if whole and checksum == _checksum(fields, out):
                return _unpacked(values)
        with contextlib.suppress(OSError):
            os.unlink(path)
        return None

    def read_all(self, wanted: Mapping[int, tuple[Content, np.ndarray]]) -> dict[int, ClipInfo]:
        """`read` of many clips, in threads; those that are gone or damaged are missing in what it returns."""

        def read_some(some: list[int]) -> list[tuple[int, ClipInfo | None]]:
            return [(i, self.read(*wanted[i])) for i in some]

        places = list(wanted)
        # A few long jobs: a job costs more than the reading of a short entry.
        jobs = self._pool.map(read_some, [places[start :: 2 * _THREADS] for start in range(2 * _THREADS)])
        return {i: info for job in jobs for i, info in job if info is not None}

    def write(self, content: Content, rows: np.ndarray, info: ClipInfo) -> bool:
        """Store a clip's rows, unless the file has changed since it was looked at or the disk refuses.

        Returns:
            Whether it is stored.
        """
        rows = np.ascontiguousarray(rows, np.float32)
        fields = _FIELDS.pack(*rows.shape, *_packed(info))
        header = _HEADER.pack(_MAGIC, _checksum(fields, rows), fields)
        if not content.settled or _stat(content.path) != content.stat:
            return False
        self._has_grown = True
        return _try_write(Path(self._entry(content)), header, rows.data.cast("B") if rows.size else b"")

    def close(self, max_bytes: int = MAX_BYTES) -> None:
        """Note the use of this setting, and drop the settings longest unused until the rest fits `max_bytes`."""
        self._pool.shutdown()
        if self._home.is_dir():
            _try_write(self._home / SETTINGS, self._settings.encode())
        if self._has_grown:
            make_room(self._folder, self._home, max_bytes)

    def _entry(self, content: Content) -> str:  # a Path costs more than the reading of a short entry
        return f"{self._home_name}/{content.digest[:2]}/{content.digest}"


def _as_known(path: Path, known: list | None) -> Content | None:
    """The content of a file that still looks as it did; None if it must be read."""
    if known is None or tuple(known[:-1]) != _stat(path):
        return None
    return Content(path, tuple(known[:-1]), known[-1], True)


def _look(path: Path) -> Content | None:
    """The content of a file, from its bytes; None if it cannot be read."""
    seen, now = _stat(path), time.time_ns()
    if seen is None:
        return None
    try:
        with open_regular(path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ClipError):
        return None
    _, modified, changed, *_ = seen
    settled = now - max(modified, changed) > SETTLE_NS and _stat(path) == seen
    return Content(path, seen, digest, settled)


def _stat(path: Path) -> tuple[int, ...] | None:
    """None for what is not there, and for what is no file: to open a pipe would block."""
    try:
        s = os.stat(path)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(s.st_mode):
        return None
    return s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_dev


def _read_contents(folder: Path) -> dict[str, list]:
    """Path -> [size, modified, changed, inode, device, digest]; empty where it cannot be read."""
    try:
        known = json.loads(read_text(folder / CONTENTS))
    except (OSError, ValueError, RecursionError):
        return {}
    entries = known.items() if isinstance(known, dict) else ()
    return {path: entry for path, entry in entries if isinstance(entry, list) and _is_digest(entry[-1:])}


def _is_digest(values: list) -> bool:
    """Whether there is one, and nothing that leads out of the folder."""
    return bool(values) and isinstance(values[0], str) and DIGEST.fullmatch(values[0]) is not None


def _try_write(path: Path, *pieces: bytes | memoryview) -> bool:
    """Write a file whole or not at all; False if the disk refuses (a cache may fail, a run must not)."""
    try:
        make_folder(path.parent)
        with whole_file(path, "wb", sync=False) as file:
            file.writelines(pieces)
    except StoreError:
        return False
    return True


def _packed(info: ClipInfo) -> list:
    """The fields in the order of `_FIELDS`."""
    values = info._asdict()
    spectrum = values.pop("spectrum_db")
    return [*(values | {"codec": info.codec.encode()[:16]}).values(), *spectrum]


def _unpacked(values: list) -> ClipInfo:
    names = [name for name in ClipInfo._fields if name != "spectrum_db"]
    info = dict(zip(names, values, strict=False))
    info["codec"] = info["codec"].rstrip(b"\0").decode()
    return ClipInfo(**info, spectrum_db=tuple(values[len(names) :]))


def _checksum(fields: bytes, rows: np.ndarray) -> int:
    start = zlib.crc32(fields)
    return zlib.crc32(rows.data.cast("B"), start) if rows.size else start
