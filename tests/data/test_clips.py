"""Tables of clips, and labels that come from elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from adjax.data.clips import UNKNOWN, Clip, ClipTable, read_labels
from adjax.types import DataError


def evaluation_table(*names: str, machine_type: str = "slider") -> ClipTable:
    return ClipTable(tuple(Clip(Path(n), machine_type, n[:5], split="test") for n in names))


def test_published_labels(shared: Path) -> None:
    labels = read_labels(shared / "reference" / "dcase2020_slider_eval_labels.csv")
    assert (len(labels), sum(labels.values())) == (834, 534)
    table = evaluation_table(*labels)
    assert set(table.labels) == {UNKNOWN}
    assert np.bincount(table.with_labels(labels).labels).tolist() == [300, 534]
    with pytest.raises(DataError, match="833 of 834 labels name no test clip here"):
        evaluation_table("id_01_00000000.wav").with_labels(labels)


def test_labels_are_attached_to_test_clips_only() -> None:
    train = Clip(Path("a.wav"), split="train", label=0)
    table = ClipTable((train, Clip(Path("a.wav"), split="test"), Clip(Path("b.wav"), split="test")))
    np.testing.assert_array_equal(table.with_labels({"a.wav": 1}).labels, [0, 1, UNKNOWN])


def test_labels_that_contradict() -> None:
    table = evaluation_table("id_01_0.wav").with_labels({"id_01_0.wav": 1})
    assert table.with_labels({"id_01_0.wav": 1}) == table
    for label in (0, 2):
        with pytest.raises(DataError, match=f"has label 1, which cannot become {label}"):
            table.with_labels({"id_01_0.wav": label})
    twice = ClipTable(table.clips + evaluation_table("id_01_0.wav", machine_type="fan").clips)
    with pytest.raises(DataError, match="names several test clips; select one machine type"):
        twice.with_labels({"id_01_0.wav": 1})


def test_read_labels(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("\ufefffile,label\na.wav, 1\n\nb.wav,0\na.wav,1\n", encoding="utf-8")
    assert read_labels(path) == {"a.wav": 1, "b.wav": 0}
    path.write_text("a.wav,normal_id_00_00000003.wav,0\n")
    assert read_labels(path) == {"a.wav": 0}


@pytest.mark.parametrize(
    "text",
    [
        "a,1.wav;1\r\nb.wav;0\r\n",
        "\ufeffa,1.wav\t1\r\nb.wav\t0",
        "\r\nname;is_anomaly\r\n\r\na,1.wav;1\r\nb.wav;0\r\n",
        'file,label (0 or 1)\r"a,1.wav",1\rb.wav,0\r',
        "file;original;label\na,1.wav;x.wav;1\nb.wav;y.wav;0\n",
    ],
)
def test_read_labels_of_spreadsheets(tmp_path: Path, text: str) -> None:
    """Separators, line ends and byte order marks as programs write them; names may hold commas."""
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8", newline="")
    assert read_labels(tmp_path / "labels.csv") == {"a,1.wav": 1, "b.wav": 0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no labels"),
        ("file,label\n", "holds no labels"),
        ("a.wav,1\nb.wav,0.5\n", "line 2: 'b.wav,0.5' is not"),
        ("a.wav\n", "line 1: 'a.wav' is not"),
        ("a.wav,2\nb.wav,0\n", "line 1: 'a.wav,2' is not"),
        ("a.wav,normal\nb.wav,0\n", "line 1: 'a.wav,normal' is not"),
        ("a.wav,\nb.wav,0\n", "line 1: 'a.wav,' is not"),
        ("a.wav,nan\nb.wav,0\n", "line 1: 'a.wav,nan' is not"),
        ("clip,2\nb.wav,0\n", "line 1: 'clip,2' is not"),
        ("clip,nan\nb.wav,0\n", "line 1: 'clip,nan' is not"),
        ("file,label\nfile,label\nb.wav,0\n", "line 2: 'file,label' is not"),
        ("\n\na.wav,one\nb.wav,0\n", "line 3: 'a.wav,one' is not"),
        ("a.wav 1\nb.wav 0\n", "line 1: 'a.wav 1' is not"),
        ("a.wav;1\nb.wav,0\n", "line 2: 'b.wav,0' is not"),
        ('"a.wav,1\nb.wav,0\n', "cannot be read as a CSV file"),
        ("a.wav,1\na.wav,0\n", "line 2: a.wav has both labels"),
    ],
)
def test_read_labels_refuses(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_labels(tmp_path / "labels.csv")


def test_read_labels_of_no_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read as a CSV file"):
        read_labels(tmp_path / "none.csv")
    (tmp_path / "labels.csv").write_bytes(b"\xff\xfe\x00\x00")
    with pytest.raises(DataError, match="cannot be read as a CSV file"):
        read_labels(tmp_path / "labels.csv")


@pytest.mark.parametrize("first", ["normal_id_00_00000000,O", "x,anomaly", "a,abnormal", "clip 3,label"])
def test_a_first_line_is_a_header_only_in_words_for_one(tmp_path: Path, first: str) -> None:
    (tmp_path / "labels.csv").write_text(f"{first}\nb.wav,1\n")
    with pytest.raises(DataError, match="line 1"):
        read_labels(tmp_path / "labels.csv")


def test_labels_from_a_pipe_or_device_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(DataError, match="it is a pipe, a device or a folder"):
            read_labels(path)
