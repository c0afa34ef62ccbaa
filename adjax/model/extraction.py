"""Clips on disk to features on the host: decoded in threads, computed on all cores, and never twice.

Clips of any length are held as one matrix of rows and the places where each clip begins, without padding.
"""

from __future__ import annotations

import functools
import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib import metadata
from itertools import pairwise
from pathlib import Path

import jax
import numpy as np

import adjax.data.audio
import adjax.features
from adjax.batching import compile_clips
from adjax.data.audio import Channel
from adjax.data.cache import ClipCache, Content
from adjax.data.clips import Clip, ClipTable
from adjax.data.descriptors import ClipInfo
from adjax.data.loader import LoadedBatch, describe, load_batches, scan
from adjax.features.recipes import FeatureConfig, make_features
from adjax.types import ClipBatch, ClipError, DataError, MachineId


@dataclass(frozen=True)
class ClipFeatures:
    """Features of many clips, on the host.

    Attributes:
        clips: the clips that could be read; their order is that of the rows.
        rows: (n_rows, n_features) float32, clip after clip.
        offsets: (n_clips + 1,) int64, clip i has the rows offsets[i] to offsets[i + 1].
        failures: the clips that could not be read.
        notes: what was done to the clips on the way (resampled, a channel taken).
        infos: what the recording of each clip looks like, aligned with `clips`; () where no file was read.
        columns: (n_features,) names of the numbers, of vectors from elsewhere; () where nobody has named them.
    """

    clips: ClipTable
    rows: np.ndarray
    offsets: np.ndarray
    failures: tuple[ClipError, ...] = ()
    notes: tuple[str, ...] = ()
    infos: tuple[ClipInfo, ...] = ()
    columns: tuple[str, ...] = ()

    def where(self, keep: Callable[[Clip], bool]) -> ClipFeatures:
        """The clips that `keep` chooses; their rows are not copied where they lie together."""
        return self.at([i for i, clip in enumerate(self.clips) if keep(clip)])

    def followed_by(self, other: ClipFeatures) -> ClipFeatures:
        """These clips and then others; only clips and rows."""
        return ClipFeatures(
            ClipTable((*self.clips, *other.clips)),
            np.concatenate([self.rows, other.rows]),
            np.concatenate([self.offsets, self.offsets[-1] + other.offsets[1:]]),
        )

    def of_machine(self, machine: MachineId) -> ClipFeatures:
        """The clips of one machine."""
        return self.where(lambda clip: clip.machine == machine)

    def at(self, chosen: list[int]) -> ClipFeatures:
        """The clips in these places of the table; see `where`."""
        lengths = np.diff(self.offsets)[chosen]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        if chosen and chosen == list(range(chosen[0], chosen[-1] + 1)):
            rows = self.rows[self.offsets[chosen[0]] : self.offsets[chosen[-1] + 1]]
        else:
            pieces = [self.rows[self.offsets[i] : self.offsets[i + 1]] for i in chosen]
            rows = np.concatenate([self.rows[:0], *pieces])
        infos = tuple(self.infos[i] for i in chosen) if self.infos else ()
        clips = ClipTable(tuple(self.clips[i] for i in chosen))
        return ClipFeatures(clips, rows, offsets, infos=infos, columns=self.columns)


def extract(
    clips: ClipTable,
    config: FeatureConfig,
    *,
    channel: Channel = 0,
    cache: Path | None = None,
    on_clips: Callable[[int], None] | None = None,
    none_is_fine: bool = False,
) -> ClipFeatures:
    """Read clips and compute their features, a batch at a time.

    While one batch is computed, the next ones are decoded. Memory is that of the features (float32) and a few
    batches of samples.

    Args:
        clips: what to read.
        config: the front end.
        channel: of multi-channel clips.
        cache: folder of features already computed, which are read instead, and to which new ones are added (see
            `adjax.data.cache`). None: compute everything. Front ends of kind "samples" are not kept: they are the
            files.
        on_clips: called with the number of clips that each batch has finished, readable or not.
        none_is_fine: whether to go on with nothing but failures where not one clip can be read.

    Raises:
        DataError: not one clip can be read, and that is not fine.
        SettingsError: settings out of range.
    """
    compute = compiled_features(config)
    if cache is None or config.kind == "samples":
        nothing: list[None] = [None] * len(clips)
        return _extract(clips, config, channel, compute, None, nothing, nothing, on_clips, none_is_fine)
    store = ClipCache(cache, settings_key(config, channel), config.n_features)
    try:
        contents = store.contents([clip.path for clip in clips])
        stored = [store.n_rows(content) if content else None for content in contents]
        return _extract(clips, config, channel, compute, store, contents, stored, on_clips, none_is_fine)
    finally:
        store.close()


@functools.lru_cache(maxsize=16)
def compiled_features(config: FeatureConfig) -> Callable[[ClipBatch], np.ndarray]:
    """The front end of many clips at once, compiled once for all who ask for these settings.

    Raises:
        SettingsError: settings out of range.
    """
    features = make_features(config)
    return compile_clips(lambda clip: features(clip.samples, clip.n_valid))


def settings_key(config: FeatureConfig, channel: Channel) -> str:
    """Everything that decides a clip's features apart from its file, in words: settings, code, versions."""
    return f"{config} channel={channel} {_code()}"


@functools.cache
def _code() -> str:
    """The code that makes features of a file, by its hash, with the versions that it stands on."""
    reading = Path(str(adjax.data.audio.__file__))
    names = ("audio", "descriptors", "frames", "headers", "lengths", "rates")
    sources = [reading.with_name(f"{name}.py") for name in names]
    sources += sorted(Path(adjax.features.__file__).parent.glob("*.py"))
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    packages = ("adjax", "jax", "jaxlib", "numpy", "scipy", "soundfile", "soxr")
    versions = " ".join(f"{name}={metadata.version(name)}" for name in packages)
    return f"{versions} device={jax.devices()[0].device_kind} code={code[:16]}"


def _extract(
    clips: ClipTable,
    config: FeatureConfig,
    channel: Channel,
    compute: Callable[[ClipBatch], np.ndarray],
    store: ClipCache | None,
    contents: Sequence[Content | None],
    stored: Sequence[int | None],
    on_clips: Callable[[int], None] | None,
    none_is_fine: bool,
) -> ClipFeatures:
    """Take from the store what it has (`stored` rows of each clip), compute the rest and add it to the store."""
    report = on_clips or (lambda n: None)
    old = [i for i, n in enumerate(stored) if n is not None]
    new = np.array([i for i, n in enumerate(stored) if n is None], np.int64)
    table = ClipTable(tuple(clips[i] for i in new))
    scanned = scan(table, sr=config.sr, channel=channel)
    n_rows = np.array([n or 0 for n in stored], np.int64)
    n_rows[new] = [config.n_rows(n) for n in scanned.n_samples.tolist()]
    offsets = np.concatenate([[0], np.cumsum(n_rows)])
    # Pages that unreadable clips leave untouched never exist.
    rows = np.empty((offsets[-1], config.n_features), np.float32)
    places = [rows[start:end] for start, end in pairwise(offsets.tolist())]
    infos: dict[int, ClipInfo] = {}
    if store and old:
        infos = store.read_all({i: (content, places[i]) for i in old if (content := contents[i])})
        if len(infos) < len(old):  # the others are gone or damaged: compute them
            stored = [n if i in infos else None for i, n in enumerate(stored)]
            return _extract(clips, config, channel, compute, store, contents, stored, on_clips, none_is_fine)
        report(len(old))
    batches: Iterable[LoadedBatch] = ()
    failures: list[ClipError] = []
    if scanned.n_samples.any():
        batches = load_batches(table, sr=config.sr, channel=channel, scanned=scanned)
    else:  # nothing to compute
        failures += scanned.failures
        report(len(failures))
    writes: list[Future[bool]] = []
    with ThreadPoolExecutor(1, thread_name_prefix="adjax-store") as writer:
        for loaded, values in _ahead(compute, batches):
            # The rows after the good clips are padding of the batch.
            for value, info, row in zip(values, loaded.infos, loaded.rows, strict=False):
                i = int(new[row])
                places[i][:] = value[: n_rows[i]]
                infos[i] = info
                if store and (content := contents[i]):
                    writes.append(writer.submit(store.write, content, places[i], info))
            failures += loaded.failures
            report(len(loaded.rows) + len(loaded.failures))
    for write in writes:
        write.result()  # a disk that refuses is no error; a bug is
    if not infos and not none_is_fine:
        raise DataError(f"none of the {len(clips)} clips can be read; the first: {failures[0]}")
    notes = describe(infos.values(), sr=config.sr, channel=channel)
    if old:
        notes += (f"features taken from the cache: {len(old)} of {len(clips)} clips",)
    good = sorted(infos)
    every = ClipFeatures(clips, rows, offsets)
    chosen = every if len(good) == len(clips) else every.at(good)
    return replace(chosen, failures=tuple(failures), notes=notes, infos=tuple(infos[i] for i in good))


def _ahead(
    compute: Callable[[ClipBatch], np.ndarray], batches: Iterable[LoadedBatch]
) -> Iterator[tuple[LoadedBatch, np.ndarray]]:
    """Each batch with its features, the next one already begun: no core waits for the slowest part of a batch."""
    with ThreadPoolExecutor(2, thread_name_prefix="adjax-extract") as pool:
        waiting: deque[tuple[LoadedBatch, Future[np.ndarray]]] = deque()
        for loaded in batches:
            waiting.append((loaded, pool.submit(compute, loaded.batch)))
            if len(waiting) == 2:
                loaded, values = waiting.popleft()
                yield loaded, values.result()
        for loaded, values in waiting:
            yield loaded, values.result()
