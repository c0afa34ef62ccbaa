"""From clips to scores: extraction, grouping, padding, failures."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from adjax.data.audio import write_wav
from adjax.data.clips import Clip
from adjax.data.index import index_folder
from adjax.detectors.autoencoder import AutoencoderConfig, make_autoencoder
from adjax.detectors.gmm import GmmConfig, GmmHyper
from adjax.extraction import settings_key
from adjax.features import log_mel_spectrogram, mel_spectrogram
from adjax.features.recipes import (
    BASELINE_FLOORS,
    ClipNorm,
    FeatureConfig,
    FeatureKind,
    Floor,
    Pooling,
    make_features,
)
from adjax.pipeline import (
    ClipFeatures,
    RunConfig,
    drop_checkpoints,
    extract,
    extract_splits,
    fit_and_score,
    window_weights,
)
from adjax.resumable import fit_alone
from adjax.types import ClipError, DataError, FitError, SettingsError, StoreError

SMALL = FeatureConfig(n_fft=256, hop_length=128, n_mels=16)
GMM = RunConfig(features=SMALL, gmm=GmmConfig(2, "diag", max_iter=20), gmm_hyper=GmmHyper(reg_covar=1e-3))
AUTOENCODER = replace(
    GMM, model="autoencoder", autoencoder=AutoencoderConfig(3, (16,), 2, n_epochs=30, batch_size=64)
)


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
    return extract_splits(index_folder(tree), GMM)


def test_extract_equals_one_clip_at_a_time(tree: Path) -> None:
    """Batches are padded to the longest clip; that changes nothing."""
    from adjax.data.audio import read_clip

    clips = index_folder(tree).select(split="train")
    features = extract(clips, SMALL)
    assert [clip.path for clip in features.clips] == [clip.path for clip in clips]
    for i, clip in enumerate(clips):
        alone = log_mel_spectrogram(
            jnp.asarray(read_clip(clip.path).samples), sr=16000, n_fft=256, hop_length=128, n_mels=16,
            amin=np.finfo(np.float64).eps, floor="add",
        )  # fmt: skip
        assert_allclose(features.rows[features.offsets[i] : features.offsets[i + 1]], alone, atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "pooling"),
    [
        *((kind, pooling) for kind in get_args(FeatureKind) for pooling in ("none", "std")),
        *(("log-mel", pooling) for pooling in get_args(Pooling)[3:]),
    ],
)
@pytest.mark.parametrize("clip_norm", ["none", "level"])
def test_recipes_give_the_promised_shape_whatever_the_padding(
    kind: FeatureKind, pooling: Pooling, clip_norm: ClipNorm
) -> None:
    config = replace(SMALL, kind=kind, pooling=pooling, clip_norm=clip_norm, n_mfcc=5, n_deltas=2)
    features = jax.jit(make_features(config))
    y = jnp.asarray(hum(0, 500.0, 4000))
    alone, padded = features(y, 4000), features(jnp.pad(y, (0, 1000), constant_values=7.0), 4000)
    assert alone.shape == (config.n_rows(4000), config.n_features)
    assert_allclose(padded[: config.n_rows(4000)], alone, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "bad",
    [
        {"kind": "chroma"},
        {"kind": "mfcc", "n_mfcc": 17},
        {"pooling": "median"},
        {"pooling": "gwrp", "gwrp_r": 1.5},
        {"pooling": "percentiles", "percentiles": (50.0, 101.0)},
        {"pooling": "percentiles", "percentiles": ()},
        {"clip_norm": "loudness"},
        {"floor": "clip"},
    ],
)
def test_recipes_refuse_bad_settings(bad: dict) -> None:
    with pytest.raises(SettingsError):
        make_features(replace(SMALL, **bad))


@pytest.mark.parametrize("kind", get_args(FeatureKind))
def test_floors_are_those_of_the_baselines(kind: FeatureKind) -> None:
    """A sound so faint that its mel energies lie about eps: the logarithm tells the floors apart, nothing else does."""
    y = jnp.asarray(hum(0, 500.0, 4000)) * np.float32(1e-7)
    config = replace(SMALL, kind=kind, n_mfcc=5)
    added, floored = (
        make_features(replace(config, floor=BASELINE_FLOORS[year]))(y, 4000) for year in ("2020", "2023")
    )
    if kind in ("spectrum", "pcen"):
        assert_array_equal(added, floored)
        return
    assert np.max(np.abs(added - floored)) > 1
    if kind == "log-mel":
        eps = np.finfo(np.float64).eps
        mel = np.asarray(mel_spectrogram(y, sr=16000, n_fft=256, hop_length=128, n_mels=16), np.float64)
        assert_allclose(added, 10 * np.log10(mel + eps), atol=1e-3)
        assert_allclose(floored, 10 * np.log10(np.maximum(mel, eps)), atol=1e-3)


def test_the_floor_is_part_of_the_caches_key() -> None:
    keys = {settings_key(replace(SMALL, floor=floor), 0) for floor in get_args(Floor)}
    assert len(keys) == 2


@pytest.mark.parametrize("per", ["machine", "type"])
@pytest.mark.parametrize(
    "config",
    [GMM, replace(GMM, standardize=True), replace(AUTOENCODER, standardize=True)],
    ids=["gmm", "standardised gmm", "autoencoder"],
)
def test_models_find_the_anomalies(splits, config: RunConfig, per: str) -> None:
    result = fit_and_score(*splits, replace(config, per=per))
    assert len(result.fits) == (2 if per == "machine" else 1)
    assert not result.failures
    for metrics in result.metrics()["fan"].values():
        assert metrics.auc > 0.9
        assert (metrics.n_normal, metrics.n_anomalous) == (4, 4)


def test_auto_takes_clips_of_unlike_lengths_and_reports_bad_ones(tree: Path, tmp_path: Path) -> None:
    import shutil

    root = tmp_path / "copy"
    shutil.copytree(tree, root)
    (root / "fan/train/normal_id_00_00000003.wav").write_bytes(b"RIFF")
    write_wav(
        root / "fan/test/normal_id_02_00000001.wav", hum(0, 2000.0, 100), 16000
    )  # one frame: still scored
    auto = RunConfig(model="auto", features=SMALL)
    result = fit_and_score(*extract_splits(index_folder(root), auto), auto)
    assert [Path(error.path).name for error in result.failures] == ["normal_id_00_00000003.wav"]
    assert len(result.scores) == 16
    assert result.metrics()["fan"]["id_00"].auc == 1.0


def test_auto_refuses_what_it_cannot_use(splits) -> None:
    with pytest.raises(SettingsError, match="front_end"):
        fit_and_score(*splits, RunConfig(model="auto", features=SMALL))
    for bad in ({"standardize": True}, {"score_pooling": "max"}, {"features": replace(SMALL, n_mels=24)}):
        with pytest.raises(SettingsError, match="auto"):
            _ = replace(RunConfig(model="auto", features=SMALL), **bad).front_end


def test_residuals_of_two_domains_find_the_anomalies(splits) -> None:
    train, test = splits
    clips = tuple(replace(c, domain=("source", "target")[i % 2]) for i, c in enumerate(train.clips))
    own = replace(AUTOENCODER.autoencoder, residual="mahalanobis", n_domains=2)
    config = replace(AUTOENCODER, standardize=True, per="type", autoencoder=own)
    result = fit_and_score(replace(train, clips=type(train.clips)(clips)), test, config)
    assert not result.failures
    assert all(metrics.auc > 0.9 for metrics in result.metrics()["fan"].values())


def test_a_model_of_one_machine_misjudges_the_other(splits) -> None:
    train, test = splits
    normals = test.where(lambda clip: clip.label == 0)
    swapped = {"id_00": "id_02", "id_02": "id_00"}
    clips = type(train.clips)(tuple(replace(c, machine_id=swapped[c.machine_id]) for c in train.clips))
    right = fit_and_score(train, normals, GMM).scores
    wrong = fit_and_score(replace(train, clips=clips), normals, GMM).scores
    assert wrong.min() > right.max()


@pytest.mark.parametrize("pooling", ["mean", "std", "max", "percentile"])
def test_score_pooling(splits, pooling: str) -> None:
    """The clip's score is the pooled score of its frames."""
    from adjax.pipeline import make_detector

    train, test = (part.where(lambda clip: clip.machine_id == "id_00") for part in splits)
    config = replace(GMM, score_pooling=pooling)
    result = fit_and_score(train, test, config)
    detector = make_detector(config)
    key = jax.random.fold_in(jax.random.key(0), 0)
    params, _ = detector.fit(key, jnp.asarray(train.rows), jnp.ones(len(train.rows)), detector.hyper)
    frames = np.asarray(detector.score(params, jnp.asarray(test.rows)))
    pool = getattr(np, pooling) if pooling != "percentile" else lambda own: np.percentile(own, 95)
    expected = [pool(frames[a:b]) for a, b in pairwise(test.offsets)]
    assert_allclose(result.scores, expected, rtol=5e-2)


def test_same_seed_same_scores(splits) -> None:
    assert_array_equal(fit_and_score(*splits, AUTOENCODER).scores, fit_and_score(*splits, AUTOENCODER).scores)


def test_checkpoints_change_nothing_and_belong_to_one_run(splits, tmp_path: Path) -> None:
    train, test = splits
    plain = fit_and_score(train, test, AUTOENCODER)
    place = tmp_path / "checkpoints"
    heard: list[float] = []
    fit = lambda config: fit_and_score(train, test, config, checkpoints=place, on_epoch=heard.append)  # noqa: E731
    assert_array_equal(fit(AUTOENCODER).scores, plain.scores)
    again = fit(AUTOENCODER)
    assert_array_equal(again.scores, plain.scores)
    assert "fan id_02: went on after epoch 30 of 30" in again.notes
    assert not set(plain.notes) & set(again.notes)
    assert len(heard) == 4 * 30  # two machines, twice: the second time from the checkpoints
    assert_array_equal(np.sort(heard[:60]), np.sort(heard[60:]))
    for other in (replace(AUTOENCODER, seed=1), replace(AUTOENCODER, standardize=True)):
        with pytest.raises(StoreError, match="other settings, data or versions"):
            fit(other)
    drop_checkpoints(place, test.where(lambda clip: clip.machine_id == "id_00"), "machine")
    assert [path.name for path in place.iterdir()] == ["fan_id_02"]
    drop_checkpoints(place, test, "machine")
    assert not place.exists()


def test_clips_without_a_name_have_a_folder_too(splits, tmp_path: Path) -> None:
    """Not the caller's: that one stays, with whatever else is in it."""
    bare = [replace(p, clips=type(p.clips)(tuple(Clip(c.path) for c in p.clips))) for p in splits]
    (tmp_path / "mine.txt").touch()
    config = replace(AUTOENCODER, per="type", autoencoder=replace(AUTOENCODER.autoencoder, n_epochs=1))
    assert len(fit_and_score(*bare, config, checkpoints=tmp_path).clips) == len(bare[1].clips)
    drop_checkpoints(tmp_path, bare[1], "type")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_lane_alone_is_the_detector(splits) -> None:
    """`fit_and_score` trains by `fit_alone`, which is `Detector.fit`."""
    train = splits[0]
    config, hyper = replace(AUTOENCODER.autoencoder, n_epochs=3), AUTOENCODER.autoencoder_hyper
    rows, weight = jnp.asarray(train.rows), jnp.asarray(window_weights(train.offsets, config.n_context))
    model = fit_alone(config, jax.random.key(0), rows, weight, hyper)
    assert (len(model.losses), model.losses[-1]) == (3, float(model.info.objective))
    found = (model.params, model.info)
    expected = jax.jit(make_autoencoder(config).fit)(jax.random.key(0), rows, weight, hyper)
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, expected)


def test_windows_do_not_cross_clips() -> None:
    assert_array_equal(window_weights(np.array([0, 4, 5, 8]), 3), [1, 1, 0, 0, 0, 1, 0, 0])


def test_bad_clips_are_reported_and_the_rest_goes_on(tree: Path, tmp_path: Path) -> None:
    import shutil

    root = tmp_path / "copy"
    shutil.copytree(tree, root)
    (root / "fan/train/normal_id_00_00000003.wav").write_bytes(b"RIFF")
    (root / "fan/test/anomaly_id_02_00000001.wav").write_bytes(b"")
    write_wav(root / "fan/test/normal_id_02_00000001.wav", hum(0, 2000.0, 100), 16000)  # one frame
    (root / "fan/test/what_is_this.wav").write_bytes(b"")
    result = fit_and_score(*extract_splits(index_folder(root), AUTOENCODER), AUTOENCODER)
    bad = {Path(e.path).name for e in result.failures if isinstance(e, ClipError)}
    assert bad == {
        "normal_id_00_00000003.wav",
        "anomaly_id_02_00000001.wav",
        "normal_id_02_00000001.wav",
        "what_is_this.wav",
    }
    assert len(result.scores) == 14
    assert not {error.path for error in result.failures} & {str(clip.path) for clip in result.clips}


def test_a_machine_without_training_clips_is_reported_and_not_scored(splits) -> None:
    train, test = splits
    only = train.where(lambda clip: clip.machine_id == "id_00")
    result = fit_and_score(only, test, GMM)
    assert result.clips.machine_ids == ("id_00",) or list(result.clips.machine_ids) == ["id_00"]
    assert len(result.failures) == 1
    assert isinstance(result.failures[0], FitError)
    assert "fan id_02 has 0 training vectors" in str(result.failures[0])


def test_a_fit_that_does_not_stay_finite_is_reported_and_not_scored(splits) -> None:
    train, test = splits
    rows = train.rows.copy()
    rows[0] = np.inf
    result = fit_and_score(replace(train, rows=rows), test, GMM)
    assert list(result.clips.machine_ids) == ["id_02"]
    assert "did not stay finite" in str(result.failures[0])


def test_settings_that_contradict_each_other_are_refused(splits) -> None:
    pooled = replace(AUTOENCODER, features=replace(SMALL, pooling="mean"))
    with pytest.raises(SettingsError, match="n_context"):
        fit_and_score(*splits, pooled)
    with pytest.raises(SettingsError, match="standard deviation"):
        fit_and_score(*splits, replace(GMM, features=replace(SMALL, pooling="mean"), score_pooling="std"))


def test_a_data_set_without_test_clips_is_refused(tree: Path) -> None:
    clips = index_folder(tree).select(split="train")
    with pytest.raises(DataError, match="no test clips"):
        extract_splits(clips, GMM)


def test_where_keeps_rows_with_their_clips(splits) -> None:
    train, _ = splits
    odd = train.where(lambda clip: int(clip.path.stem[-1]) % 2 == 1)
    assert len(odd.clips) == 6
    for i, clip in enumerate(odd.clips):
        j = [c.path for c in train.clips].index(clip.path)
        assert_array_equal(
            odd.rows[odd.offsets[i] : odd.offsets[i + 1]], train.rows[train.offsets[j] : train.offsets[j + 1]]
        )
    empty = train.where(lambda clip: False)
    assert (len(empty.clips), empty.rows.shape, empty.offsets.tolist()) == (0, (0, 16), [0])
