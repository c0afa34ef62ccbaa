"""Parameters of a small model, and ways to spoil a folder, for the tests of this room."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from adjax.files import sha256
from adjax.store.folder import read_hashes, write_hashes


class Params(NamedTuple):
    layers: dict[str, np.ndarray]
    count: np.ndarray


def make_params(seed: int = 0) -> Params:
    rng = np.random.default_rng(seed)
    return Params({"a": rng.normal(size=(3, 4)).astype(np.float32), "b": rng.normal(size=5)}, np.int32(seed))


def template(epoch: int = 0) -> Params:
    del epoch
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), make_params())


def no_space(*arguments, **options):
    raise OSError(28, "No space left on device")


def tampered(folder: Path, name: str, content: bytes) -> None:
    """A file of another content, with a hash that fits."""
    (folder / name).write_bytes(content)
    hashes = {path.name: sha256(path) for path in folder.iterdir() if path.name != "SHA256SUMS"}
    write_hashes(folder, read_hashes(folder)[0], hashes)
