"""Ctrl-C at random moments of every command that works for a while: what a person is left with.

Run:     python -m experiments.interrupts --n 20
Data:    a small simulated slide rail, made once.
Asked:   exit code 130, one line on standard error within a second, no file that is half-written, and that the same
         command afterwards ends with the same files as one that was never interrupted.
Result:  docs/robustness.md, "Ctrl-C and kill": 100 of 100 fine, and 25 of 25 with --cold --n 5.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from rich.table import Table

from adjax import simulator
from adjax.app.console import make_console, print_table, say
from adjax.app.interrupts import MESSAGE
from adjax.simulator import ClipCounts

ADJAX = (sys.executable, "-m", "adjax.app.cli")
NETWORK = ("--model", "autoencoder", "--set", "n_epochs=15")
COMMANDS = {
    "run": ("run", "--data", "DATA", *NETWORK, "--out", "OUT"),
    "sweep": ("sweep", "--data", "DATA", "--gwrp-r", "0.5", "1", "--seeds", "4", "--out", "OUT"),
    "synth": ("synth", "--size", "small", "--out", "OUT"),
    "train": ("train", "--data", "DATA", "--model", "auto", "--out", "OUT/model"),
    "score": ("score", "MODEL", "DATA/slider/test", "--out", "OUT/scores.csv"),
}
VOLATILE = ("report.json", "SHA256SUMS")  # how long each step took, and the hash of that


@dataclass(frozen=True)
class Study:
    """What to interrupt, and how often."""

    n: int = 20
    """Interruptions of each command."""
    commands: tuple[str, ...] = tuple(COMMANDS)
    """Which."""
    cold: bool = False
    """Compile everything anew each time, so that most moments are moments of compiling."""
    out: Path = Path("runs/interrupts")
    """Folder to work in; it is emptied."""
    seed: int = 0
    """Of the moments."""


@dataclass
class Found:
    """What became of the interruptions of one command."""

    seconds: float
    codes: dict[int, int]
    slowest: float = 0.0
    odd_lines: int = 0
    half_written: int = 0
    same: bool = False

    @property
    def fine(self) -> bool:
        """Whether everything is as it should be."""
        clean = not self.odd_lines and not self.half_written
        return set(self.codes) == {130} and self.slowest < 1 and clean and self.same


def main(study: Study) -> int:
    """Interrupt all commands; returns 1 if one left anything behind."""
    console = make_console()
    shutil.rmtree(study.out, ignore_errors=True)
    data = study.out / "data"
    simulator.write_tree(data, counts={name: ClipCounts(30, 10, 10) for name in ("id_00", "id_02")})
    places = {"DATA": str(data), "MODEL": str(study.out / "kept")}
    subprocess.run([*ADJAX, "train", "--data", str(data), "--out", places["MODEL"]], check=True)
    table = Table(title=f"{study.n} interruptions of each command")
    for name in (
        "command",
        "whole, s",
        "exit codes",
        "until it ended, s",
        "not one line",
        "half-written",
        "goes on",
    ):
        table.add_column(name, justify="left" if name == "command" else "right")
    fine = True
    for name in study.commands:
        found = interrupt(study, name, places)
        fine &= found.fine
        codes = ", ".join(f"{code}: {n}" for code, n in sorted(found.codes.items()))
        table.add_row(
            name, f"{found.seconds:.1f}", codes, f"{found.slowest:.2f}", str(found.odd_lines), str(found.half_written),
            "to the same files" if found.same else "no",
        )  # fmt: skip
        say(console, f"{name}: {found}")
    print_table(console, table)
    return 0 if fine else 1


def interrupt(study: Study, name: str, places: dict[str, str]) -> Found:
    """One command, again and again into the same folder, and once to its end."""
    random = np.random.default_rng([study.seed, *name.encode()])
    alone, out = study.out / f"{name}_alone", study.out / name
    for _ in range(1 if study.cold else 2):  # the second time compiled
        shutil.rmtree(alone, ignore_errors=True)
        start = time.perf_counter()
        subprocess.run(
            words(name, places, alone), check=True, stdout=subprocess.DEVNULL, env=environment(study)
        )
        seconds = time.perf_counter() - start
    found = Found(seconds, {})
    while sum(found.codes.values()) < study.n:
        process = subprocess.Popen(
            words(name, places, out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env=environment(study),
        )  # fmt: skip
        time.sleep(random.uniform(0.2, seconds))  # before that Python itself starts
        process.send_signal(signal.SIGINT)
        start = time.perf_counter()
        _, told = process.communicate()
        if process.returncode == 0:  # it had ended by itself
            shutil.rmtree(out)
            continue
        found.codes[process.returncode] = found.codes.get(process.returncode, 0) + 1
        found.slowest = max(found.slowest, time.perf_counter() - start)
        found.odd_lines += told != f"{MESSAGE}\n"
        found.half_written += len([p for p in study.out.rglob(".adjax-*") if not p.name.endswith(".lock")])
    subprocess.run(words(name, places, out), check=True, stdout=subprocess.DEVNULL, env=environment(study))
    found.same = contents(out) == contents(alone)
    return found


def words(name: str, places: dict[str, str], out: Path) -> list[str]:
    """The command line."""
    found = list(COMMANDS[name])
    for key, value in {**places, "OUT": str(out)}.items():
        found = [word.replace(key, value) for word in found]
    return [*ADJAX, *found]


def environment(study: Study) -> dict[str, str]:
    """With an empty cache of compiled programs, where that is asked for."""
    cache = study.out / "cache"
    if study.cold:
        shutil.rmtree(cache, ignore_errors=True)
    return {**os.environ, "ADJAX_CACHE": str(cache)}


def contents(folder: Path) -> dict[str, bytes]:
    """Of every file; those that hold times by their names alone."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: b"" if path.name in VOLATILE else path.read_bytes() for name, path in files.items()}


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Study, description=__doc__)))
