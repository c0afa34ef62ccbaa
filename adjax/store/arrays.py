"""Pytrees of arrays as flat mappings of names, in safetensors files, and back against a template."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from adjax.files import whole_file
from adjax.types import StoreError


def save_arrays(path: Path, tree: Any) -> None:
    """Write the leaves of a pytree.

    Raises:
        StoreError: they cannot be written.
    """
    # safetensors takes a buffer as it lies in memory: a transposed or broadcast array would be stored as another.
    try:
        data = save({name: np.array(leaf, order="C") for name, leaf in flatten(tree).items()})
    except (SafetensorError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise StoreError(f"{path}: cannot hold these arrays ({error}); give real numbers or bools") from error
    with whole_file(path, "wb", sync=False) as file:
        file.write(data)


def load_arrays(path: Path, template: Any) -> Any:
    """Read a pytree, with NumPy arrays; see `unflatten`.

    Raises:
        StoreError: the file cannot be read, or its arrays are not those of the template.
    """
    try:
        arrays = load_file(path)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        # KeyError: a dtype that NumPy has not, such as F8_E4M3.
        raise StoreError(f"{path}: cannot be read ({error!r}); take a sound copy") from error
    return unflatten(template, arrays, path)


def flatten(tree: Any) -> dict[str, np.ndarray]:
    """The leaves of a pytree by the path that leads to each, such as `weights.params.kernels.0`.

    Raises:
        StoreError: two paths have one name.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    found = {_name(path): np.asarray(leaf) for path, leaf in leaves}
    if len(found) < len(leaves) or "" in found:
        raise StoreError(
            f"two of {len(leaves)} arrays have one name, or none; give dictionaries keys without a dot"
        )
    return found


def unflatten(template: Any, arrays: Mapping[str, np.ndarray], source: object) -> Any:
    """The pytree whose structure, shapes and dtypes the template has.

    Args:
        template: pytree of arrays or of `jax.ShapeDtypeStruct`.
        arrays: as `flatten` names them.
        source: where they come from, for messages.

    Raises:
        StoreError: a name is missing or left over, or a shape or dtype differs.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(template)
    expected = {_name(path): leaf for path, leaf in leaves}
    if expected.keys() != arrays.keys():
        differing = ", ".join(sorted(expected.keys() ^ arrays.keys())[:5])
        raise StoreError(
            f"{source}: holds another kind of model (differing: {differing}); check its settings"
        )
    for name, leaf in expected.items():
        found = arrays[name]
        if (found.shape, found.dtype) != (leaf.shape, leaf.dtype):
            raise StoreError(
                f"{source}: {name} is {found.dtype}{list(found.shape)}, the settings ask for "
                f"{leaf.dtype}{list(leaf.shape)}; load it with the settings it was saved with"
            )
    return jax.tree_util.tree_unflatten(structure, [arrays[name] for name in expected])


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
