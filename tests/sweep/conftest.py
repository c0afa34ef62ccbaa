"""Clips that the sweeps of these tests run on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adjax.data.audio import write_wav
from adjax.data.clips import ClipTable
from adjax.data.index import index_folder
from adjax.sweep import SweepResult, run_sweep
from tests.sweep.made import SWEEP


@pytest.fixture(scope="package")
def clips(tmp_path_factory: pytest.TempPathFactory) -> ClipTable:
    """Two machines with 14 and 11 training clips of different length; anomalies are louder now and then."""
    root = tmp_path_factory.mktemp("tree")
    rng = np.random.default_rng(0)
    for machine_id, n_train in (("id_00", 14), ("id_02", 11)):
        for split, label, n in (
            ("train", "normal", n_train),
            ("test", "normal", 6),
            ("test", "anomaly", 7),
        ):
            for i in range(n):
                y = 0.05 * rng.normal(size=int(rng.integers(3000, 6000)))
                y[1000:1200] *= 1 + 1.5 * (label == "anomaly") * rng.random()
                path = root / "fan" / split / f"{label}_{machine_id}_{i:08d}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_wav(path, y.astype(np.float32), 16000)
    return index_folder(root)


@pytest.fixture(scope="package")
def swept(clips: ClipTable, tmp_path_factory: pytest.TempPathFactory) -> tuple[SweepResult, Path]:
    folder = tmp_path_factory.mktemp("sweep")
    return run_sweep(clips, SWEEP, folder), folder
