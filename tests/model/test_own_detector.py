"""A kind of one's own in ten lines goes everywhere: fit, score, sweep, folder, command line."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from adjax.app.cli import OK, main
from adjax.data.audio import write_wav
from adjax.data.index import index_folder
from adjax.detectors.kinds import KINDS
from adjax.features.recipes import FeatureConfig
from adjax.model.extraction import ClipFeatures
from adjax.model.fit import fit_model
from adjax.model.inputs import extract_splits
from adjax.model.keep import load_model, save_model
from adjax.model.named import everything, make_spec, names
from adjax.sweep import grid, run_sweep
from adjax.sweep.settings import sweepable
from adjax.types import CONVERGED, FitInfo, Kind, RowDetector, SettingsError

SMALL = FeatureConfig(n_fft=256, hop_length=128, n_mels=16, pooling="mean")


@dataclass(frozen=True)
class DistanceConfig:
    power: int = 2


class DistanceHyper(NamedTuple):
    floor: Any = 0.1


def make_distance(config: DistanceConfig, hyper: DistanceHyper) -> RowDetector:
    """Distance from the mean, in units of the standard deviation."""

    def fit(key, x, weight, hyper=hyper):
        mean = weight @ x / weight.sum()
        spread = jnp.sqrt(weight @ (x - mean[None]) ** 2 / weight.sum()) + hyper.floor
        return (mean, spread), FitInfo(spread.mean(), jnp.int32(1), jnp.int32(CONVERGED))

    def score(params, x):
        return jnp.mean(jnp.abs((x - params[0][None]) / params[1][None]) ** config.power, axis=1)

    return RowDetector(fit, score, hyper)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = Kind(
        "distance", "distance from the mean", DistanceConfig, DistanceHyper, make_distance,
        axes={"hyper.floor": (0.1, 1.0)},
    )  # fmt: skip
    monkeypatch.setitem(KINDS, "distance", kind)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two machines; anomalies are twice as loud."""
    root = tmp_path_factory.mktemp("tree")
    rng = np.random.default_rng(0)
    for machine_id in ("id_00", "id_02"):
        for split, label, n in (("train", "normal", 6), ("test", "normal", 3), ("test", "anomaly", 3)):
            for i in range(n):
                y = (0.1 if label == "anomaly" else 0.05) * rng.normal(size=4000)
                path = root / "saw" / split / f"{label}_{machine_id}_{i:08d}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_wav(path, y.astype(np.float32), 16000)
    return root


@pytest.fixture(scope="module")
def splits(tree: Path) -> tuple[ClipFeatures, ClipFeatures]:
    spec = make_spec("gmm", features=SMALL)  # the front end alone counts
    (train,), (test,) = extract_splits(index_folder(tree), spec)
    return train, test


def test_every_list_has_it() -> None:
    assert "distance" in names()
    assert "distance" in everything()
    assert "distance" in sweepable()
    assert make_spec("distance", settings={"power": 1, "floor": 0.5}).detectors[0].hyper.floor == 0.5
    with pytest.raises(SettingsError, match="distance has no setting n_components; it has floor, power"):
        make_spec("distance", settings={"n_components": 1})


def test_it_is_fitted_calibrated_and_scored(splits) -> None:
    train, test = splits
    model = fit_model(make_spec("distance", features=SMALL), train)
    result = model.score_features(test)
    assert all(metrics.auc == 1.0 for metrics in result.metrics()["saw"].values())
    assert result.part_names == ("distance",)
    assert [len(own.scores) for own in model.record.held_out] == [6, 6]
    assert np.isfinite(result.p_values).all()
    bare = fit_model(make_spec("distance", features=SMALL, calibration="none"), train)
    own = train.rows[:6].astype(np.float64)
    expected = np.mean(((test.rows - own.mean(axis=0)) / (own.std(axis=0) + 0.1)) ** 2, axis=1)
    assert_allclose(bare.score_features(test).of("saw", "id_00")[1], expected[:6], rtol=1e-4)


def test_it_is_kept_and_comes_back_to_the_same_bits(splits, tmp_path: Path) -> None:
    train, test = splits
    spec = make_spec("distance", settings={"power": 1, "floor": 0.5}, features=SMALL, standardize=True)
    model = fit_model(spec, train)
    save_model(model, tmp_path / "model")
    back = load_model(tmp_path / "model")
    assert (back.spec, back.machines) == (model.spec, model.machines)
    jax.tree.map(assert_array_equal, back.params, model.params)
    first, second = (one.score_features(test) for one in (model, back))
    assert_array_equal(first.scores, second.scores)
    assert_array_equal(first.p_values, second.p_values)


def test_it_is_swept_and_a_trial_is_the_run_it_stands_for(tree: Path, splits, tmp_path: Path) -> None:
    base = make_spec("distance", features=SMALL, calibration="none")
    axes = KINDS["distance"].axes
    assert axes is not None
    result = run_sweep(index_folder(tree), grid(base, axes), tmp_path)
    assert [(t.machine_id, t.settings["hyper.floor"]) for t in result.trials] == [
        ("id_00", 0.1), ("id_00", 1.0), ("id_02", 0.1), ("id_02", 1.0),
    ]  # fmt: skip
    assert all(trial.auc == 1.0 for trial in result.trials)
    train, test = splits
    for place, floor in enumerate((0.1, 1.0)):
        spec = make_spec("distance", settings={"floor": floor}, features=SMALL, calibration="none")
        alone = fit_model(spec, train).score_features(test)
        assert_allclose(result.trials[place].scores, alone.of("saw", "id_00")[1], rtol=1e-5)


def test_the_command_line_takes_it(tree: Path, tmp_path: Path, capsys) -> None:
    settings = ["--model", "distance", "--set", "power=1", "--clip-pooling", "mean", "--n-mels", "16"]
    assert main(["run", "--data", str(tree), "--out", str(tmp_path), *settings]) == OK
    with open(tmp_path / "scores.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert {row["part"] for row in rows} == {"distance"}
    assert "distance" in capsys.readouterr().out
