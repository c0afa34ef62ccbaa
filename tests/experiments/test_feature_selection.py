"""Changes are paired, and what is made for the study is what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adjax.data.clips import Clip, ClipTable
from adjax.model.extraction import ClipFeatures
from adjax.simulator import FaultSpans, TruthRow
from experiments._fusions import Cell
from experiments._selection import changes, of_bands
from experiments._selection_simulated import (
    DRIFT_BANDS,
    N_BANDS,
    N_VIEWS,
    drifting,
    found,
    mates_of,
    spliced,
    true_bands,
)


def test_a_change_is_paired_over_clips_and_machines() -> None:
    """A system that scores as before changes nothing in any resample; one that is better by much is so in most."""
    rng = np.random.default_rng(0)
    cells = []
    for machine in ("id_00", "id_02"):
        labels = np.repeat([0, 1], 40)
        before, better = labels + rng.normal(size=80), 4 * labels + rng.normal(size=80)
        systems = {"all columns|1|x": before, "same|0.5|x": before * 2, "good|0.5|x": better}
        cells.append(Cell("made", "pump", 0, 0, machine, 10, labels, np.array([""] * 80), systems))
    base, (same, good) = changes(cells)
    assert 0.6 < base["x"][0, 0] < 0.9
    assert (same.criterion, same.share, same.system) == ("same", 0.5, "x")
    assert not same.change.any()
    assert np.percentile(good.change[1:, 0], 2.5) > 0
    assert good.change[0, 0] == pytest.approx(good.change[1:, 0].mean(), abs=0.02)


def made() -> ClipFeatures:
    rng = np.random.default_rng(1)
    clips = [
        Clip(Path(f"{split}_{i}.wav"), "slider", machine, split=split, label=0, key=f"{split}_{i}")
        for machine in ("id_00", "id_02")
        for split in ("train", "test")
        for i in range(40)
    ]
    rows = rng.normal(size=(160, N_VIEWS * N_BANDS)).astype(np.float32)
    return ClipFeatures(ClipTable(tuple(clips)), rows, np.arange(161))


def test_only_some_bands_drift() -> None:
    before = made()
    moved = (drifting(before).rows - before.rows).reshape(160, N_VIEWS, N_BANDS)
    assert np.abs(moved[:, :, DRIFT_BANDS]).mean() > 1
    assert not moved[:, :, : DRIFT_BANDS.start].any()
    assert not moved[:, :, DRIFT_BANDS.stop :].any()
    assert len(np.unique(moved[:40, 0, 30].round(5))) == 5  # blocks of training clips in a row
    assert np.abs(moved[:8, 0, 30] - moved[0, 0, 30]).max() < 1e-4


def test_weights_are_judged_by_the_bands_of_each_fault() -> None:
    features = made()
    spans = FaultSpans((), ((10, 19),))
    truth = {"test_0": TruthRow("squeak", 1.0, spans), "test_1": TruthRow("squeak", 0.5, spans)}
    bands = true_bands(truth, features)
    assert {key: int(mask.sum()) for key, mask in bands.items()} == {
        ("id_00", "squeak"): 10,
        ("id_02", "squeak"): 10,
    }
    weights = np.zeros((N_VIEWS, N_BANDS))
    weights[0, 10:20] = 1
    group = np.tile(np.arange(N_BANDS), N_VIEWS)
    alike = of_bands({"right": weights.ravel(), "wrong": 1 - weights.ravel()}, group)
    assert found(alike, bands) == {("right", "squeak"): [1.0, 1.0], ("wrong", "squeak"): [0.0, 0.0]}


def test_foreign_clips_come_from_the_next_machine() -> None:
    frames = np.repeat(np.arange(3.0), 4)[:, None, None] * np.ones((1, 50, 2))
    owner = np.repeat(np.arange(3), 4)
    same, judges = mates_of(frames, owner)
    assert same is frames
    assert judges.tolist() == [1] * 4 + [2] * 4 + [0] * 4
    made, theirs = spliced(frames, owner)
    assert theirs.tolist() == owner.tolist()
    other = (made != frames).any(axis=2)
    assert other.sum(axis=1).tolist() == [5] * 12
    assert (made[:4][other[:4]] == 1).all()
