"""A small sweep, for the tests of this room."""

from __future__ import annotations

from adjax.features.recipes import FeatureConfig
from adjax.model.named import make_spec
from adjax.sweep import grid

FEATURES = FeatureConfig(n_fft=256, hop_length=128, n_mels=6, pooling="gwrp")


BASE = make_spec(
    "gmm",
    settings={"n_components": 1, "covariance_type": "diag", "reg_covar": 1e-2},
    features=FEATURES,
    standardize=True,
    calibration="none",
)


AXES = {"features.gwrp_r": (0.2, 0.9), "config.n_components": (3, 4), "seed": (0, 5)}


SWEEP = grid(BASE, AXES)
