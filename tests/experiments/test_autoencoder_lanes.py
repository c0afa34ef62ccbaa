"""Lanes over clips: every machine's windows in the right place, and training that survives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from operator import itemgetter
from pathlib import Path

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from adjax.data.clips import Clip, ClipTable
from adjax.detectors.autoencoder import AutoencoderConfig, make_autoencoder, make_lanes
from adjax.detectors.autoencoder.resume import jit_program, train_lanes
from adjax.model.extraction import ClipFeatures
from adjax.store import CHECKPOINTS, hold
from adjax.types import FitError, StoreError
from experiments._autoencoder_lanes import LaneSpec, make_table, score_lanes

CONFIG = AutoencoderConfig(n_context=3, hidden=(8,), bottleneck=4, n_epochs=6, batch_size=64)
SPECS = [
    LaneSpec("fan", "id_00", width=2, seed=1),
    LaneSpec("fan", "id_02", width=4, learning_rate=1e-2),
    LaneSpec("fan", "", width=3, weight_decay=0.1),
]


def make_features(n_clips: dict[str, int], seed: int = 0) -> ClipFeatures:
    """Clips of 20 to 40 rows, the machines' clips in turns."""
    rng = np.random.default_rng(seed)
    clips, rows = [], []
    for i in range(max(n_clips.values())):
        for machine_id in (name for name, n in n_clips.items() if i < n):
            path = Path(f"{machine_id}_{i}.wav")
            clips.append(Clip(path, "fan", machine_id, "train", 0))
            level = 1.0 + 5 * (machine_id == "id_02")
            rows.append(level + rng.normal(size=(int(rng.integers(20, 40)), 4)).astype(np.float32))
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in rows])])
    return ClipFeatures(ClipTable(tuple(clips)), np.concatenate(rows), offsets)


TRAIN = make_features({"id_00": 12, "id_02": 7})


def rows_of(machine_id: str) -> tuple[np.ndarray, list[int]]:
    own = TRAIN.where(lambda clip: machine_id in ("", clip.machine_id))
    return own.rows, np.diff(own.offsets).tolist()


def test_every_window_of_every_machine_is_there_once() -> None:
    """Nothing is cut; no window runs over a clip's end; validation has clips of every machine, a tenth, rounded up."""
    windows, lanes, sizes, _ = make_table(TRAIN, SPECS, CONFIG)
    x = np.asarray(windows.x)
    assert_array_equal(x, np.concatenate([rows_of("id_00")[0], rows_of("id_02")[0]]))
    ends = np.cumsum([0, *rows_of("id_00")[1], *rows_of("id_02")[1]])
    clip_of = lambda rows: np.searchsorted(ends, rows, side="right") - 1
    starts = np.sort(np.concatenate([windows.train, windows.validation]))
    assert_array_equal(clip_of(starts), clip_of(starts + 2))
    assert len(np.unique(starts)) == len(starts) == ends[-1] - 2 * 19
    held_out = np.unique(clip_of(np.asarray(windows.validation)))
    assert (np.sum(held_out < 12), np.sum(held_out >= 12)) == (2, 1)
    assert not set(held_out) & set(clip_of(np.asarray(windows.train)))
    level = [x[np.asarray(windows.train)[a : a + n]].mean() for a, n in zip(*lanes.train, strict=True)]
    assert_allclose(level[:2], [1, 6], atol=0.1)
    assert lanes.train.length[2] == lanes.train.length[:2].sum() == sizes.train


def test_target_domain_clips_are_marked() -> None:
    clips = tuple(
        replace(clip, domain="target" if i % 3 == 0 else "source") for i, clip in enumerate(TRAIN.clips)
    )
    table = make_table(replace(TRAIN, clips=ClipTable(clips)), SPECS, CONFIG)
    own = [
        [i for i, clip in enumerate(clips) if clip.machine_id == machine_id]
        for machine_id in ("id_00", "id_02")
    ]
    expected = [np.full(np.diff(TRAIN.offsets)[i], i % 3 == 0) for i in own[0] + own[1]]
    assert_array_equal(table.domain, np.concatenate(expected))


def test_a_lane_without_windows_is_refused() -> None:
    with pytest.raises(FitError, match="pump id_09 width 8 seed 0 has no training window"):
        make_table(TRAIN, [*SPECS, LaneSpec("pump", "id_09")], CONFIG)


def test_scores_are_those_of_each_lane_on_its_machines_rows() -> None:
    test = make_features({"id_00": 3, "id_02": 5}, seed=1)
    table = make_table(TRAIN, SPECS, CONFIG)
    trained = train_lanes(table, CONFIG)
    program = jit_program(make_lanes(CONFIG, table.sizes))
    score = jax.jit(make_autoencoder(CONFIG).score)
    for i, (own, scores) in enumerate(score_lanes(program, trained.params, SPECS, test)):
        assert {clip.machine_id for clip in own.clips} == {SPECS[i].machine_id} or i == 2
        alone = score(jax.tree.map(itemgetter(i), trained.params), own.rows)
        assert_allclose(scores[:-2], alone[:-2], rtol=1e-4)
    assert trained.losses.validation.shape == (6, 3)
    assert np.all(trained.losses.validation[-1] < trained.losses.validation[0])


def train_into(folder: Path) -> list[np.ndarray]:
    trained = train_lanes(make_table(TRAIN, SPECS, CONFIG), CONFIG, folder=folder, epochs_a_checkpoint=1)
    return [np.asarray(leaf) for leaf in jax.tree.leaves((trained.params, trained.state, trained.losses))]


def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    """kill -9 after the second checkpoint, one of the two damaged: the same call ends as if nothing had happened."""
    whole = train_into(tmp_path / "whole")
    script = (
        "import importlib.util, sys, pathlib\n"
        f"spec = importlib.util.spec_from_file_location('lanes_test', {__file__!r})\n"
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)\n"
        f"module.train_into(pathlib.Path({str(tmp_path / 'killed')!r}))\n"
    )
    place = tmp_path / "killed" / CHECKPOINTS
    process = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": os.getcwd()})
    while not (place / "epoch_000002").exists():
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    newest = max(place.glob("epoch_*"))
    assert newest.name < "epoch_000006"
    largest = max(newest.rglob("*"), key=lambda path: path.is_file() * path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1])
    resumed = train_into(tmp_path / "killed")
    for a, b in zip(whole, resumed, strict=True):
        assert_array_equal(a, b)


def test_the_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    with hold(tmp_path), pytest.raises(StoreError, match="another run is writing here"):
        train_into(tmp_path)
    table = make_table(TRAIN, SPECS, CONFIG)
    train_lanes(table, CONFIG, folder=tmp_path)
    other = make_table(TRAIN, [SPECS[0], SPECS[1], LaneSpec("fan", "", width=2)], CONFIG)
    with pytest.raises(StoreError, match="other settings, data or versions"):
        train_lanes(other, CONFIG, folder=tmp_path)
