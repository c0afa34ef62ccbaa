"""Weights of columns from normal clips: each criterion finds what it is for, in any unit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from adjax.model.selection import (
    keep,
    likelihood_gain,
    over_groups,
    principal,
    separation,
    spreads,
    steadiness,
    variance,
)
from adjax.types import SettingsError

N_MACHINES = 3
MACHINE = np.repeat(np.arange(N_MACHINES), 60).astype(np.int32)
APART, DRIFTS, NOISE, CONSTANT, TWIN = range(5)  # columns


def made() -> np.ndarray:
    """What sets machines apart, what drifts, noise, a constant, and another one that moves with the first."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(180, 5))
    x[:, APART] += 3 * MACHINE
    x[:, DRIFTS] += 3 * np.sin(np.arange(180) / 15)
    x[:, CONSTANT] = 0
    x[:, TWIN] = x[:, APART] + 0.1 * rng.normal(size=180)
    return x.astype(np.float32)


SPREADS = jax.jit(partial(spreads, n_machines=N_MACHINES))
GAIN = jax.jit(partial(likelihood_gain, n_machines=N_MACHINES))
CRITERIA: dict[str, Callable] = {
    "steadiness": lambda x: steadiness(SPREADS(x, MACHINE)),
    "separation": lambda x: separation(SPREADS(x, MACHINE)),
    "gain": lambda x: jnp.maximum(GAIN(x, MACHINE).mean(axis=0), 0),
    "principal": lambda x: principal(x, MACHINE, n_machines=N_MACHINES, n_kept=1),
}


def test_what_drifts_is_not_steady() -> None:
    found = np.asarray(CRITERIA["steadiness"](made()))
    assert found[DRIFTS] < 0.3
    assert found[[APART, NOISE, TWIN]].min() > 0.8


@pytest.mark.parametrize("name", ["separation", "gain"])
def test_what_sets_machines_apart_is_found(name: str) -> None:
    found = np.asarray(CRITERIA[name](made()))
    assert found[[APART, TWIN]].min() > 3 * found[[DRIFTS, NOISE]].max()


def test_the_first_component_is_what_moves_together() -> None:
    found = np.asarray(CRITERIA["principal"](made()))
    assert found[[APART, TWIN]].min() > 0.8
    assert found[[DRIFTS, NOISE]].max() < 0.3


@pytest.mark.parametrize("name", CRITERIA)
def test_units_change_nothing_and_a_constant_weighs_nothing(name: str) -> None:
    x = made()
    found = CRITERIA[name](x)
    assert found[CONSTANT] == 0
    assert np.isfinite(found).all()
    units = np.array([1e-6, 1e6, -7, 1, 3e3], np.float32)
    assert_allclose(CRITERIA[name](x * units + 100 * units), found, atol=5e-3)


def test_variance_keeps_its_units() -> None:
    x = made()
    found = variance(jnp.asarray(x), MACHINE, n_machines=N_MACHINES)
    groups = x.reshape(N_MACHINES, 60, 5)
    assert_allclose(found, groups.var(axis=1).mean(axis=0), rtol=1e-4)


def test_variances_are_those_of_the_formulae() -> None:
    """Two machines of two clips a block each, whose columns are at one scale already."""
    found = SPREADS(made(), MACHINE)
    from adjax.model.selection import alike

    x = np.asarray(alike(jnp.asarray(made()), MACHINE, n_machines=N_MACHINES), float)
    blocks = x.reshape(N_MACHINES, 5, 12, 5)
    within = blocks.var(axis=2, ddof=1).mean(axis=1)
    drift = np.maximum(blocks.mean(axis=2).var(axis=1, ddof=1) - within / 12, 0)
    assert_allclose(found.within, within.mean(axis=0), rtol=1e-4)
    assert_allclose(found.drift, drift.mean(axis=0), rtol=1e-3, atol=1e-5)
    assert_allclose(found.between, blocks.mean(axis=(1, 2)).var(axis=0, ddof=1), rtol=1e-3, atol=1e-5)


def test_columns_are_kept_by_weight() -> None:
    weights = np.array([0.1, 0.9, 0.0, 0.9, 0.5])
    assert_array_equal(keep(weights, 0.4), [1, 3])
    assert_array_equal(keep(weights, 1.0), [0, 1, 3, 4])
    assert_array_equal(keep(weights, 0.01), [1])
    assert_allclose(over_groups(weights, np.array([0, 0, 2, 2, 1])), [0.5, 0.5, 0.45, 0.45, 0.5])
    for bad, share, word in (
        (weights, 0, "share=0"),
        (0 * weights, 0.5, "above 0"),
        (np.array([np.nan]), 1, "finite"),
    ):
        with pytest.raises(SettingsError, match=word):
            keep(bad, share)
    with pytest.raises(SettingsError, match="n_blocks=1"):
        spreads(made(), MACHINE, n_machines=N_MACHINES, n_blocks=1)
