"""Folders that are written whole or not at all, carry the hashes of their files, and have one writer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from adjax.files import (
    TEMPORARY,
    cannot_write,
    make_folder,
    remove,
    sha256,
    sync_file,
    told_of,
    unfinished,
    uninterrupted,
    whole_file,
)
from adjax.types import StoreError

HASHES = "SHA256SUMS"  # the format of sha256sum: `sha256sum --check SHA256SUMS` verifies it
LOCK = ".adjax.lock"


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Be the only run that writes into a folder; the lock ends with the process, however that ends.

    Raises:
        StoreError: another run holds it, or it cannot be made.
    """
    make_folder(folder)
    try:
        lock = FileLock(folder / LOCK, timeout=0)
        lock.acquire()
    except Timeout as error:
        raise StoreError(
            f"{folder}: another run is writing here; wait for it to end, or choose another folder"
        ) from error
    except OSError as error:
        raise cannot_write(folder, error) from error
    try:
        for left in folder.glob(TEMPORARY):  # by a process that was killed: the lock is ours
            remove(left)
        yield
    finally:
        lock.release()


def write_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write into a folder beside, add the hashes, and put it in the place of `folder`.

    Only a folder that was written in this way, and not changed since, is replaced. A process that dies leaves it as it
    was before or as it is to be. (Between the two renames that replace an earlier folder, the earlier one lies beside
    it as `.adjax-<name>.old`; the next call puts it back first.)

    Raises:
        StoreError: it cannot be written (full disk, no permission), or would cost files that others wrote; what was
            there before still is.
    """
    partial = folder.with_name(f".adjax-{folder.name}.tmp")
    old = folder.with_name(f".adjax-{folder.name}.old")
    check_ours(folder)
    try:
        with told_of(folder, partial), unfinished(partial):
            remove(partial)
            if old.exists() and not folder.exists():
                old.rename(folder)
            partial.mkdir(parents=True)
            fill(partial)
            write_hashes(partial, {name: sha256(partial / name) for name in files_in(partial)})
            for name in files_in(partial):
                sync_file(partial / name)
            with uninterrupted():
                remove(old)
                if folder.exists():
                    folder.rename(old)
                partial.rename(folder)
            remove(old)
    except StoreError:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise


def check_ours(folder: Path) -> None:
    """Ask whether `write_folder` may put something here; worth a call before hours of work.

    Raises:
        StoreError: it is no folder, or holds files that others wrote or changed: they would be lost.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise StoreError(f"{folder}: is no folder; give another place")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    expected = read_hashes(folder) if (folder / HASHES).is_file() else {}
    links = [path for path in folder.rglob("*") if path.is_symlink()]
    changed = [
        name for name in expected if (folder / name).is_file() and sha256(folder / name) != expected[name]
    ]
    others = sorted(
        {*(set(files_in(folder)) - expected.keys() - {HASHES}), *changed}
        | {path.relative_to(folder).as_posix() for path in links}
    )
    if others or not expected:
        raise StoreError(
            f"{folder}: holds {', '.join(others[:3])}{' and more' if len(others) > 3 else ''}, which would be lost; "
            "give a folder of its own, or move it away"
        )


def check_folder(folder: Path) -> None:
    """Compare every file with its hash.

    Raises:
        StoreError: a file is missing, has changed, or was added.
    """
    expected = read_hashes(folder)
    if set(files_in(folder)) - {HASHES} != expected.keys():
        raise StoreError(f"{folder}: its files are not those of {HASHES}; take a sound copy")
    for name, digest in expected.items():
        if sha256(folder / name) != digest:
            raise StoreError(
                f"{folder / name}: damaged, its SHA-256 is not that of {HASHES}; take a sound copy"
            )


def remove_folder(folder: Path) -> None:
    """Remove the files that `write_folder` wrote, and the folders that are empty then; nothing else."""
    try:
        names = [*read_hashes(folder), HASHES]
    except StoreError:
        return
    for name in names:
        with suppress(OSError):
            (folder / name).unlink()
    remove_empty(folder, names)


def remove_empty(folder: Path, names: Mapping[str, str] | list[str]) -> None:
    """Remove the folders that held files of these names below a folder, and itself, as far as they are empty."""
    inside = {parent for name in names for parent in PurePosixPath(name).parents}
    for parent in sorted(inside, key=lambda parent: -len(parent.parts)):
        with suppress(OSError):
            (folder / parent).rmdir()


def read_hashes(folder: Path) -> dict[str, str]:
    """Name below the folder -> SHA-256, as `HASHES` lists them.

    Raises:
        StoreError: there is no such list, or it is none.
    """
    try:
        lines = (folder / HASHES).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise StoreError(
            f"{folder}: no readable {HASHES}; it was not written by adjax, or is damaged"
        ) from error
    found = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    if any(PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts for name in found):
        raise StoreError(f"{folder / HASHES}: names files outside of its folder; take a sound copy")
    return found


def write_hashes(folder: Path, hashes: Mapping[str, str]) -> None:
    """Write `HASHES`.

    Raises:
        StoreError: it cannot be written.
    """
    with whole_file(folder / HASHES) as file:
        file.writelines(f"{digest}  {name}\n" for name, digest in sorted(hashes.items()))


def files_in(folder: Path) -> list[str]:
    """Names of all files below a folder, with "/"."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
