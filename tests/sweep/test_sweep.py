"""Sweeps: every trial is the run it stands for, and neither a stop nor a failing trial costs the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.testing import assert_allclose

from adjax.data.clips import ClipTable
from adjax.data.index import index_folder
from adjax.evaluation.metrics import evaluate
from adjax.model.fit import fit_model
from adjax.model.inputs import extract_splits
from adjax.model.named import make_spec
from adjax.model.result import Result
from adjax.model.spec import ModelSpec, VectorConfig
from adjax.model.vectors import read_vectors, split_vectors
from adjax.sweep import Sweep, data, grid, run, run_sweep
from adjax.sweep.models import pool_scores
from adjax.sweep.settings import change, static_part
from adjax.types import DataError, FitError, SettingsError
from tests.sweep.made import BASE, FEATURES, SWEEP


def run_alone(clips: ClipTable, spec: ModelSpec) -> Result:
    train, test = extract_splits(clips, spec)
    return fit_model(spec, train).score_features(test)


def test_a_trial_is_the_run_it_stands_for(clips: ClipTable, swept) -> None:
    place = 5  # of r, components (masked down from 4) and seed none is the first
    spec = SWEEP.specs[place]
    own = spec.detectors[0]
    assert (own.features.gwrp_r, own.config.n_components, spec.seed) == (0.9, 3, 5)
    expected = run_alone(clips, spec)
    for number, machine_id in enumerate(("id_00", "id_02")):
        trial = swept[0].trials[number * len(SWEEP.settings) + place]
        own, scores = expected.of("fan", machine_id)
        assert (trial.machine_id, trial.settings) == (machine_id, SWEEP.settings[place])
        assert trial.clips.names == own.names
        assert_allclose(
            trial.scores, scores, rtol=2e-3, atol=2e-3
        )  # float32, and the mask's other order of sums
        metrics = evaluate(own.labels, trial.scores)
        assert metrics is not None
        assert_allclose((trial.auc, trial.pauc), metrics[:2], atol=1e-6)
        assert trial.auc_low <= trial.auc <= trial.auc_high


def test_a_clip_that_no_trial_can_score_is_named_and_costs_the_others_nothing(
    clips: ClipTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features that are not finite, of a training and of a test clip."""
    bad = [
        next(clip.path for clip in clips.select(split=split, machine_id="id_00"))
        for split in ("train", "test")
    ]
    extract = data.extract

    def spoilt(table: ClipTable, *arguments, **options):
        features = extract(table, *arguments, **options)
        for i, clip in enumerate(features.clips):
            if clip.path in bad:
                features.rows[features.offsets[i]] = np.inf
        return features

    monkeypatch.setattr(data, "extract", spoilt)
    result = run_sweep(clips, Sweep(BASE, SWEEP.settings[:2]), tmp_path)
    assert [str(error) for error in result.failures] == [
        f"{path}: its features are not finite: scale the samples to [-1, 1]" for path in bad
    ]
    assert not any(trial.failed for trial in result.trials)
    assert [len(trial.scores) for trial in result.trials] == [12, 12, 13, 13]
    assert len((tmp_path / "failures.csv").read_text().splitlines()) == 3


def test_front_ends_that_read_different_clips(tmp_path: Path) -> None:
    """One test clip has no second channel: the trials on that one do without it, the others keep it."""
    rng = np.random.default_rng(0)
    for split, n in (("train", 5), ("test", 4)):
        (tmp_path / "data/fan" / split).mkdir(parents=True)
        for i in range(n):
            y = 0.05 * rng.normal(size=(4000, 1 if (split, i) == ("test", 0) else 2))
            soundfile.write(tmp_path / "data/fan" / split / f"normal_id_00_{i:08d}.wav", y, 16000)
    base = change(BASE, {"config.n_components": 1})
    result = run_sweep(index_folder(tmp_path / "data"), grid(base, {"channel": (0, 1)}), tmp_path / "out")
    assert [len(trial.scores) for trial in result.trials] == [4, 3]
    assert [trial.clips.names[0][-5] for trial in result.trials] == ["0", "1"]
    assert ["has no channel 1" in str(error) for error in result.failures] == [True]


def test_failing_trials_say_why_and_have_no_score(
    clips: ClipTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = ClipTable(tuple(clip for clip in clips if (clip.machine_id, clip.split) != ("id_02", "train")))
    singular = {"config.n_components": 4, "config.covariance_type": "full", "hyper.reg_covar": 0.0}
    settings = ({"config.n_components": 3}, singular)
    settings += ({"config.n_components": 16}, {"config.covariance_type": "tied"})
    compute = run._compute

    def fail(machine, specs, *others):
        if specs[0].detectors[0].config.covariance_type == "tied":
            raise FitError("out of memory")
        return compute(machine, specs, *others)

    monkeypatch.setattr(run, "_compute", fail)
    result = run_sweep(lost, Sweep(BASE, settings), tmp_path)
    good, *bad = result.trials
    assert not good.failed
    assert np.isfinite(good.auc)
    assert all(trial.failed and np.isnan([trial.auc, trial.pauc_low]).all() for trial in bad)
    assert [trial.status for trial in bad[:3]] == [
        "not finite",
        "14 vectors, at least 16 are needed",
        "out of memory",
    ]
    assert all("no train clips" in trial.status for trial in bad[3:])
    assert ["out of memory" in str(error) for error in result.failures] == [True, False]
    assert (tmp_path / run.TABLE).read_text().count(",,,,,,,") == 7


def test_frames_and_pooled_clips_go_side_by_side_and_as_in_a_run(clips: ClipTable, tmp_path: Path) -> None:
    own = replace(BASE.detectors[0], features=replace(FEATURES, pooling="none"), pooling="max")
    base = replace(BASE, detectors=(own,))
    settings = (
        {"seed": 1},
        {"features.pooling": "gwrp", "features.gwrp_r": 0.0},
        {"features.pooling": "max"},
    )
    one_machine = clips.select(machine_id="id_02")
    result = run_sweep(one_machine, Sweep(base, settings), tmp_path)
    expected = run_alone(one_machine, change(base, settings[0]))
    assert_allclose(result.trials[0].scores, expected.scores, rtol=1e-3)
    assert_allclose(result.trials[1].scores, result.trials[2].scores, rtol=1e-4)  # r = 0 is the maximum


def test_autoencoders_are_trials_too(clips: ClipTable, tmp_path: Path) -> None:
    small = {"n_context": 3, "hidden": (8,), "bottleneck": 4, "n_epochs": 2, "batch_size": 64}
    features = replace(FEATURES, pooling="none")
    base = make_spec("autoencoder", settings=small, features=features, standardize=True, calibration="none")
    axes = {"config.bottleneck": (2, 4), "hyper.learning_rate": (1e-3, 1e30)}
    one_machine = clips.select(machine_id="id_00")
    result = run_sweep(one_machine, grid(base, axes), tmp_path)
    assert [trial.failed for trial in result.trials] == [False, True, False, True]
    assert result.trials[1].status == "not finite"
    assert not np.allclose(result.trials[0].scores, result.trials[2].scores)
    assert np.isfinite(result.trials[0].auc)
    assert static_part(change(base, {"config.bottleneck": 16})) == static_part(base)
    assert static_part(change(base, {"config.bottleneck": 17})) != static_part(
        base
    )  # products of another shape


@pytest.mark.parametrize("residual", ["mean_square", "mahalanobis"])
def test_a_trial_of_an_autoencoder_is_the_run_it_stands_for(
    clips: ClipTable, tmp_path: Path, residual: str
) -> None:
    """Over many steps: it is the same training, windows, order, standardised rows and domains; scores to rounding."""
    own = {"n_context": 3, "hidden": (8,), "bottleneck": 4, "n_epochs": 20, "batch_size": 64}
    if residual == "mahalanobis":
        own |= {"residual": residual, "n_domains": 2}
    features = replace(FEATURES, pooling="none")
    base = make_spec(
        "autoencoder",
        settings=own,
        features=features,
        standardize=True,
        calibration="none",
        domains="together",  # a trial is one fit
    )
    two = ClipTable(
        tuple(
            replace(clip, domain="target" if i % 4 == 0 else "source")
            for i, clip in enumerate(clips.select(machine_id="id_00"))
        )
    )
    result = run_sweep(two, grid(base, {"config.bottleneck": (2, 4, 16), "seed": (0, 3)}), tmp_path)
    for trial in (result.trials[0], result.trials[3])[residual == "mahalanobis" :]:
        expected = run_alone(two, change(base, trial.settings))
        assert_allclose(trial.scores, expected.scores, rtol=1e-4 if residual == "mahalanobis" else 1e-5)


@pytest.mark.parametrize("pooling", ["mean", "std", "max", "percentile"])
def test_scores_of_windows_are_pooled_by_clip(pooling: str) -> None:
    """No window runs over the end of its clip; a clip shorter than one has no score."""
    values = np.random.default_rng(0).normal(size=12).astype(np.float32)
    found = pool_scores(values, np.array([0, 5, 7, 12]), 3, pooling, percentile=80.0)
    pool = getattr(np, pooling) if pooling != "percentile" else lambda own: np.percentile(own, 80)
    assert_allclose(found, [pool(values[:3]), np.nan, pool(values[7:10])], rtol=1e-6)


def test_a_folder_without_test_clips_is_refused(clips: ClipTable, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no test clips"):
        run_sweep(clips.select(split="train"), SWEEP, tmp_path)


def test_trials_of_vectors_are_the_runs_they_stand_for(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    values[::5] += 3
    rows = [
        f"{i}.wav,{('a', 'b')[i % 2]},{('train', 'test')[i > 29]},{int(i > 29 and i % 5 == 0)},"
        for i in range(60)
    ]
    text = [row + ",".join(map(str, own)) for row, own in zip(rows, values.tolist(), strict=True)]
    text[3] += ",0"
    (tmp_path / "t.csv").write_text("\n".join(["file,machine_id,split,label,x,y,z", *text]))
    features = read_vectors(tmp_path / "t.csv")
    base = make_spec("gmm", features=VectorConfig(3, columns=("z", "y", "x")), calibration="none")
    axes = {"config.n_components": (1, 2), "hyper.reg_covar": (1e-3, 1e-1)}
    result = run_sweep(features, grid(base, axes), tmp_path / "out")
    assert ["row 5 of t.csv: 8 cells" in str(error) for error in result.failures] == [True]
    assert [trial.machine_id for trial in result.trials] == ["a"] * 4 + ["b"] * 4
    train, test = split_vectors(features)
    for trial in result.trials:
        expected = fit_model(change(base, trial.settings), train).score_features(test)
        own, scores = expected.of("machine", trial.machine_id)
        assert trial.clips.names == own.names
        assert_allclose(trial.scores, scores, rtol=2e-3, atol=2e-3)
        assert 0 <= trial.auc <= 1
    again = run_sweep(features, grid(base, axes), tmp_path / "out")
    assert again.n_resumed == 8
    with pytest.raises(DataError, match="'w' missing"):
        run_sweep(
            features,
            grid(make_spec("gmm", features=VectorConfig(1, columns=("w",)), calibration="none"), {}),
            tmp_path,
        )
    with pytest.raises(SettingsError, match="trials of vectors take features"):
        run_sweep(features, SWEEP, tmp_path)
    with pytest.raises(SettingsError, match="trials of vectors take features"):
        run_sweep(features.clips, grid(base, axes), tmp_path)
    with pytest.raises(DataError, match="no test clips"):
        run_sweep(train, grid(base, axes), tmp_path)
