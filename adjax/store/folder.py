"""Folders that are written whole or not at all, carry the hashes of their files, and have one writer."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from adjax.types import StoreError

HASHES = "SHA256SUMS"  # the format of sha256sum: `sha256sum --check SHA256SUMS` verifies it


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Be the only run that writes into a folder; the lock ends with the process, however that ends.

    Raises:
        StoreError: another run holds it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=0)
        lock.acquire()
    except Timeout as error:
        raise StoreError(
            f"{folder}: another run is writing here; wait for it to end, or choose another folder"
        ) from error
    except OSError as error:
        raise _cannot_write(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def write_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write into a folder beside, add the hashes, and put it in the place of `folder`.

    A process that dies leaves `folder` as it was before or as it is to be. (Between the two renames that replace an
    earlier folder, the earlier one lies beside it as `.<name>.old`; the next call puts it back first.)

    Raises:
        StoreError: it cannot be written (full disk, no permission); what was there before still is.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    old = folder.with_name(f".{folder.name}.old")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        if old.exists() and not folder.exists():
            old.rename(folder)
        partial.mkdir(parents=True)
        fill(partial)
        files = _files(partial)
        lines = [f"{_sha256(partial / name)}  {name}\n" for name in files]
        (partial / HASHES).write_text("".join(lines), encoding="utf-8")
        for name in (*files, HASHES):
            _sync(partial / name)
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, ValueError, RuntimeError) as error:  # the last two: how tensorstore reports a full disk
        shutil.rmtree(partial, ignore_errors=True)
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise _cannot_write(folder, error) from error


def check_folder(folder: Path) -> None:
    """Compare every file with its hash.

    Raises:
        StoreError: a file is missing, has changed, or was added.
    """
    try:
        lines = (folder / HASHES).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(
            f"{folder}: no readable {HASHES}; it was not written by adjax, or is damaged"
        ) from error
    expected = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    if set(_files(folder)) - {HASHES} != expected.keys():
        raise StoreError(f"{folder}: its files are not those of {HASHES}; take a sound copy")
    for name, digest in expected.items():
        if _sha256(folder / name) != digest:
            raise StoreError(
                f"{folder / name}: damaged, its SHA-256 is not that of {HASHES}; take a sound copy"
            )


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """A mapping as indented JSON."""
    path.write_text(
        json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8", errors="surrogateescape"
    )
    return path


def _cannot_write(folder: Path, error: Exception) -> StoreError:
    return StoreError(
        f"{folder}: cannot be written ({str(error).splitlines()[0]}); what was saved there before is intact: make "
        "room or choose another disk, then run the same command again"
    )


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())
