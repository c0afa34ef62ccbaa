"""What the tests of commands share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adjax.data.audio import write_wav


@pytest.fixture(scope="package")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One machine in the layout of DCASE, one second a clip; anomalies are four times as loud."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        (root / "pump" / split).mkdir(parents=True)
    for i in range(4):
        quiet, loud = (0.05 * rng.normal(size=(2, 16000))).astype(np.float32)
        write_wav(root / f"pump/train/normal_id_00_{i:08d}.wav", quiet, 16000)
        write_wav(root / f"pump/test/normal_id_00_{i:08d}.wav", loud, 16000)
        write_wav(root / f"pump/test/anomaly_id_00_{i:08d}.wav", 4 * loud, 16000)
    return root
