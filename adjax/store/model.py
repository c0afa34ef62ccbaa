"""A trained model as a folder: model.safetensors, settings.json, SHA256SUMS."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from adjax.files import read_json, whole_file, write_json
from adjax.store.arrays import load_arrays, save_arrays
from adjax.store.folder import check_folder, write_folder
from adjax.types import StoreError

SUFFIX = ".safetensors"
ARRAYS, SETTINGS = f"model{SUFFIX}", "settings.json"


def save_model(
    folder: Path,
    params: Any,
    settings: Mapping[str, Any],
    texts: Mapping[str, str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write a model; one that was there before is replaced, at once and whole.

    Args:
        folder: of this model alone.
        params: pytree of arrays.
        settings: whatever is needed to use it: JSON or what `str` makes of it.
        texts: further files for people, by name.
        more: further pytrees, each in a file of its own, by name.

    Raises:
        StoreError: it cannot be written, or the folder holds files that others wrote or changed: they would be lost.
    """

    def fill(place: Path) -> None:
        save_arrays(place / ARRAYS, params)
        for name, tree in (more or {}).items():
            save_arrays(place / f"{name}{SUFFIX}", tree)
        write_json(place / SETTINGS, settings)
        for name, text in (texts or {}).items():
            if PurePath(name).name != name:
                raise StoreError(f"{name!r} is no name of a file in the model's folder; leave out folders")
            with whole_file(place / name) as file:
                file.write(text)

    write_folder(folder, "model", fill)


def load_model(folder: Path, template: Any, *, name: str = "model") -> Any:
    """Read the parameters of a model.

    Args:
        folder: as `save_model` wrote it.
        template: pytree of arrays or `jax.ShapeDtypeStruct`, such as `jax.eval_shape` of the fit.
        name: of another pytree than the model's own, among `more`.

    Returns:
        The pytree, with NumPy arrays.

    Raises:
        StoreError: the folder is damaged, or its arrays are not those of the template.
    """
    check_folder(folder)
    return load_arrays(folder / f"{name}{SUFFIX}", template)


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings that a model was saved with.

    Raises:
        StoreError: the folder is damaged.
    """
    check_folder(folder)
    settings = read_json(folder / SETTINGS)
    if not isinstance(settings, dict):
        raise StoreError(f"{folder / SETTINGS}: holds no settings; take a sound copy")
    return settings
