"""What outlives a run: trained models and checkpoints, in folders whose contents can be trusted.

A pytree of arrays goes in with names and comes out against a template of shapes and dtypes; every folder carries the
SHA-256 of its files; no file is ever unpickled.
"""

from adjax.store.checkpoints import latest_checkpoint, save_checkpoint
from adjax.store.folder import hold, write_json
from adjax.store.model import check_place, load_model, read_settings, save_model

__all__ = [
    "check_place",
    "hold",
    "latest_checkpoint",
    "load_model",
    "read_settings",
    "save_checkpoint",
    "save_model",
    "write_json",
]
