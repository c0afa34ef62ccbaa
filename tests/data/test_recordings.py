"""Clips that belong together, and the order they were recorded in."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adjax.data.clips import Clip
from adjax.data.recordings import group_clips, recording_order
from adjax.types import SettingsError


def clips(*names: str, machine_id: str = "") -> list[Clip]:
    return [Clip(Path("root", name), "pump", machine_id, split="train", label=0, key=name) for name in names]


def parts(names: list[Clip], **settings: str) -> list[list[str]]:
    """The groups as lists of names, in order of their numbers."""
    group = group_clips(names, **settings).group
    assert sorted(set(group)) == list(range(len(set(group))))
    return [[names[i].name for i in np.flatnonzero(group == g)] for g in range(max(group) + 1)]


@pytest.mark.parametrize(
    "pattern",
    [
        "rec{r:02}_seg{k:03}.wav",
        "2024-05-0{r}_pumpA_part{k}.wav",
        "long recording {r}x ({k}).wav",
        "rec {r} - {k}.wav",
        "rec {r}, {k} of 12.wav",
        "rec{r}_{k}0-{k}9s.wav",
        "rec{r}_{k}.0s-{k}.5s.wav",
        "20240501_12000{r}_ch{k}.flac",
        "abnormal/rec{r}/{k}.wav",
        "rec {r}/any name {k}.wav",
        "2024-05-01 12.0{r}.00.123 part {k}.wav",
    ],
)
def test_clips_cut_from_one_recording(pattern: str) -> None:
    expected = [[pattern.format(r=r, k=k) for k in range(1, 12)] for r in (1, 2, 9)]
    names = [name for recording in expected for name in recording]
    assert parts(clips(*names)) == expected
    random.Random(0).shuffle(names)
    assert [set(part) for part in parts(clips(*names))] == [set(part) for part in expected]
    assert "3 groups, 33 clips" in group_clips(clips(*names)).rule


@pytest.mark.parametrize(
    "pattern",
    [
        "normal_id_00_{:08}.wav",
        "{:08}.wav",
        "section_00_source_train_normal_{:04}_vel_6.wav",
        "recording ({}).wav",
        "pump{}.wav",
        "20240501_12{:02}00.wav",
    ],
)
def test_a_plain_running_number_tells_nothing(pattern: str) -> None:
    names = clips(*(pattern.format(i) for i in range(30)))
    grouping = group_clips(names)
    np.testing.assert_array_equal(grouping.group, np.arange(30))
    assert "each clip stands alone (30 clips)" in grouping.rule


def test_labels_and_domains_are_no_recordings() -> None:
    names = [f"{w}_id_00_{i:08}.wav" for w in ("normal", "anomaly") for i in range(9)]
    assert len(parts(clips(*names))) == 18
    names = [f"section_00_{w}_train_normal_{i:04}.wav" for w in ("source", "target") for i in range(9)]
    assert len(parts(clips(*names))) == 18
    names = [f"{w} {i}.wav" for w in ("normal", "abnormal") for i in range(9)]
    assert len(parts(clips(*names))) == 18
    names = [f"{w}/{i}.wav" for w in ("normal", "abnormal") for i in range(9)]
    assert len(parts(clips(*names))) == 18


def test_stems_must_be_few_and_have_several_clips() -> None:
    assert len(parts(clips(*(f"r{i}x_{k}.wav" for i in range(5) for k in (1, 2))))) == 5
    assert len(parts(clips("a_1.wav", "b_1.wav", "c_1.wav"))) == 3
    assert len(parts(clips("a_1.wav", "a_2.wav", "a_3.wav", "b_1.wav"))) == 4
    assert len(parts(clips("a_1.wav", "a_2.wav", "b_1.wav", "b_2.wav", "c.wav", "b_3.wav"))) == 3


def test_sessions_by_time() -> None:
    def at(day: int, hour: int, minute: int) -> str:
        return f"2024-05-{day:02} {hour:02}.{minute:02}.00.wav"

    morning = [at(1, 8, k) for k in range(5)]
    noon = [at(1, 12, k) for k in range(0, 20, 4)]  # gaps below ten medians
    night = [at(1, 23, 59)]
    after = [at(2, 0, 0), at(2, 0, 1)]
    names = clips(*after, *night, *noon, *morning)
    assert parts(names) == [morning, noon, night, after]
    assert group_clips(names).rule.startswith("by the times in the names")
    compact = clips(*(f"m_20240501T{h:02}00{s:02}.wav" for h in (3, 9) for s in range(3)))
    assert [len(part) for part in parts(compact)] == [3, 3]


def test_sessions_by_date() -> None:
    names = clips("a 2024-05-02.wav", "b 2024-05-01.wav", "c 20240501.wav", "d 2024.05.02.wav")
    assert parts(names) == [["b 2024-05-01.wav", "c 20240501.wav"], ["a 2024-05-02.wav", "d 2024.05.02.wav"]]
    assert "each day is one session (2 groups, 4 clips)" in group_clips(names).rule
    assert len(parts(clips("a 2024-02-31.wav", "b 2024-02-31.wav", "c 2024-02-30.wav"))) == 3  # no such days


def test_folders_are_recordings_when_several() -> None:
    names = clips("x/one.wav", "x/two.wav", "y/three.wav", "four.wav", "five.wav")
    assert parts(names) == [["five.wav"], ["four.wav"], ["x/one.wav", "x/two.wav"], ["y/three.wav"]]
    assert len(parts(clips("x/one.wav", "x/two.wav", "x/three.wav"))) == 3
    assert len(parts(clips("x/audio.wav", "y/audio.wav", "z/audio.wav"))) == 3


def test_a_pattern() -> None:
    names = clips("s1-a-07.wav", "s1-b-07.wav", "s2-a-08.wav")
    other = [Clip(clip.path, "pump", "2", key=clip.key) for clip in names]
    assert parts(names, pattern=r"/(s\d)-") == [["s1-a-07.wav", "s1-b-07.wav"], ["s2-a-08.wav"]]
    assert parts(names, pattern=r"s\d-a|-b-") == [["s1-a-07.wav"], ["s1-b-07.wav"], ["s2-a-08.wav"]]
    assert group_clips(names + other, pattern=r"s\d").group.tolist() == [0, 0, 1, 2, 2, 3]
    grouping = group_clips(names + other, pattern=r"s\d")
    assert grouping.rule == r"the pattern given 's\\d' (4 groups, 6 clips, 2 machines)"
    with pytest.raises(SettingsError, match=r"s2-a-08\.wav: the pattern '\(s1\)' is not found"):
        group_clips(names, pattern="(s1)")
    with pytest.raises(SettingsError, match="is not found"):
        group_clips(names, pattern="(s1)?-")
    with pytest.raises(SettingsError, match=r"'\(s1' is no regular expression"):
        group_clips(names, pattern="(s1")


def test_machines_never_share_a_group() -> None:
    one = clips("a_1.wav", "a_2.wav", "b_1.wav", "b_2.wav", machine_id="id_10")
    two = clips("a_1.wav", "a_2.wav", "b_1.wav", "b_2.wav", machine_id="id_9")
    three = clips("x.wav", machine_id="id_11")
    grouping = group_clips([*one, *two, *three])
    assert grouping.group.tolist() == [2, 2, 3, 3, 0, 0, 1, 1, 4]
    assert "(4 groups, 8 clips, 2 machines); names and folders do not tell" in grouping.rule
    assert group_clips([]).group.shape == (0,)
    assert group_clips([]).rule == "no clips"


def test_recording_order() -> None:
    names = clips("rec 10.wav", "rec 9.wav", "Rec 9b.wav", "rec 09.wav")
    assert [names[i].name for i in recording_order(names)] == [
        "rec 09.wav",
        "rec 9.wav",
        "Rec 9b.wav",
        "rec 10.wav",
    ]
    timed = clips("a 2024-05-02.wav", "b 2024-05-01 13.00.wav", "c 20240501_120000.wav")
    assert recording_order(timed).tolist() == [2, 1, 0]
    assert recording_order([*timed, *clips("d.wav")]).tolist() == [0, 1, 2, 3]
    assert recording_order([]).dtype == np.int64


@settings(deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=12), max_size=12),
    st.randoms(use_true_random=False),
)
def test_any_names(texts: list[str], rng: random.Random) -> None:
    names = clips(*{f"{text}{os.fsdecode(bytes([0xFF]))}.wav" for text in texts})
    shuffled = rng.sample(names, len(names))
    order = recording_order(shuffled)
    assert sorted(order) == list(range(len(names)))
    in_order = [shuffled[i] for i in order]
    assert in_order == [names[i] for i in recording_order(names)]  # whatever order they come in
    group = group_clips(in_order).group
    first = [int(g) for i, g in enumerate(group) if g not in group[:i]]
    assert first == list(range(len(first)))


def test_rows_of_a_table_come_in_recording_order_as_written() -> None:
    """Whatever their names are; unless all of those hold a date. What names say belongs together still does."""

    def rows(*names: str) -> list[Clip]:
        return [replace(clip, row=i + 2) for i, clip in enumerate(clips(*names))]

    assert recording_order(rows("9.wav", "c.wav", "10.wav")).tolist() == [0, 1, 2]
    assert parts(rows("9.wav", "c.wav", "10.wav")) == [["9.wav"], ["c.wav"], ["10.wav"]]
    names = ["rec 2_seg1", "rec 2_seg2", "rec 1_seg1", "rec 1_seg2"]
    assert parts(rows(*names)) == [names[:2], names[2:]]
    assert parts(rows("b1", "a1", "b2", "a2"), pattern="^root/(.)") == [["b1", "b2"], ["a1", "a2"]]
    assert recording_order(rows("x 2024-05-02", "a 2024-05-01", "a 2024-05-03")).tolist() == [1, 0, 2]
