"""The study of auto on recordings, with a tiny simulated set."""

from __future__ import annotations

import csv
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from adjax import simulator
from adjax.data.clips import Clip, ClipTable
from adjax.model.extraction import ClipFeatures
from adjax.model.named import make_spec
from adjax.simulator import ClipCounts
from experiments import label_free


def test_simulated_at_several_sizes_with_auc_by_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(
        label_free.COUNTS, "small", {"id_00": ClipCounts(8, 4, 6), "id_02": ClipCounts(7, 4, 3)}
    )
    monkeypatch.setenv("ADJAX_CACHE", str(tmp_path / "cache"))
    small = partial(make_spec, features={"n_mels": 16})  # quick to compile and to fit
    monkeypatch.setattr(label_free, "make_spec", small)
    monkeypatch.setattr(simulator, "write_tree", partial(simulator.write_tree, duration=2))
    out = tmp_path / "out"
    tasks = list(
        label_free.simulated(label_free.Study(out, seeds=(1,), snr_db=(-6.0,), n_train=(5, 200, 968)))
    )
    assert [task.size for task in tasks] == [5, 8]  # there are no more
    assert [len(task.train[0].clips) for task in tasks] == [10, 15]
    command = f"study --out {out} --seeds 1 --snr-db -6 --n-train 968"
    monkeypatch.setattr(sys, "argv", command.split())
    assert label_free.main() == 0
    with open(out / "areas.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["size"] for row in rows} == {"8"}
    assert {row["machine"] for row in rows} == {"id_00, seed 1", "id_02, seed 1"}
    assert {row["fault"] for row in rows} == {"", "rail_damage", "loose_belt", "no_grease"}
    assert {"auto (Fisher)", "kind: gaussians, auto before", "Cauchy"} <= {row["system"] for row in rows}
    assert "AUC by fault" in capsys.readouterr().out


def test_every_normal_clip_is_tested_in_one_fold_and_every_anomalous_one_in_all() -> None:
    clips = [
        Clip(Path(f"{machine_id}_{i}"), "fan", machine_id, "", "train", int(i >= 5))
        for machine_id, n in (("id_00", 8), ("id_02", 7))
        for i in range(n)
    ]
    features = ClipFeatures(ClipTable(tuple(clips)), np.arange(15, dtype=np.float32)[:, None], np.arange(16))
    folds = [label_free.in_fold((features,), fold, 5) for fold in range(5)]
    tested = [clip for _, (test,) in folds for clip in test.clips]
    for clip in clips:
        assert tested.count(clip) == (5 if clip.label else 1)
    for (train,), (test,) in folds:
        assert not {*train.clips} & {*test.clips}
        assert not train.clips.labels.any()
        assert len(train.clips) == 8
