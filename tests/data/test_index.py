"""The index of a folder: the challenges' layouts, and a walk that ends."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adjax.data.clips import UNKNOWN
from adjax.data.index import index_folder
from adjax.data.layouts import canonical_type
from adjax.types import DataError
from tests.data.trees import rows, touch

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
