"""`adjax synth`: a synthetic slide rail on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from adjax import simulator
from adjax.app.console import say
from adjax.app.progress import make_progress
from adjax.types import SettingsError


@dataclass(frozen=True)
class Synth:
    """Write a synthetic slide-rail data set in the DCASE 2020 layout, with the ground truth of its faults.

    With --domains the layout is DCASE 2022's: each machine is trained in a source domain, but for a few clips of a
    target domain, where it runs at another speed and load and is heard by another microphone in another place.
    """

    out: Path
    """Folder to write slider/train and slider/test into."""
    size: Literal["full", "small"] = "full"
    """full: 2,370 training and 1,101 test clips (1.1 GB); small: 180 and 270. With --domains, of each of 3 sections:
    full: 990 + 10 training clips (source + target), and of each domain 50 normal and 50 anomalous test clips (1.2 GB in
    all); small: 60 + 3, and 15 and 15."""
    domains: bool = False
    """A source and a target domain, in sections 00, 01 and 02."""
    shift: float | None = None
    """With --domains: how far the target's conditions lie from the source's, from 0 (not at all) to 1. Default: 1."""
    snr_db: float = -6.0
    """Machine over background noise, in dB; MIMII has 6, 0 and -6. With --domains: in the source domain."""
    seed: int = 0
    """The same seed gives the same files."""


def write_synthetic(command: Synth, console: Console) -> None:
    """`adjax synth`."""
    full = command.size == "full"
    if command.domains:
        counts = simulator.FULL_DOMAINS if full else simulator.SMALL_DOMAINS
        shift = 1.0 if command.shift is None else command.shift
        home = write_domains(command.out, counts, shift, command.snr_db, command.seed, console)
    elif command.shift is not None:
        raise SettingsError(f"shift={command.shift:g}: there are no domains to shift; add --domains")
    else:
        counts_2020 = simulator.FULL if full else simulator.SMALL
        home = write_tree(command.out, counts_2020, command.snr_db, command.seed, console)
    say(console, f"Wrote {home} with {home / simulator.GROUND_TRUTH}.")
    say(console, f"Next: adjax run --data {command.out} --machine-type slider", style="green")


def write_tree(
    root: Path, counts: Mapping[str, simulator.ClipCounts], snr_db: float, seed: int, console: Console
) -> Path:
    """Write the clips, with a bar; returns the folder of the machine type."""
    total = sum(sum(astuple(count)) for count in counts.values())
    return _with_bar(
        console,
        total,
        lambda on_clip: simulator.write_tree(root, counts=counts, snr_db=snr_db, seed=seed, on_clip=on_clip),
    )


def write_domains(
    root: Path,
    counts: Mapping[str, simulator.DomainCounts],
    shift: float,
    snr_db: float,
    seed: int,
    console: Console,
) -> Path:
    """`write_tree` with a source and a target domain."""
    total = sum(count.source_train + count.target_train for count in counts.values())
    total += sum(2 * (count.test_normal + count.test_anomaly) for count in counts.values())
    return _with_bar(
        console,
        total,
        lambda on_clip: simulator.write_domains(
            root, counts=counts, shift=shift, snr_db=snr_db, seed=seed, on_clip=on_clip
        ),
    )


def _with_bar(console: Console, total: int, write: Callable[[Callable[[Path], None]], Path]) -> Path:
    with make_progress(console) as progress:
        task = progress.add_task("Making synthetic clips", total=total)
        return write(lambda path: progress.advance(task))
