"""Run a sweep: machine by machine, front end by front end, chunk by chunk; no finished chunk is computed again."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from adjax.batching import on_cpu
from adjax.data.audio import Channel
from adjax.data.clips import ClipTable
from adjax.detectors.gmm.config import place
from adjax.features.recipes import FeatureConfig
from adjax.pipeline import RunConfig
from adjax.store import hold
from adjax.sweep.data import Machine, load_machine
from adjax.sweep.models import score_autoencoders, score_mixtures
from adjax.sweep.results import Chunk, LaneResult, SweepResult, lane_result, load_chunk, measure, save_chunk
from adjax.sweep.settings import Sweep, static_part
from adjax.types import AdjaxError, DataError, FitError

TABLE = "lanes.csv"
CHUNKS = "chunks"
MAX_CHUNK, MAX_CHUNK_TRAINED = 512, 64  # lanes of mixtures and of autoencoders: what an interruption can cost


@dataclass(frozen=True)
class Progress:
    """How far a sweep is.

    Attributes:
        n_done: lanes with a result, of this run or an earlier one.
        n_lanes: in all.
        seconds_left: an estimate from the lanes computed so far; None before the first.
    """

    n_done: int
    n_lanes: int
    seconds_left: float | None


def run_sweep(
    clips: ClipTable,
    sweep: Sweep,
    folder: Path,
    *,
    cache: Path | None = None,
    memory: int = 2**30,
    n_resamples: int = 200,
    on_progress: Callable[[Progress], None] | None = None,
) -> SweepResult:
    """Fit every lane on every machine, score its test clips, and measure where there are labels.

    The same call after an interruption at any point goes on after the last finished chunk. A lane that fails says why
    in its status and has no score. `folder` gets `lanes.csv` and, in `chunks`, the scores.

    Args:
        clips: of all machines; normal ones in split "train".
        sweep: the settings.
        folder: for the results, made if missing.
        cache: of features, see `extract`.
        memory: bytes for the models of one chunk, about.
        n_resamples: of the bootstrap intervals.
        on_progress: called after every chunk.

    Raises:
        SettingsError: settings that a lane cannot have.
        DataError: there are no clips.
        StoreError: another run is writing into the folder, or it cannot be written.
    """
    configs = sweep.configs
    machines = sorted({(clip.machine_type, clip.machine_id) for clip in clips.select(split="test")})
    if not machines:
        raise DataError("there are no test clips; a data set needs normal train clips and test clips")
    run = _Run(sweep, configs, folder, cache, memory, n_resamples, len(machines), on_progress)
    run.failures += clips.rejected
    with hold(folder):
        (folder / CHUNKS).mkdir(exist_ok=True)
        for number, name in enumerate(machines):
            own = clips.select(machine_type=name[0], machine_id=name[1])
            for lanes in _by(lambda i: _front_end(configs[i]), range(len(configs))).values():
                run.front_end(own, number, lanes)
        result = run.result(machines)
        result.write(folder / TABLE)
    return result


class _Run:
    """A sweep on its way: what it was asked for, and what it has found so far."""

    def __init__(
        self,
        sweep: Sweep,
        configs: Sequence[RunConfig],
        folder: Path,
        cache: Path | None,
        memory: int,
        n_resamples: int,
        n_machines: int,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self.sweep, self.configs, self.folder, self.cache = sweep, configs, folder, cache
        self.memory, self.n_resamples, self.on_progress = memory, n_resamples, on_progress
        self.n_lanes = n_machines * len(configs)
        self.found: dict[tuple[str, str, int], LaneResult] = {}
        self.clips: dict[tuple[str, str], ClipTable] = {}
        self.failures: list[AdjaxError] = []
        self.n_resumed = self.n_computed = 0
        self.started = time.perf_counter()

    def front_end(self, clips: ClipTable, number: int, lanes: list[int]) -> None:
        """All lanes of one machine behind one front end."""
        name = (clips[0].machine_type, clips[0].machine_id)
        features, channel = _front_end(self.configs[lanes[0]])
        ratios = None
        if features.pooling == "gwrp":
            ratios = tuple(sorted({self.configs[i].features.gwrp_r for i in lanes}))
        try:
            machine = load_machine(clips, features, number, ratios, channel=channel, cache=self.cache)
        except DataError as error:
            self.fail(name, lanes, error)
            return
        self.failures += [*machine.train.failures, *machine.test.failures]
        self.clips[name] = machine.test.clips
        for static, group in _by(lambda i: static_part(self.configs[i]), lanes).items():
            group.sort(key=lambda i: self.configs[i].features.gwrp_r)  # so that a chunk has few sets of rows
            for chunk, size in _chunks(group, machine, static, self.memory):
                self.chunk(name, machine, static, chunk, size)

    def chunk(
        self, name: tuple[str, str], machine: Machine, static: RunConfig, lanes: list[int], size: int
    ) -> None:
        """Take one chunk from its file, or compute it and write the file."""
        configs = [self.configs[i] for i in lanes]
        path = self.folder / CHUNKS / f"{_digest(machine, static, configs, self.n_resamples)}.npz"
        result = load_chunk(path)
        if result is not None:
            self.n_resumed += len(lanes)
        else:
            try:
                result = _compute(machine, static, configs, size, self.n_resamples)
            except (FitError, jax.errors.JaxRuntimeError) as error:  # such as memory that does not suffice
                self.fail(name, lanes, error)
                return
            self.n_computed += len(lanes)
            save_chunk(path, result, machine.test.clips.names, [repr(config) for config in configs])
        for row, i in enumerate(lanes):
            self.found[*name, i] = lane_result(name, self.sweep.settings[i], result, path.name, row)
        self.report()

    def fail(self, name: tuple[str, str], lanes: list[int], error: Exception) -> None:
        """Lanes without a result: it says why, and the next call tries again."""
        self.failures.append(FitError(f"{' '.join(name)}: {error}"))
        for i in lanes:
            self.found[*name, i] = lane_result(name, self.sweep.settings[i], None, str(error), 0)
        self.report()

    def report(self) -> None:
        """Tell how far the sweep is."""
        if self.on_progress is None:
            return
        n_left = self.n_lanes - len(self.found)
        seconds = time.perf_counter() - self.started
        estimate = seconds / self.n_computed * n_left if self.n_computed else None
        self.on_progress(Progress(len(self.found), self.n_lanes, estimate))

    def result(self, machines: Sequence[tuple[str, str]]) -> SweepResult:
        """Machine by machine, in the order of the settings."""
        lanes = tuple(self.found[*name, i] for name in machines for i in range(len(self.configs)))
        failures = {str(error): error for error in self.failures}
        return SweepResult(lanes, self.clips, tuple(failures.values()), self.n_resumed)


def _front_end(config: RunConfig) -> tuple[FeatureConfig, Channel]:
    """What the clips go through; r comes later, for all lanes at once."""
    return replace(config.features, gwrp_r=0.0), config.channel


def _by(key: Callable[[int], object], lanes: Sequence[int]) -> Mapping[Any, list[int]]:
    """Lanes with the same key, in order."""
    groups: dict[Any, list[int]] = {}
    for i in lanes:
        groups.setdefault(key(i), []).append(i)
    return groups


def _chunks(
    group: list[int], machine: Machine, static: RunConfig, memory: int
) -> Iterator[tuple[list[int], int]]:
    """Cut a group into chunks of about one size, which comes with each: one compile for all of them."""
    if static.model == "gmm":
        k, d = static.gmm.n_components, machine.train.rows.shape[1]
        floats = 2 * k * d * d + len(machine.test.rows)
        placed = place(static.gmm, on_cpu())
        if not placed.on_cpu:  # all lanes step together, each through a block of rows
            floats += 3 * min(placed.rows_a_block, len(machine.train.rows)) * k * d
    else:
        floats = 2**20  # weights, Adam's moments, activations of a step
    largest = max(1, min(MAX_CHUNK if static.model == "gmm" else MAX_CHUNK_TRAINED, memory // (4 * floats)))
    size = -(-len(group) // -(-len(group) // largest))
    for start in range(0, len(group), size):
        yield group[start : start + size], size


def _compute(
    machine: Machine, static: RunConfig, configs: Sequence[RunConfig], size: int, n_resamples: int
) -> Chunk:
    if static.model == "gmm":
        scored = score_mixtures(machine, static, configs, size)
    else:
        scored = score_autoencoders(machine, static, configs)
    return Chunk(scored, measure(scored.scores, machine.test.clips.labels, n_resamples))


def _digest(machine: Machine, static: RunConfig, configs: Sequence[RunConfig], n_resamples: int) -> str:
    """Everything that decides a chunk's results, as a file name."""
    versions = {name: metadata.version(name) for name in ("adjax", "jax", "jaxlib")}
    parts = (machine.digest, static, configs, n_resamples, versions)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
