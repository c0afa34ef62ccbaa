"""The works of `features` that begin on disk: wav files to pooled features, the cache, memory."""

from __future__ import annotations

import atexit
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import soundfile

from adjax.data.cache import SETTLE_NS
from adjax.data.cache_usage import empty
from adjax.data.clips import Clip, ClipTable
from adjax.data.loader import load_batches
from adjax.features.recipes import FeatureConfig
from adjax.model.extraction import compiled_features, extract
from experiments.benchmarks._harness import Case, Row

SR, SECONDS = 16_000, 10
N_CLIPS, N_CLIPS_QUICK = 2_370, 240
FRAMES, POOLED = FeatureConfig(), FeatureConfig(pooling="mean")
FIGURE = Path(__file__).parents[1] / "figures" / "features_memory.png"
MEASURE_MEMORY = """
import sys
from pathlib import Path
from adjax import Clip, ClipTable, FeatureConfig, extract
from experiments.benchmarks._memory import peak_mib

files = sorted(Path(sys.argv[1]).glob("*.wav"))
config = FeatureConfig(pooling="mean")
extract(ClipTable(tuple(map(Clip, files[:32]))), config)
before = peak_mib()
n = int(sys.argv[2])
extract(ClipTable(tuple(Clip(files[i % len(files)]) for i in range(n))), config)
print(before, peak_mib())
"""


def write_clips(folder: Path, n_clips: int) -> ClipTable:
    """Noise, 16-bit, no two files alike."""
    noise = np.random.default_rng(0).normal(0, 1000, SR * SECONDS).astype(np.int16)
    for i in range(n_clips):
        soundfile.write(folder / f"normal_id_00_{i:08d}.wav", np.roll(noise, 61 * i), SR)
    return ClipTable(tuple(Clip(path) for path in sorted(folder.glob("*.wav"))))


def make_pooled_case(clips: ClipTable, rounds: int) -> Case:
    """From files to pooled features; the sides of the limit are peers, the slower one the limit."""
    compute = compiled_features(POOLED)
    batch = next(load_batches(clips)).batch
    n_batches = -(-len(clips) // len(batch.n_valid))
    alone: dict[str, Callable[[], Any]] = {
        "decoding alone": lambda: sum(len(loaded.rows) for loaded in load_batches(clips)),
        "computing alone": lambda: [compute(batch) for _ in range(n_batches)],
    }
    times = {}
    for name, run in alone.items():
        run()
        start = time.perf_counter()
        run()
        times[name] = time.perf_counter() - start

    def facts(row: Row) -> dict[str, float]:
        rate = len(clips) / row.ours_s
        slower = max(row.peers.values())
        return {
            "clips/s": rate,
            "real-time factor": rate * SECONDS,
            "ours / slower of decoding and computing": row.ours_s / slower,
        }

    slower = max(times, key=lambda name: times[name])
    return Case("wav_to_pooled", lambda: extract(clips, POOLED), alone, alone[slower], rounds, facts)


def make_cached_case(clips: ClipTable, cache: Path, work: str, config: FeatureConfig, rounds: int) -> Case:
    """With the cache full, against the run that fills it; compiled before, both."""

    def first() -> Any:
        empty(cache)
        return extract(clips, config, cache=cache)

    def second() -> Any:
        features = extract(clips, config, cache=cache)
        assert features.notes[-1].endswith(f"{len(clips)} of {len(clips)} clips"), features.notes
        return features

    np.testing.assert_array_equal(first().rows, second().rows)
    return Case(work, second, {"first run": first}, rounds=rounds)


def make_memory_case(folder: Path, numbers: list[int], figure: Path | None) -> Case:
    """A process for each number of clips; a number beyond the files reads them again."""
    peaks: dict[int, float] = {}

    def measure() -> None:
        for n in numbers:
            command = [sys.executable, "-c", MEASURE_MEMORY, str(folder), str(n)]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            peaks[32], peaks[n] = map(float, out.split())

    def facts(row: Row) -> dict[str, float]:
        if figure:
            draw_memory(peaks, figure)
        return {f"peak MiB at {n} clips": peak for n, peak in sorted(peaks.items())}

    return Case("memory", measure, {}, rounds=1, facts=facts)


def draw_memory(peaks: dict[int, float], path: Path) -> None:
    """Peak memory by number of clips, beside what all their samples would take."""
    numbers = sorted(peaks)
    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    axes.plot(numbers, [peaks[n] for n in numbers], "o-", label="adjax, peak of the process")
    samples = [4 * SR * SECONDS * n / 2**20 for n in numbers]
    axes.plot(numbers, samples, "--", color="C3", label="all samples in float32")
    axes.set(xlabel="clips of 10 s", ylabel="memory (MiB)", ylim=(0, 3 * max(peaks.values())))
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def make_disk_cases(quick: bool) -> list[Case]:
    """The works from disk, on files of noise that vanish when the benchmark ends."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="adjax-benchmark-")))
    (root / "wav").mkdir()
    clips = write_clips(root / "wav", N_CLIPS_QUICK if quick else N_CLIPS)
    time.sleep(SETTLE_NS / 1e9)  # the cache does not trust younger files
    numbers = [64, 512] if quick else [64, 250, 1000, 2370, 5000, 10000]
    return [
        make_pooled_case(clips, rounds=3),
        make_cached_case(clips, root / "cache", "cached", FRAMES, rounds=3),
        make_cached_case(clips, root / "cache_pooled", "cached_pooled", POOLED, rounds=3),
        make_memory_case(root / "wav", numbers, None if quick else FIGURE),
    ]
