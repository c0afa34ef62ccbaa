"""Sounds in memory are looked at as those of files are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from adjax.data.audio import MAX_PEAK
from adjax.data.index import index_folder
from adjax.model.inputs import gather
from adjax.model.keep import load_model
from tests.model.machines import GMM

FROZEN = Path(__file__).parent / "frozen" / "format_1"


def test_sounds_that_are_none_have_errors_and_no_rows() -> None:
    spec = load_model(FROZEN / "gmm").spec
    noise = np.random.default_rng(0).uniform(-1, 1, 8000)
    noise[0] = 1.0
    sounds = [noise, noise * 1e19, noise * MAX_PEAK, np.append(noise, np.nan), noise * 1e300, noise[:0]]
    (found,), _ = gather(spec, sounds)
    assert [clip.key for clip in found.clips] == ["clip 0", "clip 2"]
    assert np.isfinite(found.rows).all()
    said = {error.path: error.reason for error in found.failures}
    assert sorted(said) == ["clip 1", "clip 3", "clip 4", "clip 5"]
    assert "samples of up to 1e+19" in said["clip 1"]
    assert "holds NaN or infinite samples" in said["clip 3"]
    assert "samples of up to 1e+300" in said["clip 4"]


def test_test_clips_of_a_table_are_not_trained_on(tree: Path) -> None:
    clips = index_folder(tree)
    (found,), _ = gather(GMM, clips)
    assert found.clips == clips.select(split="train")
    (found,), _ = gather(GMM, clips, known=clips.machines)
    assert len(found.clips) == len(clips)
