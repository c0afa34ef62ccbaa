"""What this process holds and held at most, as Linux counts it."""

from __future__ import annotations

import ctypes
from pathlib import Path

_PROCESS = Path("/proc/self")


def held_mib() -> float:
    """Memory that the process holds now, in MiB."""
    return _status("VmRSS")


def peak_mib() -> float:
    """The most that it held, in MiB; unlike getrusage's maximum, a child's does not begin at its parent's."""
    return _status("VmHWM")


def forget_peak() -> None:
    """Count the peak from here, without what was freed already and only the allocator still holds (glibc)."""
    ctypes.CDLL(None).malloc_trim(0)
    (_PROCESS / "clear_refs").write_text("5")


def _status(name: str) -> float:
    lines = (_PROCESS / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024
