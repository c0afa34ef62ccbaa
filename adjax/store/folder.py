"""Folders that are written whole or not at all, carry the hashes of their files, and have one writer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Literal

from filelock import FileLock, Timeout

from adjax.files import (
    TEMPORARY,
    cannot_write,
    errors_name,
    make_folder,
    read_text,
    remove,
    sha256,
    sync_file,
    unfinished,
    uninterrupted,
    whole_file,
)
from adjax.types import StoreError

# In the format of sha256sum: `sha256sum --check SHA256SUMS` verifies it. Others have such files, too; the first line
# says that this one is adjax's, and of what.
HASHES = "SHA256SUMS"
Kind = Literal["results", "model", "checkpoint", "simulation"]
_HEAD = "# adjax: "
# Before there was a first line, models were these files.
_OLD_MODEL = {"model.safetensors", "settings.json", "README.md"}
LOCK = ".adjax.lock"


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Be the only run that writes into a folder; the lock ends with the process, however that ends.

    Raises:
        StoreError: another run holds it, or it cannot be made.
    """
    make_folder(folder)
    with _locked(folder / LOCK, folder):
        for left in folder.glob(TEMPORARY):  # by a process that was killed: the lock is ours
            remove(left)
        yield


@contextmanager
def _locked(file: Path, folder: Path) -> Iterator[None]:
    try:
        lock = FileLock(file, timeout=0)
        lock.acquire()
    except Timeout as error:
        raise StoreError(
            f"{folder}: another run is writing here; wait for it to end, or choose another folder"
        ) from error
    except OSError as error:
        raise cannot_write(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def write_folder(folder: Path, kind: Kind, fill: Callable[[Path], None]) -> None:
    """Let `fill` write into a folder beside, add the hashes, and put it in the place of `folder`.

    Only a folder of the same kind that was written in this way, and not changed since, is replaced. A process that dies
    leaves it as it was before or as it is to be. (Between the two renames that replace an earlier folder, the earlier
    one lies beside it as `.adjax-<name>.old`; the next call puts it back first.)

    Raises:
        StoreError: it cannot be written (full disk, no permission), another process is writing it, or it would cost
            files that others wrote; what was there before still is.
    """
    if not folder.name or folder.absolute() == Path.cwd():
        raise StoreError(
            f"{folder}: cannot be replaced from within; go elsewhere, and give the folder by its name"
        )
    partial, old = folder.with_name(f".adjax-{folder.name}.tmp"), _before(folder)
    lock = folder.with_name(f".adjax-{folder.name}.lock")
    make_folder(folder.parent)
    with _locked(lock, folder), unfinished(lock), errors_name(folder, partial):
        _put_back(folder)
        check_ours(folder, kind)
        with unfinished(old), unfinished(partial):
            remove(partial)
            partial.mkdir()
            fill(partial)
            write_hashes(partial, kind, {name: sha256(partial / name) for name in files_in(partial)})
            for name in files_in(partial):
                sync_file(partial / name)
            check_ours(folder, kind)  # a person may have put something there meanwhile
            with uninterrupted():
                remove(old)
                if folder.exists():
                    folder.rename(old)
                try:
                    partial.rename(folder)
                except OSError:
                    if old.exists():
                        old.rename(folder)
                    raise


def put_back(folder: Path) -> None:
    """Where a process was killed between the two renames of `write_folder`, the earlier folder takes its place again.

    Not while another process is between them: that one holds the lock.
    """
    if folder.name and not folder.exists() and _before(folder).exists():
        lock = folder.with_name(f".adjax-{folder.name}.lock")
        with suppress(StoreError), _locked(lock, folder), unfinished(lock):
            _put_back(folder)


def _put_back(folder: Path) -> None:
    if not folder.exists() and _before(folder).exists():
        _before(folder).rename(folder)


def _before(folder: Path) -> Path:
    """Where a folder lies while another one takes its place."""
    return folder.with_name(f".adjax-{folder.name}.old")


def check_ours(folder: Path, kind: Kind) -> None:
    """Ask whether `write_folder` may put something here; worth a call before hours of work.

    Raises:
        StoreError: it is no folder, or holds files that others wrote or changed, or something of another kind: they
            would be lost.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise StoreError(f"{folder}: is no folder; give another place")
    expected = own_hashes(folder, kind) if folder.is_dir() else {}
    own = {*expected, HASHES} if expected else set()
    places = {str(parent) for name in own for parent in PurePosixPath(name).parents}
    others = []
    found = () if not folder.is_dir() else folder.rglob("*") if expected else folder.iterdir()
    for path in found:
        name = path.relative_to(folder).as_posix()
        if path.is_dir() and not path.is_symlink():
            ours = bool(expected) and name in places
        else:  # also pipes and links
            ours = path.name == LOCK or (name in own and path.is_file() and not path.is_symlink())
            ours = ours and (name not in expected or sha256(path) == expected[name])
        others += [] if ours else [name]
    others.sort()
    if others:
        raise StoreError(
            f"{folder}: holds {', '.join(others[:3])}{' and more' if len(others) > 3 else ''}, which would be lost; "
            "give a folder of its own, or move it away"
        )


def check_folder(folder: Path) -> None:
    """Compare every file with its hash.

    Raises:
        StoreError: a file is missing, has changed, or was added.
    """
    put_back(folder)
    _, expected = read_hashes(folder)
    if set(files_in(folder)) - {HASHES} != expected.keys():
        raise StoreError(f"{folder}: its files are not those of {HASHES}; take a sound copy")
    for name, digest in expected.items():
        if sha256(folder / name) != digest:
            raise StoreError(
                f"{folder / name}: damaged, its SHA-256 is not that of {HASHES}; take a sound copy"
            )


def remove_folder(folder: Path, kind: Kind) -> None:
    """Remove the files that `write_folder` wrote, and the folders that are empty then; nothing else."""
    names = [*own_hashes(folder, kind), HASHES]
    if len(names) > 1:
        for name in names:
            with suppress(OSError):
                (folder / name).unlink()
        remove_empty(folder, names)


def remove_empty(folder: Path, names: Iterable[str]) -> None:
    """Remove the folders that held files of these names below a folder, and itself, as far as they are empty."""
    inside = {parent for name in names for parent in PurePosixPath(name).parents}
    for parent in sorted(inside, key=lambda parent: -len(parent.parts)):
        with suppress(OSError):
            (folder / parent).rmdir()


def own_hashes(folder: Path, kind: Kind) -> dict[str, str]:
    """Name -> SHA-256 of the files that adjax wrote there as this kind; none where the list is of something else."""
    try:
        found, hashes = read_hashes(folder)
    except StoreError:
        return {}
    if not found and hashes.keys() <= _OLD_MODEL:
        found = "model"
    return hashes if found == kind else {}


def read_hashes(folder: Path) -> tuple[str, dict[str, str]]:
    """What `HASHES` says: the kind of folder ("" if it does not), and name below the folder -> SHA-256.

    Raises:
        StoreError: there is no such list, or it is none.
    """
    try:
        lines = read_text(folder / HASHES, errors="surrogateescape").splitlines()
    except OSError as error:
        raise StoreError(
            f"{folder}: no readable {HASHES}; it was not written by adjax, or is damaged"
        ) from error
    kind = lines[0].removeprefix(_HEAD) if lines and lines[0].startswith(_HEAD) else ""
    hashes = {name: digest for digest, _, name in (line.partition("  ") for line in lines[bool(kind) :])}
    if any(PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts for name in hashes):
        raise StoreError(f"{folder / HASHES}: names files outside of its folder; take a sound copy")
    return kind, hashes


def write_hashes(folder: Path, kind: Kind, hashes: Mapping[str, str]) -> None:
    """Write `HASHES`.

    Raises:
        StoreError: it cannot be written.
    """
    with whole_file(folder / HASHES) as file:
        file.write(f"{_HEAD}{kind}\n")
        file.writelines(f"{digest}  {name}\n" for name, digest in sorted(hashes.items()))


def files_in(folder: Path) -> list[str]:
    """Names of all files below a folder, with "/"; a lock is none."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != LOCK)
    return sorted(path.relative_to(folder).as_posix() for path in found)
