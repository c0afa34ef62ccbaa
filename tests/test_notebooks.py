"""The notebooks run from top to bottom and show what they say."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


def test_first_look() -> None:
    seen = runpy.run_path(str(NOTEBOOKS / "first_look.py"))
    assert seen["log_mels"].shape == (99, 313, 128)
    assert seen["info"].n_steps.shape == (3, 8)
    assert np.all(np.isfinite(seen["auc"]))
    assert np.mean(seen["auc"]) > 0.6
