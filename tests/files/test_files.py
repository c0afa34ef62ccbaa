"""Files appear whole or not at all; tables and names are safe wherever they are opened."""

from __future__ import annotations

import csv
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from adjax.files import as_cell, check_table, csv_table, file_name, unfinished, whole_file, write_failures
from adjax.types import AdjaxError, ClipError, StoreError, readable


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")
    with whole_file(path) as file:
        file.write("after")
        file.flush()
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    with pytest.raises(ZeroDivisionError), whole_file(path) as file:
        file.write(str(1 / 0))
    assert path.read_text() == "after"
    assert [one.name for one in tmp_path.iterdir()] == ["a.txt"]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_an_error_of_another_file_is_not_told_of_this_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no_such_input"), whole_file(tmp_path / "out") as file:
        file.write((tmp_path / "no_such_input").read_text())


@pytest.mark.parametrize("name", ["folder", "pipe", "missing/a", "x" * 300])
def test_what_cannot_be_written_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    refused = pytest.raises(
        StoreError, match=f"{name}.*: cannot be written .*then run the same command again"
    )
    with refused, whole_file(tmp_path / name) as file:
        file.write("x")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "pipe"}


def test_a_device_is_never_replaced() -> None:
    with pytest.raises(StoreError, match="/dev/null: cannot be written"), whole_file("/dev/null"):
        pass


def test_a_process_that_ends_takes_what_it_has_begun_with_it(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from adjax.files import *\n"
        "root = Path(sys.argv[1])\n"
        "with whole_file(root / 'a') as file, unfinished(root / 'b'):\n"
        "    file.write('half'); (root / 'b' / 'c').mkdir(parents=True)\n"
        "    assert len(list(root.iterdir())) == 2\n"
        "    drop_unfinished(); os._exit(7)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert done.returncode == 7
    assert not list(tmp_path.iterdir())


def test_unfinished_folders_go(tmp_path: Path) -> None:
    with unfinished(tmp_path / "a"):
        (tmp_path / "a" / "b").mkdir(parents=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-2+3", "@SUM(A1)", "\t=1", "=HYPERLINK('http://a')"])
def test_no_cell_is_a_formula(text: str) -> None:
    assert as_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", ["-1.5", "+3e-4", "-inf", "a=b", "", 3, -2.5, "normal"])
def test_numbers_and_words_stay_as_they_are(value: object) -> None:
    assert as_cell(value) == value


def test_tables_keep_names_and_digits(tmp_path: Path) -> None:
    odd = os.fsdecode(b"\xff\xfe.wav")
    with csv_table(tmp_path / "t.csv", ["file", "=x"]) as write:
        write([odd, np.float64(0.1) + 0.2])
        write(['a,"b"\nc', float("nan")])
    with open(tmp_path / "t.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        assert list(csv.reader(file)) == [["file", "'=x"], [odd, "0.30000000000000004"], ['a,"b"\nc', ""]]


def test_a_table_replaces_tables_of_its_kind_only(tmp_path: Path) -> None:
    check_table(tmp_path / "new.csv", ["file", "reason"])
    assert write_failures(tmp_path / "f.csv", []) is None
    assert not (tmp_path / "f.csv").exists()
    failures = [ClipError("a.wav", "no"), AdjaxError("=other")]
    assert write_failures(tmp_path / "f.csv", failures) == tmp_path / "f.csv"
    assert (tmp_path / "f.csv").read_text() == "file,reason\na.wav,no\n,'=other\n"
    check_table(tmp_path / "f.csv", ["file", "reason"])
    write_failures(tmp_path / "f.csv", [])  # an earlier call's failures do not stay beside new scores
    assert not (tmp_path / "f.csv").exists()
    (tmp_path / "a.wav").write_bytes(b"RIFF\0\xff")
    os.mkfifo(tmp_path / "pipe")
    for name in ("a.wav", ".", "pipe"):
        with pytest.raises(StoreError, match="would be lost"):
            check_table(tmp_path / name, ["file", "reason"])


def test_names_fit_every_disk() -> None:
    assert file_name("hall 3/pump 2.csv") == "hall 3%2Fpump 2.csv"
    assert file_name('a\\b:c*?"<>|\n') == "a%5Cb%3Ac%2A%3F%22%3C%3E%7C%5Cn"
    long = [file_name("ü" * n + ".csv") for n in (200, 201)]
    assert all(len(name.encode()) <= 180 and name.endswith(".csv") for name in long)
    assert long[0] != long[1]
    assert len(file_name("." * 300)) <= 180


def test_printed_names_move_no_cursor() -> None:
    assert readable("a\x1b[31m\r\nb\x9b\u202e") == r"a\x1b[31m\r\nb\x9b\u202e"
    assert readable("Säge 3　録音\xa0–") == "Säge 3　録音\xa0–"
    assert str(ClipError("a\nb\x1b", "one\ntwo")) == "a\\nb\\x1b: one\ntwo"
    assert str(AdjaxError(os.fsdecode(b"\xff"))) == r"\udcff"
