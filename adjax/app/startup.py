"""A command's second start: programs that were compiled once are kept on disk."""

from __future__ import annotations

import os
import stat

from adjax.data.cache import default_folder

FOLDER = "compiled"


def cache_compilations() -> None:
    """Keep compiled programs in the user's own cache folder; not where others may write, for programs are code."""
    import jax

    if getattr(jax.config, "jax_compilation_cache_dir", None):  # the user has chosen
        return
    folder = default_folder() / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        about = folder.stat()
    except OSError:
        return  # a cache may fail, a command must not
    if hasattr(os, "getuid") and (
        about.st_uid != os.getuid() or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    ):
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
