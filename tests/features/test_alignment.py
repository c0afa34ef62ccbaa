"""Rows of other machines for a new one: NumPy's moments, strengths, padding, and rows between rows."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from adjax.features import coral, mixup, shift, smote, whiten

D, N_MACHINES = 4, 3
MACHINE = np.repeat([0, 1, 2], [30, 50, 40]).astype(np.int32)


def source() -> np.ndarray:
    """(120, D) of three machines in places of their own, correlated columns of different units."""
    rng = np.random.default_rng(0)
    mixing = np.array([[1, 0.8, 0, 0], [0, 1, 0, 0], [0, 0.3, 2, 0], [0, 0, 0, 0.1]])
    return (rng.normal(size=(120, D)) @ mixing + 50 * rng.normal(size=(3, D))[MACHINE]).astype(np.float32)


def new(k: int = 9) -> np.ndarray:
    rng = np.random.default_rng(1)
    return (rng.normal(size=(k, D)) * [2, 0.5, 1, 0.3] - 70).astype(np.float32)


def covariance(x: np.ndarray) -> np.ndarray:
    away = x.astype(np.float64) - x.mean(axis=0)
    return away.T @ away / len(x)


def within(x: np.ndarray) -> np.ndarray:
    """Of all machines' rows about their own means."""
    return covariance(np.concatenate([x[m == MACHINE] - x[m == MACHINE].mean(axis=0) for m in range(3)]))


@partial(jax.jit, static_argnums=0)
def run(
    step: Any, strength: Any, rows: Any, weight: Any, machine: Any, target: Any, target_weight: Any
) -> Any:
    return step(rows, weight, machine, target, target_weight, strength, n_machines=N_MACHINES)


def aligned(step: Any, strength: float = 1.0) -> np.ndarray:
    return np.asarray(run(step, strength, source(), np.ones(120), MACHINE, new(), np.ones(9)))


def test_shift_moves_every_machine_to_the_new_mean() -> None:
    found, x = aligned(shift), source()
    for m in range(N_MACHINES):
        assert_allclose(found[m == MACHINE].mean(axis=0), new().mean(axis=0), rtol=1e-4)
        assert_allclose(covariance(found[m == MACHINE]), covariance(x[m == MACHINE]), rtol=1e-2, atol=1e-3)
    half = aligned(shift, 0.5)
    assert_allclose(half, (found + x) / 2, rtol=1e-4, atol=1e-3)
    assert_allclose(aligned(shift, 0.0), x)


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_coral_gives_the_new_machines_shrunken_covariance(strength: float) -> None:
    found = aligned(coral, strength)
    expected = (1 - strength) * within(source()) + strength * covariance(new())
    assert_allclose(within(found), expected, rtol=2e-3, atol=2e-3)
    assert_allclose(found.mean(axis=0), new().mean(axis=0), rtol=1e-4)


def test_coral_of_no_strength_is_shift_and_its_map_is_numpys() -> None:
    assert_allclose(aligned(coral, 0.0), aligned(shift), atol=5e-3)
    unit = np.sqrt(np.diag(within(source())))

    def root(matrix: np.ndarray, power: float) -> np.ndarray:
        values, vectors = np.linalg.eigh(matrix / np.outer(unit, unit))
        return (vectors * values**power) @ vectors.T

    x = source().astype(np.float64)
    away = np.concatenate([x[m == MACHINE] - x[m == MACHINE].mean(axis=0) for m in range(3)])
    target = 0.5 * within(source()) + 0.5 * covariance(new())
    expected = new().mean(axis=0) + (away / unit) @ root(within(source()), -0.5) @ root(target, 0.5) * unit
    assert_allclose(aligned(coral, 0.5), expected, rtol=1e-3, atol=5e-3)


def test_whiten_brings_all_to_one_space() -> None:
    rows, machine = np.concatenate([source(), new(60)]), np.concatenate([MACHINE, np.full(60, 3)])
    step = jax.jit(partial(whiten, n_machines=4))
    one, each = (np.asarray(step(rows, np.ones(180), machine, strength)) for strength in (0.0, 1.0))
    for m in range(4):
        assert_allclose(one[machine == m].mean(axis=0), np.zeros(D), atol=1e-3)
        assert_allclose(covariance(each[machine == m]), np.eye(D), atol=5e-3)
    assert_allclose(one.T @ one / 180, np.eye(D), atol=5e-3)


@pytest.mark.parametrize("step", [shift, coral])
def test_padding_is_inert(step: Any) -> None:
    rows = np.concatenate([source(), np.full((5, D), np.nan, np.float32)])
    target = np.concatenate([new(), np.full((3, D), np.nan, np.float32)])
    weight, target_weight = np.repeat([1.0, 0.0], [120, 5]), np.repeat([1.0, 0.0], [9, 3])
    machine = np.pad(MACHINE, (0, 5))
    found = run(step, 0.5, rows, weight, machine, target, target_weight)
    assert_allclose(found[:120], aligned(step, 0.5), rtol=1e-5, atol=1e-4)
    white = whiten(rows, jnp.asarray(weight), machine, n_machines=N_MACHINES)
    alone = whiten(source(), jnp.ones(120), MACHINE, n_machines=N_MACHINES)
    assert_allclose(white[:120], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("step", [shift, coral])
def test_one_new_row_and_a_constant_column_are_no_trouble(step: Any) -> None:
    rows, target = source(), new(1)
    rows[:, 0] = 3.0
    found = np.asarray(run(step, 1.0, rows, np.ones(120), MACHINE, target, np.ones(1)))
    assert np.isfinite(found).all()
    assert_allclose(found.mean(axis=0), target[0], rtol=1e-4, atol=1e-3)


def test_mixup_lies_between_two_rows() -> None:
    rows = np.concatenate([new(3), np.full((2, D), np.nan, np.float32)])
    draw = jax.jit(mixup, static_argnums=3)
    found = np.asarray(draw(jax.random.key(0), rows, np.array([1.0, 1, 1, 0, 0]), 200))
    assert found.shape == (200, D)
    for row in found[:20]:  # row = a x + (1 - a) y of some pair
        apart = []
        for x in rows[:3]:
            for y in rows[:3]:
                way = x - y
                share = np.clip(way @ (row - y) / max(way @ way, 1e-9), 0, 1)
                apart.append(np.abs(row - y - share * way).max())
        assert min(apart) < 1e-3
    assert_allclose(found.mean(axis=0), rows[:3].mean(axis=0), atol=0.5)
    assert_array_equal(found, draw(jax.random.key(0), rows, np.array([1.0, 1, 1, 0, 0]), 200))


def test_smote_goes_towards_a_near_row() -> None:
    rows = np.float32([[0, 0], [1, 0], [0, 1], [100, 100], [101, 100], [np.nan, np.nan]])
    draw = jax.jit(smote, static_argnums=(3, 4))
    weight = np.array([1.0, 1, 1, 1, 1, 0])
    found = np.asarray(draw(jax.random.key(0), rows, weight, 100, 1))
    assert np.isfinite(found).all()
    assert ((found.max(axis=1) <= 1) | (found.min(axis=1) >= 100)).all()
    assert set(found[:, 0] > 50) == {True, False}
    lone = draw(jax.random.key(0), rows, np.array([0.0, 1, 0, 0, 0, 0]), 4, 5)
    assert_array_equal(lone, np.tile(rows[1], (4, 1)))
