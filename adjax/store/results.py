"""The folder of a run: it holds one run's results, and what others put there stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from adjax.files import errors_name, make_folder, remove, sha256, sync_file, unfinished, uninterrupted
from adjax.store.folder import HASHES, files_in, hold, own_hashes, read_hashes, remove_empty, write_hashes
from adjax.types import StoreError

_STAGED, _READY = ".adjax-staged.tmp", ".adjax-ready"


@contextmanager
def own_folder(folder: Path, names: Iterable[str] = (), *, rebuilt_below: str = "") -> Iterator[ResultFolder]:
    """Hold a folder of results while the block lasts.

    Args:
        folder: made if missing.
        names: of files that will be written for certain: worth to be asked for before hours of work.
        rebuilt_below: a folder of names that nobody else would take, where what was changed is made anew.

    Raises:
        StoreError: another run holds it, it cannot be made, or results that are not of a former run of adjax, or were
            changed since, would be lost.
    """
    with hold(folder):
        owned = ResultFolder(folder, rebuilt_below)
        if (folder / _READY / HASHES).is_file():
            owned._put_in_place()
        owned.check([*owned.hashes, *names])
        yield owned


class ResultFolder:
    """Results of one run, listed with their SHA-256 in `SHA256SUMS`, by which adjax knows them for its own.

    Attributes:
        folder: where they lie.
        hashes: name below the folder -> SHA-256, of the files there.
    """

    def __init__(self, folder: Path, rebuilt_below: str = "") -> None:
        self.folder = folder
        self._rebuilt_below = f"{rebuilt_below}/" if rebuilt_below else None
        self.hashes = own_hashes(folder, "results")
        if not self.hashes:
            self.check([HASHES])  # of somebody else

    def check(self, names: Iterable[str]) -> None:
        """Ask whether files of these names may be written, or replaced.

        Raises:
            StoreError: one lies there that adjax did not write, or that was changed since.
        """
        for name in names:
            path = self.folder / name
            if not path.exists() and not path.is_symlink():
                continue
            if self._rebuilt_below and name.startswith(self._rebuilt_below):
                continue
            if path.is_symlink() or not path.is_file() or self.hashes.get(name) != sha256(path):
                was = (
                    "was changed since adjax wrote it" if name in self.hashes else "was not written by adjax"
                )
                raise StoreError(f"{path}: {was}, and would be lost; choose another folder, or move it away")

    def replace(self, fill: Callable[[Path], None], *, keep: Iterable[str] = ()) -> None:
        """Let `fill` write results into a folder beside; then they take the place of all earlier ones.

        Once all are written they are as good as there: a process that is killed while it puts them in place leaves that
        to the next one that owns the folder.

        Args:
            fill: called with the folder to write into.
            keep: names of earlier results that belong to these.

        Raises:
            StoreError: they cannot be written, or would cost files that others wrote; the earlier ones still are there.
        """
        staged = self.folder / _STAGED
        with errors_name(self.folder, staged), unfinished(staged):
            staged.mkdir()
            fill(staged)
            names = files_in(staged)
            hashes = {name: self.hashes[name] for name in keep} | {
                name: sha256(staged / name) for name in names
            }
            for name in names:
                sync_file(staged / name)
            write_hashes(staged, "results", hashes)
            self.check({*(self.hashes.keys() - hashes.keys()), *names})
            with uninterrupted():
                staged.rename(self.folder / _READY)
        self._put_in_place()

    def _put_in_place(self) -> None:
        """Finish what `replace` began."""
        ready = self.folder / _READY
        _, hashes = read_hashes(ready)
        names = [name for name in files_in(ready) if name != HASHES]
        old = self.hashes.keys() - hashes.keys()
        self.check({*old, *names})
        try:
            with uninterrupted():
                for name in names:
                    make_folder((self.folder / name).parent)
                    (ready / name).replace(self.folder / name)
                for name in old:
                    (self.folder / name).unlink(missing_ok=True)
                (ready / HASHES).replace(self.folder / HASHES)
                remove(ready)
        except OSError as error:
            raise StoreError(
                f"{self.folder}: the results could not be put in place ({error.strerror}); they lie in {ready}, and "
                "the next command into this folder puts them there"
            ) from error
        remove_empty(self.folder, [name for name in old if "/" in name])
        self.hashes = hashes

    def add(self, name: str, write: Callable[[Path], object]) -> Path:
        """One more result.

        Args:
            name: below the folder.
            write: called with the path to write to.

        Raises:
            StoreError: it cannot be written, or something that others wrote lies there.
        """
        path = self.folder / name
        staged = self.folder / _STAGED
        self.check([name])
        with errors_name(path, staged), unfinished(staged):
            write(staged)
            sync_file(staged)
            digest = sha256(staged)
            make_folder(path.parent)
            with uninterrupted():
                path.unlink(missing_ok=True)  # so that no moment has a file and the hash of another
                write_hashes(self.folder, "results", self.hashes | {name: digest})
                staged.replace(path)
        self.hashes[name] = digest
        return path

    def is_sound(self, name: str) -> bool:
        """Whether a result is there as it was written."""
        path = self.folder / name
        return path.is_file() and self.hashes.get(name) == sha256(path)
