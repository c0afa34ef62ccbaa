"""Gaussian mixtures by EM: one, or hundreds in one call."""

from adjax.detectors.gmm.config import CovarianceType, GmmConfig, GmmHyper, GmmParams
from adjax.detectors.gmm.detector import (
    fit_gmm,
    log_component_densities,
    log_joint,
    make_gmm,
    start_from_means,
)
from adjax.detectors.gmm.estimator import GaussianMixture
from adjax.detectors.gmm.kind import KIND
from adjax.detectors.gmm.lanes import fit_lanes
from adjax.detectors.gmm.split import fit_split

__all__ = [
    "KIND",
    "CovarianceType",
    "GaussianMixture",
    "GmmConfig",
    "GmmHyper",
    "GmmParams",
    "fit_gmm",
    "fit_lanes",
    "fit_split",
    "log_component_densities",
    "log_joint",
    "make_gmm",
    "start_from_means",
]
