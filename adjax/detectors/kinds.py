"""All kinds of detectors by name. A new one is a file and a line here, and works in every command."""

from __future__ import annotations

import importlib
from collections import UserDict
from typing import Any

from adjax.types import Kind, SettingsError


class Kinds(UserDict[str, Kind]):
    """Name -> kind; one that comes with adjax is imported when it is first looked at, for an import takes its time."""

    def __getitem__(self, name: str) -> Kind:
        kind = self.data[name]
        if isinstance(kind, str):
            kind = self.data[name] = importlib.import_module(kind).KIND
        return kind


# Modules that have a KIND of that name.
MODULES: dict[str, Any] = {
    "gaussians": "adjax.detectors.gaussians",
    "gmm": "adjax.detectors.gmm.kind",
    "autoencoder": "adjax.detectors.autoencoder.kind",
    "joint": "adjax.detectors.joint",
    "neighbours": "adjax.detectors.neighbours",
    "identity": "adjax.detectors.identity",
    "network": "adjax.detectors.network.kind",
}
KINDS = Kinds(MODULES)
# What "auto" fuses: kinds that hear different faults and need neither labels nor long training.
AUTO_KINDS = ("gaussians", "joint", "neighbours", "identity")


def kind_of(name: str) -> Kind:
    """The kind of that name.

    Raises:
        SettingsError: there is none.
    """
    if name not in KINDS:
        raise SettingsError(f"there is no kind of detector {name!r}; there are {', '.join(KINDS)}")
    return KINDS[name]
