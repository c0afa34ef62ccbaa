"""What a sweep leaves behind is one sweep's, and is known when it was changed."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from adjax.data.clips import ClipTable
from adjax.files import sha256
from adjax.store.folder import HASHES, files_in, write_hashes
from adjax.sweep import Progress, Sweep, run, run_sweep
from adjax.sweep.results import measure
from adjax.types import StoreError
from tests.sweep.made import AXES, BASE, SWEEP


def test_the_table_is_tidy_and_leads_to_every_score(swept) -> None:
    result, folder = swept
    with open(folder / run.TABLE, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(result.trials) == 16
    for row, trial in zip(rows, result.trials, strict=True):
        assert {name: row[name] for name in AXES} == {name: str(trial.settings[name]) for name in AXES}
        assert (row["status"], float(row["auc"])) == ("converged", trial.auc)
        with np.load(folder / run.CHUNKS / row["chunk"]) as arrays:
            assert_array_equal(arrays["scores"][int(row["row"])], trial.scores)
            assert arrays["clips"].tolist() == list(trial.clips.names)


def test_an_interrupted_sweep_goes_on_where_it_was(
    clips: ClipTable, swept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "MAX_CHUNK", 3)
    seen: list[Progress] = []

    def stop(progress: Progress) -> None:
        seen.append(progress)
        if progress.n_done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sweep(clips, SWEEP, tmp_path, on_progress=stop)
    assert [progress.n_done for progress in seen] == [3, 6]
    assert seen[0].n_trials == 16
    assert seen[0].seconds_left is not None
    damaged = min((tmp_path / run.CHUNKS).glob("*.npz"))
    damaged.write_bytes(damaged.read_bytes()[:100])
    again = run_sweep(clips, SWEEP, tmp_path)
    assert again.n_resumed == 3
    whole = run_sweep(clips, SWEEP, tmp_path)
    assert whole.n_resumed == 16
    for trial, other, first in zip(again.trials, whole.trials, swept[0].trials, strict=True):
        assert_array_equal(trial.scores, other.scores)
        assert_allclose(trial.scores, first.scores, rtol=1e-4, atol=1e-4)  # another chunk size


@pytest.mark.parametrize("how", ["flipped", "forged", "another"])
def test_a_chunk_that_was_changed_is_computed_again_and_told(
    clips: ClipTable, tmp_path: Path, how: str
) -> None:
    """A flipped byte of the scores, or a file that is whole and says another AUC."""
    sweep = Sweep(BASE, SWEEP.settings[:2])
    first = run_sweep(clips, sweep, tmp_path)
    assert first.notes == ()
    path = tmp_path / run.CHUNKS / first.trials[0].chunk
    if how == "flipped":
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 1
        path.write_bytes(content)
    elif how == "another":  # whole, listed, and of other clips
        with np.load(path) as arrays:
            others = {name: arrays[name] for name in arrays}
        others["clips"] = others["clips"][::-1]
        np.savez(path, **others)
        hashes = {name: sha256(tmp_path / name) for name in files_in(tmp_path) if name != HASHES}
        write_hashes(tmp_path, "results", hashes)
    else:
        with np.load(path) as arrays:
            forged = {name: arrays[name] for name in arrays}
        forged["measures"][:, 0] = 0.999
        np.savez(path, **forged)
    again = run_sweep(clips, sweep, tmp_path)
    assert again.n_resumed == 2
    assert again.notes == (
        f"chunks/{path.name} was damaged, or changed since it was written; it was computed again",
    )
    assert [trial.auc for trial in again.trials] == [trial.auc for trial in first.trials]


def test_a_folder_holds_one_sweep(clips: ClipTable, tmp_path: Path) -> None:
    run_sweep(clips, SWEEP, tmp_path)
    result = run_sweep(clips, Sweep(BASE, SWEEP.settings[:2]), tmp_path)
    assert {path.name for path in (tmp_path / run.CHUNKS).iterdir()} == {
        trial.chunk for trial in result.trials
    }
    assert not list(tmp_path.glob("failures*"))
    (tmp_path / run.TABLE).write_text("notes of a person")
    with pytest.raises(StoreError, match=r"trials\.csv: was changed since adjax wrote it, and would be lost"):
        run_sweep(clips, SWEEP, tmp_path)


def test_other_labels_or_clips_are_another_sweep(clips: ClipTable, swept) -> None:
    first, folder = swept
    flipped = ClipTable(tuple(replace(clip, label=1 - clip.label) for clip in clips if clip.split == "test"))
    relabelled = ClipTable((*clips.select(split="train"), *flipped))
    other = run_sweep(relabelled, SWEEP, folder)
    assert other.n_resumed == 0
    assert_allclose(other.trials[0].auc, 1 - first.trials[0].auc, atol=1e-6)


def test_metrics_need_labels_of_both_kinds() -> None:
    scores = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    assert np.isnan(measure(scores, np.array([0, 0, 0, 0, -1, -1, -1, -1]), 10)).all()
    assert np.isfinite(measure(scores, np.array([0, 0, 0, 0, -1, -1, -1, 1]), 10)).all()
