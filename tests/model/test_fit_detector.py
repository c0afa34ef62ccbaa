"""Fits of machines that learn from each other: few clips, wrong rows, and no more than is needed at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adjax.data.clips import Clip, ClipTable
from adjax.features.recipes import FeatureConfig
from adjax.model import fit_detector
from adjax.model.extraction import ClipFeatures
from adjax.model.fit import checkpoint_folders, fit_model
from adjax.model.lift import members_of
from adjax.model.named import make_spec
from adjax.model.spec import VectorConfig
from adjax.types import FitError, SettingsError


def vectors(counts: dict[str, int], d: int = 4) -> ClipFeatures:
    clips = [
        Clip(Path(f"fan/{name}_{i}.wav"), "fan", name, split="train", label=0)
        for name, n in counts.items()
        for i in range(n)
    ]
    rows = np.random.default_rng(0).normal(size=(len(clips), d)).astype(np.float32)
    return ClipFeatures(ClipTable(tuple(clips)), rows, np.arange(len(clips) + 1))


def test_members_are_the_rows_of_each_machine_and_padding_belongs_to_none() -> None:
    found = members_of(np.array([0, 0, 1, 1, 1, -1]), 2)
    np.testing.assert_array_equal(found, [[0, 1, 6], [2, 3, 4]])


def test_lanes_that_keep_clips_are_fitted_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eleven copies of the clips of 300 machines at once would fill the memory; no copy has more than a machine's."""
    shapes = []
    fit_group = fit_detector.fit_group

    def watched(*args, **options):
        found = fit_group(*args, **options)
        shapes.append(found.params[1].references.clips.shape)
        return found

    monkeypatch.setattr(fit_detector, "fit_group", watched)
    spec = make_spec("neighbours", features=VectorConfig(4))
    model = fit_model(spec, vectors({"id_00": 12, "id_02": 4}))
    assert shapes == [(1, 2, 12, 4)] * 11
    assert [len(own.scores) for own in model.record.held_out] == [12, 4]
    assert not model.record.failures


def test_too_few_clips_are_an_error_that_says_how_many() -> None:
    spec = make_spec("neighbours", features=VectorConfig(4), settings={"n_neighbours": 5})
    with pytest.raises(FitError, match=r"id_02 has 4 training vectors .* the neighbours needs at least 5"):
        fit_model(spec, vectors({"id_00": 12, "id_02": 4}))


def test_a_detector_of_whole_clips_takes_pooled_rows() -> None:
    """Views of log-mels and moments of others unless told otherwise, never frames."""
    assert make_spec("neighbours").front_ends[0].pooling == "views"
    assert make_spec("neighbours", features={"kind": "mfcc"}).front_ends[0].pooling == "moments"
    assert make_spec("neighbours", features={"pooling": "gwrp"}).front_ends[0].pooling == "gwrp"
    for kind in ("neighbours", "gaussians"):
        with pytest.raises(SettingsError, match=f"{kind} takes one row for each clip"):
            make_spec(kind, features=VectorConfig(640, "none"))
    own = make_spec("neighbours").detectors[0]
    with pytest.raises(SettingsError, match="one row for each clip"):
        replace(own, features=FeatureConfig()).make()


def test_a_remedy_is_of_the_kind_that_needs_it() -> None:
    """Clips that are all alike: no density has a width."""
    alike = vectors({"id_00": 12, "id_02": 12})
    with pytest.raises(
        FitError, match=r"joint of fan id_00 did not stay finite: its clips may be all alike"
    ) as error:
        fit_model(make_spec("joint", features=VectorConfig(4)), replace(alike, rows=np.ones_like(alike.rows)))
    assert "reg_covar" not in str(error.value)


def test_checkpoints_of_a_fit_with_a_contrast_lie_where_they_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a machine of the contrast comes first by name."""
    places = []
    fit_group = fit_detector.fit_group

    def watched(spec, key, features, machines, machine, lanes, options, most):
        places.append(options.folder)
        return fit_group(spec, key, features, machines, machine, lanes, options, most)

    monkeypatch.setattr(fit_detector, "fit_group", watched)
    own, other = vectors({"id_00": 8, "id_02": 8}), vectors({"id_00": 8})
    other = replace(
        other, clips=ClipTable(tuple(replace(clip, machine_type="a fan before") for clip in other.clips))
    )
    fit_model(make_spec("identity", features=VectorConfig(4)), own, contrast=other, checkpoints=tmp_path)
    assert {place.name for place in places} <= checkpoint_folders(own.clips)
