"""Source and target of one machine: entries of their own, one verdict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import adjax
from adjax import MachineId
from adjax.data.clips import Clip, ClipTable
from adjax.model.domains import in_target, targets, whole, wholes
from adjax.model.extraction import ClipFeatures
from adjax.model.keep import load_model
from adjax.model.model import Model

D = 8


def features(n_source: int, n_target: int, *, section: str = "section_00", seed: int = 0) -> ClipFeatures:
    """Vectors of a section: those of the target domain are moved and stretched."""
    rng = np.random.default_rng([seed, *section.encode()])
    centre = 2 * np.random.default_rng([1, *section.encode()]).normal(size=D)
    rows = centre + rng.normal(size=(n_source + n_target, D))
    rows[n_source:] = centre + 12 + 1.5 * rng.normal(size=(n_target, D))
    domains = ["source"] * n_source + ["target"] * n_target
    clips = [
        Clip(Path(f"{section}_{i}"), "pump", section, domain, "train", 0) for i, domain in enumerate(domains)
    ]
    return ClipFeatures(ClipTable(tuple(clips)), rows.astype(np.float32), np.arange(len(rows) + 1))


def both(n_source: int, n_target: int) -> ClipFeatures:
    return features(n_source, n_target).followed_by(features(n_source, n_target, section="section_01"))


SOURCE, TARGET = MachineId("pump", "section_00"), MachineId("pump", "section_00 target")


@pytest.fixture(scope="module")
def model() -> Model:
    return adjax.fit(both(60, 10), "joint")


def test_names() -> None:
    assert in_target(SOURCE) == TARGET
    assert whole(TARGET, [SOURCE, TARGET]) == SOURCE
    assert whole(TARGET, [TARGET]) == TARGET  # a machine that is called so
    assert whole(SOURCE, [SOURCE, TARGET]) == SOURCE
    assert wholes([SOURCE, TARGET, MachineId("pump", "section_01")]) == (
        SOURCE,
        MachineId("pump", "section_01"),
    )


def test_which_clips_are_of_a_target_domain() -> None:
    assert targets(features(9, 2)).tolist() == [False] * 9 + [True] * 2
    assert not targets(features(9, 0)).any()
    assert not targets(features(1, 9)).any()  # there is no source to adapt


def test_each_domain_is_judged_for_itself(model: Model) -> None:
    assert len(model.machines) == 4
    assert len(model.names) == 2
    new = features(50, 50, seed=1)
    result = model.score_features(new)
    assert {clip.machine_id for clip in result.clips} == {"section_00"}
    target = np.array([clip.domain == "target" for clip in result.clips])
    together = adjax.fit(both(60, 10), "joint", domains="together").score_features(new)
    for domain in (target, ~target):
        assert np.mean(result.decisions[domain] == 1) < 0.2
    # Between the domains nothing is normal; a model of both together hears nothing there.
    between = features(50, 0, seed=2)
    between = ClipFeatures(between.clips, between.rows + 6, between.offsets)
    found, blind = (
        one.score_features(between) for one in (model, adjax.fit(both(60, 10), "joint", domains="together"))
    )
    assert np.mean(found.decisions == 1) > 0.9
    assert np.mean(found.p_values) < np.mean(blind.p_values)
    assert len(together.scores) == len(result.scores)


def test_a_clip_gets_the_larger_p_value(model: Model) -> None:
    new = features(6, 6, seed=3)
    result = model.score_features(new)
    source = adjax.fit(both(60, 0), "joint").score_features(new)
    target = model.score(new.rows, machine=["/".join(TARGET)] * 12)
    named = [one.p_values for one in (source, target)]
    assert_array_equal(result.p_values, np.maximum(*named))


def test_kept_and_read_again(model: Model, tmp_path: Path) -> None:
    new = features(5, 5, seed=4)
    again = load_model(model.save(tmp_path / "model"))
    assert_array_equal(model.score_features(new).scores, again.score_features(new).scores)


def test_a_kind_that_knows_one_machine_is_adapted_too() -> None:
    settings = {"n_components": 1, "covariance_type": "diag"}
    model = adjax.fit(both(60, 10), "gmm", settings=settings)
    assert model.machines[2:] == (TARGET, MachineId("pump", "section_01 target"))
    assert not model.score_features(features(5, 5, seed=4)).failures


def test_a_kind_that_knows_domains_is_left_alone() -> None:
    rows = both(12, 4)
    settings = {"residual": "mahalanobis", "n_domains": 2, "n_epochs": 1, "hidden": (4,), "bottleneck": 2}
    model = adjax.fit(rows, "autoencoder", settings=settings)
    assert len(model.machines) == 2


def test_a_known_machine_learns_a_target_domain() -> None:
    known = adjax.fit(features(60, 0).followed_by(features(60, 0, section="section_01")), "joint")
    adapted = known.adapt(features(0, 5, seed=5))
    assert adapted.machines[-1] == TARGET
    assert adapted.names == known.names
    new = features(40, 40, seed=6)
    before, after = (one.score_features(new).decisions for one in (known, adapted))
    assert np.mean(before[40:] == 1) > 0.9
    assert np.mean(after[40:] == 1) < 0.25
    assert np.mean(after[:40] == 1) < 0.2


def test_any_machine_may_claim_a_clip(model: Model) -> None:
    new = features(20, 0, section="section_01", seed=7)
    result = model.score(new.rows, machine="any")
    assert np.mean([clip.machine_id == "section_01" for clip in result.clips]) > 0.9
