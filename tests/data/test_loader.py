from __future__ import annotations

import threading
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from adjax.data import loader
from adjax.data.audio import AudioClip, read_clip, write_wav
from adjax.data.clips import Clip
from adjax.data.descriptors import LENGTH_ZERO, RECOVERED_WORDS
from adjax.data.index import index_folder
from adjax.data.loader import MAX_EXACT_LENGTHS, LoadedBatch, load_batches, plan_batches, scan
from adjax.types import DataError, SettingsError


def clips_of(folder: Path, lengths: list[int]) -> list[Clip]:
    """One clip a length, of constant samples that tell the clips apart: clip i holds (i + 1) / 64."""
    clips = [Clip(folder / f"{i:04}.wav") for i in range(len(lengths))]
    for i, (clip, length) in enumerate(zip(clips, lengths, strict=True)):
        write_wav(clip.path, np.full(length, (i + 1) / 64), 16000)
    return clips


def truncate(clip: Clip) -> None:
    clip.path.write_bytes(clip.path.read_bytes()[:-10])


def late_failure(clip: Clip, n_samples: int = 10) -> None:
    """A clip whose header is fine and whose samples are not."""
    soundfile.write(clip.path, np.full(n_samples, np.nan), 16000, subtype="FLOAT")


def test_failures_do_not_keep_their_batches(tmp_path: Path) -> None:
    clips = clips_of(tmp_path, [10_000] * 20)
    for clip in clips:
        late_failure(clip, 10_000)
    tracemalloc.start()
    try:
        failures = [error for loaded in load_batches(clips, batch_size=1) for error in loaded.failures]
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(failures) == 20
    assert kept < 5 * 4 * 10_000


def loader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("adjax-loader")]


@given(
    n_samples=st.lists(st.integers(0, 3000), max_size=60),
    batch_size=st.integers(1, 9),
    max_samples=st.integers(1, 9000),
)
def test_plan_covers_every_clip_once_in_order(
    n_samples: list[int], batch_size: int, max_samples: int
) -> None:
    lengths = np.array(n_samples, np.int64)
    plans = plan_batches(lengths, batch_size=batch_size, max_samples=max_samples)
    rows = np.concatenate([plan.rows for plan in plans]) if plans else np.zeros(0)
    np.testing.assert_array_equal(rows, np.flatnonzero(lengths))
    n_rows_of: dict[int, int] = {}
    for plan in plans:
        longest = lengths[plan.rows].max()
        assert 1 <= len(plan.rows) <= plan.n_rows <= batch_size
        assert longest <= plan.n_padded <= 1.125 * longest
        assert plan.n_rows == 1 or plan.n_rows * plan.n_padded <= max_samples
        assert n_rows_of.setdefault(plan.n_padded, plan.n_rows) == plan.n_rows


def test_plan_of_equal_clips_has_one_shape_and_no_padding() -> None:
    plans = plan_batches(np.full(100, 160_000), batch_size=32)
    assert [len(plan.rows) for plan in plans] == [32, 32, 32, 4]
    assert {(plan.n_rows, plan.n_padded) for plan in plans} == {(32, 160_000)}


def test_plan_of_a_small_table_has_no_empty_rows() -> None:
    (plan,) = plan_batches(np.full(5, 160_000), batch_size=32)
    assert (plan.n_rows, plan.n_padded) == (5, 160_000)


def test_plan_rounds_only_many_lengths() -> None:
    few = np.arange(1001, 1001 + MAX_EXACT_LENGTHS)
    assert {plan.n_padded for plan in plan_batches(few, batch_size=1)} == set(few)
    many = np.random.default_rng(0).integers(16_000, 160_000, 2000)
    assert len({plan.n_padded for plan in plan_batches(many, batch_size=1)}) <= 8 * 4


def test_plan_puts_an_hour_alone() -> None:
    hour = 3600 * 16_000
    plans = plan_batches(np.array([160_000] * 3 + [hour] + [160_000] * 3), batch_size=32)
    assert [(len(p.rows), p.n_rows, p.n_padded) for p in plans] == [
        (3, 7, 160_000),
        (1, 1, hour),
        (3, 7, 160_000),
    ]


@pytest.mark.parametrize("n_ahead", [0, 1, 5])
def test_batches_hold_the_clips_in_order(tmp_path: Path, n_ahead: int) -> None:
    lengths = [10, 20, 30, 10, 20]
    batches = list(load_batches(clips_of(tmp_path, lengths), batch_size=2, n_ahead=n_ahead))
    assert [batch.rows.tolist() for batch in batches] == [[0, 1], [2, 3], [4]]
    assert [batch.batch.samples.shape for batch in batches] == [(2, 20), (2, 30), (2, 20)]
    assert [batch.batch.n_valid.tolist() for batch in batches] == [[10, 20], [30, 10], [20, 0]]
    for batch in batches:
        assert batch.batch.samples.dtype == np.float32
        assert batch.batch.n_valid.dtype == np.int32
        assert batch.rows.dtype == np.int64
        assert (batch.failures, batch.notes) == ((), ())
        expected = np.zeros(batch.batch.samples.shape)
        for i, row in enumerate(batch.rows):
            expected[i, : lengths[row]] = (row + 1) / 64
        np.testing.assert_array_equal(batch.batch.samples, expected)


def test_bad_clips_are_reported_once_and_the_rest_goes_on(tmp_path: Path) -> None:
    clips = clips_of(tmp_path, [10] * 9)
    truncate(clips[7])  # its header shows it
    late_failure(clips[0])
    late_failure(clips[5])
    late_failure(clips[8])
    batches = list(load_batches(clips, batch_size=3))
    assert [batch.rows.tolist() for batch in batches] == [[1, 2], [3, 4], [6]]
    assert [[Path(e.path).name for e in batch.failures] for batch in batches] == [
        ["0007.wav", "0000.wav"],
        ["0005.wav"],
        ["0008.wav"],
    ]
    np.testing.assert_array_equal(batches[0].batch.samples[:, 0], np.array([2, 3, 0]) / 64)
    np.testing.assert_array_equal(batches[0].batch.n_valid, [10, 10, 0])
    np.testing.assert_array_equal(batches[2].batch.samples[:, 0], np.array([7, 0, 0]) / 64)


def test_a_bad_header_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = clips_of(tmp_path, [10] * 4)
    truncate(clips[1])
    decoded = []

    def spy(path: Path, **settings: Any) -> AudioClip:
        decoded.append(path)
        return read_clip(path, **settings)

    monkeypatch.setattr(loader, "read_clip", spy)
    list(load_batches(clips, batch_size=2))
    assert sorted(decoded) == [clips[i].path for i in (0, 2, 3)]


def test_no_good_clip(tmp_path: Path) -> None:
    clips = clips_of(tmp_path, [10, 10])
    for clip in clips:
        truncate(clip)
    with pytest.raises(DataError, match=r"none of the 2 clips can be read; the first: .*0000\.wav: is trunc"):
        load_batches(clips)
    assert list(load_batches([])) == []
    late_failure(clips[0])
    (batch,) = load_batches(clips[:1])
    assert (len(batch.rows), len(batch.failures), batch.batch.n_valid.tolist()) == (0, 1, [0])
    assert not batch.batch.samples.any()


def test_clip_that_changes_between_header_and_samples(tmp_path: Path) -> None:
    clips = clips_of(tmp_path, [10, 10])
    scanned = scan(clips)
    write_wav(clips[0].path, np.zeros(11), 16000)
    (batch,) = load_batches(clips, scanned=scanned)
    assert batch.rows.tolist() == [1]
    assert "changed while it was read" in str(batch.failures[0])


def test_notes_come_once_a_kind(tmp_path: Path) -> None:
    kinds = [(48000, 1, 0.1), (48000, 1, 3.0), (16000, 1, 0.0), (16000, 4, 0.1), (8000, 4, 0.1)]
    clips = [Clip(tmp_path / f"{i}.wav") for i in range(len(kinds))]
    for clip, (sr, n_channels, level) in zip(clips, kinds, strict=True):
        soundfile.write(clip.path, np.full((sr // 10, n_channels), level), sr, subtype="FLOAT")
    first, second, third = load_batches(clips, batch_size=2)
    assert first.notes == (
        "clips resampled from 8000 to 16000 Hz: 1",
        "clips resampled from 48000 to 16000 Hz: 2",
        "clips of 4 channels, channel 0 taken: 2",
        "clips beyond full scale (up to 3), kept as they are: 1",
    )
    assert second.notes == ("clips of digital silence: 1",)
    assert third.notes == ()
    assert scan(clips, channel="mean").notes[2] == "clips of 4 channels, their mean taken: 2"


def test_notes_on_mended_headers_and_lossy_formats(tmp_path: Path) -> None:
    clips = clips_of(tmp_path, [2000] * 3)
    data = bytearray(clips[1].path.read_bytes())
    data[40:44] = bytes(4)
    clips[1].path.write_bytes(data)
    soundfile.write(clips[2].path, np.full(2000, 0.1), 16000, subtype="ULAW")
    (batch,) = load_batches(clips)
    assert [note.rpartition(": ")[::2] for note in batch.notes] == [
        ("clips in a lossy format (ULAW)", "1"),
        (f"clips with a wrong header ({RECOVERED_WORDS[LENGTH_ZERO]})", "1"),
    ]
    assert loader.describe(batch.infos, sr=16000, channel=0) == batch.notes


def test_scan_tells_lengths_and_failures(tmp_path: Path) -> None:
    clips = clips_of(tmp_path, [10, 20, 30])
    truncate(clips[1])
    scanned = scan(clips, sr=48000)
    np.testing.assert_array_equal(scanned.n_samples, [30, 0, 90])
    assert scanned.n_samples.dtype == np.int64
    assert scanned.sr == 48000
    assert [error.path for error in scanned.failures] == [str(clips[1].path)]
    assert [e.reason for e in scan(clips[:1], channel=1).failures] == [
        "has no channel 1, only 1 counted from 0; choose one of those"
    ]


def test_native_rate_must_be_one(tmp_path: Path) -> None:
    clips = [Clip(tmp_path / f"{i}.wav") for i in range(2)]
    write_wav(clips[0].path, np.zeros(10), 48000)
    write_wav(clips[1].path, np.zeros(10), 8000)
    with pytest.raises(
        DataError, match=r"differ in sampling rate \(1 at 8000 Hz, 1 at 48000 Hz\); choose one"
    ):
        load_batches(clips, sr=None)
    (batch,) = load_batches(clips[:1], sr=None)
    assert batch.batch.n_valid.tolist() == [10]
    assert scan(clips[:1], sr=None).sr == 48000
    assert scan([], sr=None).sr is None


@pytest.mark.parametrize(
    "bad",
    [{"sr": 1}, {"channel": -1}, {"batch_size": 0}, {"max_samples": 0}, {"n_threads": 0}, {"n_ahead": -1}],
)
def test_settings_are_checked_before_the_first_batch(tmp_path: Path, bad: dict) -> None:
    with pytest.raises(SettingsError):
        load_batches(clips_of(tmp_path, [10]), **bad)


def test_a_scan_of_something_else_is_refused(tmp_path: Path) -> None:
    clips = clips_of(tmp_path, [10, 10])
    for other in (scan(clips[:1]), scan(clips, sr=8000)):
        with pytest.raises(SettingsError, match="scan them with the same settings"):
            load_batches(clips, scanned=other)


def test_closing_early_stops_the_threads(tmp_path: Path) -> None:
    batches = load_batches(clips_of(tmp_path, [10] * 40), batch_size=2, n_threads=2)
    next(batches)
    assert loader_threads()
    batches.close()
    assert not loader_threads()


def test_an_unforeseen_error_propagates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = clips_of(tmp_path, [10] * 6)

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug, not a bad clip")

    monkeypatch.setattr(loader, "read_clip", broken)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        list(load_batches(clips, batch_size=2))
    assert not loader_threads()


def test_decodes_no_further_ahead_than_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = clips_of(tmp_path, [10] * 40)
    n_decoded = threading.Semaphore(0)

    def spy(path: Path, **settings: Any) -> AudioClip:
        n_decoded.release()
        return read_clip(path, **settings)

    monkeypatch.setattr(loader, "read_clip", spy)
    batches = load_batches(clips, batch_size=4, n_ahead=2)
    next(batches)
    for _ in range(12):  # the batch handed out and two ahead
        assert n_decoded.acquire(timeout=10)
    assert not n_decoded.acquire(timeout=0.1)


def test_memory_is_bounded_by_a_few_batches(tmp_path: Path) -> None:
    n_samples, batch_size, n_batches = 20_000, 8, 24
    write_wav(tmp_path / "x.wav", np.zeros(n_samples), 16000)
    clips = [Clip(tmp_path / "x.wav")] * (batch_size * n_batches)
    one_batch = 4 * n_samples * batch_size
    tracemalloc.start()
    try:
        n_clips = sum(len(b.rows) for b in load_batches(clips, batch_size=batch_size, n_threads=2, n_ahead=1))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert n_clips == len(clips)
    assert 2 * one_batch < peak < 4 * one_batch  # 3 batches, and a clip a thread


def test_real_clips(shared: Path) -> None:
    table = index_folder(shared / "data" / "mimii_mini")
    batches: list[LoadedBatch] = list(load_batches(table.select(split="test")))
    assert [len(batch.rows) for batch in batches] == [32, 32, 8]
    assert {batch.batch.samples.shape for batch in batches} == {(32, 160_000)}
    assert not any(batch.failures or batch.notes for batch in batches)
    clip = table.select(split="test")[40]
    np.testing.assert_array_equal(batches[1].batch.samples[8], read_clip(clip.path).samples)


def test_real_clips_of_eight_channels(shared: Path) -> None:
    paths = sorted((shared / "data" / "multichannel").glob("*.wav"))
    (batch,) = load_batches([Clip(path) for path in paths])
    assert batch.batch.samples.shape == (2, 160_000)
    assert batch.notes == ("clips of 8 channels, channel 0 taken: 2",)
