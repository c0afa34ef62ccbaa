"""All kinds of detectors by name. A new one is a file and a line here, and works in every command."""

from __future__ import annotations

from adjax.detectors import autoencoder, gaussians, gmm
from adjax.types import Kind, SettingsError

KINDS: dict[str, Kind] = {kind.name: kind for kind in (gaussians.KIND, gmm.KIND, autoencoder.KIND)}


def kind_of(name: str) -> Kind:
    """The kind of that name.

    Raises:
        SettingsError: there is none.
    """
    if name not in KINDS:
        raise SettingsError(f"there is no kind of detector {name!r}; there are {', '.join(KINDS)}")
    return KINDS[name]
