"""A kept model for a machine that it has not heard."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import adjax
from adjax import MachineId
from adjax.model.adapt import STAND_INS, adapt_model
from adjax.model.fit import fit_model
from adjax.model.keep import load_model
from adjax.model.model import Model
from adjax.model.named import make_spec
from adjax.model.vectors import as_features, config_of
from adjax.types import FitError, SettingsError

D, N_CLIPS = 12, 40
KINDS = "joint+identity"  # two that fit in no time
MATES = [f"pump/{name}" for name in "abcd"]


def clips(machine: str, n: int, seed: int = 0, *, fault: float = 0.0) -> np.ndarray:
    """(n, D) vectors of a machine: a centre of its own, and a covariance that all machines have in common."""
    centre = 3 * np.random.default_rng([7, *machine.encode()]).normal(size=D)
    common = np.random.default_rng(1).normal(size=(D, D)) / np.sqrt(D) + np.eye(D)
    noise = np.random.default_rng([seed, *machine.encode()]).normal(size=(n, D)) @ common
    return (centre + noise + fault * np.linalg.inv(common.T)[0]).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> Model:
    rows = np.concatenate([clips(name, N_CLIPS) for name in MATES])
    return adjax.fit(rows, KINDS, machine=[name for name in MATES for _ in range(N_CLIPS)])


@pytest.mark.parametrize("k", [1, 2, 6])
def test_a_few_clips_make_a_model_of_a_new_machine(model: Model, k: int) -> None:
    adapted = model.adapt(clips("pump/new", k), machine="pump/new")
    assert adapted.machines == (*model.machines, MachineId("pump", "new"))
    assert int(adapted.params.calibration.n_held_out[-1]) == (k if k > 2 else 0) + STAND_INS
    normal = adapted.score(clips("pump/new", 50, 1), machine="pump/new")
    faulty = adapted.score(clips("pump/new", 50, 2, fault=8.0), machine="pump/new")
    assert not normal.failures
    assert np.mean(faulty.scores[:, None] > normal.scores[None]) > 0.95
    assert np.mean(normal.decisions == 1) < 0.2
    assert "pump new is adapted" in adapted.record.notes[-1]


def test_what_the_model_knew_it_knows_as_before(model: Model) -> None:
    adapted = model.adapt(clips("pump/new", 5), machine="pump/new")
    new = clips("pump/b", 20, 3)
    before, after = (own.score(new, machine="pump/b") for own in (model, adapted))
    for field in ("scores", "p_values", "decisions"):
        assert_array_equal(getattr(before, field), getattr(after, field))


def test_it_is_near_the_model_that_heard_all_from_the_start(model: Model) -> None:
    own = clips("pump/new", 30)
    rows = np.concatenate([*(clips(name, N_CLIPS) for name in MATES), own])
    names = [name for name in MATES for _ in range(N_CLIPS)] + ["pump/new"] * len(own)
    together = adjax.fit(rows, KINDS, machine=names)
    new = np.concatenate([clips("pump/new", 50, 1), clips("pump/new", 50, 2, fault=4.0)])
    first, second = (
        one.score(new, machine="pump/new") for one in (model.adapt(own, machine="pump/new"), together)
    )
    assert np.corrcoef(first.scores, second.scores)[0, 1] > 0.95


def test_kept_and_read_again_it_scores_and_adapts_the_same(model: Model, tmp_path: Path) -> None:
    read = load_model(model.save(tmp_path / "first"))
    assert [own.rows.tolist() for own in read.memory] == [own.rows.tolist() for own in model.memory]
    assert read.memory[0] is read.memory[1]  # one copy of what several detectors look at
    own, new = clips("pump/new", 4), clips("pump/new", 10, 1)
    adapted = model.adapt(own, machine="pump/new")
    again = load_model(read.adapt(own, machine="pump/new").save(tmp_path / "second"))
    jax.tree.map(assert_array_equal, adapted.params, again.params)
    assert_array_equal(
        adapted.score(new, machine="pump/new").scores, again.score(new, machine="pump/new").scores
    )
    twice = again.adapt(clips("pump/other", 3), machine="pump/other")  # a new machine is a mate of the next
    assert len(twice.machines) == 6
    assert twice.memory[0] is twice.memory[1]


def test_a_known_machine_is_heard_anew(model: Model) -> None:
    moved = clips("pump/b", 10, 5) + 2.5
    adapted = model.adapt(moved, machine="pump/b")
    assert sorted(adapted.machines) == sorted(model.machines)
    new = clips("pump/b", 30, 6) + 2.5
    before, after = (own.score(new, machine="pump/b") for own in (model, adapted))
    assert np.mean(before.decisions == 1) > 0.9
    assert np.mean(after.decisions == 1) < 0.3
    assert len([own for own in adapted.record.held_out if own.machine.machine_id == "b"]) == 1


def test_left_out_clips_have_no_part_in_their_own_scores(model: Model) -> None:
    own = clips("pump/new", 6)
    wild = own.copy()
    wild[2] += 40
    adapted = model.adapt(wild, machine="pump/new")
    held_out = adapted.record.held_out[-1]
    assert int(np.argmax(held_out.scores)) == 2


@pytest.mark.parametrize("n_mates", [3, 9])
def test_p_values_of_normal_clips_hold(n_mates: int) -> None:
    """Of normal clips of new machines, 3 clips each, no more than about a share p gets a p-value of p or less."""
    names = [f"pump/mate {i}" for i in range(n_mates)]
    rows = np.concatenate([clips(name, 24) for name in names])
    model = adjax.fit(rows, "joint", machine=[name for name in names for _ in range(24)])
    p_values = []
    for number in range(30):
        name = f"pump/{number}"
        adapted = model.adapt(clips(name, 3), machine=name)
        p_values.append(adapted.score(clips(name, 50, 9), machine=name).p_values)
    for rate in (0.02, 0.05, 0.2):
        assert np.mean(np.concatenate(p_values) <= rate) < 1.5 * rate


def test_a_bad_small_machine_does_not_stop_a_fit() -> None:
    names = ["pump/a"] * 20 + ["pump/b"] * 20 + ["pump/z"] * 3
    rows = np.concatenate([clips("pump/a", 20), clips("pump/b", 20), clips("pump/z", 3)])
    features = as_features(rows, names, None)
    features.rows[40:] = np.nan
    model = fit_model(make_spec("joint", features=config_of(features)), features)
    assert len(model.machines) == 2
    assert any("not finite" in str(own) for own in model.record.failures)


def test_kinds_with_other_memories_play_the_same_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mixture of frames remembers fewer clips than what takes one vector for each clip."""
    monkeypatch.setattr("adjax.model.memory.MOST", 16 * 640)
    rng = np.random.default_rng(0)
    sounds = [rng.normal(size=4096).astype(np.float32) * 0.1 for _ in range(60)]
    model = adjax.fit(sounds, "joint+gmm", machine=[f"pump/{i // 20}" for i in range(60)])
    assert len(model.memory[0].clips) != len(model.memory[1].clips)
    adapted = model.adapt(sounds[:2], machine="pump/new")
    assert int(adapted.params.calibration.n_held_out[-1]) > 2


def test_clips_heard_before_do_not_judge_themselves(model: Model) -> None:
    own = as_features(clips("pump/b", 6, 3), "pump/b", None)
    once = adapt_model(model, own.at(list(range(3))))
    twice, fresh = adapt_model(once, own), adapt_model(model, own)
    first, second = (one.record.held_out[-1].scores for one in (twice, fresh))
    assert np.mean(first) > np.mean(second) - 1


def test_a_lone_machine_lends_what_it_can() -> None:
    model = adjax.fit(clips("pump/a", N_CLIPS), "joint", machine="pump/a")
    with pytest.raises(FitError, match="give at least 3"):
        model.adapt(clips("pump/new", 1), machine="pump/new")
    adapted = model.adapt(clips("pump/new", 5), machine="pump/new")
    assert int(adapted.params.calibration.n_held_out[-1]) == 5
    assert not adapted.score(clips("pump/new", 5, 1), machine="pump/new").failures


def test_without_calibration(model: Model) -> None:
    raw = adjax.fit(
        np.concatenate([clips(name, N_CLIPS) for name in MATES]),
        "joint",
        machine=[name for name in MATES for _ in range(N_CLIPS)],
        calibration="none",
    )
    found = raw.adapt(clips("pump/new", 3), machine="pump/new").score(
        clips("pump/new", 5), machine="pump/new"
    )
    assert np.isfinite(found.scores).all()
    assert np.isnan(found.p_values).all()


def test_what_cannot_be_adapted_says_so(model: Model) -> None:
    with pytest.raises(SettingsError, match="remembers none of its training clips"):
        replace(model, memory=()).adapt(clips("pump/new", 3), machine="pump/new")
    bad = clips("pump/new", 2)
    bad[0, 0] = np.nan
    adapted = model.adapt(bad, machine="pump/new")
    assert [str(own) for own in adapted.record.failures]
    with pytest.raises(FitError, match="not one machine"):
        model.adapt(np.full((2, D), np.nan), machine="pump/new")


def test_a_machine_that_fails_stops_no_other(model: Model) -> None:
    lone = adjax.fit(clips("pump/a", N_CLIPS), "joint", machine="pump/a")
    rows = np.concatenate([clips("pump/x", 1), clips("pump/y", 5)])
    features = as_features(rows, ["pump/x"] + ["pump/y"] * 5, None)
    adapted = adapt_model(lone, features)
    assert adapted.machines == (MachineId("pump", "a"), MachineId("pump", "y"))
    assert any("at least 3" in str(own) for own in adapted.record.failures)


def test_scores_do_not_depend_on_the_company_of_the_new_clips(model: Model) -> None:
    rows = np.concatenate([clips("pump/x", 4), clips("pump/y", 5)])
    both = model.adapt(rows, machine=["pump/x"] * 4 + ["pump/y"] * 5)
    alone = model.adapt(clips("pump/y", 5), machine="pump/y")
    new = clips("pump/y", 10, 1)
    assert_allclose(
        both.score(new, machine="pump/y").scores, alone.score(new, machine="pump/y").scores, rtol=1e-4
    )


def test_a_machine_with_few_clips_beside_others_with_many_is_adapted_to(model: Model) -> None:
    own = clips("pump/new", 5)
    rows = np.concatenate([*(clips(name, N_CLIPS) for name in MATES), own])
    names = [name for name in MATES for _ in range(N_CLIPS)] + ["pump/new"] * 5
    together, adapted = adjax.fit(rows, KINDS, machine=names), model.adapt(own, machine="pump/new")
    assert together.machines == adapted.machines
    jax.tree.map(assert_array_equal, together.params, adapted.params)
