"""A trained model as a folder: model.safetensors, settings.json, SHA256SUMS."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from adjax.store.arrays import flatten, unflatten
from adjax.store.folder import check_folder, write_folder, write_json
from adjax.types import StoreError

ARRAYS, SETTINGS = "model.safetensors", "settings.json"


def save_model(folder: Path, params: Any, settings: Mapping[str, Any]) -> None:
    """Write a model; one that was there before is replaced, at once and whole.

    Args:
        folder: of this model alone.
        params: pytree of arrays.
        settings: whatever is needed to use it: JSON or what `str` makes of it.

    Raises:
        StoreError: it cannot be written.
    """

    def fill(place: Path) -> None:
        save_file(flatten(params), place / ARRAYS)
        write_json(place / SETTINGS, settings)

    write_folder(folder, fill)


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
