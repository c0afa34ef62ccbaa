"""What a model leans on is what its score moves with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adjax.data.clips import Clip, ClipTable
from adjax.model.extraction import ClipFeatures
from adjax.model.fit import fit_model
from adjax.model.leaning import leanings
from adjax.model.named import make_spec
from adjax.model.vectors import config_of
from tests.model.machines import GMM


def table_of(n: int, n_machines: int = 1) -> ClipTable:
    """Normal training clips, machine after machine."""
    names = [f"id_{i * n_machines // n:02d}" for i in range(n)]
    clips = [Clip(Path(f"{i}.wav"), "pump", name, split="train", label=0) for i, name in enumerate(names)]
    return ClipTable(tuple(clips))


def test_shares_are_those_of_the_formula() -> None:
    """Of one Gaussian without correlations: |z| is alike in all columns that move, whatever their units."""
    x = np.random.default_rng(0).normal(size=(600, 4)) * [1, 1e3, 0.1, 0] + 7
    columns = ("a", "b", "c", "still")
    features = ClipFeatures(table_of(600), x.astype(np.float32), np.arange(601), columns=columns)
    settings = {"n_components": 1, "covariance_type": "diag"}
    spec = make_spec("gmm", settings=settings, features=config_of(features), calibration="none")
    (own,) = leanings(fit_model(spec, features), [features])
    assert own.columns == columns
    assert own.shares.sum() == pytest.approx(1)
    np.testing.assert_allclose(own.shares, [1 / 3, 1 / 3, 1 / 3, 0], atol=0.1)
    assert own.shares[3] == 0
    assert own.constant.tolist() == [False, False, False, True]
    assert not own.unused.any()


@pytest.mark.parametrize("kind", ["joint", "neighbours", "identity", "auto"])
def test_every_kind_of_vectors_leans_on_something(kind: str) -> None:
    """Only the first of six columns sets two machines apart."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 6)).astype(np.float32)
    x[30:, 0] += 8
    features = ClipFeatures(table_of(60, 2), x, np.arange(61))
    model = fit_model(make_spec(kind, features=config_of(features)), features)
    found = leanings(model, [features] * len(model.spec.detectors))
    assert [own.machine for own in found] == list(model.machines)
    for own in found:
        assert own.columns[0] == "column 0"
        assert own.shares.sum() == pytest.approx(1)
        assert (own.shares >= 0).all()
        if kind == "identity":
            assert own.shares.argmax() == 0


def test_frames_of_clips_of_any_length(splits: tuple[ClipFeatures, ClipFeatures]) -> None:
    """The hum's own band and its neighbours move the score of each machine most."""
    train, _ = splits
    found = leanings(fit_model(GMM, train), [train])
    assert [own.machine.machine_id for own in found] == ["id_00", "id_02"]
    assert all(np.isfinite(own.shares).all() and own.shares.sum() == pytest.approx(1) for own in found)
    assert len(found[0].columns) == 16
    assert found[0].columns[0].endswith(" Hz")


def test_a_machine_without_clips_has_none(splits: tuple[ClipFeatures, ClipFeatures]) -> None:
    train, _ = splits
    model = fit_model(GMM, train)
    (own,) = leanings(model, [train.of_machine(model.machines[1])])
    assert own.machine == model.machines[1]
