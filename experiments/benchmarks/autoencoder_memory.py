"""Memory and time of an epoch at full size: 2,370 clips of 10 s, three machines as three lanes, and parts of that.

Run:     python -m experiments.benchmarks.autoencoder_memory [--quick] [--json FILE] [--figure FILE]
Work:    full_set: rows in, lanes laid out, two epochs; the second is timed. Every size is a process of its own, whose
         peak is counted from what it held after its imports. The clips are made up: 313 rows of 128 numbers.
Limit:   none; that growth is a straight line is seen from the residual of the fit. Compiling takes some 500 MiB for a
         while whatever the size, so the line is that of an epoch once everything is compiled. Linux.
Result:  README.md beside this file.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from adjax.data.clips import Clip, ClipTable
from adjax.detectors.autoencoder import RECIPES, make_lanes
from adjax.detectors.autoencoder.resume import jit_program
from adjax.model.extraction import ClipFeatures
from experiments._autoencoder_lanes import LaneSpec, make_table
from experiments.benchmarks._harness import Row, describe_machine
from experiments.benchmarks._memory import forget_peak, held_mib, peak_mib

FULL, PARTS = 2370, (300, 600, 1200, 1800, 2370)
SHARES = {"id_00": 968 / FULL, "id_02": 968 / FULL, "id_04": 434 / FULL}
N_FRAMES, N_MELS = 313, 128


def main() -> None:
    """Measure each size in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw growth with clips into FILE")
    parser.add_argument("--quick", action="store_true", help="only the three smallest sizes")
    parser.add_argument("--child", type=int, metavar="CLIPS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child)))
        return
    sizes = PARTS[:3] if options.quick else PARTS
    found = [_in_child(n_clips) for n_clips in sizes]
    report(found)
    if options.figure:
        draw(found).savefig(options.figure, dpi=110)
    if options.json:
        rows = [
            dataclasses.asdict(
                Row("full_set" if row["clips"] == FULL else f"part_{row['clips']}", row["epoch_s"], {})
            )
            | {name: row[name] for name in ("peak_mib", "training_mib")}
            for row in found
        ]
        record = {"machine": describe_machine(("flax", "optax")), "rows": rows}
        options.json.write_text(json.dumps(record, indent=2) + "\n")


def measure(n_clips: int) -> dict[str, float]:
    """Lay out, train, and say how long an epoch took and how much memory all of it."""
    before = held_mib()
    config = RECIPES["2020"]
    table = make_table(
        make_features(n_clips), [LaneSpec("slider", machine_id) for machine_id in SHARES], config
    )
    program = jit_program(make_lanes(config, table.sizes))
    windows, lanes = table.windows, table.lanes
    state, _ = jax.block_until_ready(program.train(windows, lanes, program.init(windows, lanes), 1))
    peak = peak_mib() - before
    forget_peak()
    started = time.perf_counter()
    jax.block_until_ready(program.train(windows, lanes, state, 1))
    seconds = time.perf_counter() - started
    training = peak_mib() - before
    return {"clips": n_clips, "epoch_s": seconds, "peak_mib": max(peak, training), "training_mib": training}


def make_features(n_clips: int) -> ClipFeatures:
    """Made-up clips of three machines, one machine after another."""
    clips = [
        Clip(Path(f"{machine_id}_{i}.wav"), "slider", machine_id, "train", label=0)
        for machine_id, share in SHARES.items()
        for i in range(round(share * n_clips))
    ]
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((len(clips) * N_FRAMES, N_MELS), dtype=np.float32)
    rows *= 5
    rows -= 30
    return ClipFeatures(ClipTable(tuple(clips)), rows, np.arange(len(clips) + 1) * N_FRAMES)


def report(found: list[dict[str, float]]) -> None:
    """Table, and how straight the line is."""
    table = Table(title="full_set: one epoch of three lanes (2020 recipe)", title_justify="left")
    for name in ("clips", "epoch (s)", "peak above the interpreter (MiB)", "of it, training once compiled"):
        table.add_column(name, justify="right")
    for row in found:
        numbers = f"{row['clips']:.0f}", f"{row['epoch_s']:.1f}", f"{row['peak_mib']:.0f}"
        table.add_row(*numbers, f"{row['training_mib']:.0f}")
    clips, training = (np.array([row[name] for row in found]) for name in ("clips", "training_mib"))
    slope, base = np.polyfit(clips, training, 1)
    worst = np.max(np.abs(base + slope * clips - training))
    Console().print(table)
    Console().print(
        f"training = {base:.0f} MiB + {slope:.3f} a clip; farthest from the line: {worst:.0f} MiB"
    )


def draw(found: list[dict[str, float]]) -> Figure:
    """Peak memory and epoch time against clips."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    names = {"training_mib": "memory above the interpreter (MiB)", "epoch_s": "one epoch of three lanes (s)"}
    clips = [row["clips"] for row in found]
    axes = figure.subplots(1, 2)
    for axis, (name, label) in zip(axes, names.items(), strict=True):
        values = [row[name] for row in found]
        axis.plot(clips, values, "o", color="#762a83", label="training, once compiled")
        axis.plot(clips, np.polyval(np.polyfit(clips, values, 1), clips), color="0.6", linewidth=1)
        axis.set(xlabel="training clips of 10 s", ylabel=label, xlim=(0, None))
    axes[0].plot(
        clips, [row["peak_mib"] for row in found], "x", color="#1b7837", label="peak, with compilation"
    )
    axes[0].legend(frameon=False)
    for axis in axes:
        axis.set_ylim(0, None)
    return figure


def _in_child(n_clips: int) -> dict[str, Any]:
    command = [sys.executable, "-m", __spec__.name, "--child", str(n_clips)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
