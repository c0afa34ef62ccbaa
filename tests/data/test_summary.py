"""What adjax understood of a folder before it starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from adjax.data.clips import Clip, ClipTable
from adjax.data.index import index_folder
from adjax.data.summary import describe_table, lines, read_headers


def write(path: Path, seconds: float = 1.0, sr: int = 16000, n_channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros((int(seconds * sr), n_channels)), sr)


def test_summary(tmp_path: Path) -> None:
    for i in range(4):
        write(tmp_path / f"fan/train/normal_id_00_{i}.wav", 2.0)
    write(tmp_path / "fan/train/normal_id_00_9.flac", 0.5, 8000, 2)
    write(tmp_path / "fan/test/anomaly_id_00_0.wav")
    write(tmp_path / "fan/test/normal_id_00_0.wav")
    write(tmp_path / "fan/test/id_00_0.wav")
    (tmp_path / "fan/test/id_00_1.wav").write_bytes(b"no audio")
    write(tmp_path / "pump/train/any name.wav", 200.0, 8000)
    (tmp_path / "valve/train").mkdir(parents=True)
    (tmp_path / "valve/train/a.wav").touch()
    machines = describe_table(index_folder(tmp_path))
    fan = machines[0]
    assert (fan.n_train, fan.n_test, fan.n_normal, fan.n_anomalous, fan.n_unreadable) == (5, 4, 1, 1, 1)
    assert fan.rates == ((16000, 7), (8000, 1))
    assert fan.channels == ((1, 7), (2, 1))
    assert fan.hours == pytest.approx(11.5 / 3600)
    assert lines(machines) == [
        "fan id_00: 5 training clips, 4 test clips (1 normal, 1 anomalous, 2 of unknown label), 11.5 s in all "
        "(0.5 s to 2 s each), 16000 Hz (7 clips) and 8000 Hz (1 clip), 1 channel (7 clips) and 2 channels "
        "(1 clip), 1 unreadable",
        "pump: 1 training clip, 0 test clips, 3.33 min in all (3.33 min each), 8000 Hz, 1 channel",
        "valve: 1 training clip, 0 test clips, 1 unreadable",
        "3 machines: 7 training clips, 4 test clips, 3.52 min in all",
    ]
    assert lines(machines[1:2]) == [machines[1].line]
    assert lines(()) == []


def test_headers_keep_their_order(tmp_path: Path) -> None:
    for i in range(150):
        write(tmp_path / f"{i:03}.wav", 0.01 * (i + 1), 1000)
    table = index_folder(tmp_path)
    headers = read_headers(table, n_threads=3)
    assert [header.n_samples for header in headers] == [10 * (i + 1) for i in range(150)]
    assert describe_table(table, headers) == describe_table(table)
    with pytest.raises(ValueError, match="shorter"):
        describe_table(table, headers[:-1])


def test_rows_of_a_table_have_no_files_to_look_at() -> None:
    rows = [Clip(Path("x"), "fan", number, split="train", row=i) for i, number in enumerate(("0", "0", "2"))]
    assert lines(describe_table(ClipTable(tuple(rows)))) == [
        "fan 0: 2 training clips, 0 test clips",
        "fan 2: 1 training clip, 0 test clips",
        "2 machines: 3 training clips, 0 test clips",
    ]
