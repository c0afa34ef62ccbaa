"""adjax: anomalous sound detection for industrial machines in JAX, trained on normal sounds only.

Floors, from the ground up: `types`; `data`, `features` and `detectors`; `evaluation`; `pipeline`, `sweep` and
`simulator`; `report` and `app`.
"""

from adjax.data.clips import Clip, ClipTable, read_labels
from adjax.data.index import index_folder
from adjax.detectors.autoencoder import AutoencoderConfig, AutoencoderHyper, make_autoencoder
from adjax.detectors.gmm import GaussianMixture, GmmConfig, GmmHyper, fit_lanes, fit_split, make_gmm
from adjax.evaluation.metrics import Metrics, evaluate
from adjax.features.recipes import FeatureConfig, make_features
from adjax.pipeline import Result, RunConfig, extract, extract_splits, fit_and_score
from adjax.sweep import Sweep, run_sweep
from adjax.types import (
    AdjaxError,
    ClipBatch,
    ClipError,
    DataError,
    Detector,
    FitError,
    FitInfo,
    SettingsError,
)

__all__ = [
    "AdjaxError",
    "AutoencoderConfig",
    "AutoencoderHyper",
    "Clip",
    "ClipBatch",
    "ClipError",
    "ClipTable",
    "DataError",
    "Detector",
    "FeatureConfig",
    "FitError",
    "FitInfo",
    "GaussianMixture",
    "GmmConfig",
    "GmmHyper",
    "Metrics",
    "Result",
    "RunConfig",
    "SettingsError",
    "Sweep",
    "evaluate",
    "extract",
    "extract_splits",
    "fit_and_score",
    "fit_lanes",
    "fit_split",
    "index_folder",
    "make_autoencoder",
    "make_features",
    "make_gmm",
    "read_labels",
    "run_sweep",
]
