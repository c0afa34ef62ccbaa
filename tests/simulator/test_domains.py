"""Data sets with a source and a target domain: plans, names, the tree on disk."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from adjax.data.index import index_folder
from adjax.simulator import (
    FULL_DOMAINS,
    GROUND_TRUTH,
    SMALL_DOMAINS,
    ClipCounts,
    ClipPlan,
    DomainCounts,
    make_clips,
    make_conditions,
    plan_clips,
    plan_domains,
    read_ground_truth,
    write_domains,
    write_tree,
)
from adjax.simulator.clips import FAULTS
from adjax.types import SettingsError
from tests.simulator.test_tree import digests

COUNTS = {"section_00": DomainCounts(3, 1, 1, 3), "section_07": DomainCounts(2, 2, 2, 1)}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_domains(tmp_path_factory.mktemp("domains"), counts=COUNTS, duration=1.0)


def test_full_counts_are_those_of_dcase_2022() -> None:
    assert set(FULL_DOMAINS.values()) == {DomainCounts(990, 10, 50, 50)}
    assert list(FULL_DOMAINS) == list(SMALL_DOMAINS) == ["section_00", "section_01", "section_02"]
    assert len(plan_domains(FULL_DOMAINS)) == 3 * 1200
    assert len({plan.stream for plan in plan_domains(FULL_DOMAINS)}) == 3 * 1200


def test_every_fault_meets_every_condition() -> None:
    plans = plan_domains(SMALL_DOMAINS, shift=0.7)
    for domain in ("source", "target"):
        conditions = make_conditions(1, domain, strength=0.7)
        own = [p for p in plans if (p.machine_id, p.domain) == ("section_01", domain)]
        assert {p.condition for p in own if p.split == "train"} == set(conditions)
        assert {(p.fault, p.condition) for p in own if p.fault} == {
            (f, c) for f in FAULTS for c in conditions
        }


def test_a_shift_changes_the_targets_conditions_alone() -> None:
    none, full = (plan_domains(COUNTS, shift=shift) for shift in (0.0, 1.0))
    for a, b in zip(none, full, strict=True):
        assert (a.stream, a.fault, a.severity) == (b.stream, b.fault, b.severity)
        assert (a.condition == b.condition) == (a.domain == "source")
        assert a.condition in make_conditions(a.stream[0], "source")


@pytest.mark.parametrize(
    ("counts", "shift", "message"),
    [
        ({}, 1.0, "no clip"),
        ({"section_00": DomainCounts(0, 0, 0, 0)}, 1.0, "no clip"),
        ({"section_00": DomainCounts(1, -1, 0, 0)}, 1.0, "section_00: target_train=-1"),
        ({"id_00": DomainCounts(1, 0, 0, 0)}, 1.0, "write it as section_00"),
        (COUNTS, 1.5, "shift"),
        (COUNTS, float("nan"), "shift"),
    ],
)
def test_bad_plans_are_refused(counts: dict, shift: float, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        plan_domains(counts, shift=shift)


def test_sections_are_no_ids_of_a_set_without_domains() -> None:
    with pytest.raises(SettingsError, match="write it as id_00"):
        plan_clips({"section_00": ClipCounts(1, 0, 0)})


def test_names_are_read_back(tree: Path) -> None:
    table = index_folder(tree.parent)
    plans = {plan.name: plan for plan in plan_domains(COUNTS)}
    assert not table.rejected
    assert {clip.name for clip in table} == plans.keys()
    for clip in table:
        plan = plans[clip.name]
        assert (clip.machine_type, clip.machine_id, clip.split) == ("slider", plan.machine_id, plan.split)
        assert (clip.domain, clip.label) == (plan.domain, int(bool(plan.fault)))
        assert plan.condition is not None
        assert clip.attributes == plan.condition.attributes
    found = Counter((c.machine_id, c.domain, c.split, c.label) for c in table)
    assert found["section_00", "target", "test", 1] == 3
    assert found["section_07", "target", "train", 0] == 2


def test_the_ground_truth_tells_faults_and_conditions(tree: Path) -> None:
    plans = plan_domains(COUNTS)
    rows = read_ground_truth(tree / GROUND_TRUTH)
    assert {name: (row.fault, row.severity) for name, row in rows.items()} == {
        p.name: (p.fault, p.severity) for p in plans if p.fault
    }
    for section in COUNTS:
        with open(tree / f"attributes_{section[-2:]}.csv", newline="") as file:
            lines = {row["file_name"]: row for row in csv.DictReader(file)}
        own = [p for p in plans if p.machine_id == section]
        assert lines.keys() == {f"slider/{p.split}/{p.name}" for p in own}
        for plan in own:
            assert plan.condition is not None
            row = lines[f"slider/{plan.split}/{plan.name}"]
            told = {row[f"d{i}p"]: float(row[f"d{i}v"]) for i in range(1, 8)}
            assert told == pytest.approx(plan.condition._asdict(), rel=1e-5)


def test_the_same_set_is_left_alone_and_another_one_takes_its_place(tree: Path, tmp_path: Path) -> None:
    home = write_domains(tmp_path, counts=COUNTS, duration=1.0)
    assert digests(home) == digests(tree)
    before = home.stat().st_ino
    seen: list[Path] = []
    write_domains(tmp_path, counts=COUNTS, duration=1.0, on_clip=seen.append)
    assert home.stat().st_ino == before
    assert len(seen) == len(plan_domains(COUNTS))
    write_domains(tmp_path, counts=COUNTS, shift=0.0, duration=1.0)
    assert json.loads((home / "settings.json").read_text())["shift"] == 0.0
    source = {name: text for name, text in digests(tree).items() if "_source_" in name}
    assert source.items() <= digests(home).items()  # the source is the same, to the bit
    write_tree(tmp_path, counts={"id_00": ClipCounts(1, 0, 0)}, duration=1.0)
    assert {path.name for path in home.iterdir()} == {
        "SHA256SUMS", "ground_truth.csv", "settings.json", "train",
    }  # fmt: skip


def test_a_clip_does_not_depend_on_neighbours_without_conditions() -> None:
    (plan,) = [p for p in plan_domains(COUNTS) if p.stream[0] == 7 and p.domain == "target" and p.fault]
    (alone,) = make_clips([plan], duration=1.0)
    mixed = list(
        make_clips([ClipPlan("id_00", "train", 0), plan, ClipPlan("id_00", "train", 1)], duration=1.0)
    )
    assert [clip.plan.domain for clip in mixed] == ["", "target", ""]
    assert (mixed[1].samples == alone.samples).all()
