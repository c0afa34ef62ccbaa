"""Ctrl-C at any moment: one line, nothing half-written, exit code 130.

Python raises KeyboardInterrupt in whatever runs at that moment: in a callback it is swallowed, while JAX compiles it
waits, and worker threads that compile while the interpreter is taken down end in a segmentation fault. Here a thread
waits for the signal instead, removes what has been begun, and ends the process at once.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from typing import Any

MESSAGE = "adjax: interrupted; what was written so far is whole, and the same command goes on"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def end_when_interrupted() -> None:
    """From now on SIGINT and SIGTERM end this process with 128 + their number; call it in the main thread."""
    inside, outside = socket.socketpair()  # Windows wakes sockets only
    outside.setblocking(False)
    threading.Thread(target=_wait, args=(inside, outside), daemon=True, name="adjax-interrupts").start()
    signal.set_wakeup_fd(outside.fileno(), warn_on_full_buffer=False)
    for number in _SIGNALS:
        signal.signal(number, _nothing)  # without a handler of Python's nobody would be woken


def _nothing(number: int, frame: Any) -> None:
    """The thread does it all."""


def _wait(inside: socket.socket, outside: socket.socket) -> None:
    """Wait for a signal's number; `outside` is only held, so that it stays open."""
    while told := inside.recv(1):
        if told[0] in _SIGNALS:
            _end(128 + told[0])


def _end(code: int) -> None:
    """End the process, here and now, whatever happens on the way."""
    with suppress(BaseException):
        files = sys.modules.get("adjax.files")  # without it nothing has been begun
        if files is not None:
            files.drop_unfinished()
    with suppress(BaseException):
        if os.isatty(1):
            os.write(1, b"\x1b[?25h\n")  # a progress bar hides the cursor
        os.write(2, f"{MESSAGE}\n".encode())
    os._exit(code)
