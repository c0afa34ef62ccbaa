"""Checkpoints of training: Orbax's files, with hashes, in folders that appear whole; the last two are kept."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from adjax.store.arrays import flatten, unflatten
from adjax.store.folder import check_folder, write_folder, write_json
from adjax.types import StoreError

KEPT = 2  # the newest may be damaged: the one before it is the spare
ARRAYS, ABOUT = "arrays", "about.json"


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
    import orbax.checkpoint as ocp  # two seconds to import

    def fill(place: Path) -> None:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            checkpointer.save((place / ARRAYS).absolute(), args=ocp.args.PyTreeSave(flatten(state)))
        write_json(place / ABOUT, {"epoch": epoch, "fingerprint": fingerprint})

    write_folder(folder / f"epoch_{epoch:06d}", fill)
    for old, _ in _list(folder)[KEPT:]:
        shutil.rmtree(old)


def latest_checkpoint(folder: Path, template: Callable[[int], Any], fingerprint: str) -> Checkpoint:
    """The newest sound checkpoint of this run.

    Args:
        folder: as given to `save_checkpoint`.
        template: epoch -> pytree of arrays or `jax.ShapeDtypeStruct`.
        fingerprint: of the run's settings and data.

    Raises:
        StoreError: the checkpoints are sound but of another run.
    """
    import orbax.checkpoint as ocp

    remarks: list[str] = []
    for place, epoch in _list(folder):
        try:
            check_folder(place)
            about = json.loads((place / ABOUT).read_text(encoding="utf-8"))
            with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
                arrays = checkpointer.restore((place / ARRAYS).absolute())
        except (StoreError, OSError, ValueError, KeyError) as error:
            remarks.append(f"passed over a damaged checkpoint: {error}")
            continue
        if about["fingerprint"] != fingerprint:
            raise StoreError(
                f"{folder}: holds the checkpoints of a run with other settings, data or versions; choose another "
                "folder, or delete this one to start anew"
            )
        state = unflatten(template(epoch), {name: np.asarray(value) for name, value in arrays.items()}, place)
        return Checkpoint(epoch, state, tuple(remarks))
    return Checkpoint(0, None, tuple(remarks))


def _list(folder: Path) -> list[tuple[Path, int]]:
    """Checkpoints, newest first."""
    found = [(path, re.fullmatch(r"epoch_(\d{6,})", path.name)) for path in folder.glob("epoch_*")]
    return sorted(((path, int(match[1])) for path, match in found if match), key=lambda pair: -pair[1])
