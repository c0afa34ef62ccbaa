"""JSON as the standard has it: no NaN, no name twice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from adjax.files.whole import read_text, whole_file
from adjax.types import StoreError


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """A mapping as indented JSON, whole or not at all; JSON has no NaN: null stands for it, and for infinity.

    Raises:
        StoreError: see `whole_file`.
    """
    with whole_file(path) as file:
        file.write(json.dumps(_plain(content), indent=2, allow_nan=False) + "\n")
    return path


def read_json(path: Path) -> Any:
    """What a JSON file holds, read strictly.

    Raises:
        StoreError: it cannot be read, is no JSON, names something twice, or holds a number that JSON has not.
    """
    try:
        return json.loads(
            read_text(path),
            object_pairs_hook=_once,
            parse_constant=_finite,
            parse_float=_finite,
        )
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path}: cannot be read as JSON ({error}); take a sound copy") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return found


def _finite(text: str) -> float:
    if not np.isfinite(value := float(text)):
        raise ValueError(f"{text} is no number")
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (str, bool, int)) or value is None:
        return value
    if isinstance(value, (float, np.generic, np.ndarray)):
        value = value.tolist() if isinstance(value, (np.generic, np.ndarray)) else value
        if not isinstance(value, float):
            return _plain(value)
        return value if np.isfinite(value) else None
    if isinstance(value, (list, tuple, range, set, frozenset)):
        return [_plain(one) for one in value]
    return str(value)
