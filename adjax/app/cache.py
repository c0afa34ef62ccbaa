"""The command `adjax cache`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import tyro
from rich.console import Console
from rich.table import Table

from adjax.app.console import print_table, say
from adjax.app.startup import FOLDER, compiled
from adjax.data import cache_usage
from adjax.data.cache import MAX_BYTES, default_folder
from adjax.types import readable


@dataclass(frozen=True)
class Cache:
    """Show or empty the cache of features: $ADJAX_CACHE, or adjax in $XDG_CACHE_HOME or ~/.cache."""

    action: tyro.conf.Positional[Literal["show", "empty"]] = "show"
    """show: what is there, for each setting; empty: delete it."""


def manage_cache(command: Cache, console: Console) -> None:
    """`adjax cache`."""
    folder = default_folder()
    programs = compiled(folder / FOLDER)
    of_programs = sum(path.stat().st_size for path in programs)
    if command.action == "empty":
        for path in programs:
            path.unlink(missing_ok=True)
        say(console, f"Emptied {folder}: {_megabytes(cache_usage.empty(folder) + of_programs)} freed.")
        return
    usages = cache_usage.show(folder)
    table = Table(title=f"Feature cache in {folder}")
    for heading in ("last used", "clips", "size", "settings"):
        table.add_column(heading, justify="right" if heading in ("clips", "size") else "left")
    for usage in usages:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(usage.last_used))
        table.add_row(used, f"{usage.n_clips}", _megabytes(usage.n_bytes), readable(usage.settings))
    if usages:
        print_table(console, table)
    say(console, f"Compiled programs: {len(programs):,}, {_megabytes(of_programs)}.")
    total = sum(usage.n_bytes for usage in usages)
    say(
        console,
        f"{_megabytes(total)} of at most {_megabytes(MAX_BYTES)}; beyond that the settings longest unused go. "
        "Delete everything: adjax cache empty",
    )


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:,.1f} MiB"
