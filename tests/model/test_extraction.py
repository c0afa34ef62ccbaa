"""Features of clips on disk, with and without the cache."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from adjax.data import cache
from adjax.data.audio import read_clip, write_wav
from adjax.data.clips import Clip, ClipTable
from adjax.data.loader import load_batches
from adjax.features import log_mel_spectrogram
from adjax.features.recipes import FeatureConfig, Floor
from adjax.model import extraction
from adjax.model.extraction import ClipFeatures, extract
from adjax.model.inputs import extract_for, extract_splits
from adjax.model.named import make_spec
from adjax.model.spec import VectorConfig
from adjax.types import ClipBatch, ClipError, DataError, SettingsError

CONFIG = FeatureConfig(n_fft=256, hop_length=128, n_mels=16)


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are trusted at once, not only after two seconds."""
    monkeypatch.setattr(cache, "SETTLE_NS", 0)


@pytest.fixture
def clips(tmp_path: Path) -> ClipTable:
    """Five clips of different lengths, one silent."""
    rng = np.random.default_rng(0)
    for i in range(5):
        write_wav(tmp_path / f"{i}.wav", (i > 0) * 0.1 * rng.standard_normal(2000 + 300 * i), 16000)
    return ClipTable(tuple(Clip(tmp_path / f"{i}.wav") for i in range(5)))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The clips that are decoded, as they are."""
    seen: list[str] = []

    def spy(clips: ClipTable, **settings: object):
        seen.extend(clip.path.name for clip in clips)
        return load_batches(clips, **settings)

    monkeypatch.setattr(extraction, "load_batches", spy)
    return seen


def same(got: ClipFeatures, expected: ClipFeatures) -> None:
    assert got.clips == expected.clips
    np.testing.assert_array_equal(got.rows, expected.rows)
    np.testing.assert_array_equal(got.offsets, expected.offsets)
    assert [str(failure) for failure in got.failures] == [str(failure) for failure in expected.failures]
    assert got.infos == expected.infos
    assert len(got.infos) == len(got.clips)


def test_a_batch_equals_one_clip_at_a_time(clips: ClipTable) -> None:
    """Batches are padded to the longest clip; that changes nothing."""
    features = extract(clips, CONFIG)
    assert features.clips == clips
    for i, clip in enumerate(clips):
        alone = log_mel_spectrogram(
            jnp.asarray(read_clip(clip.path).samples), sr=16000, n_fft=256, hop_length=128, n_mels=16,
            amin=np.finfo(np.float64).eps, floor="add",
        )  # fmt: skip
        np.testing.assert_allclose(
            features.rows[features.offsets[i] : features.offsets[i + 1]], alone, atol=1e-3
        )


def test_where_keeps_rows_with_their_clips(clips: ClipTable) -> None:
    every = extract(clips, CONFIG)
    odd = every.where(lambda clip: int(clip.path.stem) % 2 == 1)
    assert [clip.path.stem for clip in odd.clips] == ["1", "3"]
    for i, clip in enumerate(odd.clips):
        j = int(clip.path.stem)
        np.testing.assert_array_equal(
            odd.rows[odd.offsets[i] : odd.offsets[i + 1]], every.rows[every.offsets[j] : every.offsets[j + 1]]
        )
    empty = every.where(lambda clip: False)
    assert (len(empty.clips), empty.rows.shape, empty.offsets.tolist()) == (0, (0, 16), [0])
    together = every.at([1, 2])
    assert np.shares_memory(together.rows, every.rows)


def test_every_detector_gets_its_own_front_end_and_like_ones_share(
    clips: ClipTable, decoded: list[str]
) -> None:
    spec = make_spec("gmm", features=CONFIG)
    spec = replace(spec, detectors=2 * spec.detectors)
    first, second = extract_for(spec, clips)
    assert first is second
    assert len(decoded) == 5
    views = replace(spec.detectors[0], features=replace(CONFIG, pooling="views"))
    counts: list[int] = []
    mixed = extract_for(replace(spec, detectors=(spec.detectors[0], views)), clips, on_clips=counts.append)
    assert [own.rows.shape[1] for own in mixed] == [16, 80]
    assert sum(counts) == 5  # a clip counts once
    vectors = replace(spec.detectors[0], features=VectorConfig(3))
    with pytest.raises(SettingsError, match="vectors"):
        extract_for(replace(spec, detectors=(vectors,)), clips)


def test_splits_need_training_and_test_clips_and_keep_what_was_rejected(clips: ClipTable) -> None:
    spec = make_spec("gmm", features=CONFIG)
    for there, missing in (("train", "test"), ("test", "train")):
        with pytest.raises(DataError, match=f"no {missing} clips"):
            extract_splits(ClipTable(tuple(replace(c, split=there) for c in clips)), spec)
    both = tuple(replace(clip, split="train" if i < 3 else "test") for i, clip in enumerate(clips))
    strange = ClipError("x.wav", "what is this?")
    train, test = extract_splits(ClipTable(both, (strange,)), spec)
    assert [len(part[0].clips) for part in (train, test)] == [3, 2]
    assert (train[0].failures, test[0].failures) == ((strange,), ())


def test_the_second_run_decodes_nothing(clips: ClipTable, cache_folder: Path, decoded: list[str]) -> None:
    bare = extract(clips, CONFIG)
    first = extract(clips, CONFIG, cache=cache_folder)
    assert len(decoded) == 10
    counts: list[int] = []
    second = extract(clips, CONFIG, cache=cache_folder, on_clips=counts.append)
    assert len(decoded) == 10
    assert sum(counts) == 5
    same(first, bare)
    same(second, bare)
    assert second.notes == (*bare.notes, "features taken from the cache: 5 of 5 clips")
    assert bare.notes == ("clips of digital silence: 1",)


def test_what_changed_is_computed_again(clips: ClipTable, cache_folder: Path, decoded: list[str]) -> None:
    extract(clips, CONFIG, cache=cache_folder)
    before = clips[2].path.stat()
    write_wav(clips[2].path, np.full(2600, 0.25), 16000)  # as long as it was
    os.utime(clips[2].path, ns=(before.st_atime_ns, before.st_mtime_ns))
    decoded.clear()
    same(extract(clips, CONFIG, cache=cache_folder), extract(clips, CONFIG))
    assert decoded[:1] == ["2.wav"]
    assert len(decoded) == 1 + 5


@pytest.mark.parametrize(
    "other", [{"n_mels": 17}, {"pooling": "mean"}, {"clip_norm": "level"}, {"pad_mode": "reflect"}]
)
def test_another_setting_is_computed_anew(
    clips: ClipTable, cache_folder: Path, decoded: list[str], other: dict
) -> None:
    extract(clips, CONFIG, cache=cache_folder)
    config = replace(CONFIG, **other)
    decoded.clear()
    same(extract(clips, config, cache=cache_folder), extract(clips, config))
    assert len(decoded) == 10


def test_waves_are_not_kept_twice(clips: ClipTable, cache_folder: Path, decoded: list[str]) -> None:
    """They are the files: a cache of them would hold nothing that was computed."""
    waves = FeatureConfig(kind="samples")
    first = extract(clips, waves, cache=cache_folder)
    n = len(decoded)
    again = extract(clips, waves, cache=cache_folder)
    assert len(decoded) == 2 * n > 0
    assert not list(cache_folder.rglob("*.*"))
    np.testing.assert_array_equal(first.rows, again.rows)


def test_channel_code_and_versions_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    key = extraction.settings_key(CONFIG, 0)
    assert extraction.settings_key(CONFIG, "mean") != key
    assert "code=" in key
    assert "soxr=" in key
    monkeypatch.setattr(extraction, "_code", lambda: "new code")
    assert extraction.settings_key(CONFIG, 0) != key


def test_the_floor_is_part_of_the_caches_key() -> None:
    keys = {extraction.settings_key(replace(CONFIG, floor=floor), 0) for floor in get_args(Floor)}
    assert len(keys) == 2


def test_a_damaged_entry_is_computed_again(clips: ClipTable, cache_folder: Path, decoded: list[str]) -> None:
    first = extract(clips, CONFIG, cache=cache_folder)
    entries = [p for p in cache_folder.rglob("*") if p.is_file() and len(p.name) == 64]
    data = bytearray(entries[0].read_bytes())
    data[-1] ^= 1
    entries[0].write_bytes(data)
    entries[1].write_bytes(entries[1].read_bytes()[:-7])
    decoded.clear()
    same(extract(clips, CONFIG, cache=cache_folder), first)
    assert len(decoded) == 2
    same(extract(clips, CONFIG, cache=cache_folder), first)
    assert len(decoded) == 2


def test_bad_clips_are_reported_each_time(clips: ClipTable, cache_folder: Path) -> None:
    clips[1].path.write_bytes(b"RIFF")  # its header shows it
    soundfile.write(clips[3].path, np.full(2000, np.nan), 16000, subtype="FLOAT")
    runs = [extract(clips, CONFIG, cache=folder) for folder in (None, cache_folder, cache_folder)]
    for run in runs:
        same(run, runs[0])
        assert [clip.path.name for clip in run.clips] == ["0.wav", "2.wav", "4.wav"]
        assert len(run.failures) == 2
        assert len(run.rows) == run.offsets[-1] == sum(CONFIG.n_rows(n) for n in (2000, 2600, 3200))
    clips[3].path.unlink()
    clips[1].path.unlink()
    assert len(extract(clips, CONFIG, cache=cache_folder).failures) == 2


def test_no_clip_at_all(clips: ClipTable, cache_folder: Path) -> None:
    for clip in clips:
        clip.path.write_bytes(b"")
    for folder in (None, cache_folder):
        with pytest.raises(DataError, match="none of the 5 clips can be read; the first"):
            extract(clips, CONFIG, cache=folder)
        nothing = extract(clips, CONFIG, cache=folder, none_is_fine=True)
        assert (len(nothing.clips), len(nothing.failures), nothing.rows.shape) == (0, 5, (0, 16))


def test_the_chosen_clips_keep_their_infos(clips: ClipTable) -> None:
    features = extract(clips, CONFIG)
    assert [info.n_samples for info in features.infos] == [2000, 2300, 2600, 2900, 3200]
    for chosen in ([1, 2], [4, 0], []):
        assert features.at(chosen).infos == tuple(features.infos[i] for i in chosen)
    assert features.where(lambda clip: clip.path.stem == "3").infos == features.infos[3:4]
    bare = replace(features, infos=())
    assert bare.at([1, 2]).infos == ()


@pytest.mark.parametrize("pooling", ["none", "mean"])
@pytest.mark.parametrize("n_samples", [0, 1, 100, 1023, 1024])
def test_edge_lengths(tmp_path: Path, n_samples: int, pooling: str) -> None:
    """An empty file is a failure with a name; every other length has frames, padded with zeros at its ends."""
    soundfile.write(tmp_path / "short.wav", np.full(n_samples, 0.5), 16000)
    write_wav(tmp_path / "long.wav", np.full(4000, 0.1), 16000)
    table = ClipTable((Clip(tmp_path / "short.wav"), Clip(tmp_path / "long.wav")))
    config = FeatureConfig(pooling=pooling)
    features = extract(table, config)
    if n_samples == 0:
        assert [failure.reason for failure in features.failures] == [
            "is empty: 0 samples; record it again or leave it out"
        ]
        assert len(features.clips) == 1
        return
    assert (
        features.offsets[1] == config.n_rows(n_samples) == (1 if pooling == "mean" else n_samples // 512 + 1)
    )
    assert np.isfinite(features.rows).all()
    alone = extract(ClipTable(table[:1]), config)
    np.testing.assert_allclose(features.rows[: len(alone.rows)], alone.rows, atol=1e-3)


@pytest.mark.parametrize("sr", [8000, 44100, 192000])
@pytest.mark.parametrize(
    ("name", "subtype"),
    [("x.wav", "PCM_16"), ("x.wav", "PCM_24"), ("x.wav", "PCM_32"), ("x.wav", "FLOAT"), ("x.flac", "PCM_24")],
)
def test_formats_and_rates_give_the_same_features(tmp_path: Path, sr: int, name: str, subtype: str) -> None:
    """A tone below 4 kHz sounds the same at every rate and in every format."""

    def tone(
        rate: int,
    ) -> np.ndarray:  # fades in and out: the ends of a bare one click, differently at each rate
        return 0.4 * np.hanning(rate // 2) * np.sin(2 * np.pi * 1000 * np.arange(rate // 2) / rate)

    soundfile.write(tmp_path / name, tone(sr), sr, subtype=subtype)
    soundfile.write(tmp_path / "reference.wav", tone(16000), 16000, subtype="FLOAT")
    table = ClipTable((Clip(tmp_path / name), Clip(tmp_path / "reference.wav")))
    features = extract(table, replace(CONFIG, pooling="max"))
    loudest = features.rows[1] > features.rows[1].max() - 40
    np.testing.assert_allclose(features.rows[0][loudest], features.rows[1][loudest], atol=0.1)
    assert features.notes == (f"clips resampled from {sr} to 16000 Hz: 1",)


def test_many_batches_keep_their_order_and_a_failure_ends_the_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(9):
        write_wav(tmp_path / f"{i}.wav", np.full(2000, 0.1 * (i + 1)), 16000)
    (tmp_path / "4.wav").write_bytes(b"RIFF")
    clips = ClipTable(tuple(Clip(tmp_path / f"{i}.wav") for i in range(9)))
    whole = extract(clips, CONFIG)
    monkeypatch.setattr(extraction, "load_batches", partial(load_batches, batch_size=2))
    same(extract(clips, CONFIG), whole)
    assert [clip.path.stem for clip in whole.clips] == list("01235678")
    compute, calls = extraction.compiled_features(CONFIG), []

    def second_fails(batch: ClipBatch) -> np.ndarray:
        calls.append(batch)
        if len(calls) == 2:
            raise MemoryError("no room")
        return compute(batch)

    monkeypatch.setattr(extraction, "compiled_features", lambda config: second_fails)
    with pytest.raises(MemoryError, match="no room"):
        extract(clips, CONFIG)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("adjax-extract")]
