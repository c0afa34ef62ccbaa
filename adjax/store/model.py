"""A trained model as a folder: model.safetensors, settings.json, SHA256SUMS."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from adjax.store.arrays import flatten, unflatten
from adjax.store.folder import HASHES, check_folder, write_folder, write_json
from adjax.types import StoreError

ARRAYS, SETTINGS = "model.safetensors", "settings.json"


def save_model(
    folder: Path, params: Any, settings: Mapping[str, Any], texts: Mapping[str, str] | None = None
) -> None:
    """Write a model; one that was there before is replaced, at once and whole.

    Args:
        folder: of this model alone.
        params: pytree of arrays.
        settings: whatever is needed to use it: JSON or what `str` makes of it.
        texts: further files for people, by name.

    Raises:
        StoreError: it cannot be written, or the folder holds files that no model has: they would be lost.
    """
    _refuse_others(folder, {ARRAYS, SETTINGS, HASHES, *(texts or {})})

    def fill(place: Path) -> None:
        # safetensors takes a buffer as it lies in memory: a transposed array would be stored as another.
        save_file(
            {name: np.asarray(leaf, order="C") for name, leaf in flatten(params).items()}, place / ARRAYS
        )
        write_json(place / SETTINGS, settings)
        for name, text in (texts or {}).items():
            (place / name).write_text(text, encoding="utf-8", errors="surrogateescape")

    write_folder(folder, fill)


def _refuse_others(folder: Path, own: set[str]) -> None:
    """Raise if writing a model here would remove what is not one."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise StoreError(f"{folder}: is no folder; give the model a folder of its own")
    others = sorted(path.name for path in folder.iterdir() if path.name not in own) if folder.is_dir() else []
    if others:
        raise StoreError(
            f"{folder}: holds {', '.join(others[:3])}{' and more' if len(others) > 3 else ''}, which would be lost; "
            "give the model a folder of its own"
        )


def load_model(folder: Path, template: Any) -> Any:
    """Read the parameters of a model.

    Args:
        folder: as `save_model` wrote it.
        template: pytree of arrays or `jax.ShapeDtypeStruct`, such as `jax.eval_shape` of the fit.

    Returns:
        The pytree, with NumPy arrays.

    Raises:
        StoreError: the folder is damaged, or its arrays are not those of the template.
    """
    check_folder(folder)
    try:
        arrays = load_file(folder / ARRAYS)
    except (OSError, SafetensorError) as error:
        raise StoreError(f"{folder / ARRAYS}: cannot be read ({error}); take a sound copy") from error
    return unflatten(template, arrays, folder)


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings that a model was saved with.

    Raises:
        StoreError: the folder is damaged.
    """
    check_folder(folder)
    return json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
