"""What commands print: names as they are, in any width, to a reader that may leave early."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from adjax.data.clips import ClipTable
from adjax.data.summary import describe_table, lines
from adjax.model.result import HeldOut, Result
from adjax.report.folder import Drawing
from adjax.store import ResultFolder
from adjax.types import readable

MAX_LISTED = 10  # machines and failures printed; all of them are in the files
_WIDE = 300  # columns of what is no terminal


def make_console(*, stderr: bool = False) -> Console:
    """A console that takes every text as it is: no markup, no emoji codes; what is no terminal is wide."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or os.environ.get("COLUMNS") else _WIDE
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, width=width)


def say(console: Console, text: str, *, label: str = "", style: str = "") -> None:
    """Print a line, which the terminal may wrap: a path in it can be copied.

    Args:
        console: of `make_console`.
        text: whatever it holds of names is printed so that it moves no cursor.
        label: a word before it.
        style: of the label; of the text if there is none.
    """
    safe = "\n".join(map(readable, text.split("\n")))
    parts = [(label, style), f" {safe}"] if label else [(safe, style)]
    console.print(Text.assemble(*parts), soft_wrap=True)


def print_table(console: Console, table: Table) -> None:
    """A table; row by row where the terminal is too narrow for its numbers."""
    for column in table.columns:
        column.no_wrap = column.no_wrap or column.justify == "right"
    wide = console.options.update(max_width=10_000)
    if Measurement.get(console, wide, table).minimum <= console.width:
        console.print(table)
        return
    if table.title:
        console.print(table.title, style="italic")
    names = [str(column.header) for column in table.columns]
    for row in zip(*(column.cells for column in table.columns), strict=True):
        head, *cells = map(str, row)
        console.print(head, style="bold")
        for name, cell in zip(names[1:], cells, strict=True):
            if cell:
                say(console, f"  {name}: {cell}")
    if table.caption:
        console.print(table.caption, style="italic")


def draw_all(console: Console, results: ResultFolder, figures: Iterable[Drawing]) -> list[Path]:
    """Draw figures into the folder of a run whose results are safe; one that fails costs no result and no other figure.

    Args:
        console: that hears of failures.
        results: the folder.
        figures: each one's name below the folder, and what draws it into a file.
    """
    drawn: list[Path] = []
    waiting = iter(figures)
    while True:
        name = "a figure"
        try:
            name, draw = next(waiting)
            drawn.append(results.add(name, draw))
        except StopIteration:
            return drawn
        except Exception as error:  # fonts, settings of matplotlib, a full disk: whatever it is
            say(console, f"Note: {name} could not be drawn ({error}); all results are written.")


def print_understood(console: Console, clips: ClipTable) -> None:
    """What adjax understood of a folder before it starts."""
    found = lines(describe_table(clips))
    shown = found if len(found) <= MAX_LISTED else [*found[: MAX_LISTED - 1], "...", found[-1]]
    for line in (*shown, *clips.notes):
        say(console, line)


def print_notes(console: Console, notes: Iterable[str], held_out: Iterable[HeldOut] = ()) -> None:
    """Remarks, and the training clips that stand apart."""
    for note in dict.fromkeys(notes):
        say(console, f"Note: {note}")
    for own in held_out:
        if own.apart:
            names = ", ".join(own.apart[:5]) + (", ..." if len(own.apart) > 5 else "")
            say(
                console,
                f"Note: {own.machine.label}: training clips that stand apart from the others: {len(own.apart)} "
                f"({names}); listen to them, they may be anomalous or of another machine",
            )


def print_failures(console: Console, failures: Sequence[str], where: str) -> None:
    """The first of them, and where to find all."""
    failures = list(dict.fromkeys(failures))
    for failure in failures[:MAX_LISTED]:
        say(console, failure, label="Failed:", style="red")
    if len(failures) > MAX_LISTED:
        say(console, f"... and {len(failures) - MAX_LISTED} more, {where}", style="red")


def print_flags(console: Console, result: Result) -> None:
    """What sets the first flagged recordings apart from those of the training, with evidence."""
    flagged = [(clip, own) for clip, own in zip(result.clips, result.flags, strict=True) if own]
    for clip, own in flagged[:MAX_LISTED]:
        say(console, f"{clip.name}: {'; '.join(map(str, own))}", label="Flagged:", style="yellow")
    if len(flagged) > MAX_LISTED:
        say(console, f"... and {len(flagged) - MAX_LISTED} more flagged clips", style="yellow")
