"""From clips to a model and its scores: machines and types, pooling, standardising, checkpoints, failures."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from adjax.app.fitting import drop_checkpoints
from adjax.data.audio import write_wav
from adjax.data.clips import Clip, ClipTable
from adjax.data.index import index_folder
from adjax.detectors.autoencoder import resume
from adjax.detectors.kinds import kind_of
from adjax.features.recipes import FeatureConfig
from adjax.model.extraction import ClipFeatures
from adjax.model.fit import Watch, fit_model
from adjax.model.inputs import extract_splits
from adjax.model.lanes import fit_rows
from adjax.model.lift import make_detector, window_starts
from adjax.model.result import Result
from adjax.model.spec import ModelSpec, make_spec
from adjax.types import (
    MAX_ITER,
    NOT_FINITE,
    ClipError,
    EngineOptions,
    FitError,
    MachineId,
    SettingsError,
    StoreError,
    Training,
)

SMALL = FeatureConfig(n_fft=256, hop_length=128, n_mels=16)
MIXTURE = {"n_components": 2, "covariance_type": "diag", "max_iter": 20, "reg_covar": 1e-3}
NETWORK = {"n_context": 3, "hidden": (16,), "bottleneck": 2, "n_epochs": 30, "batch_size": 64}
GMM = make_spec("gmm", settings=MIXTURE, features=SMALL, calibration="none")
AUTOENCODER = make_spec("autoencoder", settings=NETWORK, features=SMALL, calibration="none")


def with_own(spec: ModelSpec, **fields: object) -> ModelSpec:
    """A model of one detector with some of the detector's fields, or of its config's, changed."""
    own = spec.detectors[0]
    config = {name: fields.pop(name) for name in list(fields) if hasattr(own.config, name)}
    own = replace(own, config=replace(own.config, **config), **fields)
    return replace(spec, detectors=(own,))


def hum(seed: int, hz: float, n: int = 8000) -> np.ndarray:
    """Half a second of a hum in noise."""
    rng = np.random.default_rng(seed)
    return (0.1 * np.sin(2 * np.pi * hz * np.arange(n) / 16000) + 0.02 * rng.normal(size=n)).astype(
        np.float32
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two machines that hum at 500 and 2000 Hz; an anomaly adds a tone at 4000 Hz. Clips of different lengths."""
    root = tmp_path_factory.mktemp("tree")
    for split in ("train", "test"):
        (root / "fan" / split).mkdir(parents=True)
    for number, hz in ((0, 500.0), (2, 2000.0)):
        for i in range(6):
            write_wav(
                root / f"fan/train/normal_id_{number:02d}_{i:08d}.wav", hum(i, hz, 8000 + 500 * i), 16000
            )
        for i in range(4):
            normal, anomaly = hum(100 + i, hz), hum(200 + i, hz) + 0.5 * hum(300 + i, 4000.0)
            write_wav(root / f"fan/test/normal_id_{number:02d}_{i:08d}.wav", normal, 16000)
            write_wav(root / f"fan/test/anomaly_id_{number:02d}_{i:08d}.wav", anomaly, 16000)
    return root


@pytest.fixture(scope="module")
def splits(tree: Path) -> tuple[ClipFeatures, ClipFeatures]:
    (train,), (test,) = extract_splits(index_folder(tree), GMM)
    return train, test


def relabel(features: ClipFeatures, change: Callable[[int, Clip], Clip]) -> ClipFeatures:
    return replace(features, clips=ClipTable(tuple(change(i, c) for i, c in enumerate(features.clips))))


def fit_and_score(train: ClipFeatures, test: ClipFeatures, spec: ModelSpec, **options: object) -> Result:
    model = fit_model(spec, train, **options)
    assert not model.record.failures
    return model.score_features(test)


@pytest.mark.parametrize("per", ["machine", "type"])
@pytest.mark.parametrize(
    "spec",
    [GMM, with_own(GMM, standardize=True), with_own(AUTOENCODER, standardize=True)],
    ids=["gmm", "standardised gmm", "autoencoder"],
)
def test_models_find_the_anomalies(splits, spec: ModelSpec, per: str) -> None:
    train, test = splits
    model = fit_model(with_own(spec, per=per), train)
    result = model.score_features(test)
    assert len(model.record.fits) == (2 if per == "machine" else 1)
    assert sum(fit.n_clips for fit in model.record.fits) == 12
    assert not model.record.failures
    assert not result.failures
    for metrics in result.metrics()["fan"].values():
        assert metrics.auc > 0.9
        assert (metrics.n_normal, metrics.n_anomalous) == (4, 4)


def test_without_calibration_there_is_no_p_value_and_no_decision(splits) -> None:
    model = fit_model(GMM, splits[0])
    result = model.score_features(splits[1])
    assert not model.calibrated
    assert np.isnan(result.p_values).all()
    assert set(result.verdicts) == {"undecided"}
    assert not result.extrapolated.any()
    assert_array_equal(result.scores, result.parts[:, 0])
    assert result.part_names == ("gmm",)
    with pytest.raises(SettingsError, match="calibration"):
        model.with_false_alarm_rate(0.1)


@pytest.mark.parametrize("calibration", ["folds", "split"])
def test_a_calibrated_model_decides(splits, calibration: str) -> None:
    """A split keeps clips out of the model; folds do not: then the model is the one without calibration."""
    train, test = splits
    spec = replace(GMM, calibration=calibration, n_folds=3)
    model = fit_model(spec, train, false_alarm_rate=0.1)
    result = model.score_features(test)
    assert ((result.p_values > 0) & (result.p_values <= 1)).all()
    found = np.array(result.verdicts) == "anomalous"
    assert found[test.clips.labels == 1].all()
    assert calibration == "split" or not found[test.clips.labels == 0].any()  # two clips say little
    assert result.extrapolated[test.clips.labels == 1].all()
    n_held_out = {"folds": 6, "split": 2}[calibration]
    assert [len(own.scores) for own in model.record.held_out] == [n_held_out] * 2
    assert [fit.n_clips for fit in model.record.fits] == [6 if calibration == "folds" else 4] * 2
    if calibration == "folds":
        found, bare = (m.params.detectors[0].params for m in (model, fit_model(GMM, train)))
        jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-4, atol=1e-4), found, bare)


def test_residuals_of_two_domains_find_the_anomalies(splits) -> None:
    train, test = splits
    train = relabel(train, lambda i, clip: replace(clip, domain=("source", "target")[i % 2]))
    spec = with_own(AUTOENCODER, residual="mahalanobis", n_domains=2, standardize=True, per="type")
    result = fit_and_score(train, test, spec)
    assert not result.failures
    assert all(metrics.auc > 0.9 for metrics in result.metrics()["fan"].values())


def test_a_model_of_one_machine_misjudges_the_other(splits) -> None:
    train, test = splits
    normals = test.where(lambda clip: clip.label == 0)
    swapped = {"id_00": "id_02", "id_02": "id_00"}
    other = relabel(train, lambda i, clip: replace(clip, machine_id=swapped[clip.machine_id]))
    right = fit_and_score(train, normals, GMM).scores
    wrong = fit_and_score(other, normals, GMM).scores
    assert wrong.min() > right.max()


def test_score_pooling(splits) -> None:
    """The clip's score is the pooled score of its frames, of the detector that the machine's own key has fitted."""
    train, test = (part.where(lambda clip: clip.machine_id == "id_00") for part in splits)
    detector = GMM.detectors[0].make()
    key = jax.random.fold_in(jax.random.key(0), MachineId("fan", "id_00").seed)
    params, _ = jax.jit(detector.fit)(key, jnp.asarray(train.rows), jnp.ones(len(train.rows)), detector.hyper)
    frames = np.asarray(detector.score(params, jnp.asarray(test.rows)))
    for pooling in ("mean", "std", "max", "percentile"):
        result = fit_and_score(train, test, with_own(GMM, pooling=pooling, percentile=90.0))
        pool = getattr(np, pooling) if pooling != "percentile" else lambda own: np.percentile(own, 90)
        expected = [pool(frames[a:b]) for a, b in pairwise(test.offsets)]
        assert_allclose(result.scores, expected, rtol=5e-2, err_msg=pooling)


def test_same_seed_same_scores(splits) -> None:
    spec = with_own(AUTOENCODER, n_epochs=3)
    one, two = (fit_and_score(*splits, spec) for _ in range(2))
    assert_array_equal(one.scores, two.scores)
    assert np.any(fit_and_score(*splits, replace(spec, seed=1)).scores != one.scores)


def test_a_machine_has_the_same_model_in_any_company(splits) -> None:
    """Its key depends on its name alone."""
    train, test = splits
    alone = [part.where(lambda clip: clip.machine_id == "id_02") for part in splits]
    for spec in (GMM, with_own(AUTOENCODER, n_epochs=3)):
        assert_array_equal(
            fit_and_score(*alone, spec).scores, fit_and_score(train, test, spec).of("fan", "id_02")[1]
        )


def test_two_trainings_of_one_machine_keep_their_checkpoints_apart(splits, tmp_path: Path) -> None:
    (own,) = AUTOENCODER.detectors
    short = [replace(own, config=replace(own.config, n_epochs=n)) for n in (1, 2)]
    spec = replace(AUTOENCODER, detectors=tuple(short))
    train, test = (part.where(lambda clip: clip.machine_id == "id_00") for part in splits)
    first = fit_model(spec, train, checkpoints=tmp_path / "net")
    again = fit_model(spec, train, checkpoints=tmp_path / "net")
    assert "fan id_00: went on after epoch 2 of 2" in again.record.notes
    assert_array_equal(first.score_features(test).scores, again.score_features(test).scores)
    drop_checkpoints(tmp_path, "net", test.clips)
    assert not (tmp_path / "net").exists()


def test_checkpoints_change_nothing_and_belong_to_one_run(
    splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = splits
    plain = fit_model(AUTOENCODER, train)
    scores = plain.score_features(test).scores
    place = tmp_path / "checkpoints" / "net"
    heard: list[float] = []
    done: list[str] = []
    watch = Watch(done.append, lambda n_lanes, loss: heard.append(loss))
    built: list[object] = []
    make_lanes = resume.make_lanes
    monkeypatch.setattr(resume, "make_lanes", lambda *a, **b: built.append(a) or make_lanes(*a, **b))
    fit = lambda spec: fit_model(spec, train, checkpoints=place, watch=watch)
    assert_array_equal(fit(AUTOENCODER).score_features(test).scores, scores)
    again = fit(AUTOENCODER)
    assert_array_equal(again.score_features(test).scores, scores)
    assert "fan id_02: went on after epoch 30 of 30" in again.record.notes
    assert not set(plain.record.notes) & set(again.record.notes)
    assert len(built) == 1  # two machines of one size, twice: one program
    assert done == ["fan id_00", "fan id_02"] * 2
    assert len(heard) == 4 * 30  # two machines, twice: the second time from the checkpoints
    assert_array_equal(np.sort(heard[:60]), np.sort(heard[60:]))
    for other in (replace(AUTOENCODER, seed=1), with_own(AUTOENCODER, standardize=True)):
        with pytest.raises(StoreError, match="other settings, data or versions"):
            fit(other)
    drop_checkpoints(place.parent, "net", test.where(lambda clip: clip.machine_id == "id_00").clips)
    assert [path.name.partition("~")[0] for path in place.iterdir()] == ["fan_id_02"]
    drop_checkpoints(place.parent, "net", test.clips)
    assert not place.parent.exists()


def test_clips_without_a_name_have_a_folder_too(splits, tmp_path: Path) -> None:
    """Not the caller's: that one stays, with whatever else is in it."""
    train, test = (relabel(part, lambda i, clip: Clip(clip.path)) for part in splits)
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "mine.txt").touch()
    spec = with_own(AUTOENCODER, per="type", n_epochs=3)
    assert len(fit_and_score(train, test, spec, checkpoints=tmp_path / "net").clips) == len(test.clips)
    assert len(list((tmp_path / "net").iterdir())) == 2
    drop_checkpoints(tmp_path, "net", test.clips)
    assert [path.name for path in (tmp_path / "net").iterdir()] == ["mine.txt"]


def test_a_lane_is_the_detector(splits) -> None:
    """A model trains by its kind's engine, which is `RowDetector.fit`, whatever clips are left out between others."""
    own = with_own(AUTOENCODER, n_epochs=4).detectors[0]
    train, kind = splits[0], kind_of(own.kind)
    clip = np.repeat(np.arange(len(train.clips)), np.diff(train.offsets))
    real = np.stack([np.ones(len(clip)), clip % 3 != 1, clip % 2 == 0]).astype(np.float32)
    weights = np.stack([window_starts(clip, kept, own.config.n_context) for kept in real])
    options = EngineOptions(domain=np.zeros(len(clip), np.int32))
    keys, rows = jax.random.split(jax.random.key(0), 2), np.stack([train.rows, train.rows[::-1]])
    data, fold, lane_keys = np.array([0, 1, 0, 0]), np.array([0, 1, 1, 2]), keys[np.array([0, 1, 1, 0])]
    found = fit_rows(kind, own.config, own.hyper, lane_keys, rows, weights, data, fold, options)
    assert found.losses.shape == (4, 4)
    assert_allclose(found.losses[:, -1], found.info.objective)
    fit = jax.jit(own.make().fit)
    for i in range(4):
        alone = fit_rows(
            kind, own.config, own.hyper, lane_keys[i][None], rows[data[i]][None], weights[fold[i]][None],
            np.zeros(1, int), np.zeros(1, int), options,
        )  # fmt: skip
        assert_allclose(found.losses[i, 0], alone.losses[0, 0], rtol=1e-6)
        solo = fit(lane_keys[i], rows[data[i]], weights[fold[i]], own.hyper)
        for expected in (jax.tree.map(lambda leaf: leaf[0], (alone.params, alone.info)), solo):
            jax.tree.map(
                lambda a, b: assert_allclose(a[i], b, rtol=1e-5, atol=1e-6),  # noqa: B023
                (found.params, found.info),
                expected,
            )


@pytest.mark.parametrize("standardize", [False, True])
def test_one_training_whoever_asks_for_it(splits, standardize: bool) -> None:
    """A model with its calibration beside it, one of what that leaves, and the pure fit among other machines' rows."""
    train, spec = splits[0], with_own(AUTOENCODER, n_epochs=4, standardize=standardize)
    model = fit_model(replace(spec, calibration="split"), train)
    held_out = {name for own in model.record.held_out for name in own.names}
    seen = train.where(lambda clip: clip.name not in held_out)
    assert 0 < len(seen.clips) < len(train.clips)
    alone = fit_model(spec, seen)
    for fits in zip(model.record.fits, alone.record.fits, strict=True):
        assert_allclose(*(fit.losses for fit in fits), rtol=1e-5)
    if standardize:
        return
    machines = seen.clips.machines
    machine = np.array([machines.index(clip.machine) for clip in seen.clips], np.int32)
    clip = np.repeat(np.arange(len(machine)), np.diff(seen.offsets)).astype(np.int32)
    seeds = np.array([name.seed for name in machines], np.uint32)
    training = Training(*map(jnp.asarray, (seen.rows, np.ones(len(clip)), clip, machine, 0 * machine, seeds)))
    own = spec.detectors[0]
    params, info = jax.jit(make_detector(own).fit)(jax.random.key(spec.seed), training, own.hyper)
    assert_allclose([fit.objective for fit in model.record.fits], info.objective, rtol=1e-5)
    jax.tree.map(
        lambda a, b: assert_allclose(a, b, rtol=1e-5, atol=1e-6), model.params.detectors[0].params, params
    )


def test_windows_do_not_cross_clips() -> None:
    clip = np.repeat([0, 1, 2], [4, 1, 3])
    for xp in (np, jnp):
        starts = window_starts(xp.asarray(clip), xp.ones(8), 3)
        assert_array_equal(starts, [1, 1, 0, 0, 0, 1, 0, 0])
        left_out = window_starts(xp.asarray(clip), xp.asarray(clip == 2, float), 3)
        assert_array_equal(left_out, [0, 0, 0, 0, 0, 1, 0, 0])
        assert_array_equal(window_starts(xp.asarray(clip[:2]), xp.ones(2), 3), [0, 0])


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
    assert "fan id_00 did not stay finite" in str(model.record.failures[0])
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


def test_a_fit_that_made_all_its_steps_says_so(splits) -> None:
    model = fit_model(with_own(GMM, max_iter=1), splits[0])
    assert [fit.status for fit in model.record.fits] == [MAX_ITER] * 2


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
