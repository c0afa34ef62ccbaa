"""Walking over rows in blocks."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from adjax.detectors.rows import fold_rows, map_rows, n_blocks


def count(carry: Array, rows: Array, weights: Array, start: Array) -> Array:
    """How often each row was seen; a row says its own number."""
    assert len(rows) <= 8
    return carry.at[rows[:, 0].astype(int)].add(weights)


@pytest.mark.parametrize("n_rows", [1, 2, 7, 8, 9, 16, 17, 23, 61])
@pytest.mark.parametrize("block_size", [1, 3, 8])
def test_each_row_counts_once(n_rows: int, block_size: int) -> None:
    x, weight = jnp.arange(n_rows, dtype=float)[:, None], jnp.arange(n_rows) + 1.0
    zeros = jnp.zeros(n_rows)
    np.testing.assert_array_equal(fold_rows(count, zeros, x, weight, block_size), weight)
    middle, end = (jnp.array(n) for n in (n_blocks(n_rows, block_size) // 2, n_blocks(n_rows, block_size)))
    first = fold_rows(count, zeros, x, weight, block_size, (jnp.array(0), middle))
    np.testing.assert_array_equal(fold_rows(count, first, x, weight, block_size, (middle, end)), weight)
    np.testing.assert_array_equal(map_rows(lambda index: 2 * x[index], n_rows, block_size, x.dtype, 1), 2 * x)
