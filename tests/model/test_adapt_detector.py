"""What one detector has for a further machine: strengths learnt from its mates, or those that a person has set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import adjax
from adjax.detectors.joint import JointHyper, learn_joint
from adjax.model import adapt
from adjax.model.adapt_detector import Source, adapt_lanes, play, source_of
from adjax.model.extraction import ClipFeatures
from adjax.model.model import Model
from adjax.model.roles import cast_roles
from adjax.model.vectors import as_features
from adjax.types import MachineId

D, N_CLIPS, NEW = 6, 30, MachineId("pump", "new")


def rows(machine: str, n: int) -> np.ndarray:
    """(n, D) of a machine: correlations are its own."""
    rng = np.random.default_rng([*machine.encode()])
    mix, centre = rng.normal(size=(D, D)), rng.normal(size=D)
    return (centre + rng.normal(size=(n, D)) @ mix).astype(np.float32)


def trained(name: str = "joint", **settings: Any) -> Model:
    names = [f"pump/{name}" for name in "abc"]
    every = np.concatenate([rows(name, N_CLIPS) for name in names])
    owner = [name for name in names for _ in range(N_CLIPS)]
    return adjax.fit(every, name, machine=owner, calibration="none", **settings)


def source(model: Model, n_clips: int | None) -> Source:
    (spec,), (params,), (memory,) = model.spec.detectors, model.params.detectors, model.memory
    return source_of(0, spec, 0, params, model.machines, memory, NEW, n_clips)


def new(n: int) -> ClipFeatures:
    return as_features(rows("pump/new", n), ["pump/new"] * n, None)


@pytest.fixture(scope="module")
def model() -> Model:
    return trained()


def test_strengths_are_learnt_from_the_mates_for_so_many_clips(model: Model) -> None:
    found = source(model, 20)
    (spec,) = model.spec.detectors
    expected = learn_joint(spec.config, JointHyper(), found.lender, 20)
    assert_array_equal(found.hyper, expected)
    assert float(found.hyper.correlation) < 256 == spec.hyper.correlation
    assert tuple(map(float, source(model, N_CLIPS).hyper)) == tuple(spec.hyper)  # no mate has clips to spare


def test_the_new_machine_and_the_mates_that_play_it_have_them(model: Model) -> None:
    learnt = source(model, 20)
    fixed = learnt._replace(hyper=JointHyper())
    lanes = [np.zeros(20, bool)]
    for found, other in ((learnt, fixed), (fixed, learnt)):
        ((own,), _), ((same,), _) = adapt_lanes(found, new(20), lanes), adapt_lanes(found, new(20), lanes)
        ((different,), _) = adapt_lanes(other, new(20), lanes)
        assert_array_equal(own.params.whitening, same.params.whitening)
        assert not np.allclose(own.params.whitening, different.params.whitening)
    first, second = (play(one, cast_roles([one.kept], NEW, 20, 0))[0] for one in (learnt, fixed))
    assert not np.allclose(first, second)


@pytest.mark.parametrize(("name", "learns"), [("joint", True), ("joint+neighbours", False)])
def test_only_a_detector_alone_learns_strengths(
    name: str, learns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def spy(*given: Any) -> Source:
        asked.append(given[-1])
        return source_of(*given)

    monkeypatch.setattr(adapt, "source_of", spy)
    trained(name, fusion="max").adapt(rows("pump/new", 5), machine="pump/new")
    assert asked == ([5] if learns else [None, None])


def test_strengths_that_a_person_has_set_stay() -> None:
    assert source(trained(), None).hyper == JointHyper()
    assert source(trained(settings={"mates": 8.0, "correlation": 50.0}), 20).hyper == JointHyper(8.0, 50.0)
