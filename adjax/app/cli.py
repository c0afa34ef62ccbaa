"""The command line: `adjax run`, `adjax sweep`, `adjax synth` and `adjax cache`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.markup import escape

from adjax.app.cache import Cache, manage_cache
from adjax.app.run import Run, run
from adjax.app.simulate import Synth, write_synthetic
from adjax.app.sweep import SweepCommand, sweep
from adjax.types import AdjaxError

OK, SOME_FAILED, CANNOT_RUN = 0, 1, 2


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 fine, 1 some clips or models failed, 2 nothing could be done."""
    console = Console()
    commands: Any = (
        Annotated[Run, tyro.conf.subcommand("run", prefix_name=False)]
        | Annotated[SweepCommand, tyro.conf.subcommand("sweep", prefix_name=False)]
        | Annotated[Synth, tyro.conf.subcommand("synth", prefix_name=False)]
        | Annotated[Cache, tyro.conf.subcommand("cache", prefix_name=False)]
    )
    command = tyro.cli(
        commands,
        prog="adjax",
        description="Anomalous sound detection for machines, trained on normal sounds only.",
        args=argv,
    )
    try:
        if isinstance(command, Cache):
            manage_cache(command, console)
            return OK
        if isinstance(command, Synth):
            write_synthetic(command, console)
            return OK
        fine = run(command, console) if isinstance(command, Run) else sweep(command, console)
        return OK if fine else SOME_FAILED
    except AdjaxError as error:
        Console(stderr=True).print(f"[bold red]adjax:[/] {escape(str(error))}", soft_wrap=True)
        return CANNOT_RUN
    except KeyboardInterrupt:
        Console(stderr=True).print(
            "adjax: interrupted; what was written so far is whole, run again to finish"
        )
        return 130


if __name__ == "__main__":
    sys.exit(main())
