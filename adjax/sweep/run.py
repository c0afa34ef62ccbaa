"""Run a sweep: machine by machine, front end by front end, chunk by chunk; no finished chunk is computed again."""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from adjax.data.audio import Channel
from adjax.data.clips import ClipTable
from adjax.detectors.kinds import kind_of
from adjax.features.recipes import FeatureConfig
from adjax.files import write_failures, write_json
from adjax.model.extraction import ClipFeatures
from adjax.model.record import versions
from adjax.model.spec import ModelSpec, VectorConfig
from adjax.model.spec_json import to_json
from adjax.model.vectors import align, takes_vectors
from adjax.store import ResultFolder, own_folder
from adjax.sweep.data import Machine, load_machine
from adjax.sweep.models import r_of, score_trials
from adjax.sweep.results import Chunk, SweepResult, TrialResult, load_chunk, measure, save_chunk, trial_result
from adjax.sweep.settings import Sweep, static_part
from adjax.types import AdjaxError, ClipError, DataError, FitError, MachineId, SettingsError

TABLE, SETTINGS, FAILURES = "trials.csv", "settings.json", "failures.csv"
CHUNKS = "chunks"
MAX_CHUNK = 512  # trials at most: what an interruption can cost


@dataclass(frozen=True)
class Progress:
    """How far a sweep is.

    Attributes:
        n_done: trials with a result, of this run or an earlier one.
        n_trials: in all.
        seconds_left: an estimate from the trials computed so far; None before the first.
    """

    n_done: int
    n_trials: int
    seconds_left: float | None


def run_sweep(
    data: ClipTable | ClipFeatures,
    sweep: Sweep,
    folder: Path,
    *,
    cache: Path | None = None,
    memory: int = 2**30,
    n_resamples: int = 200,
    on_progress: Callable[[Progress], None] | None = None,
) -> SweepResult:
    """Fit every trial on every machine, score its test clips, and measure where there are labels.

    The same call after an interruption at any point goes on after the last finished chunk. A trial that fails says why
    in its status and has no score. `folder` gets `trials.csv`, `settings.json`, the scores in `chunks`, the list of
    failures if there are some, and the SHA-256 of all of them; results of an earlier sweep there make way at the end.

    Args:
        data: clips of all machines, normal ones in split "train"; for trials of vectors their features, such as
            `read_vectors` gives.
        sweep: the settings.
        folder: for the results, made if missing.
        cache: of features, see `extract`.
        memory: bytes for the models of one chunk, about.
        n_resamples: of the bootstrap intervals.
        on_progress: called after every chunk.

    Raises:
        SettingsError: settings that a trial cannot have, or trials of vectors on clips, or of clips on vectors.
        DataError: there are no clips, or vectors with other columns than the trials'.
        StoreError: another run is writing into the folder, it cannot be written, or results there that adjax did not
            write would be lost.
    """
    specs = sweep.specs
    clips = data.clips if isinstance(data, ClipFeatures) else data
    for spec in specs:
        if takes_vectors(spec) != isinstance(data, ClipFeatures):
            raise SettingsError("trials of vectors take features (see read_vectors), trials of sound clips")
        if isinstance(data, ClipFeatures):
            data = align(data, spec.detectors[0])
    machines = clips.select(split="test").machines
    if not machines:
        raise DataError("there are no test clips; a data set needs normal train clips and test clips")
    with own_folder(folder, (TABLE, SETTINGS, FAILURES), rebuilt_below=CHUNKS) as results:
        run = _Run(sweep, specs, results, cache, memory, n_resamples, len(machines), on_progress)
        run.failures += data.failures if isinstance(data, ClipFeatures) else data.rejected
        for name in machines:
            for trials in _by(lambda i: _front_end(specs[i]), range(len(specs))).values():
                run.front_end(name, data.of_machine(name), trials)
        result = run.result(machines)

        def fill(place: Path) -> None:
            result.write(place / TABLE)
            write_failures(place / FAILURES, result.failures)
            axes = {name: list(dict.fromkeys(one.get(name) for one in sweep.settings)) for name in sweep.axes}
            write_json(place / SETTINGS, {"axes": axes, "base": to_json(sweep.base), "versions": versions()})

        used = {f"{CHUNKS}/{trial.chunk}" for trial in result.trials if trial.chunk}
        results.replace(fill, keep=used)
    return result


class _Run:
    """A sweep on its way: what it was asked for, and what it has found so far."""

    def __init__(
        self,
        sweep: Sweep,
        specs: Sequence[ModelSpec],
        results: ResultFolder,
        cache: Path | None,
        memory: int,
        n_resamples: int,
        n_machines: int,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self.sweep, self.specs, self.results, self.cache = sweep, specs, results, cache
        self.memory, self.n_resamples, self.on_progress = memory, n_resamples, on_progress
        self.n_trials = n_machines * len(specs)
        self.found: dict[tuple[str, str, int], TrialResult] = {}
        self.failures: list[AdjaxError] = []
        self.notes: list[str] = []
        self.n_resumed = self.n_computed = 0
        self.started = time.perf_counter()

    def front_end(self, name: MachineId, clips: ClipTable | ClipFeatures, trials: list[int]) -> None:
        """All trials of one machine behind one front end."""
        features, channel = _front_end(self.specs[trials[0]])
        ratios = None
        if features.pooling == "gwrp":
            ratios = tuple(sorted({r_of(self.specs[i].detectors[0]) for i in trials}))
        try:
            machine = load_machine(clips, features, name, ratios, channel=channel, cache=self.cache)
        except DataError as error:
            self.fail(name, trials, error)
            return
        self.failures += [*machine.train.failures, *machine.test.failures]
        for static, group in _by(lambda i: static_part(self.specs[i]), trials).items():
            group.sort(key=lambda i: r_of(self.specs[i].detectors[0]))  # so that a chunk has few sets of rows
            for chunk, size in _chunks(group, machine, static, self.memory):
                self.chunk(name, machine, static, chunk, size)

    def chunk(
        self, name: tuple[str, str], machine: Machine, static: ModelSpec, trials: list[int], size: int
    ) -> None:
        """Take one chunk from its file, or compute it and write the file."""
        specs = [self.specs[i] for i in trials]
        file = f"{CHUNKS}/{_digest(machine, static, specs, self.n_resamples)}.npz"
        names, settings = machine.test.clips.names, [repr(config) for config in specs]
        sound = self.results.is_sound(file)
        result = load_chunk(self.results.folder / file, names, settings) if sound else None
        if result is not None:
            self.n_resumed += len(trials)
        else:
            try:
                result = _compute(machine, specs, size, self.n_resamples)
            except (FitError, jax.errors.JaxRuntimeError) as error:  # such as memory that does not suffice
                self.fail(name, trials, error)
                return
            self.n_computed += len(trials)
            if (self.results.folder / file).exists():
                self.notes.append(
                    f"{file} was damaged, or changed since it was written; it was computed again"
                )
            write = functools.partial(save_chunk, chunk=result, names=names, settings=settings)
            self.results.add(file, write)
        for row, i in enumerate(trials):
            self.found[*name, i] = trial_result(
                name, self.sweep.settings[i], result, file.rpartition("/")[2], row, machine.test.clips
            )
        self.report()

    def fail(self, name: tuple[str, str], trials: list[int], error: Exception) -> None:
        """Trials without a result: it says why, and the next call tries again."""
        self.failures.append(FitError(f"{' '.join(name)}: {error}"))
        for i in trials:
            self.found[*name, i] = trial_result(name, self.sweep.settings[i], None, str(error), 0)
        self.report()

    def report(self) -> None:
        """Tell how far the sweep is."""
        if self.on_progress is None:
            return
        n_left = self.n_trials - len(self.found)
        seconds = time.perf_counter() - self.started
        estimate = seconds / self.n_computed * n_left if self.n_computed else None
        self.on_progress(Progress(len(self.found), self.n_trials, estimate))

    def result(self, machines: Sequence[tuple[str, str]]) -> SweepResult:
        """Machine by machine, in the order of the settings."""
        trials = tuple(self.found[*name, i] for name in machines for i in range(len(self.specs)))
        failures = {str(error): error for error in (*self.failures, *self.unscored())}
        return SweepResult(trials, tuple(failures.values()), self.n_resumed, tuple(dict.fromkeys(self.notes)))

    def unscored(self) -> Iterator[ClipError]:
        """The clips that no trial has a score of."""
        scored: dict[int, tuple[ClipTable, np.ndarray]] = {}  # for each front end's clips
        for trial in self.found.values():
            if not trial.failed:
                _, so_far = scored.get(id(trial.clips), (None, np.zeros(len(trial.clips), bool)))
                scored[id(trial.clips)] = trial.clips, so_far | np.isfinite(trial.scores)
        found = {
            clip.path for clips, has in scored.values() for clip, own in zip(clips, has, strict=True) if own
        }
        for clip in dict.fromkeys(clip for clips, _ in scored.values() for clip in clips):
            if clip.path not in found:
                yield ClipError(clip.path, "has no score in any trial: give a longer clip")


def _front_end(spec: ModelSpec) -> tuple[FeatureConfig | VectorConfig, Channel]:
    """What the clips go through; r comes later, for all trials at once."""
    features = spec.detectors[0].features
    return replace(features, gwrp_r=0.0) if isinstance(features, FeatureConfig) else features, spec.channel


def _by(key: Callable[[int], object], trials: Sequence[int]) -> Mapping[Any, list[int]]:
    """Trials with the same key, in order."""
    groups: dict[Any, list[int]] = {}
    for i in trials:
        groups.setdefault(key(i), []).append(i)
    return groups


def _chunks(
    group: list[int], machine: Machine, static: ModelSpec, memory: int
) -> Iterator[tuple[list[int], int]]:
    """Cut a group into chunks of about one size, which comes with each: one compile for all of them."""
    own = static.detectors[0]
    kind = kind_of(own.kind)
    n_train, d = machine.train.rows.shape
    floats = kind.n_floats(own.config, d, n_train, len(machine.test.rows))
    largest = max(1, min(MAX_CHUNK, kind.max_lanes, memory // (4 * floats)))
    size = -(-len(group) // -(-len(group) // largest))
    for start in range(0, len(group), size):
        yield group[start : start + size], size


def _compute(machine: Machine, specs: Sequence[ModelSpec], size: int, n_resamples: int) -> Chunk:
    scored = score_trials(machine, specs, size)
    return Chunk(scored, measure(scored.scores, machine.test.clips.labels, n_resamples))


def _digest(machine: Machine, static: ModelSpec, specs: Sequence[ModelSpec], n_resamples: int) -> str:
    """Everything that decides a chunk's results, as a file name."""
    versions = {name: metadata.version(name) for name in ("adjax", "jax", "jaxlib")}
    parts = (machine.digest, static, specs, n_resamples, versions)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
