"""Gaussian mixtures by EM: one, or hundreds in one call."""

from __future__ import annotations

from typing import Any

from adjax.detectors.gmm.config import CovarianceType, GmmConfig, GmmHyper, GmmParams
from adjax.detectors.gmm.detector import (
    fit_gmm,
    log_component_densities,
    log_joint,
    make_gmm,
    start_from_means,
)
from adjax.detectors.gmm.implicit import fit_implicit
from adjax.detectors.gmm.kind import KIND
from adjax.detectors.gmm.lanes import fit_lanes
from adjax.detectors.gmm.split import fit_split

__all__ = [
    "KIND",
    "CovarianceType",
    "GmmConfig",
    "GmmHyper",
    "GmmParams",
    "fit_gmm",
    "fit_implicit",
    "fit_lanes",
    "fit_split",
    "log_component_densities",
    "log_joint",
    "make_gmm",
    "start_from_means",
]


def __getattr__(name: str) -> Any:
    """`GaussianMixture` when it is asked for: scikit-learn takes a second to import."""
    if name == "GaussianMixture":
        from adjax.detectors.gmm.estimator import GaussianMixture

        return GaussianMixture
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
