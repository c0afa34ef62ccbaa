"""Rows of a large array: in blocks, so that nothing of size rows x components exists at once, and by machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from adjax.checks import unit_weights
from adjax.types import Training


def fold_rows(
    step: Callable[[Any, Array, Array, Array], Any],
    carry: Any,
    x: Array,
    weight: Array,
    block_size: int,
    blocks: tuple[Array, Array] | None = None,
) -> Any:
    """Fold `carry = step(carry, rows, weights, start)` over blocks of rows.

    The last block is moved back to end with the array, and the rows it shares with the block before get weight
    0: every block has the same shape without padding, hence without copying, `x`.

    Args:
        step: (carry, (block, n_features) rows, (block,) weights, () int32 index of the first row) -> carry.
        carry: what the fold starts from, a pytree.
        x: (n_rows, n_features).
        weight: (n_rows,).
        block_size: rows a block, at most; static.
        blocks: () int32 each, the first block and the one after the last; None: all of them.

    Returns:
        The last carry.
    """
    n_rows = x.shape[0]
    block = _even_block(n_rows, block_size)

    def body(index: Array, carry: Any) -> Any:
        start, fresh = _block(index, block, n_rows)
        rows = lax.dynamic_slice_in_dim(x, start, block)
        weights = jnp.where(fresh, lax.dynamic_slice_in_dim(weight, start, block), 0)
        return step(carry, rows, weights, start)

    if (
        blocks is None and block == n_rows
    ):  # without a loop, what does not change is left to the compiler to hoist
        return step(carry, x, weight, jnp.array(0))
    first, end = (0, n_blocks(n_rows, block_size)) if blocks is None else blocks
    return lax.fori_loop(first, end, body, carry)


def n_blocks(n_rows: int, block_size: int) -> int:
    """How many blocks `fold_rows` goes through."""
    return -(-n_rows // _even_block(n_rows, block_size))


def _even_block(n_rows: int, block_size: int) -> int:
    """At most `block_size`, and as even as can be, so that the last block repeats few rows."""
    even = -(-n_rows // -(-n_rows // block_size))
    return min(-(-even // 8) * 8, block_size, n_rows)


def map_rows(f: Callable[[Array], Array], n_rows: int, block_size: int, dtype: Any, *shape: int) -> Array:
    """Concatenate `f(indices)` over blocks of row indices.

    Args:
        f: (block,) int32 row indices -> (block, *shape) values.
        n_rows: how many rows there are; static.
        block_size: rows a block, at most; static.
        dtype: of the result.
        *shape: of one row's result; none: a scalar.

    Returns:
        (n_rows, *shape) values.
    """
    block = _even_block(n_rows, block_size)

    def body(index: Array, out: Array) -> Array:
        start, _ = _block(index, block, n_rows)
        return lax.dynamic_update_slice_in_dim(out, f(start + jnp.arange(block)), start, axis=0)

    return lax.fori_loop(0, n_blocks(n_rows, block_size), body, jnp.zeros((n_rows, *shape), dtype))


def _block(index: Array, block: int, n_rows: int) -> tuple[Array, Array]:
    """First row of block `index`, moved back at the end, and which of its rows no earlier block had."""
    first = index * block
    start = jnp.minimum(first, n_rows - block)
    return start, start + jnp.arange(block) >= first


def weighted_mean(x: Array, weight: Array, block_size: int) -> Array:
    """Mean of the rows of `x` (n_rows, n_features) under `weight` (n_rows,); (n_features,).

    Two passes: the second averages what the first left over, so that float32 keeps its digits at an offset of
    1e6 and 10^6 rows.
    """
    share = weight / jnp.maximum(jnp.sum(weight), jnp.finfo(x.dtype).tiny)

    def mean_of_deviations(centre: Array) -> Array:
        def step(sums: Array, rows: Array, shares: Array, start: Array) -> Array:
            # A padded row may hold anything, also NaN: keep it out, not only at weight 0.
            deviations = jnp.where(shares[:, None] > 0, rows - centre[None, :], 0)
            return sums + jnp.matmul(shares, deviations, precision=lax.Precision.HIGHEST)

        return fold_rows(step, jnp.zeros_like(centre), x, share, block_size)

    first = mean_of_deviations(jnp.zeros(x.shape[1], x.dtype))
    return first + mean_of_deviations(first)


def by_machine(training: Training) -> tuple[Array, Array]:
    """(n_machines, n, d) rows of each machine, 0 where there is none, and (n_machines, n) bool where there is one.

    A row of weight 0 is not there. n is as large as `Training.members` says, without it as large as all rows.
    """
    n_machines, n_rows = training.seed.shape[0], training.rows.shape[0]
    members = training.members
    if members is None:
        members = jnp.broadcast_to(jnp.arange(n_rows), (n_machines, n_rows))
    weight = unit_weights(training.weight).at[members].get(mode="fill", fill_value=0)
    owner = training.machine[training.clip].at[members].get(mode="fill", fill_value=-1)
    present = (weight > 0) & (owner == jnp.arange(n_machines)[:, None])
    rows = training.rows.at[members].get(mode="fill", fill_value=0)
    return jnp.where(present[:, :, None], rows, 0), present
