"""What cannot be fitted or scored is reported by name, and the rest goes on."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from adjax.data.audio import write_wav
from adjax.data.index import index_folder
from adjax.model.extraction import ClipFeatures
from adjax.model.fit import fit_model
from adjax.model.inputs import extract_splits
from adjax.model.named import make_spec
from adjax.types import (
    MAX_ITER,
    NOT_FINITE,
    ClipError,
    FitError,
    SettingsError,
)
from tests.model.machines import (
    AUTOENCODER,
    GMM,
    MIXTURE,
    SMALL,
    hum,
    with_own,
)


def test_bad_clips_are_reported_and_the_rest_goes_on(tree: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(tree, root)
    (root / "fan/train/normal_id_00_00000003.wav").write_bytes(b"RIFF")
    (root / "fan/test/anomaly_id_02_00000001.wav").write_bytes(b"")
    write_wav(root / "fan/test/normal_id_02_00000001.wav", hum(0, 2000.0, 100), 16000)  # one frame
    (root / "fan/test/what_is_this.wav").write_bytes(b"")
    spec = with_own(AUTOENCODER, n_epochs=3)
    train, test = extract_splits(index_folder(root), spec)
    model = fit_model(spec, train)
    result = model.score_features(test)
    failures = (*model.record.failures, *result.failures)
    assert all(isinstance(error, ClipError) for error in failures)
    assert sorted(Path(error.path).name for error in failures) == [
        "anomaly_id_02_00000001.wav",
        "normal_id_00_00000003.wav",
        "normal_id_02_00000001.wav",
        "what_is_this.wav",
    ]
    assert "1 frames are too few for a score" in str(result.failures[-1])
    assert len(result.scores) == 14
    assert not {error.path for error in failures} & {str(clip.path) for clip in result.clips}


def test_a_machine_without_training_clips_is_reported_and_not_scored(splits) -> None:
    train, test = splits
    only = train.where(lambda clip: clip.machine_id == "id_00")
    model = fit_model(GMM, only)
    result = model.score_features(test)
    assert result.clips.machine_ids == ("id_00",)
    assert len(result.failures) == 8
    assert all(isinstance(error, ClipError) for error in result.failures)
    assert "fan id_02, is not in the model" in str(result.failures[0])


def test_a_machine_with_too_few_vectors_is_reported_and_not_scored(splits) -> None:
    train, test = splits
    spec = with_own(
        make_spec("gmm", settings=MIXTURE, features=replace(SMALL, pooling="mean"), calibration="none"),
        n_components=4,
    )
    means = [np.stack([p.rows[a:b].mean(axis=0) for a, b in pairwise(p.offsets)]) for p in splits]
    train, test = (
        ClipFeatures(p.clips, rows, np.arange(len(rows) + 1)) for p, rows in zip(splits, means, strict=True)
    )
    few = train.where(lambda clip: clip.machine_id == "id_00" or clip.path.stem[-1] in "012")
    model = fit_model(spec, few)
    assert model.machines == (("fan", "id_00"),)
    (failure,) = model.record.failures
    assert isinstance(failure, FitError)
    assert "fan id_02 has 3 training vectors" in str(failure)
    result = model.score_features(test)
    assert result.clips.machine_ids == ("id_00",)
    assert [str(error) for error in result.failures] == [
        "fan id_02 is not in the model (it could not be fitted): its 8 clips have no score"
    ]
    with pytest.raises(FitError, match="not one machine can be fitted: fan id_02 has 3 training vectors"):
        fit_model(spec, few.where(lambda clip: clip.machine_id == "id_02"))


def test_a_fit_that_does_not_stay_finite_is_reported_and_not_scored(splits) -> None:
    """Rows whose squares are beyond float32; the other machine goes on."""
    train, test = splits
    rows = train.rows.copy()
    rows[: train.offsets[6]] *= np.float32(1e25)
    model = fit_model(with_own(AUTOENCODER, n_epochs=3), replace(train, rows=rows))
    result = model.score_features(test)
    assert [fit.status for fit in model.record.fits] == [NOT_FINITE, MAX_ITER]
    assert result.clips.machine_ids == ("id_02",)
    assert str(model.record.failures[0]) == (
        "the autoencoder of fan id_00 did not stay finite: lower learning_rate, or standardize the features"
    )
    assert len(result.failures) == 1


def test_a_clip_that_is_not_finite_spoils_no_other(splits) -> None:
    train, test = splits
    rows = (train.rows.copy(), test.rows.copy())
    rows[0][0, 3], rows[1][test.offsets[1], 5] = np.inf, np.nan
    model = fit_model(GMM, replace(train, rows=rows[0]))
    result = model.score_features(replace(test, rows=rows[1]))
    failures = (*model.record.failures, *result.failures)
    assert [str(error.path) for error in failures] == [str(train.clips[0].path), str(test.clips[1].path)]
    assert all("its features are not finite" in str(error) for error in failures)
    assert model.record.n_clips == {"fan id_00": 5, "fan id_02": 6}
    assert len(result.scores) == 15


def test_settings_that_contradict_each_other_are_refused(splits) -> None:
    with pytest.raises(SettingsError, match="n_context"):
        fit_model(with_own(AUTOENCODER, features=replace(SMALL, pooling="mean")), splits[0])
    pooled = with_own(GMM, features=replace(SMALL, pooling="mean"))
    with pytest.raises(SettingsError, match="standard deviation"):
        fit_model(with_own(pooled, pooling="std"), splits[0])
    with pytest.raises(SettingsError, match="2 sets of features for 1 detectors"):
        fit_model(GMM, [splits[0], splits[0]])
    with pytest.raises(SettingsError, match="rows of 32 numbers, these have 16"):
        fit_model(with_own(GMM, features=replace(SMALL, n_mels=32)), splits[0])
    with pytest.raises(SettingsError, match="false_alarm_rate=0"):
        fit_model(GMM, splits[0], false_alarm_rate=0.0)
    with pytest.raises(FitError, match="there are no normal clips"):
        fit_model(GMM, splits[0].where(lambda clip: False))


def test_clips_of_unlike_lengths_and_bad_ones_go_through_auto(tree: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(tree, root)
    (root / "fan/train/normal_id_00_00000003.wav").write_bytes(b"RIFF")
    write_wav(
        root / "fan/test/normal_id_02_00000001.wav", hum(0, 2000.0, 100), 16000
    )  # one frame: still scored
    spec = make_spec("auto", features=SMALL)
    train, test = extract_splits(index_folder(root), spec)
    model = fit_model(spec, train)
    result = model.score_features(test)
    assert [Path(error.path).name for error in model.record.failures] == ["normal_id_00_00000003.wav"]
    assert not result.failures
    assert len(result.scores) == 16
    assert result.metrics()["fan"]["id_00"].auc == 1.0
