"""Synthetic data sets: plans, ground truth, the tree on disk."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from adjax.data.audio import read_clip
from adjax.data.index import index_folder
from adjax.simulator import (
    FULL,
    GROUND_TRUTH,
    HOP_LENGTH,
    N_MELS,
    SMALL,
    ClipCounts,
    ClipPlan,
    FaultSpans,
    fault_mask,
    fault_spans,
    make_clips,
    plan_clips,
    read_ground_truth,
    write_tree,
)
from adjax.simulator.clips import FAULTS, SR
from adjax.types import DataError, SettingsError, StoreError

COUNTS = {"id_00": ClipCounts(3, 1, 3), "id_11": ClipCounts(2, 2, 3)}


def digests(home: Path) -> dict[str, str]:
    return {
        str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(home.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("tree"), counts=COUNTS, duration=2.0)


# -- plans


def test_full_counts_are_those_of_dcase_2020() -> None:
    assert sum(c.train for c in FULL.values()) == 2370
    assert sum(c.test_normal + c.test_anomaly for c in FULL.values()) == 1101
    assert {k: c.train for k, c in FULL.items()} == {"id_00": 968, "id_02": 968, "id_04": 434}
    assert SMALL.keys() == FULL.keys()


def test_plans_mix_the_faults_evenly_over_the_range() -> None:
    plans = [p for p in plan_clips(FULL) if p.fault]
    for machine_id in FULL:
        of_id = Counter(p.fault for p in plans if p.machine_id == machine_id)
        assert set(of_id) == set(FAULTS)
        assert max(of_id.values()) - min(of_id.values()) <= 1
    severities = np.array([p.severity for p in plan_clips(FULL, severities=(0.2, 0.6)) if p.fault])
    assert 0.2 <= severities.min() < 0.21
    assert 0.59 < severities.max() <= 0.6
    assert all(p.severity == 0.0 for p in plan_clips(FULL) if not p.fault)


@pytest.mark.parametrize(
    ("counts", "severities", "message"),
    [
        ({}, (0.3, 1.0), "no clip"),
        ({"id_00": ClipCounts(0, 0, 0)}, (0.3, 1.0), "no clip"),
        ({"id_00": ClipCounts(-1, 0, 0)}, (0.3, 1.0), "id_00: train=-1"),
        ({"00": ClipCounts(1, 0, 0)}, (0.3, 1.0), "id_00"),
        ({"id_x": ClipCounts(1, 0, 0)}, (0.3, 1.0), "id_00"),
        (COUNTS, (0.5, 0.2), "severities"),
        (COUNTS, (0.5, 1.2), "severities"),
    ],
)
def test_bad_plans_are_refused(counts: dict, severities: tuple[float, float], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        plan_clips(counts, severities=severities)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_bad_seed_is_refused(seed: int) -> None:
    with pytest.raises(SettingsError, match="seed"):
        plan_clips(COUNTS, seed=seed)


def test_no_plans_make_no_clips() -> None:
    assert list(make_clips([])) == []


def test_a_tree_replaces_its_own_kind_only(tmp_path: Path) -> None:
    one, two = {"id_00": ClipCounts(1, 0, 0)}, {"id_02": ClipCounts(2, 0, 0)}
    home = write_tree(tmp_path, counts=one, duration=1.0)
    before = home.stat().st_ino
    seen: list[Path] = []
    write_tree(tmp_path, counts=one, duration=1.0, on_clip=seen.append)
    assert home.stat().st_ino == before  # the same one: nothing is done
    assert [path.name for path in seen] == ["normal_id_00_00000000.wav"]
    write_tree(tmp_path, counts=two, duration=1.0)
    assert [path.name for path in sorted((home / "train").iterdir())] == [
        "normal_id_02_00000000.wav",
        "normal_id_02_00000001.wav",
    ]
    mine = home / "train" / "normal_id_02_00000001.wav"
    mine.write_bytes(b"a person's")
    for counts in (one, two):
        with pytest.raises(StoreError, match=r"holds train/normal_id_02_00000001\.wav, which would be lost"):
            write_tree(tmp_path, counts=counts, duration=1.0)
    assert mine.read_bytes() == b"a person's"


@pytest.mark.parametrize("settings", [{"snr_db": -60.0}, {"snr_db": float("nan")}, {"duration": 0.5}])
def test_bad_settings_are_refused(settings: dict) -> None:
    with pytest.raises(SettingsError, match=next(iter(settings))):
        next(make_clips(plan_clips(COUNTS), **settings))


# -- the tree


def test_tree_reads_as_dcase_2020(tree: Path) -> None:
    table = index_folder(tree.parent)
    assert tree.name == "slider"
    assert table.machine_types == ("slider",)
    assert not table.rejected
    found = Counter((c.machine_id, c.split, c.label) for c in table)
    assert found == {
        ("id_00", "train", 0): 3,
        ("id_00", "test", 0): 1,
        ("id_00", "test", 1): 3,
        ("id_11", "train", 0): 2,
        ("id_11", "test", 0): 2,
        ("id_11", "test", 1): 3,
    }
    assert (tree / "train" / "normal_id_00_00000000.wav").is_file()
    assert (tree / "test" / "anomaly_id_11_00000002.wav").is_file()
    assert not list(tree.rglob("*.tmp"))


def test_files_hold_the_clips_that_are_made(tree: Path) -> None:
    clips = list(make_clips(plan_clips(COUNTS), duration=2.0))
    assert len(clips) == 14
    for clip in clips:
        read = read_clip(tree / clip.plan.split / clip.plan.name)
        assert read.sr_file == SR
        np.testing.assert_allclose(read.samples, clip.samples, atol=0.51 / 32768)


def test_no_two_clips_are_alike(tree: Path) -> None:
    found = [d for name, d in digests(tree).items() if name.endswith(".wav")]
    assert len(set(found)) == len(found) == 14


def test_same_seed_same_files(tree: Path, tmp_path: Path) -> None:
    seen: list[Path] = []
    again = write_tree(tmp_path / "again", counts=COUNTS, duration=2.0, on_clip=seen.append)
    assert digests(again) == digests(tree)
    assert {p.name for p in seen} == {p.name for p in tree.rglob("*.wav")}
    assert len(seen) == 14
    other = write_tree(tmp_path / "other", counts=COUNTS, duration=2.0, seed=1)
    assert not set(digests(other).values()) & set(digests(tree).values())


def test_a_clip_does_not_depend_on_its_neighbours(tree: Path) -> None:
    plan = next(p for p in plan_clips(COUNTS) if p.name == "anomaly_id_11_00000001.wav")
    (clip,) = make_clips([plan], duration=2.0)
    read = read_clip(tree / "test" / plan.name)
    np.testing.assert_allclose(read.samples, clip.samples, atol=0.51 / 32768)


def test_ground_truth_names_every_anomaly(tree: Path) -> None:
    rows = read_ground_truth(tree / GROUND_TRUTH)
    plans = {p.name: p for p in plan_clips(COUNTS) if p.fault}
    assert rows.keys() == plans.keys()
    for name, row in rows.items():
        assert (row.fault, row.severity) == (plans[name].fault, plans[name].severity)
    clips = {c.plan.name: c for c in make_clips(list(plans.values()), duration=2.0)}
    for name, row in rows.items():
        assert row.spans == fault_spans(clips[name].mask)
    assert any(row.spans.seconds and row.spans.mel_bands for row in rows.values())


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "file,fault,severity,seconds,mel_bands\nx,y,high,,\n"])
def test_a_file_that_is_no_ground_truth_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "truth.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=r"truth\.csv"):
        read_ground_truth(path)


def test_a_missing_ground_truth_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="write_tree"):
        read_ground_truth(tmp_path / "none.csv")


# -- masks


def test_mask_finds_a_known_click_and_tone() -> None:
    rng = np.random.default_rng(0)
    healthy = 0.01 * rng.standard_normal(2 * SR).astype(np.float32)
    fault = np.zeros_like(healthy)
    fault[SR] = 0.9
    mask = np.asarray(fault_mask(healthy + fault, fault))
    assert mask.shape == (1 + 2 * SR // HOP_LENGTH, N_MELS)
    frames = np.flatnonzero(mask.any(axis=1))
    assert set(frames) <= {SR // HOP_LENGTH + i for i in (-1, 0, 1, 2)}
    assert mask[frames].any(axis=0).all()
    tone = (0.02 * np.sin(2 * np.pi * 1000.0 * np.arange(2 * SR) / SR)).astype(np.float32)
    mask = np.asarray(fault_mask(healthy + tone, tone))
    bands = np.flatnonzero(mask.mean(axis=0) > 0.5)
    assert 1 <= bands.size <= 5
    assert mask.any(axis=1).all()


def test_mask_threshold_is_relative_to_the_healthy_band() -> None:
    rng = np.random.default_rng(1)
    healthy = 0.01 * rng.standard_normal(4 * SR).astype(np.float32)
    for level, share in ((-20.0, 0.0), (20.0, 1.0)):
        fault = (10 ** (level / 20) * 0.01 * rng.standard_normal(4 * SR)).astype(np.float32)
        assert np.asarray(fault_mask(healthy + fault, fault)).mean() == pytest.approx(share, abs=0.01)
    assert not np.asarray(fault_mask(healthy, np.zeros_like(healthy))).any()


def test_masks_are_empty_for_normal_clips_and_grow_with_severity() -> None:
    plans = [ClipPlan("id_04", "test", 0)]
    plans += [ClipPlan("id_04", "test", 0, fault, s) for fault in FAULTS for s in (0.3, 1.0)]
    normal, *faulty = (c.mask.mean() for c in make_clips(plans, duration=2.0))
    assert normal == 0.0
    for mild, severe in zip(faulty[::2], faulty[1::2], strict=True):
        assert 0.0 < mild < severe < 0.9


def test_spans_of_a_known_mask() -> None:
    mask = np.zeros((63, N_MELS), bool)
    mask[10:12, 5:9] = True
    mask[13, 5:9] = True  # a gap of one frame closes
    mask[40, 100] = True  # one cell: a moment of its own, and a quarter of the frames
    assert fault_spans(mask) == FaultSpans(((0.304, 0.432), (1.264, 1.296)), ((5, 8), (100, 100)))
    assert fault_spans(np.zeros((63, N_MELS), bool)) == FaultSpans((), ())
