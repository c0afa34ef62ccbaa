"""What the tests of commands share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adjax.app.cli import OK, main
from adjax.data.audio import write_wav
from tests.app.recordings import NAMES, OPTIONS, hum


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


@pytest.fixture(scope="package")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of one machine, new ones, and those of two machines, which hum at 500 and 3000 Hz."""
    root = tmp_path_factory.mktemp("Halle 3 – Aufnahmen")
    for i, name in enumerate(NAMES):
        for folder, hz in (("normal gut", 500.0), ("zwei/Säge 1", 500.0), ("zwei/Säge 2", 3000.0)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            write_wav(root / folder / name, hum(i, hz=hz), 16000)
    (root / "neu/Säge 2").mkdir(parents=True)
    write_wav(root / "neu/heute früh.wav", hum(100), 16000)
    write_wav(root / "neu/laut!.wav", hum(101, 4.0), 16000)
    write_wav(root / "neu/mittags.wav", hum(102), 16000)
    write_wav(root / "neu/Säge 2/heute.wav", hum(103, hz=3000.0), 16000)
    return root


@pytest.fixture(scope="package")
def model(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of one machine."""
    folder = tmp_path_factory.mktemp("kept") / "mein Modell"
    assert main(["train", "--data", str(home / "normal gut"), "--out", str(folder), *OPTIONS]) == OK
    return folder
