"""Quiet for libmpg123 and libsndfile's ALAC, which write of oddities to the terminal and cannot be asked not to."""

from __future__ import annotations

import ctypes
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

_ONE_AT_A_TIME = threading.Lock()  # a process has one terminal
# What they say on standard output and on standard error; the first is where results go, blank lines and all.
_THEIR_WORDS = {
    1: re.compile(rb"libmpg123/|^alac_\w+ \d+ : "),
    2: re.compile(rb"libmpg123/|^(Note|Warning): |^alac_\w+ \d+ : |^\s*$"),
}


@contextmanager
def without_words_of_libraries() -> Iterator[None]:
    """Keep those libraries' lines from the terminal; what others write meanwhile appears at the end."""
    with _ONE_AT_A_TIME, ExitStack() as stack:
        for output in _THEIR_WORDS:
            stack.enter_context(_filtered(output))
        stack.callback(_flush)  # called first
        yield


@contextmanager
def _filtered(output: int) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            kept = os.dup(output)
            stack.callback(os.close, kept)
            caught = stack.enter_context(tempfile.TemporaryFile())
        except OSError:  # a daemon may have closed it, or there is no room: then their words are heard
            yield
            return
        _flush()
        os.dup2(caught.fileno(), output)
        try:
            yield
        finally:
            os.dup2(kept, output)
            caught.seek(0)
            with suppress(OSError):  # nobody reads it any more
                for line in caught:
                    if not _THEIR_WORDS[output].search(line):
                        os.write(output, line)


def _flush() -> None:
    """What C's own buffers hold."""
    if os.name == "posix":
        ctypes.CDLL(None).fflush(None)
