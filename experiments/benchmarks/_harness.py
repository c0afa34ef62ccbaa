"""What all the benchmarks share: fair timing, a description of the machine, a table, a JSON file.

Ours and the peers are timed in turns, so that whatever else the machine does falls on all of them alike; each
figure is the median over the rounds, after a warm-up round that compiles and fills caches.
"""

from __future__ import annotations

import argparse
import atexit
import dataclasses
import functools
import importlib
import importlib.metadata
import json
import platform
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from adjax.batching import n_cores


@dataclasses.dataclass(frozen=True)
class Case:
    """One piece of work, done by us and by others.

    Attributes:
        work: its id; stays the same from release to release.
        ours: does the work and returns its result (JAX arrays are waited for).
        peers: the same by others, by their name.
        limit: a bound on what is possible on this machine, such as the bare FFTs; None: not known.
        rounds: at most so many, for long work; None: as many as the benchmark asks for. A case of one round is
            not warmed up.
        facts: from the row, other numbers worth a line and a place in the file, such as clips a second.
    """

    work: str
    ours: Callable[[], Any]
    peers: dict[str, Callable[[], Any]]
    limit: Callable[[], Any] | None = None
    rounds: int | None = None
    facts: Callable[[Row], dict[str, float]] | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """The timings of one case, in seconds.

    Attributes:
        work: the case's id.
        ours_s: ours.
        peers: each peer's, by name.
        limit_s: the bound; None: not known.
        facts: other numbers, by a name that says their unit.
    """

    work: str
    ours_s: float
    peers: dict[str, float]
    limit_s: float | None = None
    facts: dict[str, float] = dataclasses.field(default_factory=dict)


class PeerStopped(Exception):
    """A peer that did not finish within its time, or died; the row goes on without it."""


class SubprocessPeer:
    """A peer in a process of its own, so that it can be stopped and its threads are its own.

    The process runs `python -m MODULE ARGUMENTS`, prints a line when it is ready, then does the work once for
    each line it reads and prints a line after each.
    """

    def __init__(self, module: str, *arguments: str, limit_s: float) -> None:
        self._limit_s = limit_s
        self.timed_out = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self._process.kill)
        self.said = self._line()

    def __call__(self) -> str:
        """Do the work once; returns what the peer says of it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PeerStopped("it had died") from None
        self.said = self._line()
        return self.said

    def _line(self) -> str:
        stdout = self._process.stdout
        assert stdout is not None
        if not select.select([stdout], [], [], self._limit_s)[0]:
            self._process.kill()
            self.timed_out = True
            raise PeerStopped(f"no answer within {self._limit_s:g} s")
        line = stdout.readline()
        if not line:
            raise PeerStopped("it died")
        return line.strip()


@functools.cache
def find_peer(name: str) -> Any:
    """Import an optional package to compare with; None, and one message, when it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        Console(stderr=True).print(f"{name} is not installed, so it is left out: pip install --group peers")
        return None


def time_case(case: Case, rounds: int) -> Row:
    """Time a case: everybody once per round, in turns; the median over the rounds."""
    rounds = min(rounds, case.rounds or rounds)
    runners = {"ours": case.ours, **{f"peer {name}": run for name, run in case.peers.items()}}
    if case.limit is not None:
        runners["limit"] = case.limit
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for number in range(rounds if rounds == 1 else rounds + 1):
        for name, run in list(runners.items()):
            start = time.perf_counter()
            try:
                jax.block_until_ready(run())
            except PeerStopped as reason:
                Console(stderr=True).print(f"{case.work}: {name} is left out: {reason}")
                del runners[name], seconds[name]
                continue
            if number or rounds == 1:  # the first of several only compiles and fills caches
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    row = Row(
        work=case.work,
        ours_s=medians["ours"],
        peers={name: medians[f"peer {name}"] for name in case.peers if f"peer {name}" in medians},
        limit_s=medians.get("limit"),
    )
    return dataclasses.replace(row, facts=case.facts(row)) if case.facts else row


def describe_machine(packages: Sequence[str] = ()) -> dict[str, Any]:
    """The machine, and the versions of what was timed on it; a package that is not installed is left out."""
    versions = {}
    for name in ("jax", "jaxlib", "numpy", "scipy", *packages):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    device = jax.devices()[0]
    return {
        "cpu": _cpu_name(),
        "cores": n_cores(),
        "platform": device.platform,
        "device": device.device_kind,
        "python": platform.python_version(),
        "versions": versions,
    }


def make_table(title: str, machine: dict[str, Any], rows: Sequence[Row]) -> Table:
    """Milliseconds; how many times slower each peer is; how close ours comes to the limit."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    caption = f"{machine['cpu']}, {machine['cores']} cores; device {machine['device']}; {versions}"
    table = Table(title=title, caption=caption)
    table.add_column("work")
    for heading in ("ours (ms)", "peer", "peer (ms)", "peer / ours", "limit (ms)", "limit / ours"):
        table.add_column(heading, justify="left" if heading == "peer" else "right")
    for row in rows:
        limit = ["-", "-"] if row.limit_s is None else [_ms(row.limit_s), f"{row.limit_s / row.ours_s:.2f}"]
        peers = [[name, _ms(seconds), f"{seconds / row.ours_s:.2f}"] for name, seconds in row.peers.items()]
        head, *others = peers or [["-", "-", "-"]]
        table.add_row(row.work, _ms(row.ours_s), *head, *limit)
        for other in others:
            table.add_row("", "", *other, "", "")
    return table


def main(
    title: str, make_cases: Callable[[bool], list[Case]], *, packages: Sequence[str] = (), rounds: int = 15
) -> None:
    """Command line of a benchmark: time its cases, print the table, write the JSON file.

    Args:
        title: of the table.
        make_cases: takes whether `--quick` was given and returns the cases.
        packages: peers whose versions are recorded.
        rounds: of the timing; a third of them with `--quick`.
    """
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the timings to FILE")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, rougher figures")
    options = parser.parse_args()
    rounds = max(3, rounds // 3) if options.quick else rounds
    rows = [time_case(case, rounds) for case in make_cases(options.quick)]
    machine = describe_machine(packages)
    console = Console()
    console.print(make_table(title, machine, rows))
    for row in rows:
        for name, value in row.facts.items():
            console.print(f"{row.work}: {name} {value:,.4g}")
    if options.json is not None:
        record = {"machine": machine, "rows": [dataclasses.asdict(row) for row in rows]}
        options.json.write_text(json.dumps(record, indent=2) + "\n")


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.2f}"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
