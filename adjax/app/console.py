"""What several commands tell a person: notes, failures, what a folder holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape

from adjax.data.clips import ClipTable
from adjax.data.summary import describe_table, lines
from adjax.model.result import HeldOut, Result

MAX_LISTED = 10  # machines and failures printed; all of them are in the files


def print_understood(console: Console, clips: ClipTable) -> None:
    """What adjax understood of a folder before it starts."""
    found = lines(describe_table(clips))
    shown = found if len(found) <= MAX_LISTED else [*found[: MAX_LISTED - 1], "...", found[-1]]
    for line in (*shown, *clips.notes):
        console.print(escape(line), soft_wrap=True, highlight=False)


def print_notes(console: Console, notes: Iterable[str], held_out: Iterable[HeldOut] = ()) -> None:
    """Remarks, and the training clips that stand apart."""
    for note in dict.fromkeys(notes):
        console.print(f"Note: {escape(note)}", soft_wrap=True, highlight=False)
    for own in held_out:
        if own.apart:
            names = ", ".join(own.apart[:5]) + (", ..." if len(own.apart) > 5 else "")
            console.print(
                f"Note: {escape(own.machine.label)}: training clips that stand apart from the others: {len(own.apart)} "
                f"({escape(names)}); listen to them, they may be anomalous or of another machine",
                soft_wrap=True,
                highlight=False,
            )


def print_failures(console: Console, failures: Sequence[str], file: str = "") -> None:
    """The first of them."""
    failures = list(dict.fromkeys(failures))
    for failure in failures[:MAX_LISTED]:
        console.print(f"[red]Failed:[/] {escape(failure)}", soft_wrap=True)
    if len(failures) > MAX_LISTED:
        where = f", all in {escape(file)}" if file else ""
        console.print(f"[red]... and {len(failures) - MAX_LISTED} more[/]{where}", soft_wrap=True)


def print_flags(console: Console, result: Result) -> None:
    """What sets the first flagged recordings apart from those of the training, with evidence."""
    flagged = [(clip, own) for clip, own in zip(result.clips, result.flags, strict=True) if own]
    for clip, own in flagged[:MAX_LISTED]:
        sentences = "; ".join(map(str, own))
        console.print(
            f"[yellow]Flagged:[/] {escape(clip.name)}: {escape(sentences)}", soft_wrap=True, highlight=False
        )
    if len(flagged) > MAX_LISTED:
        console.print(f"[yellow]... and {len(flagged) - MAX_LISTED} more flagged clips[/]")
