"""A command's second start: programs that were compiled once are kept on disk."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import stat
import warnings
import zlib
from pathlib import Path
from typing import Any

from adjax.data.cache import default_folder

FOLDER = "compiled"
_PROGRAM = re.compile(r".+-[0-9a-f]{64}-cache")
_CHECKED = ".checked"  # its time: older entries are known to be whole


def cache_compilations() -> None:
    """Keep compiled programs in the user's own cache folder; not where others may write, for programs are code."""
    import jax

    # A cache may fail, a command must not: it compiles, and says nothing.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")
    if getattr(jax.config, "jax_compilation_cache_dir", None):  # the user has chosen
        return
    folder = default_folder() / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        about = folder.stat()
        if hasattr(os, "getuid") and (
            about.st_uid != os.getuid() or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        ):
            return
        drop_damaged(folder)
    except OSError:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def drop_damaged(folder: Path) -> None:
    """Delete the entries that a process which was stopped, or a full disk, has cut short: JAX would keep them for ever.

    Only entries written since the last call are looked at.
    """
    mark = folder / _CHECKED
    since = mark.stat().st_mtime_ns if mark.exists() else 0
    mark.touch()  # what is written from now on is looked at the next time
    for path in compiled(folder):
        with contextlib.suppress(OSError):  # another process has just deleted it
            if path.stat().st_mtime_ns >= since and not _is_whole(path.read_bytes()):
                path.unlink()


def compiled(folder: Path) -> list[Path]:
    """The programs there, by the names that JAX gives them; whatever else lies there is somebody else's."""
    found = folder.iterdir() if folder.is_dir() else ()
    return [
        path for path in found if _PROGRAM.fullmatch(path.name) and path.is_file() and not path.is_symlink()
    ]


def _is_whole(entry: bytes) -> bool:
    """Whether what JAX has compressed can be read to its end."""
    decompress, damaged = zlib.decompress, zlib.error
    if entry.startswith(b"\x28\xb5\x2f\xfd"):
        try:  # where it is installed, JAX takes it
            zstandard: Any = importlib.import_module("zstandard")
        except ImportError:
            return True  # nobody can tell, nor read it
        decompress, damaged = zstandard.ZstdDecompressor().decompress, zstandard.ZstdError
    try:
        decompress(entry)
    except damaged:
        return False
    return True
