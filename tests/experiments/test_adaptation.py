"""The study of adapting: machines left out, ways of adapting, tables and figures; and that of domains."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from adjax.data.clips import Clip, ClipTable, Split
from adjax.model.extraction import ClipFeatures
from adjax.model.named import make_spec
from adjax.model.result import Result
from adjax.model.vectors import config_of
from experiments._adaptation import (
    AS_IS,
    DEFAULT,
    KIND,
    LEDOIT_WOLF,
    MAP,
    OWN,
    Trial,
    bench_of,
    mixture_spec,
    trials,
)
from experiments._adaptation_report import Row, alarm_table, curves, gains, summarize, tables, write_csv
from experiments.adaptation import judged as judged_trial
from experiments.domains import judged as judged_domains

D, MACHINES = 4, ("a", "b", "c")


def vectors() -> ClipFeatures:
    """Three pumps; anomalies are far away."""
    rng = np.random.default_rng(0)
    clips, rows = [], []
    for number, machine in enumerate(MACHINES):
        halves: tuple[tuple[Split, int, int], ...] = (("train", 12, 0), ("test", 8, 0), ("test", 8, 1))
        for split, n, label in halves:
            for i in range(n):
                name = f"{machine} {split} {label} {i}"
                clips.append(Clip(Path(name), "pump", machine, split=split, label=label, key=name))
                rows.append(3 * number + rng.normal(size=D) + 9 * label * np.eye(D)[0])
    return ClipFeatures(ClipTable(tuple(clips)), np.array(rows, np.float32), np.arange(len(rows) + 1))


@pytest.fixture(scope="module")
def found() -> list[Trial]:
    features = vectors()
    spec = make_spec("joint+identity", features=config_of(features), n_folds=3)
    every = (features,) * len(spec.detectors)
    bench, failed = bench_of(spec, mixture_spec(config_of(features)), every, features.clips.machines[2])
    assert not failed
    assert len(bench.model.machines) == 2
    return list(trials(bench, (0, 1, 4), 1))


def test_every_way_scores_the_clips_of_the_machine_left_out(found: list[Trial]) -> None:
    assert [(own.k, own.draw) for own in found] == [(0, 0), (1, 0), (4, 0)]
    assert set(found[0].scores) == {AS_IS}
    for own in found[1:]:
        assert {DEFAULT, KIND + "joint", KIND + "identity", MAP} <= set(own.scores)
        for system, scores in own.scores.items():
            assert np.isfinite(scores).all(), system
    # One clip does not say how much a column moves.
    assert OWN + "joint" not in found[1].scores
    assert OWN + "joint" in found[2].scores
    labels = np.repeat([0, 1], 8)
    for own in found[2:]:
        rows, alarms = judged_trial("pumps", own, labels)
        areas = {row.system: row.auc for row in rows}
        assert areas[DEFAULT] > 0.9
        assert alarms[0].k == 4


def test_gains_are_paired_and_files_hold_every_trial(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for machine in "abcd":
        for draw in range(3):
            luck = rng.normal(scale=0.1)  # that all systems share
            for system, auc in ((DEFAULT, 0.8), (LEDOIT_WOLF, 0.7)):
                rows.append(Row("set", machine, 5, draw, system, auc + luck, auc))
    summary = summarize(rows, "set")
    assert_allclose(summary[DEFAULT, 5].gain, 0.1, atol=1e-6)
    assert np.ptp(summary[DEFAULT, 5].auc) > 0.05
    summaries = {"set": summary}
    assert len(tables(summaries)) == 1
    assert alarm_table([]).row_count == 0
    for figure in (curves(summaries), gains(summaries, [5])):
        assert figure.axes
    write_csv(tmp_path / "areas.csv", rows, [])
    assert len(list(csv.reader((tmp_path / "areas.csv").read_text().splitlines()))) == 1 + len(rows)


def test_domains_are_judged_as_dcase_does() -> None:
    domains = ["source", "target"] * 4
    labels = [0, 0, 0, 0, 1, 1, 1, 1]
    clips = [
        Clip(Path(str(i)), "slider", "section_00", domain, "test", label)
        for i, (domain, label) in enumerate(zip(domains, labels, strict=True))
    ]
    scores = np.array([0, 2, 1, 2, 3, 1.5, 3, 3])
    n = len(scores)
    result = Result(
        ClipTable(tuple(clips)),
        scores,
        np.ones(n),
        np.zeros(n, bool),
        (scores > 2).astype(int),
        ("x",),
        scores[:, None],
    )
    told = judged_domains(result)
    assert told["AUC source"] == 1.0
    assert told["AUC target"] == 0.75
    assert told["anomalies found, target"] == "1 of 2"
    assert told["false alarms, source"] == "0 of 2"
