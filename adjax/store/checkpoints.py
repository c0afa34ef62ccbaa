"""Checkpoints of training: arrays with hashes, in folders that appear whole; the last two are kept."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from adjax.files import read_json, write_json
from adjax.store.arrays import load_arrays, save_arrays
from adjax.store.folder import LOCK, check_folder, remove_folder, write_folder
from adjax.types import StoreError

KEPT = 2  # the newest may be damaged: the one before it is the spare
CHECKPOINTS = "checkpoints"
ARRAYS, ABOUT = "arrays.safetensors", "about.json"


class Checkpoint(NamedTuple):
    """A state read back.

    Attributes:
        epoch: how many epochs it has behind it; 0: nothing sound was found.
        state: the pytree, with NumPy arrays; None at epoch 0.
        remarks: what was wrong with newer ones, which were passed over.
    """

    epoch: int
    state: Any
    remarks: tuple[str, ...]


def save_checkpoint(folder: Path, epoch: int, state: Any, fingerprint: str) -> None:
    """Write the state after an epoch, then drop all but the newest `KEPT`.

    Args:
        folder: of all checkpoints of one run.
        epoch: how many epochs the state has behind it.
        state: pytree of arrays.
        fingerprint: of the run's settings and data.

    Raises:
        StoreError: it cannot be written; the checkpoints before it are intact.
    """

    def fill(place: Path) -> None:
        save_arrays(place / ARRAYS, state)
        write_json(place / ABOUT, {"epoch": epoch, "fingerprint": fingerprint})

    place = folder / f"epoch_{epoch:06d}"
    remove_folder(place, "checkpoint")  # a damaged one, which was passed over
    write_folder(place, "checkpoint", fill)
    for old, _ in _list(folder)[KEPT:]:
        remove_folder(old, "checkpoint")


def latest_checkpoint(folder: Path, template: Callable[[int], Any], fingerprint: str) -> Checkpoint:
    """The newest sound checkpoint of this run.

    Args:
        folder: as given to `save_checkpoint`.
        template: epoch -> pytree of arrays or `jax.ShapeDtypeStruct`.
        fingerprint: of the run's settings and data.

    Raises:
        StoreError: the checkpoints are sound but of another run.
    """
    remarks: list[str] = []
    for place, epoch in _list(folder):
        try:
            check_folder(place)
            about = read_json(place / ABOUT)
            if not isinstance(about, dict) or not {"epoch", "fingerprint"} <= about.keys():
                raise StoreError(f"{place / ABOUT}: does not say whose checkpoint it is")
            if about["fingerprint"] == fingerprint and about["epoch"] == epoch:
                state = load_arrays(place / ARRAYS, template(epoch))
                return Checkpoint(epoch, state, tuple(remarks))
        except StoreError as error:
            remarks.append(f"passed over a damaged checkpoint: {error}")
            continue
        raise StoreError(
            f"{folder}: holds the checkpoints of a run with other settings, data or versions; choose another "
            "folder, or delete this one to start anew"
        )
    return Checkpoint(0, None, tuple(remarks))


def drop_checkpoints(folder: Path) -> None:
    """Delete what trainings left in a folder and below, and the folders that are empty then; nothing else."""
    for checkpoints in sorted(folder.rglob(CHECKPOINTS)):
        for place, _ in _list(checkpoints):
            remove_folder(place, "checkpoint")
        (checkpoints.parent / LOCK).unlink(missing_ok=True)
        for empty in (checkpoints, *checkpoints.parents):
            if not empty.is_relative_to(folder):
                break
            with suppress(OSError):  # it holds the checkpoints of others
                empty.rmdir()


def _list(folder: Path) -> list[tuple[Path, int]]:
    """Checkpoints, newest first."""
    found = [(path, re.fullmatch(r"epoch_(\d{6,})", path.name)) for path in folder.glob("epoch_*")]
    return sorted(((path, int(match[1])) for path, match in found if match), key=lambda pair: -pair[1])
