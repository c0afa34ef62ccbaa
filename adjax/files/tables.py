"""CSV files that people open in a spreadsheet."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from adjax.files.whole import whole_file
from adjax.types import AdjaxError, ClipError, StoreError

FAILURE_COLUMNS = ("file", "reason")


@contextmanager
def csv_table(path: Path, header: Iterable[str]) -> Iterator[Callable[[Iterable[object]], None]]:
    """A CSV file for people, whole or not at all: what the block gets writes a row.

    A cell that a spreadsheet would take for a formula begins with an apostrophe there; what is not known is empty.

    Raises:
        StoreError: see `whole_file`.
    """
    with whole_file(path) as file:
        writer = csv.writer(file, lineterminator="\n")

        def write(row: Iterable[object]) -> None:
            writer.writerow([as_cell(value) for value in row])

        write(header)
        yield write


def check_table(path: Path, header: Iterable[str]) -> None:
    """Ask whether a table may be written here: over one with the same header, or where nothing lies.

    Raises:
        StoreError: something else lies there and would be lost.
    """
    if not path.exists():
        return
    found = None
    if path.is_file():  # to read from a pipe would block
        with suppress(OSError, csv.Error), open(path, newline="", encoding="utf-8", errors="replace") as file:
            found = next(csv.reader(file), [])
    if found != list(header):
        raise StoreError(f"{path}: is not a table that adjax wrote, and would be lost; give another name")


def as_cell(value: object) -> object:
    """A value as a cell of a table that people open in a spreadsheet."""
    if isinstance(value, float):
        return "" if value != value else value
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        with suppress(ValueError):
            float(value)
            return value
        return f"'{value}"
    return value


def write_failures(path: Path, failures: Iterable[AdjaxError]) -> Path | None:
    """`file,reason` of everything that could not be used; no file where there is nothing, and an earlier list goes.

    Raises:
        StoreError: see `whole_file` and `check_table`.
    """
    failures = list(failures)
    check_table(path, FAILURE_COLUMNS)
    if not failures:
        path.unlink(missing_ok=True)
        return None
    with csv_table(path, FAILURE_COLUMNS) as write:
        for error in failures:
            write([error.path, error.reason] if isinstance(error, ClipError) else ["", str(error)])
    return path
