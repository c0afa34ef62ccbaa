from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adjax.data.clips import UNKNOWN, ClipTable
from adjax.data.index import SUFFIXES, index_folder
from adjax.data.layouts import canonical_type
from adjax.types import DataError


def touch(root: Path, *names: str) -> Path:
    """Files without content: the index never opens one."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def rows(table: ClipTable) -> list[tuple]:
    return [(c.machine_type, c.machine_id, c.domain, c.split, c.label, c.attributes, c.name) for c in table]


DCASE_2020 = (
    "slider/train/normal_id_02_00000000.wav",
    "slider/train/normal_id_00_00000000.wav",
    "slider/test/normal_id_00_00000000.wav",
    "slider/test/anomaly_id_00_00000000.WAV",
    "fan/test/id_01_00000000.flac",
)
EXPECTED_2020 = [
    ("fan", "id_01", "", "test", None, "", "id_01_00000000.flac"),
    ("slider", "id_00", "", "train", 0, "", "normal_id_00_00000000.wav"),
    ("slider", "id_00", "", "test", 1, "", "anomaly_id_00_00000000.WAV"),
    ("slider", "id_00", "", "test", 0, "", "normal_id_00_00000000.wav"),
    ("slider", "id_02", "", "train", 0, "", "normal_id_02_00000000.wav"),
]


def test_dcase_2020(tmp_path: Path) -> None:
    table = index_folder(touch(tmp_path, *DCASE_2020))
    assert rows(table) == EXPECTED_2020
    assert table.rejected == ()
    assert table.machine_types == ("fan", "slider")
    assert table.machine_ids == ("id_00", "id_01", "id_02")
    assert table.names[0] == "id_01_00000000.flac"
    assert table[1].path == tmp_path / "slider/train/normal_id_00_00000000.wav"
    np.testing.assert_array_equal(table.labels, [UNKNOWN, 0, 1, 0, 0])


def test_dcase_2020_from_the_machine_folder_and_from_a_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, *DCASE_2020)
    assert rows(index_folder(tmp_path / "slider")) == EXPECTED_2020[1:]
    assert len(index_folder(tmp_path / "slider" / "train")) == 2
    monkeypatch.chdir(tmp_path / "slider")
    assert rows(index_folder(".")) == EXPECTED_2020[1:]
    assert not index_folder(".")[0].path.is_absolute()


def test_dev_data_beside_eval_data(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "dev_data/slider/train/normal_id_00_00000000.wav",
        "eval_data/slider/test/id_01_00000000.wav",
    )
    table = index_folder(tmp_path)
    assert table.machine_types == ("slider",)
    assert table.machine_ids == ("id_00", "id_01")


def test_dcase_2021_and_later(tmp_path: Path) -> None:
    folder = "dev_data/raw/bearing"
    touch(
        tmp_path,
        f"{folder}/train/section_00_source_train_normal_0000_vel_6_loc_A.wav",
        f"{folder}/train/section_00_target_train_normal_0001_noAttribute.wav",
        f"{folder}/source_test/section_00_source_test_normal_0000_vel_6.wav",
        f"{folder}/target_test/section_00_target_test_anomaly_0000_vel_8.wav",
        f"{folder}/source_test/section_03_source_test_0000.wav",
        f"{folder}/target_test/section_03_0001.wav",
        f"{folder}/test/section_04_0000.wav",
        f"{folder}/test/section_04_test_0001.wav",
        f"{folder}/attributes_00.csv",
    )
    table = index_folder(tmp_path)
    assert table.rejected == ()
    assert [row[1:6] for row in rows(table)] == [
        ("section_00", "source", "train", 0, "vel_6_loc_A"),
        ("section_00", "target", "train", 0, "noAttribute"),
        ("section_00", "source", "test", 0, "vel_6"),
        ("section_00", "target", "test", 1, "vel_8"),
        ("section_03", "target", "test", None, ""),
        ("section_03", "source", "test", None, ""),
        ("section_04", "", "test", None, ""),
        ("section_04", "", "test", None, ""),
    ]


@settings(deadline=None, max_examples=50)  # it writes to the disk
@given(
    section=st.integers(0, 99),
    domain=st.sampled_from(["source", "target"]),
    split=st.sampled_from(["train", "test"]),
    number=st.integers(0, 9999),
    attributes=st.from_regex(r"[A-Za-z0-9.+-]+(_[A-Za-z0-9.+-]+){0,4}", fullmatch=True) | st.just(""),
)
def test_a_2021_name_says_what_went_into_it(
    tmp_path_factory: pytest.TempPathFactory,
    section: int,
    domain: str,
    split: str,
    number: int,
    attributes: str,
) -> None:
    name = f"section_{section:02}_{domain}_{split}_normal_{number:04}" + (attributes and f"_{attributes}")
    root = touch(tmp_path_factory.mktemp("named"), f"valve/{split}/{name}.wav")
    expected = ("valve", f"section_{section:02}", domain, split, 0, attributes, f"{name}.wav")
    assert rows(index_folder(root)) == [expected]


@settings(deadline=None, max_examples=50)  # it writes to the disk
@given(
    machine_id=st.integers(0, 99),
    number=st.integers(0, 99999999),
    label=st.sampled_from([("", None), ("normal_", 0), ("anomaly_", 1)]),
    suffix=st.sampled_from([".wav", ".WAV", ".flac"]),
)
def test_a_2020_name_says_what_went_into_it(
    tmp_path_factory: pytest.TempPathFactory,
    machine_id: int,
    number: int,
    label: tuple[str, int | None],
    suffix: str,
) -> None:
    name = f"{label[0]}id_{machine_id:02}_{number:08}{suffix}"
    root = touch(tmp_path_factory.mktemp("named"), f"pump/test/{name}")
    assert rows(index_folder(root)) == [("pump", f"id_{machine_id:02}", "", "test", label[1], "", name)]


def raw_mimii(
    root: Path, n_normal: int, n_abnormal: int, machine: str = "slider", machine_id: str = "id_00"
) -> Path:
    names = [f"{machine}/{machine_id}/normal/{i:08}.wav" for i in range(n_normal)]
    return touch(root, *names, *(f"{machine}/{machine_id}/abnormal/{i:08}.wav" for i in range(n_abnormal)))


@pytest.mark.parametrize(
    ("n_normal", "n_abnormal", "n_train", "n_test_normal"),
    [(20, 6, 14, 6), (20, 10, 10, 10), (20, 11, 10, 10), (5, 9, 3, 2), (1, 3, 1, 0), (4, 0, 4, 0)],
)
def test_raw_mimii_split(
    tmp_path: Path, n_normal: int, n_abnormal: int, n_train: int, n_test_normal: int
) -> None:
    table = index_folder(raw_mimii(tmp_path / "-6_dB_slider", n_normal, n_abnormal))
    train, test = table.select(split="train"), table.select(split="test")
    assert (len(train), len(test)) == (n_train, n_test_normal + n_abnormal)
    assert not train.labels.any()
    assert test.labels.sum() == n_abnormal
    assert len({clip.path for clip in table}) == n_normal + n_abnormal
    assert len(set(table.names)) == len(table)


def test_raw_mimii_seed_chooses_the_test_clips(tmp_path: Path) -> None:
    raw_mimii(tmp_path, 30, 10)
    first = index_folder(tmp_path, seed=3)
    assert index_folder(tmp_path, seed=3) == first
    assert index_folder(tmp_path, seed=4) != first
    raw_mimii(tmp_path, 30, 10, machine_id="id_02")
    raw_mimii(tmp_path, 30, 10, machine="fan")
    whole = index_folder(tmp_path, seed=3)
    assert whole.select(machine_type="slider", machine_id="id_00") == first
    chosen = [
        [clip.path.name for clip in whole.select(machine_type=t, machine_id=i, split="train")]
        for t, i in [("slider", "id_00"), ("slider", "id_02"), ("fan", "id_00")]
    ]
    assert chosen[0] != chosen[1] != chosen[2]


def test_raw_mimii_names_follow_dcase(tmp_path: Path) -> None:
    names = index_folder(raw_mimii(tmp_path, 1, 1)).names
    assert names == ("normal_id_00_00000000.wav", "anomaly_id_00_00000000.wav")


def test_raw_mimii_at_several_noise_levels_is_refused(tmp_path: Path) -> None:
    raw_mimii(tmp_path / "-6_dB_slider", 2, 1)
    raw_mimii(tmp_path / "0_dB_slider", 2, 1)
    raw_mimii(tmp_path / "0_dB_fan", 2, 1, machine="fan")
    with pytest.raises(DataError, match=r"-6_dB_slider, .*0_dB_slider, .*give the folder of one of them"):
        index_folder(tmp_path)
    assert len(index_folder(tmp_path, machine_type="fan")) == 3
    assert len(index_folder(tmp_path / "0_dB_slider")) == 3


def test_one_machine_in_two_layouts_is_refused(tmp_path: Path) -> None:
    raw_mimii(tmp_path / "mimii", 2, 1)
    touch(tmp_path, "dcase/slider/train/normal_id_00_00000000.wav")
    with pytest.raises(DataError, match="slider lies in two layouts"):
        index_folder(tmp_path)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_copies_are_refused(tmp_path: Path, suffix: str) -> None:
    name = "slider/train/normal_id_00_00000000"
    touch(tmp_path, f"one/{name}.wav", f"two/{name}{suffix}")
    with pytest.raises(DataError, match="have the same machine, split and name"):
        index_folder(tmp_path)


@pytest.mark.parametrize("name", ["slide_rail", "Slide-Rail", "slide rail", "sliderail", "SlideRail"])
def test_slide_rail_is_slider(tmp_path: Path, name: str) -> None:
    assert canonical_type(name) == "slider"
    touch(tmp_path, f"{name}/train/normal_id_00_00000000.wav")
    assert index_folder(tmp_path).machine_types == ("slider",)
    assert len(index_folder(tmp_path, machine_type=name)) == 1


def test_bad_names_are_collected(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "slider/train/normal_id_00_00000000.wav",
        "slider/train/anomaly_id_00_00000000.wav",
        "slider/train/section_00_source_test_normal_0000.wav",
        "slider/source_test/section_00_target_test_normal_0000.wav",
        "slider/other/normal_id_00_00000000.wav",
        "slider/test/noise.wav",
        "fan/test/noise.wav",
        "fan/test/normal_id_00_00000000.wav",
    )
    table = index_folder(tmp_path)
    assert len(table) == 2
    reasons = {Path(error.path).relative_to(tmp_path).as_posix(): error.reason for error in table.rejected}
    assert reasons == {
        "slider/train/anomaly_id_00_00000000.wav": (
            "is an anomaly among the training clips, which must be normal; move it to test/"
        ),
        "slider/train/section_00_source_test_normal_0000.wav": (
            "its name contradicts its folder train/; move it to the right one"
        ),
        "slider/source_test/section_00_target_test_normal_0000.wav": (
            "its name contradicts its folder source_test/; move it to the right one"
        ),
        "slider/other/normal_id_00_00000000.wav": (
            "lies in other/, not in one of train, test, source_test, target_test; move it to the right one"
        ),
        "slider/test/noise.wav": "its name fits no known layout; rename it or move it away",
        "fan/test/noise.wav": "its name fits no known layout; rename it or move it away",
    }
    # Asked for one machine, nobody wants to hear of another's files.
    assert len(index_folder(tmp_path, machine_type="slider").rejected) == 5
    assert [Path(e.path).name for e in index_folder(tmp_path, machine_type="fan").rejected] == ["noise.wav"]


def test_hidden_files_are_ignored(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "slider/train/normal_id_00_00000000.wav",
        "slider/train/._normal_id_00_00000000.wav",
        "slider/train/.DS_Store",
        "__MACOSX/slider/train/normal_id_00_00000000.wav",
        ".cache/slider/train/normal_id_00_00000000.wav",
    )
    table = index_folder(tmp_path)
    assert (len(table), table.rejected) == (1, ())


def test_links_are_followed_and_cycles_end(tmp_path: Path) -> None:
    touch(tmp_path, "store/train/normal_id_00_00000000.wav")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "slider").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "again").symlink_to(tmp_path / "data")
    table = index_folder(tmp_path / "data")
    assert [row[0] for row in rows(table)] == ["slider"]
    (tmp_path / "data" / "slide_rail").symlink_to(tmp_path / "store")
    with pytest.raises(DataError, match="have the same machine, split and name"):
        index_folder(tmp_path / "data")


def test_no_clips(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        index_folder(tmp_path / "nothing")
    touch(tmp_path, "slider/train/readme.txt")
    with pytest.raises(DataError, match=r"readme\.txt: is a file; give the folder"):
        index_folder(tmp_path / "slider/train/readme.txt")
    with pytest.raises(
        DataError, match=r"(?s)holds no recordings \(\.wav, .*; the layouts known:.*DCASE 2020"
    ):
        index_folder(tmp_path)
    touch(tmp_path, "phone/memo 1.m4a")
    with pytest.raises(DataError, match=r"convert memo 1\.m4a to wav or flac first"):
        index_folder(tmp_path)
    touch(tmp_path, "dev_data_slider.zip")
    with pytest.raises(DataError, match=r"unzip dev_data_slider\.zip first"):
        index_folder(tmp_path)


def test_unreadable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "slider/train/normal_id_00_00000000.wav")
    real = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("train"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"train: cannot be listed \(Permission denied\)"):
        index_folder(tmp_path)


def test_all_names_bad(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.wav", "b/normal_id_00_00000000.wav")
    with pytest.raises(DataError, match=r"(?s)none of its 2 clips .*b/normal_id.*DCASE 2021\+:.*MIMII:"):
        index_folder(tmp_path)


def test_no_such_machine_type(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no clips of machine type valve; it has fan, slider"):
        index_folder(touch(tmp_path, *DCASE_2020), machine_type="valve")


def test_real_clips(shared: Path) -> None:
    table = index_folder(shared / "data" / "mimii_mini")
    assert table.machine_types == ("fan", "slider")
    assert table.machine_ids == ("id_00", "id_02", "id_04", "id_06")
    assert (len(table.select(split="train")), len(table.select(split="test"))) == (48, 72)
    assert table.labels.sum() == 40
    one = table.select(machine_type="slider", machine_id="id_04", split="test")
    np.testing.assert_array_equal(np.bincount(one.labels), [4, 5])
    plain = index_folder(shared / "data" / "multichannel")  # in no layout; one of the two says "abnormal"
    assert rows(plain) == [("multichannel", "id_00", "", "train", 0, "", "slider_id_00_normal_8ch.wav")]
    assert "taken for normal" in plain.rejected[0].reason


def test_select_nothing_is_empty(tmp_path: Path) -> None:
    table = index_folder(touch(tmp_path, *DCASE_2020)).select(machine_id="id_99")
    assert (len(table), table.machine_ids, table.labels.shape) == (0, (), (0,))


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
