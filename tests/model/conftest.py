"""Recordings of two humming machines, and their features."""

from __future__ import annotations

from pathlib import Path

import pytest

from adjax.data.audio import write_wav
from adjax.data.index import index_folder
from adjax.model.extraction import ClipFeatures
from adjax.model.inputs import extract_splits
from tests.model.machines import (
    GMM,
    hum,
)


@pytest.fixture(scope="package")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two machines that hum at 500 and 2000 Hz; an anomaly adds a tone at 4000 Hz. Clips of different lengths."""
    root = tmp_path_factory.mktemp("tree")
    for split in ("train", "test"):
        (root / "fan" / split).mkdir(parents=True)
    for number, hz in ((0, 500.0), (2, 2000.0)):
        for i in range(6):
            write_wav(
                root / f"fan/train/normal_id_{number:02d}_{i:08d}.wav", hum(i, hz, 8000 + 500 * i), 16000
            )
        for i in range(4):
            normal, anomaly = hum(100 + i, hz), hum(200 + i, hz) + 0.5 * hum(300 + i, 4000.0)
            write_wav(root / f"fan/test/normal_id_{number:02d}_{i:08d}.wav", normal, 16000)
            write_wav(root / f"fan/test/anomaly_id_{number:02d}_{i:08d}.wav", anomaly, 16000)
    return root


@pytest.fixture(scope="package")
def splits(tree: Path) -> tuple[ClipFeatures, ClipFeatures]:
    (train,), (test,) = extract_splits(index_folder(tree), GMM)
    return train, test
