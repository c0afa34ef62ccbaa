"""Files that appear whole or not at all, JSON and CSV that other programs can trust, names that every disk takes."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from adjax.types import AdjaxError, ClipError, StoreError, readable

TEMPORARY = ".adjax-*.tmp"  # what a killed process may leave; nobody else calls a file or folder so
FAILURE_COLUMNS = ("file", "reason")
_LONGEST = 180  # bytes of a name: disks take 255, and more is added to it

# What this process has begun and not finished, for the one moment in which no `finally` runs: see `drop_unfinished`.
_unfinished: set[Path] = set()
_guard = threading.RLock()
_number = itertools.count()


@contextmanager
def whole_file(path: Path | str, mode: str = "w", *, sync: bool = True) -> Iterator[IO[Any]]:
    """A file to write that replaces `path` when the block ends, and leaves it alone if the block fails.

    Text is UTF-8 with line ends as written; what Python holds of a name's odd bytes is written as those bytes.

    Args:
        path: of the file; its folder must exist.
        mode: "w" or "wb".
        sync: whether it is on the disk, and not only on its way, before it replaces the other.

    Raises:
        StoreError: it cannot be written (full disk, no permission), or something that is no file lies there.
    """
    path = Path(path)
    text = {} if "b" in mode else {"newline": "", "encoding": "utf-8", "errors": "surrogateescape"}
    partial = path.with_name(f".adjax-{os.getpid()}-{next(_number)}.tmp")
    try:
        if path.exists() and not path.is_file():  # a device or a folder
            raise OSError("something lies there that is no file")
        with unfinished(partial):
            with open(partial, mode.replace("w", "x"), **text) as file:  # type: ignore[call-overload]
                yield file
                file.flush()
                if sync:
                    os.fsync(file.fileno())
            with uninterrupted():
                os.replace(partial, path)
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: BaseException) -> StoreError:
    """What to say where the disk refuses."""
    reason = getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]
    return StoreError(
        f"{path}: cannot be written ({reason}); what was there before is intact: make room or choose another folder, "
        "then run the same command again"
    )


@contextmanager
def told_of(path: Path, staged: Path) -> Iterator[None]:
    """Errors of files in a folder that nobody sees name the one that they are for."""
    try:
        yield
    except StoreError as error:
        raise StoreError(str(error).replace(str(staged), str(path))) from error
    except OSError as error:
        raise cannot_write(path, error) from error


def make_folder(path: Path) -> Path:
    """The folder, made if missing.

    Raises:
        StoreError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error
    return path


@contextmanager
def unfinished(path: Path) -> Iterator[None]:
    """Whatever still lies at `path` when the block ends, or the process is interrupted, is removed."""
    with _guard:
        _unfinished.add(path)
    try:
        yield
    finally:
        with _guard:
            remove(path)
            _unfinished.discard(path)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """A few renames that belong together: `drop_unfinished` waits for them."""
    with _guard:
        yield


def drop_unfinished(patience: float = 5.0) -> None:
    """Remove what has been begun in any thread, and let nobody begin anew: the process is about to end.

    Args:
        patience: seconds to wait for renames on their way.
    """
    _guard.acquire(timeout=patience)  # never released
    for path in tuple(_unfinished):
        remove(path)


def remove(path: Path) -> None:
    """Delete a file or a folder with all that it holds; nothing happens where there is none."""
    try:
        path.unlink()
    except (IsADirectoryError, PermissionError):  # how systems refuse to unlink a folder
        shutil.rmtree(path, ignore_errors=True)
    except OSError:
        pass  # it is not there, or has its name by now


def sha256(path: Path) -> str:
    """Of a file's bytes, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_file(path: Path) -> None:
    """Wait until a file is on the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """A mapping as indented JSON, whole or not at all; JSON has no NaN: null stands for it, and for infinity.

    Raises:
        StoreError: see `whole_file`.
    """
    with whole_file(path) as file:
        file.write(json.dumps(_plain(content), indent=2, allow_nan=False) + "\n")
    return path


def read_json(path: Path) -> Any:
    """What a JSON file holds, read strictly.

    Raises:
        StoreError: it cannot be read, is no JSON, names something twice, or holds a number that JSON has not.
    """
    try:
        return json.loads(
            path.read_text(encoding="utf-8"),
            object_pairs_hook=_once,
            parse_constant=_finite,
            parse_float=_finite,
        )
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path}: cannot be read as JSON ({error}); take a sound copy") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return found


def _finite(text: str) -> float:
    if not np.isfinite(value := float(text)):
        raise ValueError(f"{text} is no number")
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (str, bool, int)) or value is None:
        return value
    if isinstance(value, (float, np.generic, np.ndarray)):
        value = value.tolist() if isinstance(value, (np.generic, np.ndarray)) else value
        if not isinstance(value, float):
            return _plain(value)
        return value if np.isfinite(value) else None
    if isinstance(value, (list, tuple, range, set, frozenset)):
        return [_plain(one) for one in value]
    return str(value)


@contextmanager
def csv_table(path: Path, header: Iterable[str]) -> Iterator[Callable[[Iterable[object]], None]]:
    """A CSV file for people, whole or not at all: what the block gets writes a row.

    A cell that a spreadsheet would take for a formula begins with an apostrophe there; what is not known is empty.

    Raises:
        StoreError: see `whole_file`.
    """
    with whole_file(path) as file:
        writer = csv.writer(file, lineterminator="\n")

        def write(row: Iterable[object]) -> None:
            writer.writerow([as_cell(value) for value in row])

        write(header)
        yield write


def check_table(path: Path, header: Iterable[str]) -> None:
    """Ask whether a table may be written here: over one with the same header, or where nothing lies.

    Raises:
        StoreError: something else lies there and would be lost.
    """
    if not path.exists():
        return
    try:
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
            found = next(csv.reader(file), [])
    except (OSError, csv.Error):
        found = None
    if not path.is_file() or found != list(header):
        raise StoreError(f"{path}: is not a table that adjax wrote, and would be lost; give another name")


def as_cell(value: object) -> object:
    """A value as a cell of a table that people open in a spreadsheet."""
    if isinstance(value, float):
        return "" if value != value else value
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        with suppress(ValueError):
            float(value)
            return value
        return f"'{value}"
    return value


def write_failures(path: Path, failures: Iterable[AdjaxError]) -> Path | None:
    """`file,reason` of everything that could not be used; no file where there is nothing, and an earlier list goes.

    Raises:
        StoreError: see `whole_file` and `check_table`.
    """
    failures = list(failures)
    check_table(path, FAILURE_COLUMNS)
    if not failures:
        path.unlink(missing_ok=True)
        return None
    with csv_table(path, FAILURE_COLUMNS) as write:
        for error in failures:
            write([error.path, error.reason] if isinstance(error, ClipError) else ["", str(error)])
    return path


def file_name(name: str) -> str:
    """A name as one of a file; what cannot stand there is written as in a web address: "3/pump" as "3%2Fpump".

    A name too long for a disk is cut, and ends with a hash of the whole.
    """
    name = re.sub(r'[%/\\:*?"<>|\x00-\x1f]', lambda match: f"%{ord(match[0]):02X}", readable(name))
    if len(name.encode()) <= _LONGEST:
        return name
    stem, dot, suffix = name.rpartition(".")
    if not dot or len(suffix) > 4:
        stem, dot, suffix = name, "", ""
    short = stem.encode()[: _LONGEST - 16].decode(errors="ignore")
    return f"{short}~{hashlib.sha256(name.encode()).hexdigest()[:8]}{dot}{suffix}"
