"""Settings from Python and from a file: each fault is one `SettingsError` that names the setting."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import adjax
from adjax.detectors.autoencoder import AutoencoderConfig, AutoencoderHyper
from adjax.detectors.gmm import GmmConfig, GmmHyper
from adjax.features.recipes import FeatureConfig
from adjax.model.named import make_spec
from adjax.model.spec import DetectorSpec, ModelSpec, VectorConfig, check_rate
from adjax.model.spec_json import from_json, to_json
from adjax.types import SettingsError

NAN, INF, HUGE = float("nan"), float("inf"), 2**70


@pytest.mark.parametrize(
    ("others", "name"),
    [
        *[({"seed": value}, "seed") for value in (-1, 2**32, HUGE, 1.0, True, "1", None, NAN)],
        *[({"n_folds": value}, "n_folds") for value in (1, -1, HUGE, 2.0, True, "5", NAN)],
        *[({"channel": value}, "channel") for value in (-1, HUGE, 0.0, True, "left", None, NAN)],
        *[({"percentile": value}, "percentile") for value in (-1, 101, NAN, INF, True, "95")],
        *[({"standardize": value}, "standardize") for value in (1, "yes", None)],
        *[({name: "x"}, name) for name in ("fusion", "calibration", "per", "pooling")],
        *[({name: NAN}, name) for name in ("fusion", "calibration", "per", "pooling")],
        *[({"features": {"sr": value}}, "sr") for value in (0, 999, 10**7, HUGE, 16000.0, True, NAN, "16k")],
        *[({"features": {"n_mels": value}}, "n_mels") for value in (0, 1025, 2**31 - 1, HUGE, 64.0, True, NAN)],
        *[({"features": {"n_fft": value}}, "n_fft") for value in (0, -1, 2**31, HUGE, 1024.0)],
        *[({"features": {"hop_length": value}}, "hop_length") for value in (0, -1, HUGE, 1.5)],
        *[({"features": {"n_deltas": value}}, "n_deltas") for value in (-1, 3, 1.0)],
        *[({"features": {"kind": "mfcc", "n_mfcc": value}}, "n_mfcc") for value in (0, 129, NAN)],
        *[({"features": {"gwrp_r": value}}, "gwrp_r") for value in (-0.1, 1.1, NAN, INF, "1", True)],
        *[({"features": {"percentiles": value}}, "percentiles") for value in ((), (101,), (NAN,), (True,), 5.0)],
        *[({"features": {name: "x"}}, name) for name in ("kind", "pooling", "floor", "pad_mode", "clip_norm")],
        ({"features": {"colour": 1}}, "colour"),
        ({"features": "log-mel"}, "features"),
        ({"features": VectorConfig(0)}, "n_features"),
        ({"features": VectorConfig(2.0)}, "n_features"),
        ({"features": VectorConfig(2, "mean")}, "pooling"),
        *[({"settings": {"n_components": v}}, "n_components") for v in (0, -1, 2.0, True, NAN, HUGE, "2", None)],
        *[({"settings": {"reg_covar": v}}, "reg_covar") for v in (-1, NAN, INF, "x", True, None)],
        *[({"settings": {"tol": v}}, "tol") for v in (-1, NAN, INF, "x")],
        *[({"settings": {"covariance_type": v}}, "covariance_type") for v in ("round", 1, None, ["full"])],
        ({"settings": {"block_size": 0}}, "block_size"),
    ],
)  # fmt: skip
def test_settings_from_python_are_checked(others: dict[str, Any], name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        make_spec("gmm", **others)


@pytest.mark.parametrize(
    ("kind", "config", "hyper", "name"),
    [
        *[("gmm", GmmConfig(2), GmmHyper(n_components=n), "n_components") for n in (9, 0, -1, 1.5, NAN, HUGE)],
        ("gmm", AutoencoderConfig(), GmmHyper(), "GmmConfig"),
        ("gmm", GmmConfig(), AutoencoderHyper(), "GmmHyper"),
        ("gmm", None, None, "GmmConfig"),
        *[("autoencoder", AutoencoderConfig(), AutoencoderHyper(width=n), "width") for n in (9, 0, -1, NAN)],
        *[("autoencoder", AutoencoderConfig(), AutoencoderHyper(learning_rate=n), "learning_rate") for n in (-1, NAN)],
        *[("autoencoder", AutoencoderConfig(), AutoencoderHyper(ridge=n), "ridge") for n in (-1, INF)],
        *[("autoencoder", AutoencoderConfig(n_epochs=n), AutoencoderHyper(), "n_epochs") for n in (0, 2.0, HUGE)],
        *[("autoencoder", AutoencoderConfig(hidden=n), AutoencoderHyper(), "hidden") for n in ((0,), (2.0,), 64)],
    ],
)  # fmt: skip
def test_traced_and_static_settings_are_checked_against_each_other(
    kind: str, config: Any, hyper: Any, name: str
) -> None:
    features = FeatureConfig(pooling="none")
    with pytest.raises(SettingsError, match=name):
        ModelSpec((DetectorSpec(kind, config, hyper, features),)).check()


@pytest.mark.parametrize("rate", [0, 1, -1, NAN, INF, 1e-300, True, "0.05", None])
def test_a_rate_that_is_none(rate: Any) -> None:
    with pytest.raises(SettingsError, match="false_alarm_rate"):
        check_rate(rate)
    with pytest.raises(SettingsError, match="false_alarm_rate"):
        adjax.fit(np.random.default_rng(0).normal(size=(12, 3)), false_alarm_rate=rate)


@pytest.mark.parametrize(
    ("place", "value", "name"),
    [
        (("seed",), 1.0, "seed"),
        (("n_folds",), "5", "n_folds"),
        (("channel",), None, "channel"),
        (("detectors",), [], "detector"),
        (("detectors",), 3, "no settings"),
        (("detectors", 0, "kind"), "forest", "forest"),
        (("detectors", 0, "kind"), [], "no settings"),
        (("detectors", 0, "percentile"), NAN, "percentile"),
        (("detectors", 0, "standardize"), 0, "standardize"),
        (("detectors", 0, "features", "n_mels"), 64.0, "n_mels"),
        (("detectors", 0, "features", "sr"), 1e400, "sr"),
        (("detectors", 0, "features", "percentiles"), 5, "percentiles"),
        (("detectors", 0, "features", "from"), "Path", "no settings"),
        (("detectors", 0, "config", "n_components"), True, "n_components"),
        (("detectors", 0, "config", "n_components"), HUGE, "n_components"),
        (("detectors", 0, "config", "colour"), 1, "colour"),
        (("detectors", 0, "hyper", "reg_covar"), NAN, "reg_covar"),
        (("detectors", 0, "hyper", "reg_covar"), "x", "reg_covar"),
        (("detectors", 0, "hyper", "n_components"), 9.0, "n_components"),
        (("detectors", 0, "hyper", "n_components"), INF, "n_components"),
        (("detectors", 0, "hyper", "colour"), 1, "colour"),
        (("detectors", 0, "hyper"), 3, "no settings"),
    ],
)
def test_a_tampered_file_is_refused(place: tuple, value: Any, name: str) -> None:
    found = copy.deepcopy(json.loads(json.dumps(to_json(make_spec("gmm")))))
    owner = found
    for key in place[:-1]:
        owner = owner[key]
    owner[place[-1]] = value
    with pytest.raises(SettingsError, match=name):
        from_json(found)


def test_a_traced_count_is_kept_as_a_count_and_read_as_earlier_versions_wrote_it() -> None:
    spec = make_spec("gmm", settings={"n_components": 4})
    spec = replace(spec, detectors=(replace(spec.detectors[0], hyper=GmmHyper(n_components=2)),))
    written = json.loads(json.dumps(to_json(spec)))
    assert from_json(written) == spec
    written["detectors"][0]["hyper"]["n_components"] = 2.0
    assert from_json(written) == spec
    assert isinstance(from_json(written).detectors[0].hyper.n_components, int)


def test_a_network_listens_to_waves_beside_autos_views() -> None:
    spec = make_spec("auto+network", features={"sr": 8000})
    assert {(one.kind, one.pooling, one.sr) for one in spec.front_ends[:-1]} == {("log-mel", "views", 8000)}
    assert spec.front_ends[-1] == FeatureConfig("samples", sr=8000)
    assert spec.calibration == "split"  # a training takes long


@pytest.mark.parametrize("features", [VectorConfig(4), {"kind": "mfcc"}, {"pooling": "mean"}])
def test_a_network_takes_nothing_but_waves(features: Any) -> None:
    with pytest.raises(SettingsError, match="network"):
        make_spec("network", features=features)


def test_a_network_takes_waves_as_they_are() -> None:
    with pytest.raises(SettingsError, match="standardize"):
        make_spec("network", standardize=True)
    assert [own.standardize for own in make_spec("joint+gmm", standardize=True).detectors] == [False, True]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"width": 12}, "multiple of 2"),
        ({"n_centres": 1}, "n_centres"),
        ({"n_samples": 1000}, "n_samples=1000: too few"),
        ({"kernels": (250, 64, 16)}, "multiples"),
        ({"strides": (64, 32)}, "one of each"),
        ({"hop_length": 500}, "n_fft=1024"),
        ({"mixup": 2.0}, "mixup"),
    ],
)
def test_a_network_that_cannot_be_built_says_why(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        make_spec("network", settings=settings)


def test_a_kind_that_is_named_twice_is_fused_once() -> None:
    kinds = [own.kind for own in make_spec("joint+auto").detectors]
    assert kinds[0] == "joint"
    assert sorted(kinds) == sorted(own.kind for own in make_spec("auto").detectors)
