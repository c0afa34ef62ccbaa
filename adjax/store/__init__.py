"""What outlives a run: results, trained models and checkpoints, in folders whose contents can be trusted.

A pytree of arrays goes in with names and comes out against a template of shapes and dtypes; every folder carries the
SHA-256 of its files, by which adjax knows them for its own; no file is ever unpickled.
"""

from adjax.store.checkpoints import CHECKPOINTS, drop_checkpoints, latest_checkpoint, save_checkpoint
from adjax.store.folder import LOCK, check_folder, check_ours, hold, put_back, write_folder
from adjax.store.model import load_model, read_settings, save_model
from adjax.store.results import ResultFolder, own_folder

__all__ = [
    "CHECKPOINTS",
    "LOCK",
    "ResultFolder",
    "check_folder",
    "check_ours",
    "drop_checkpoints",
    "hold",
    "latest_checkpoint",
    "load_model",
    "own_folder",
    "put_back",
    "read_settings",
    "save_checkpoint",
    "save_model",
    "write_folder",
]
