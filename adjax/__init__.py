"""adjax: anomalous sound detection for industrial machines in JAX, trained on normal sounds only.

    model = adjax.fit("recordings/normal")        # any folder of normal recordings, or arrays, or vectors
    result = model.score("recordings/today")      # scores, p-values, decisions, and why
    model.save("models/pump"); adjax.load("models/pump")

Floors, from the ground up: `types`; `evaluation`, `store`, `batching`; `data`, `features`, `detectors`; `model`,
`simulator`; `sweep`; `report`, `app`. Names are imported when they are first used, so that a command starts at once.
"""

from __future__ import annotations

import importlib
from typing import Any

# Name -> module that has it: everything that is public. What is not listed may change without notice.
_PUBLIC = {
    "AdjaxError": "adjax.types",
    "AutoencoderConfig": "adjax.detectors.autoencoder",
    "AutoencoderHyper": "adjax.detectors.autoencoder",
    "Clip": "adjax.data.clips",
    "ClipBatch": "adjax.types",
    "ClipError": "adjax.types",
    "ClipFeatures": "adjax.model.extraction",
    "ClipScore": "adjax.model.score",
    "ClipTable": "adjax.data.clips",
    "DataError": "adjax.types",
    "Detector": "adjax.types",
    "DetectorSpec": "adjax.model.spec",
    "FeatureConfig": "adjax.features.recipes",
    "FitError": "adjax.types",
    "FitInfo": "adjax.types",
    "GaussianMixture": "adjax.detectors.gmm.estimator",
    "GmmConfig": "adjax.detectors.gmm",
    "GmmHyper": "adjax.detectors.gmm",
    "KINDS": "adjax.detectors.kinds",
    "Kind": "adjax.types",
    "MachineId": "adjax.types",
    "Metrics": "adjax.evaluation.metrics",
    "Model": "adjax.model.model",
    "ModelSpec": "adjax.model.spec",
    "Result": "adjax.model.result",
    "RowDetector": "adjax.types",
    "SettingsError": "adjax.types",
    "StoreError": "adjax.types",
    "Sweep": "adjax.sweep",
    "Training": "adjax.types",
    "VectorConfig": "adjax.model.spec",
    "evaluate": "adjax.evaluation.metrics",
    "explain_clip": "adjax.model.score",
    "extract": "adjax.model.extraction",
    "fit": "adjax.model.api",
    "fit_implicit": "adjax.detectors.gmm",
    "fit_lanes": "adjax.detectors.gmm",
    "fit_model": "adjax.model.fit",
    "fit_split": "adjax.detectors.gmm",
    "index_folder": "adjax.data.index",
    "leanings": "adjax.model.leaning",
    "load": "adjax.model.api",
    "make_autoencoder": "adjax.detectors.autoencoder",
    "make_features": "adjax.features.recipes",
    "make_gmm": "adjax.detectors.gmm",
    "make_spec": "adjax.model.named",
    "map_clips": "adjax.batching",
    "read_labels": "adjax.data.clips",
    "read_vectors": "adjax.model.vectors",
    "run_sweep": "adjax.sweep",
    "score_clip": "adjax.model.score",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'adjax' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
