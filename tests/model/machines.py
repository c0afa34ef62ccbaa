"""Small models of two humming machines, for the tests of fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from adjax.data.clips import Clip, ClipTable
from adjax.features.recipes import FeatureConfig
from adjax.model.extraction import ClipFeatures
from adjax.model.fit import fit_model
from adjax.model.named import make_spec
from adjax.model.result import Result
from adjax.model.spec import ModelSpec

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


def relabel(features: ClipFeatures, change: Callable[[int, Clip], Clip]) -> ClipFeatures:
    return replace(features, clips=ClipTable(tuple(change(i, c) for i, c in enumerate(features.clips))))


def fit_and_score(train: ClipFeatures, test: ClipFeatures, spec: ModelSpec, **options: object) -> Result:
    model = fit_model(spec, train, **options)
    assert not model.record.failures
    return model.score_features(test)
