"""Names and folders of any kind: what each clip is taken for, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adjax.data.index import SUFFIXES, index_folder
from adjax.types import DataError
from tests.data.trees import rows, touch


def test_anything_may_follow_the_parts_that_matter(tmp_path: Path) -> None:
    table = index_folder(
        touch(
            tmp_path,
            "fan/train/normal_id_00_whatever 2024-05-01.wav",
            "fan/test/anomaly_id_00_whatever (2).wav",
            "fan/test/id_01.wav",
            "gear/train/section_00_source_train_normal_anything.wav",
            "gear/target_test/section_00_target_test_anomaly_vel 6.wav",
            "pump/id_00/normal/größe ü (3).wav",
            "pump/id_00/abnormal/größe ü (3).wav",
            "pump/id_00/abnormal/later/größe ü (3).wav",
        )
    )
    assert table.rejected == ()
    assert rows(table) == [
        ("fan", "id_00", "", "train", 0, "", "normal_id_00_whatever 2024-05-01.wav"),
        ("fan", "id_00", "", "test", 1, "", "anomaly_id_00_whatever (2).wav"),
        ("fan", "id_01", "", "test", None, "", "id_01.wav"),
        (
            "gear",
            "section_00",
            "source",
            "train",
            0,
            "anything",
            "section_00_source_train_normal_anything.wav",
        ),
        ("gear", "section_00", "target", "test", 1, "vel 6", "section_00_target_test_anomaly_vel 6.wav"),
        ("pump", "id_00", "", "train", 0, "", "normal_id_00_größe ü (3).wav"),
        ("pump", "id_00", "", "test", 1, "", "anomaly_id_00_größe ü (3).wav"),
        ("pump", "id_00", "", "test", 1, "", "anomaly_id_00_later/größe ü (3).wav"),
    ]


def test_train_and_test_with_any_names(tmp_path: Path) -> None:
    table = index_folder(
        touch(
            tmp_path,
            "pump/train/pump A morning.wav",
            "pump/test/2024-05-01 12.00.wav",
            "pump/test/Anomaly, leak.wav",
            "pump/test/normal load.wav",
            "pump/test/not normal.wav",
            "fan/train/m1/x.wav",
            "fan/train/m1/2024-05-01/x.wav",
            "fan/train/hall 2/m1/x.wav",
            "fan/test/m1/abnormal/x.wav",
            "fan/test/normal/m1/x.wav",
            "gear/train/gear_id_07_x.wav",
            "gear/source_test/x_id_07.wav",
            "gear/source_test/stranger.wav",
        )
    )
    assert rows(table) == [
        ("fan", "hall 2/m1", "", "train", 0, "", "x.wav"),
        ("fan", "m1", "", "train", 0, "", "2024-05-01/x.wav"),
        ("fan", "m1", "", "train", 0, "", "x.wav"),
        ("fan", "m1", "", "test", 1, "", "abnormal/x.wav"),
        ("fan", "m1", "", "test", 0, "", "normal/x.wav"),
        ("gear", "id_07", "", "train", 0, "", "gear_id_07_x.wav"),
        ("gear", "id_07", "source", "test", None, "", "x_id_07.wav"),
        ("pump", "", "", "train", 0, "", "pump A morning.wav"),
        ("pump", "", "", "test", None, "", "2024-05-01 12.00.wav"),
        ("pump", "", "", "test", 1, "", "Anomaly, leak.wav"),
        ("pump", "", "", "test", 0, "", "normal load.wav"),
        ("pump", "", "", "test", 1, "", "not normal.wav"),
    ]
    assert [Path(error.path).name for error in table.rejected] == ["stranger.wav"]
    assert rows(index_folder(tmp_path / "pump" / "train")) == rows(table)[7:8]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("pump/train/abnormal noise.wav", "is an anomaly among the training clips"),
        ("pump/train/abnormal/x.wav", "is an anomaly among the training clips"),
        ("pump/train/abnormal sounds/x.wav", "is an anomaly among the training clips"),
        ("pump/test/normal/anomaly 3.wav", "its name contradicts its folder"),
        ("pump/test/normal/abnormal/x.wav", "lies in a folder for normal and one for abnormal clips"),
        ("fan/normal/anomaly_id_00_x.wav", "its name contradicts its folder"),
        ("fan/abnormal/normal_id_00_x.wav", "its name contradicts its folder"),
        ("pump/train/section_00_source_test_normal_any.wav", "its name contradicts its folder train/"),
        ("pump/target_test/section_00_source_test_any.wav", "its name contradicts its folder target_test/"),
    ],
)
def test_contradictions(tmp_path: Path, name: str, reason: str) -> None:
    table = index_folder(touch(tmp_path, "pump/train/a.wav", name))
    assert len(table) == 1
    assert table.rejected[0].path == str(tmp_path / name)
    assert table.rejected[0].reason.startswith(reason)


def test_normal_and_abnormal_folders(tmp_path: Path) -> None:
    root = tmp_path / "pumps"
    touch(root, *(f"normal/{i}.wav" for i in range(6)), "abnormal/1.wav", "abnormal/normal speed.wav")
    table = index_folder(root)
    assert {row[:2] for row in rows(table)} == {("pumps", "")}
    test = table.select(split="test")
    assert (len(table) - len(test), len(test), int(test.labels.sum())) == (4, 4, 2)
    assert {"abnormal/1.wav", "abnormal/normal speed.wav"} < set(test.names)
    assert rows(index_folder(root / "normal")) == [
        ("pumps", "", "", "train", 0, "", f"normal/{i}.wav") for i in range(6)
    ]
    assert set(index_folder(root / "abnormal").labels) == {1}  # never taken for normal
    many = touch(
        tmp_path / "hall",
        *(f"{m}/Normal/{day}/{i}.wav" for m in ("A", "B") for day in ("x", "y") for i in range(4)),
        *(f"{m}/2024-05-01/anomalous/{i}.wav" for m in ("A", "B") for i in range(3)),
    )
    table = index_folder(many)
    assert [table.select(machine_id=m, split="test").labels.sum() for m in "AB"] == [3, 3]
    assert {row[0] for row in rows(table)} == {"hall"}
    assert "Normal/x/0.wav" in table.select(machine_id="A").names
    assert "2024-05-01/anomalous/0.wav" in table.select(machine_id="A").names
    assert len(set(table.select(machine_id="A").names)) == 11
    alone = index_folder(many / "A")
    assert {row[:2] for row in rows(alone)} == {("A", "")}


def test_a_plain_folder_is_one_machine(tmp_path: Path) -> None:
    names = ["a (1).wav", "2024-05-01 12.00.00.MP3", "Größe – ünïcode.flac", "12.ogg", "x.y.z.AIFF"]
    table = index_folder(touch(tmp_path / "Pumpe 3", *names))
    assert sorted(table.names) == sorted(names)
    assert {row[:6] for row in rows(table)} == {("Pumpe 3", "", "", "train", 0, "")}
    assert table.notes == (
        "Pumpe 3: in no known layout, so all 5 recordings are taken for normal clips of one machine",
    )
    every = touch(tmp_path / "s", *(f"a{i}{s}" for i, s in enumerate(SUFFIXES)), "b.txt", ".c.wav")
    assert len(index_folder(every)) == len(SUFFIXES)


def test_sub_folders_of_a_plain_folder_are_machines(tmp_path: Path) -> None:
    table = index_folder(
        touch(
            tmp_path / "plant",
            "hall 1/pump 2/x.wav",
            "hall 1/pump 2/2024-05-01/x.wav",
            "hall 1/pump 2/2024-05-02 night/rec_1/x.wav",
            "2024-05-03/hall 1/pump 2/x.wav",
            "hall 2/x.wav",
            "x.wav",
        )
    )
    assert [row[:2] + row[6:] for row in rows(table)] == [
        ("plant", ".", "x.wav"),
        ("plant", "hall 1/pump 2", "2024-05-01/x.wav"),
        ("plant", "hall 1/pump 2", "2024-05-02 night/rec_1/x.wav"),
        ("plant", "hall 1/pump 2", "2024-05-03/x.wav"),
        ("plant", "hall 1/pump 2", "x.wav"),
        ("plant", "hall 2", "x.wav"),
    ]
    assert "3 machines, one for each sub-folder" in table.notes[0]


def test_a_plain_folder_never_takes_an_anomaly_for_normal(tmp_path: Path) -> None:
    table = index_folder(touch(tmp_path, "a.wav", "abnormal noise.wav", "Anomalies 2024/b.wav", "normal.wav"))
    assert table.names == ("a.wav", "normal.wav")
    assert [error.reason[:8] for error in table.rejected] == ["its name"] * 2


def test_strangers_beside_a_known_layout_are_rejected(tmp_path: Path) -> None:
    table = index_folder(touch(tmp_path, "pump/train/a.wav", "b.wav", "other/c.wav"))
    assert table.names == ("a.wav",)
    assert table.notes == ()
    assert {error.reason for error in table.rejected} == {
        "its name fits no known layout; rename it or move it away"
    }


def test_a_folder_by_chance_called_test(tmp_path: Path) -> None:
    assert rows(index_folder(touch(tmp_path / "test", "a.wav", "m1/b.wav"))) == [
        ("test", ".", "", "train", 0, "", "a.wav"),
        ("test", "m1", "", "train", 0, "", "b.wav"),
    ]
    touch(tmp_path / "train", "a.wav")  # now it is one of a data set
    assert {row[3] for row in rows(index_folder(tmp_path / "test"))} == {"test"}


def test_copies_in_another_format_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="have the same machine, split and name; keep one of them"):
        index_folder(touch(tmp_path, "a.wav", "a.mp3"))


def test_only_files_are_clips(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "link to pipe.wav").symlink_to(tmp_path / "pipe.wav")
    (tmp_path / "link to nothing.wav").symlink_to(tmp_path / "nothing")
    (tmp_path / "link to file.wav").symlink_to(tmp_path / "a.wav")
    table = index_folder(tmp_path)
    assert table.names == ("a.wav", "link to file.wav")
    assert {Path(e.path).name: e.reason.split(";")[0] for e in table.rejected} == {
        "link to nothing.wav": "is a link to nothing",
        "link to pipe.wav": "is no file but a pipe, a socket or a device",
        "pipe.wav": "is no file but a pipe, a socket or a device",
    }


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    root = tmp_path / os.fsdecode(b"pump\xff")
    try:
        touch(root, os.fsdecode(b"m\xfe/a\xe4.wav"), os.fsdecode(b"normal\xe4/b.wav"), "anomaly.wav")
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    table = index_folder(root)
    written = "".join(map(str, (*rows(table), *table.rejected, *table.notes)))
    assert written.encode("utf-8")
    assert table[0].path.exists()
    raw = touch(tmp_path / "raw", os.fsdecode(b"normal/\xe4.wav"), os.fsdecode(b"abnormal/\xe4.wav"))
    assert len(index_folder(raw)) == 2
    with pytest.raises(DataError, match="no such folder") as caught:
        index_folder(tmp_path / os.fsdecode(b"\xff"))
    assert str(caught.value).encode("utf-8")


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=("Cs",)),
    min_size=1,
    max_size=20,
).filter(lambda name: not name.startswith(".") and len(name.encode()) < 200)


@settings(deadline=None, max_examples=60)  # it writes to the disk
@given(names=st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=6))
def test_any_names_give_clips_or_errors(
    tmp_path_factory: pytest.TempPathFactory, names: list[tuple[str, str]]
) -> None:
    root = tmp_path_factory.mktemp("any")
    touch(root, *(f"m {folder}/{name}.wav" for folder, name in names))
    n_files = sum(len(files) for _, _, files in os.walk(root))
    try:
        table = index_folder(root)
    except DataError:
        return
    assert len(table) + len(table.rejected) == n_files
    assert len({(c.machine_type, c.machine_id, c.split, c.name) for c in table}) == len(table)
