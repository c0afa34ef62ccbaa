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

MESSAGE = "adjax: interrupted; what was written so far is whole: run the same command again to finish"
_SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]


def end_when_interrupted() -> None:
    """From now on SIGINT, SIGTERM and SIGHUP end this process with 128 + their number; call it in the main thread."""
    inside, outside = socket.socketpair()  # Windows wakes sockets only
    outside.setblocking(False)
    where = (_copy_of(1), _copy_of(2))
    arguments = (inside, outside, where)
    threading.Thread(target=_wait, args=arguments, daemon=True, name="adjax-interrupts").start()
    signal.set_wakeup_fd(outside.fileno(), warn_on_full_buffer=False)
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # of a job in the background, or under nohup
            signal.signal(number, _nothing)  # without a handler of Python's nobody would be woken


def _copy_of(output: int) -> int:
    """Of a descriptor, which stays where it leads whatever becomes of the other; -1 where there is none."""
    try:
        return os.dup(output)
    except OSError:
        return -1


def _nothing(number: int, frame: Any) -> None:
    """The thread does it all."""


def _wait(inside: socket.socket, outside: socket.socket, where: tuple[int, int]) -> None:
    """Wait for a signal's number; `outside` is only held, so that it stays open."""
    while told := inside.recv(1):
        if told[0] in _SIGNALS:
            _end(128 + told[0], *where)


def _end(code: int, stdout: int, stderr: int) -> None:
    """End the process, here and now, whatever happens on the way."""
    with suppress(BaseException):
        files = sys.modules.get("adjax.files.whole")  # without it nothing has been begun
        if files is not None:
            files.drop_unfinished()
    with suppress(BaseException):
        if os.isatty(stdout):
            os.write(stdout, b"\x1b[?25h\n")  # a progress bar hides the cursor
    with suppress(BaseException):
        os.write(stderr, f"{MESSAGE}\n".encode())
    os._exit(code)
