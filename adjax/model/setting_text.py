"""Settings of kinds as people write them: NAME=VALUE."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from typing import Any, Literal

from adjax.checks import in_words
from adjax.types import Kind, SettingsError


def setting_types(kind: Kind) -> dict[str, tuple[Any, Any]]:
    """Name -> (type, default) of a kind's settings, for whoever reads them from text."""
    found: dict[str, tuple[Any, Any]] = {}
    for owner in (kind.config, kind.hyper):
        types, default = typing.get_type_hints(owner), owner()
        own = {name: (types[name], getattr(default, name)) for name in types if hasattr(default, name)}
        # A traced setting that is None masks a static one: that one is to be set.
        found |= {name: pair for name, pair in own.items() if owner is kind.config or pair[1] is not None}
    return found


def parse_setting(name: str, text: str, kinds: Sequence[Kind]) -> Any:
    """The value of a kind's setting from text.

    Raises:
        SettingsError: no kind has the setting, or the text is no value of it.
    """
    for kind in kinds:
        types = setting_types(kind)
        if name in types:
            return _parse(name, text, *types[name])
    known = sorted({field for kind in kinds for field in setting_types(kind)})
    raise SettingsError(f"there is no setting {name!r}; there are {', '.join(known) or 'none'}")


def _parse(name: str, text: str, wanted: Any, default: Any) -> Any:
    if typing.get_origin(wanted) is Literal:
        return text  # checked with all other settings
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}[
                text.lower()
            ]
        if isinstance(default, tuple):
            kind = type(default[0]) if default else str
            return tuple(kind(item) for item in text.split(","))
        if isinstance(default, int) or (default is None and "int" in str(wanted)):
            return int(text)
        return float(text) if isinstance(default, float) or default is None else str(text)
    except (ValueError, KeyError):
        usual = "" if default is None else f", such as {setting_text(default)}"
        raise SettingsError(f"{name}={text!r}: give {in_words(wanted)}{usual}") from None


def setting_text(value: Any) -> str:
    """A setting's value as `parse_setting` reads it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
