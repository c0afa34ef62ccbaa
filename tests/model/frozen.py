"""Make the frozen model of `test_keep.py`: run once for each format, never again for an old one.

python tests/model/frozen.py FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from adjax.data.clips import Clip, ClipTable
from adjax.features.recipes import FeatureConfig
from adjax.model.extraction import ClipFeatures
from adjax.model.fit import fit_model
from adjax.model.keep import save_model
from adjax.model.named import make_spec

FRAMES = FeatureConfig(n_fft=128, hop_length=64, n_mels=16)
VIEWS = FeatureConfig(n_fft=128, hop_length=64, n_mels=16, pooling="views")


def waves(i: int, n: int) -> np.ndarray:
    """(n,) numbers that every NumPy makes the same: no generator, a sum of sines."""
    t = np.arange(n) + 1000.0 * i
    return (np.sin(0.37 * t) + np.sin(1.91 * t + 0.3) + np.sin(0.11 * t * (1 + i % 3))).astype(np.float32)


def clips_of(front_end: FeatureConfig, n: int, first: int = 0) -> ClipFeatures:
    """Clips of two machines in turns, 12 rows each or one."""
    n_rows = 1 if front_end.pooling == "views" else 12
    names = [("fan", f"id_{i % 2:02d}") for i in range(n)]
    clips = tuple(
        Clip(Path(f"fan/{name[1]}_{i:02d}.wav"), *name, split="train", label=0)
        for i, name in enumerate(names)
    )
    rows = [waves(first + i, n_rows * front_end.n_features).reshape(n_rows, -1) + i % 2 for i in range(n)]
    return ClipFeatures(ClipTable(clips), np.concatenate(rows), n_rows * np.arange(n + 1))


SPECS = {
    "auto": make_spec("auto", features=VIEWS, n_folds=4),
    "gmm": make_spec(
        "gmm",
        settings={"n_components": 2, "covariance_type": "diag", "reg_covar": 1e-2},
        features=FRAMES,
        n_folds=3,
    ),
    "autoencoder": make_spec(
        "autoencoder",
        settings={"n_context": 3, "hidden": (4,), "bottleneck": 2, "n_epochs": 3},
        features=FRAMES,
    ),
}


def main() -> None:
    """Write every model and its scores."""
    folder = Path(sys.argv[1])
    scores = {}
    for name, spec in SPECS.items():
        front_end = spec.front_ends[0]
        assert isinstance(front_end, FeatureConfig)
        model = fit_model(spec, clips_of(front_end, 16))
        save_model(model, folder / name)
        result = model.score_features(clips_of(front_end, 6, first=50))
        scores[name] = {"scores": result.scores.tolist(), "p_values": result.p_values.tolist()}
    (folder / "scores.json").write_text(json.dumps(scores, indent=1) + "\n")


if __name__ == "__main__":
    main()
