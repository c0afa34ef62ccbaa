"""Files and folders that appear whole or not at all, also where the process ends in the middle; names for them."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from adjax.types import StoreError, readable

TEMPORARY = ".adjax-*.tmp"  # what a killed process may leave; nobody else calls a file or folder so
_LONGEST = 180  # bytes of a name: disks take 255, and more is added to it

# What this process has begun and not finished, for the one moment in which no `finally` runs: see `drop_unfinished`.
_unfinished: set[Path] = set()
_guard = threading.RLock()


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
    # Not by the number of the process: those repeat, in containers above all.
    partial = path.with_name(f".adjax-{secrets.token_hex(8)}.tmp")
    try:
        if path.exists() and not path.is_file():  # a device or a folder
            raise OSError("something lies there that is no file")
        with unfinished(partial):
            with _open_new(partial, mode) as file:
                yield file
                file.flush()
                if sync:
                    os.fsync(file.fileno())
            with uninterrupted():
                os.replace(partial, path)
    except OSError as error:
        if error.filename not in (None, str(path), str(partial)):  # of another file: what the block did
            raise
        raise cannot_write(path, error) from error


def _open_new(path: Path, mode: str) -> IO[Any]:
    """A file that is not there yet."""
    if mode == "wb":
        return path.open("xb")
    return path.open("x", newline="", encoding="utf-8", errors="surrogateescape")


def cannot_write(path: Path, error: BaseException) -> StoreError:
    """What to say where the disk refuses."""
    reason = getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]
    return StoreError(
        f"{path}: cannot be written ({reason}); what was there before is intact: make room or choose another folder, "
        "then run the same command again"
    )


@contextmanager
def errors_name(path: Path, staged: Path) -> Iterator[None]:
    """Errors of files in a folder that nobody sees name the one that they are for."""
    try:
        yield
    except StoreError as error:
        raise StoreError(str(error).replace(str(staged), str(path))) from error
    except OSError as error:
        where = Path(error.filename or path)
        if not any(where.is_relative_to(place) for place in (path, staged)):
            raise
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
    except (IsADirectoryError, PermissionError):  # a folder; on macOS the second
        shutil.rmtree(path, ignore_errors=True)
    except OSError:
        pass  # it is not there, or has its name by now


def sha256(path: Path) -> str:
    """Of a file's bytes, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_text(path: Path, *, errors: str = "strict") -> str:
    """The text of a regular file, UTF-8 with or without a byte-order mark.

    Raises:
        OSError: it cannot be read, or is no regular file.
        UnicodeDecodeError: it is no text.
    """
    check_regular(path)
    return Path(path).read_text(encoding="utf-8-sig", errors=errors)


def check_regular(path: Path) -> None:
    """Refuse what is no regular file: a pipe or device may never end.

    Raises:
        OSError: it is none, or not there.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "it is a pipe, a device or a folder; give a file", str(path))


def sync_file(path: Path) -> None:
    """Wait until a file is on the disk."""
    with open(path, "r+b") as file:  # Windows wants to be able to write
        os.fsync(file.fileno())


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
