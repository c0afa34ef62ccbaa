"""Medians and robust scales of columns, against NumPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from adjax.detectors.robust import MEAN_NORMAL, NORMAL, median, scale


@pytest.mark.parametrize("n", [1, 2, 7, 8])
def test_a_median_is_numpys_of_the_rows_that_are_there(n: int) -> None:
    """Negative, huge, tiny and equal numbers; padding may hold anything."""
    rng = np.random.default_rng(n)
    x = np.exp(rng.normal(0, 20, (n, 6))).astype(np.float32) * rng.choice([-1, 1], (n, 6))
    x[:, 0], x[: n // 2, 1] = -3, 0
    padded = np.concatenate([x, np.full((3, 6), np.nan)]).astype(np.float32)
    present = np.arange(n + 3) < n
    assert_allclose(jax.jit(median)(padded, present), np.median(x.astype(np.float64), axis=0), rtol=1e-6)


def test_in_double_precision_too(x64) -> None:
    x = np.random.default_rng(0).normal(size=(9, 4)) + 1e9
    assert_array_equal(median(jnp.asarray(x), jnp.ones(9, bool)), np.median(x, axis=0))


def test_no_rows_have_no_median() -> None:
    assert np.isnan(median(jnp.ones((3, 2)), jnp.zeros(3, bool))).all()


def test_a_scale_is_that_of_the_middle_and_outliers_do_not_move_it() -> None:
    x = np.random.default_rng(0).normal(0, [1, 1e6], (400, 2)).astype(np.float32)
    x[:20] *= 1e6
    residual, present = x - np.median(x, axis=0), jnp.ones(400, bool)
    found = scale(jnp.asarray(residual), present, jnp.zeros(2))
    assert_allclose(found, NORMAL * np.median(np.abs(residual), axis=0), rtol=1e-5)
    assert_allclose(found, [1, 1e6], rtol=0.2)


def test_columns_that_seldom_move_and_those_that_never_do() -> None:
    residual = np.zeros((10, 3), np.float32)
    residual[0, 0] = 5  # nine of ten alike: the median is 0
    residual[:, 2] = 1e-6 * np.arange(-5, 5)  # rounding, at a size of 1e3
    found = scale(jnp.asarray(residual), jnp.ones(10, bool), jnp.array([1.0, 1, 1e3]))
    assert_allclose(found, [MEAN_NORMAL * 0.5, 0, 0], rtol=1e-6)
