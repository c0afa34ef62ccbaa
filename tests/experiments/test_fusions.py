"""Other fusions of the same kinds, and how they are judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from adjax.data.clips import Clip, ClipTable
from adjax.evaluation.metrics import evaluate
from adjax.model.extraction import ClipFeatures
from adjax.model.named import make_spec
from adjax.model.vectors import config_of
from experiments._fusion_areas import MEAN, N_RESAMPLES, judge
from experiments._fusion_report import learning_curves, regrets, tables
from experiments._fusions import (
    ALL,
    AUTO,
    EVIDENCE,
    KIND,
    RULES,
    WITHOUT,
    Cell,
    Task,
    cauchy,
    cells_of,
    subset,
)


def make_vectors(n_normal: int, n_anomalous: int, split: str, seed: int = 0) -> ClipFeatures:
    """Two pumps of three columns; anomalies are shifted in all of them."""
    rng = np.random.default_rng(seed)
    clips, rows = [], []
    for machine_id in ("id_00", "id_02"):
        for i in range(n_normal + n_anomalous):
            label = int(i >= n_normal)
            clips.append(
                Clip(Path(f"{machine_id}_{i}"), "pump", machine_id, "", split, label, row=i, key=f"{i}")
            )
            rows.append(rng.normal(size=3) + 2 * label + (machine_id == "id_02"))
    return ClipFeatures(
        ClipTable(tuple(clips)),
        np.array(rows, np.float32),
        np.arange(len(clips) + 1),
        columns=("a", "b", "c"),
    )


@pytest.fixture(scope="module")
def cells() -> list[Cell]:
    train, test = make_vectors(12, 0, "train"), make_vectors(9, 7, "test", seed=1)
    spec = make_spec("auto", features=config_of(train))
    every = [(own,) * len(spec.detectors) for own in (train, test)]
    found, failures = cells_of(
        Task("pumps", ALL, 0, spec, *every, {"9": "worn", "10": "loose"}), leave_out=True
    )
    assert not failures
    return found


def test_auto_adds_up_the_evidence_of_its_kinds_and_every_system_scores_every_clip(cells: list[Cell]) -> None:
    assert [cell.machine for cell in cells] == ["id_00", "id_02"]
    for cell in cells:
        evidence = {n.removeprefix(EVIDENCE): s for n, s in cell.systems.items() if n.startswith(EVIDENCE)}
        kinds = [name.removeprefix(KIND) for name in cell.systems if name.startswith(KIND)]
        assert kinds == list(evidence)
        assert_allclose(cell.systems[AUTO], sum(evidence.values()), rtol=1e-5)
        assert_array_equal(cell.systems["smallest p"], np.max([*evidence.values()], axis=0))
        for kind in kinds:
            rest = np.sum([own for name, own in evidence.items() if name != kind], axis=0)
            assert_allclose(cell.systems[WITHOUT + kind], rest)
            # A kind's evidence has the order of its loudest part, but for clips below all held-out ones.
            order = np.argsort(cell.systems[KIND + kind])
            assert (np.diff(evidence[kind][order]) >= 0).all()
        assert {len(scores) for scores in cell.systems.values()} == {len(cell.labels)} == {16}
        assert {*cell.faults} == {"", "worn", "loose"}


def test_cauchy_has_the_order_of_its_sum_and_neither_overflows_nor_gives_one_kind_a_veto() -> None:
    rng = np.random.default_rng(0)
    evidence = np.maximum(rng.exponential(size=(200, 3)) * 4, 0.02)
    sums = (1 / np.tan(np.pi * np.exp(-evidence))).sum(axis=1)
    assert_array_equal(np.argsort(cauchy(evidence)), np.argsort(sums))
    seen = cauchy(np.stack([np.linspace(0.02, 2000, 100_001), np.full(100_001, 0.5)], axis=1))
    assert np.isfinite(seen).all()
    assert (np.diff(seen) > 0).all()
    nothing, middling = np.array([[8.0, 0.0]]), np.array([[1.0, 1.0]])
    assert cauchy(nothing) > cauchy(middling)


def test_judged_as_the_evaluator_does_averaged_over_machines_and_the_best_kind_named_by_labels() -> None:
    rng = np.random.default_rng(0)
    cells = []
    for draw in range(2):
        for machine_type in ("fan", "pump"):
            for machine in ("id_00", "id_02"):
                labels = np.repeat([0, 1], [20, 10])
                systems = {name: rng.normal(size=30) + labels for name in (AUTO, KIND + "a", KIND + "b")}
                where = ("set", machine_type, 8, draw, machine, 8)
                cells.append(Cell(*where, labels, np.full(30, ""), systems))
    judged = judge(cells, over="clips")
    assert set(judged) == {("set", name, 8) for name in ("fan", "pump", MEAN)}
    for name in ("fan", "pump"):
        own = judged["set", name, 8]
        assert own.values.shape == (1 + N_RESAMPLES, 3, 2)
        for i, system in enumerate(own.names):
            exact = [evaluate(c.labels, c.systems[system]) for c in cells if c.machine_type == name]
            assert_allclose(own.values[0, i], np.mean([one[:2] for one in exact if one], axis=0), rtol=1e-5)
        assert_allclose(own.oracle, own.values[:, 1:].max(axis=1))
        assert (own.each >= own.oracle - 1e-6).all()
        assert (own.values[1:].std(axis=0) > 0.01).all()
    both = np.mean([judged["set", name, 8].values for name in ("fan", "pump")], axis=0)
    assert_allclose(judged["set", MEAN, 8].values, both)
    over_machines = judge(cells, over="machines")["set", "fan", 8]
    assert_allclose(over_machines.values[0], judged["set", "fan", 8].values[0], rtol=1e-5)
    assert len(np.unique(over_machines.values[1:, 0, 0].round(5))) == 3  # two machines drawn with replacement


def test_tables_and_figures_have_every_size(cells: list[Cell]) -> None:
    judged = judge([one for cell in cells for one in (cell, cell._replace(size=8, n_train=8))], over="clips")
    first, second = tables(judged)
    n_kinds = sum(name.startswith(KIND) for name in cells[0].systems)
    assert [column.header for column in first.columns] == ["system", "all clips", "8 clips"]
    assert [str(own) for own in second.columns[0].cells] == list(RULES)
    for figure, n_lines in ((learning_curves(judged), 1 + n_kinds), (regrets(judged), 2)):
        (legend,) = figure.legends
        assert len(legend.get_texts()) == n_lines
        assert len(figure.axes) == 2  # AUC and pAUC of one set


def test_a_subset_is_random_as_large_as_asked_and_in_order() -> None:
    features = (make_vectors(12, 0, "train"),)
    chosen = [subset(features, 5, draw)[0].clips for draw in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]
    for clips in chosen:
        assert [clip.machine_id for clip in clips] == ["id_00"] * 5 + ["id_02"] * 5
        rows = [clip.row for clip in clips]
        assert rows[:5] == sorted(rows[:5])
    for size in (ALL, 12, 40):
        assert subset(features, size, 0)[0].clips == features[0].clips
