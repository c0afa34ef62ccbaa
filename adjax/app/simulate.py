"""`adjax synth`: a synthetic slide rail on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from adjax import simulator
from adjax.app.console import say
from adjax.app.progress import make_progress


@dataclass(frozen=True)
class Synth:
    """Write a synthetic slide-rail data set in the DCASE 2020 layout, with the ground truth of its faults."""

    out: Path
    """Folder to write slider/train and slider/test into."""
    size: Literal["full", "small"] = "full"
    """full: 2,370 training and 1,101 test clips (1.1 GB); small: 180 and 270."""
    snr_db: float = -6.0
    """Machine over background noise, in dB; MIMII has 6, 0 and -6."""
    seed: int = 0
    """The same seed gives the same files."""


def write_synthetic(command: Synth, console: Console) -> None:
    """`adjax synth`."""
    counts = simulator.FULL if command.size == "full" else simulator.SMALL
    home = write_tree(command.out, counts, command.snr_db, command.seed, console)
    say(console, f"Wrote {home} with {home / simulator.GROUND_TRUTH}.")
    say(console, f"Next: adjax run --data {command.out} --machine-type slider", style="green")


def write_tree(
    root: Path, counts: Mapping[str, simulator.ClipCounts], snr_db: float, seed: int, console: Console
) -> Path:
    """Write the clips, with a bar; returns the folder of the machine type."""
    total = sum(count.train + count.test_normal + count.test_anomaly for count in counts.values())
    with make_progress(console) as progress:
        task = progress.add_task("Making synthetic clips", total=total)
        return simulator.write_tree(
            root, counts=counts, snr_db=snr_db, seed=seed, on_clip=lambda path: progress.advance(task)
        )
