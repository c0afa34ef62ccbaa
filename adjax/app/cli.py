"""The command line. Only what a command needs is imported, so that it starts at once."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

OK, SOME_FAILED, CANNOT_RUN, ANOMALY = 0, 1, 2, 3

# Name -> (module, settings, function, what it does)
COMMANDS: dict[str, tuple[str, str, str, str]] = {
    "train": ("train", "Train", "train", "learn what normal recordings sound like, and keep the model"),
    "score": ("score", "Score", "score", "judge new recordings by a kept model"),
    "adapt": ("adapt", "Adapt", "adapt", "make a kept model judge another machine, from a few normal clips"),
    "info": ("info", "Info", "info", "show a kept model; change its rate of false alarms"),
    "run": (
        "run",
        "Run",
        "run",
        "train and test on a data set: scores, AUC, figures (without --data: a simulated one)",
    ),
    "sweep": ("sweep", "SweepCommand", "sweep", "try many settings on every machine"),
    "synth": (
        "simulate",
        "Synth",
        "write_synthetic",
        "write a simulated data set with the ground truth of its faults",
    ),
    "cache": ("cache", "Cache", "manage_cache", "show or empty the cache of features"),
}


def entry() -> None:
    """What the command `adjax` calls: `main`, in a process that Ctrl-C ends at once, whoever reads what it prints."""
    from adjax.app.interrupts import end_when_interrupted  # before anything that takes its time

    end_when_interrupted()
    from adjax.app.output import Output

    sys.stdout, sys.stderr = Output(sys.stdout), Output(sys.stderr)
    try:
        code: Any = main()
    except SystemExit as stop:  # how tyro ends
        code = stop.code
    sys.stdout.flush()
    sys.stderr.flush()
    # At once: whoever interrupts while the interpreter is taken down would see it die.
    os._exit(code if isinstance(code, int) else CANNOT_RUN if code else OK)


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 fine, 1 something failed, 2 nothing could be done, 3 found an anomaly."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(overview())
        if not argv:
            return OK
        raise SystemExit(OK)
    if argv[0] in ("--version", "-V"):
        from importlib import metadata

        print(f"adjax {metadata.version('adjax')}")
        return OK
    if argv[0] not in COMMANDS:
        print(f"adjax: there is no command {argv[0]!r}\n\n{overview()}", file=sys.stderr)
        return CANNOT_RUN
    return _call(argv[0], argv[1:])


def overview() -> str:
    """All commands, those that most people need first."""
    lines = ["adjax: anomalous sound detection for machines, trained on normal sounds only.", "", "Commands:"]
    lines += [f"  {name:<6} {text}" for name, (_, _, _, text) in COMMANDS.items()]
    lines += ["", "Start with your own recordings:", "  adjax train --data FOLDER --out MODEL"]
    lines += ["  adjax score MODEL NEW-RECORDINGS", "or with a simulated machine:  adjax run", ""]
    lines += ["adjax COMMAND --help tells all its settings, adjax --version the version."]
    return "\n".join(lines)


def _call(name: str, argv: list[str]) -> int:
    from adjax.types import AdjaxError

    module_name, settings, function, _ = COMMANDS[name]
    if "--help" not in argv and "-h" not in argv:
        from adjax.app.startup import cache_compilations

        cache_compilations()
    import tyro

    from adjax.app.console import make_console, say

    module: Any = importlib.import_module(f"adjax.app.{module_name}")
    command = tyro.cli(getattr(module, settings), prog=f"adjax {name}", args=joined(argv, "--set"))
    try:
        outcome = getattr(module, function)(command, make_console())
    except AdjaxError as error:
        say(make_console(stderr=True), str(error), label="adjax:", style="bold red")
        return CANNOT_RUN
    except OSError as error:  # such as a folder that may not be read
        where = f"{error.filename}: " if error.filename else ""
        text = f"{where}{error.strerror or error}; correct that, then run the same command again"
        say(make_console(stderr=True), text, label="adjax:", style="bold red")
        return CANNOT_RUN
    if outcome is None:
        return OK
    if not isinstance(outcome, bool):
        if command.fail_on_anomaly and outcome.n_anomalous:
            return ANOMALY
        outcome = outcome.fine
    return OK if outcome else SOME_FAILED


def joined(argv: list[str], option: str) -> list[str]:
    """An option that is given several times as one with all its values: the parser would take the last one only."""
    found, values, ours = [], [], False
    for word in argv:
        name, equals, value = word.partition("=")
        if name == option:
            ours = not equals
            values += [value] if equals else []
        elif ours and not word.startswith("--"):
            values.append(word)
        else:
            ours = False
            found.append(word)
    return [*found, option, *values] if option in (word.partition("=")[0] for word in argv) else found


if __name__ == "__main__":
    entry()
