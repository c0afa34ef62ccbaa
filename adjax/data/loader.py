"""Stream clips from disk as padded batches: threads decode ahead, memory is bounded, bad clips are reported.

The shapes of all batches are planned from the headers (`scan`, `plan_batches`), before anything is decoded:
few different shapes mean few compiles downstream, and no clip can surprise the memory.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from adjax.batching import n_cores
from adjax.data.audio import (
    AudioInfo,
    Channel,
    check_channel,
    check_settings,
    check_size,
    read_clip,
    read_info,
)
from adjax.data.clips import Clip, ClipTable
from adjax.data.descriptors import RECOVERED_WORDS, ClipInfo
from adjax.data.rates import resampled_length
from adjax.types import ClipBatch, ClipError, DataError, SettingsError

Clips = ClipTable | Sequence[Clip]

_MOST = 64  # clips a task, so that an interrupt need not wait long
MAX_EXACT_LENGTHS = 8  # a table with no more different lengths than this is padded without rounding


@dataclass(frozen=True)
class Scan:
    """What the headers of some clips say.

    Attributes:
        n_samples: (n_clips,) int64, length of each clip at rate `sr`; 0 where the header is unusable.
        sr: the rate in Hz; None if the files' own was asked for and no file is readable.
        failures: one error for each 0 in `n_samples`, in that order.
        notes: what will be done to the clips, one line a kind: resampled, reduced from several channels.
        plain: whether reading all clips is little more than copying (see `AudioInfo`), at rate `sr` as they are.
    """

    n_samples: np.ndarray
    sr: int | None
    failures: tuple[ClipError, ...]
    notes: tuple[str, ...]
    plain: bool = False


class BatchPlan(NamedTuple):
    """One batch before it is read: which clips, and the shape (n_rows, n_padded) they go into."""

    rows: np.ndarray
    n_rows: int
    n_padded: int


@dataclass(frozen=True)
class LoadedBatch:
    """One batch of decoded clips.

    Attributes:
        batch: `ClipBatch` of NumPy arrays. Its first `len(rows)` rows are the good clips, in table order; the
            rows after them are empty (zeros, n_valid 0) and keep the shape constant.
        rows: (n_good,) int64, where each good clip stands in the table.
        infos: of each good clip.
        failures: the clips that could not be read. Every failure comes in exactly one batch; those that the
            headers already show come with the first.
        notes: what the report should say; those of `Scan.notes` come with the first batch only.
    """

    batch: ClipBatch
    rows: np.ndarray
    infos: tuple[ClipInfo, ...]
    failures: tuple[ClipError, ...]
    notes: tuple[str, ...]


def scan(
    clips: Clips,
    *,
    sr: int | None = 16000,
    channel: Channel = 0,
    n_threads: int | None = None,
) -> Scan:
    """Read the headers of all clips, so that the caller knows every length before anything is decoded.

    Args:
        clips: the table.
        sr: rate in Hz that the clips will have; None for the files' own, which must then be one and the same.
        channel: as in `audio.read_clip`.
        n_threads: None for one for two cores, at most 4.

    Raises:
        DataError: `sr` is None and the clips differ in rate.
        SettingsError: settings that make no sense.
    """
    check_settings(sr=sr, channel=channel)

    def header(clip: Clip) -> AudioInfo | ClipError:
        try:
            info = read_info(clip.path)
            check_channel(clip.path, channel, info.n_channels)
            check_size(clip.path, info.n_samples, info.sr, sr)
        except ClipError as error:
            return error
        return info

    def headers(share: slice) -> list[AudioInfo | ClipError]:
        return [header(clips[i]) for i in range(share.start, share.stop)]

    n_threads = _n_threads(n_threads, plain=True)
    with ThreadPoolExecutor(n_threads) as pool:
        found = [item for part in pool.map(headers, _shares(len(clips), n_threads)) for item in part]
    infos = [item for item in found if isinstance(item, AudioInfo)]
    rates = Counter(info.sr for info in infos)
    if sr is None and len(rates) > 1:
        counts = ", ".join(f"{n} at {rate} Hz" for rate, n in sorted(rates.items()))
        raise DataError(f"the clips differ in sampling rate ({counts}); choose one, for example sr=16000")
    lengths = [resampled_length(i.n_samples, i.sr, sr) if isinstance(i, AudioInfo) else 0 for i in found]
    sr = sr or next(iter(rates), None)
    return Scan(
        np.array(lengths, np.int64),
        sr,
        tuple(item for item in found if isinstance(item, ClipError)),
        _header_notes([(info.sr, info.n_channels) for info in infos], sr, channel),
        plain=all(info.plain and info.sr == sr for info in infos),
    )


def plan_batches(n_samples: np.ndarray, *, batch_size: int = 32, max_samples: int = 2**24) -> list[BatchPlan]:
    """Cut a table into batches of consecutive clips with few different shapes.

    The padded length is that of the longest clip of the batch; when the table has more than
    `MAX_EXACT_LENGTHS` different lengths, it is rounded up to a multiple of 2^(floor(log2 n) - 3), at most
    12.5 % more. The number of rows follows from the padded length alone: `batch_size` (or the whole table, if
    that is smaller), or what `max_samples` allows. Rows that get no clip stay empty.

    Args:
        n_samples: (n_clips,) int, length of each clip; clips of length 0 are left out.
        batch_size: largest number of clips in a batch.
        max_samples: largest n_rows · n_padded of a batch, in samples of 4 bytes; a longer clip goes alone.
    """
    if batch_size < 1 or max_samples < 1:
        raise SettingsError(f"batch_size={batch_size} and max_samples={max_samples} must be at least 1")
    rows = np.flatnonzero(n_samples)
    rounded = len(np.unique(n_samples[rows])) > MAX_EXACT_LENGTHS

    def n_rows(n_padded: int) -> int:
        return max(1, min(batch_size, len(rows), max_samples // n_padded))

    plans: list[BatchPlan] = []
    start, n_padded = 0, 0
    for stop, row in enumerate(rows):
        length = _round_up(int(n_samples[row])) if rounded else int(n_samples[row])
        if stop - start + 1 > n_rows(max(n_padded, length)):
            plans.append(BatchPlan(rows[start:stop], n_rows(n_padded), n_padded))
            start, n_padded = stop, 0
        n_padded = max(n_padded, length)
    if len(rows):
        plans.append(BatchPlan(rows[start:], n_rows(n_padded), n_padded))
    return plans


def load_batches(
    clips: Clips,
    *,
    sr: int | None = 16000,
    channel: Channel = 0,
    batch_size: int = 32,
    max_samples: int = 2**24,
    n_threads: int | None = None,
    n_ahead: int = 2,
    scanned: Scan | None = None,
) -> Generator[LoadedBatch, None, None]:
    """Decode clips batch by batch, a few batches ahead of the caller.

    While the caller works on one batch, at most `n_ahead` others wait or are being decoded: the memory is
    that of `n_ahead` + 2 batches, whatever the number of clips. Closing the generator stops the threads.

    Args:
        clips: the table.
        sr: rate in Hz, as in `scan`.
        channel: as in `audio.read_clip`.
        batch_size: largest number of clips in a batch; shapes as in `plan_batches`.
        max_samples: bound on a batch's samples, as in `plan_batches`.
        n_threads: None for one a core, at most 8; half as many for plain clips (see `Scan`), which two threads
            read hardly faster than one.
        n_ahead: batches decoded ahead; 0 decodes only when asked.
        scanned: what `scan` returned for the same clips and settings, if it was called before.

    Returns:
        Batches in table order; none for an empty table.

    Raises:
        DataError: not one clip has a usable header; or what `scan` raises. A clip that fails alone does not
            raise: it is in `LoadedBatch.failures`.
        SettingsError: settings that make no sense.
    """
    if n_ahead < 0:
        raise SettingsError(f"n_ahead={n_ahead}; give 0 or more")
    if scanned is None:
        scanned = scan(clips, sr=sr, channel=channel, n_threads=n_threads)
    elif len(scanned.n_samples) != len(clips) or sr not in (None, scanned.sr):
        raise SettingsError(
            f"`scanned` is of {len(scanned.n_samples)} clips at {scanned.sr} Hz, "
            f"not of these {len(clips)} at {sr} Hz; scan them with the same settings"
        )
    n_threads = _n_threads(n_threads, plain=scanned.plain)
    plans = plan_batches(scanned.n_samples, batch_size=batch_size, max_samples=max_samples)
    if len(clips) and not plans:
        raise DataError(f"none of the {len(clips)} clips can be read; the first: {scanned.failures[0]}")
    return _stream(clips, plans, scanned, channel, n_threads, n_ahead)


def _stream(
    clips: Clips,
    plans: list[BatchPlan],
    scanned: Scan,
    channel: Channel,
    n_threads: int,
    n_ahead: int,
) -> Generator[LoadedBatch, None, None]:
    failures, notes = scanned.failures, scanned.notes
    pool = ThreadPoolExecutor(n_threads, thread_name_prefix="adjax-loader")

    def start(plan: BatchPlan) -> tuple[BatchPlan, np.ndarray, list[Future[list[ClipInfo | ClipError]]]]:
        samples = _aligned_zeros(plan.n_rows, plan.n_padded)

        def read(share: slice) -> list[ClipInfo | ClipError]:
            return [
                _read_into(out[: scanned.n_samples[row]], clips[row], scanned.sr, channel)
                for out, row in zip(samples[share], plan.rows[share], strict=False)
            ]

        return plan, samples, [pool.submit(read, share) for share in _shares(len(plan.rows), n_threads)]

    try:
        waiting = deque(start(plan) for plan in plans[:n_ahead])
        for k in range(len(plans)):
            if k + n_ahead < len(plans):
                waiting.append(start(plans[k + n_ahead]))
            yield _finish(*waiting.popleft(), scanned.n_samples, failures, notes)
            failures, notes = (), ()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _aligned_zeros(n_rows: int, n_columns: int) -> np.ndarray:
    """(n_rows, n_columns) float32 of zeros, at an address that JAX on a CPU takes without a copy."""
    size = n_rows * n_columns
    room = np.zeros(size + 16, np.float32)
    first = -room.ctypes.data % 64 // room.itemsize
    return room[first : first + size].reshape(n_rows, n_columns)


def _read_into(out: np.ndarray, clip: Clip, sr: int | None, channel: Channel) -> ClipInfo | ClipError:
    """Decode a clip into its place in the batch; returns its info, or why it cannot be used."""
    try:
        audio = read_clip(clip.path, sr=sr, channel=channel, out=out)
    except ClipError as error:
        return ClipError(error.path, error.reason)  # its trace, kept with it, would keep the whole batch
    return audio.info


def _finish(
    plan: BatchPlan,
    samples: np.ndarray,
    jobs: list[Future[list[ClipInfo | ClipError]]],
    n_samples: np.ndarray,
    failures: tuple[ClipError, ...],
    notes: tuple[str, ...],
) -> LoadedBatch:
    """Wait for a batch and close the gaps that failed clips left."""
    results = [result for job in jobs for result in job.result()]
    infos = tuple(result for result in results if isinstance(result, ClipInfo))
    failures += tuple(result for result in results if isinstance(result, ClipError))
    good = np.array([isinstance(result, ClipInfo) for result in results])
    rows = plan.rows[good]
    if len(rows) < len(plan.rows):
        # What a header claimed and no audio filled takes no memory; to write zeros there would take it.
        fresh = _aligned_zeros(*samples.shape)
        np.take(samples, np.flatnonzero(good), axis=0, out=fresh[: len(rows)], mode="clip")
        samples = fresh
    n_valid = np.zeros(plan.n_rows, np.int32)
    n_valid[: len(rows)] = n_samples[rows]
    batch = ClipBatch(samples, n_valid)
    return LoadedBatch(batch, rows, infos, failures, notes + _info_notes(infos))


def describe(infos: Iterable[ClipInfo], *, sr: int | None, channel: Channel) -> tuple[str, ...]:
    """What the report should say of these clips, one line a kind: resampled, a channel taken, loud, mended."""
    infos = list(infos)
    headers = [(info.sr_file, info.n_channels) for info in infos]
    return _header_notes(headers, sr, channel) + _info_notes(infos)


def _header_notes(headers: list[tuple[int, int]], sr: int | None, channel: Channel) -> tuple[str, ...]:
    """Notes on clips of these rates and numbers of channels."""
    rates = Counter(rate for rate, _ in headers if sr not in (None, rate))
    channels = Counter(n_channels for _, n_channels in headers if n_channels > 1)
    what = "their mean" if channel == "mean" else f"channel {channel}"
    return tuple(
        [f"clips resampled from {rate} to {sr} Hz: {n}" for rate, n in sorted(rates.items())]
        + [f"clips of {n_channels} channels, {what} taken: {n}" for n_channels, n in sorted(channels.items())]
    )


def _info_notes(infos: Sequence[ClipInfo]) -> tuple[str, ...]:
    """Notes on what was found in these clips when they were decoded."""
    notes, peaks = [], [info.peak for info in infos]
    if n_loud := sum(peak > 1.0 for peak in peaks):
        notes.append(f"clips beyond full scale (up to {max(peaks):.3g}), kept as they are: {n_loud}")
    if n_silent := sum(peak == 0.0 for peak in peaks):
        notes.append(f"clips of digital silence: {n_silent}")
    codecs = Counter(info.codec for info in infos if info.lossy)
    notes += [f"clips in a lossy format ({codec}): {n}" for codec, n in sorted(codecs.items())]
    headers = Counter(info.recovered for info in infos if info.recovered)
    notes += [f"clips with a wrong header ({RECOVERED_WORDS[code]}): {n}" for code, n in headers.items()]
    return tuple(notes)


def _shares(n: int, n_threads: int) -> list[slice]:
    """Consecutive parts of n things, few: a task a thing would cost as much as reading a header does."""
    size = max(1, min(-(-n // n_threads), _MOST))
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def _round_up(n: int) -> int:
    """The next multiple of 2^(floor(log2 n) - 3), at most 12.5 % more."""
    step = 1 << max(n.bit_length() - 4, 0)
    return -(-n // step) * step


def _n_threads(n_threads: int | None, *, plain: bool) -> int:
    """One a core, at most 8; half as many for `plain` work, which mostly holds or awaits Python's lock."""
    if n_threads is not None and n_threads < 1:
        raise SettingsError(f"n_threads={n_threads}; give at least 1, or None")
    most = min(n_cores(), 8)
    return n_threads or (max(1, most // 2) if plain else most)
