"""k-means with fixed shapes, the start of the Gaussian mixture."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import Array, lax

from adjax.detectors.rows import fold_rows


def squared_distances(x: Array, centres: Array) -> Array:
    """Squared Euclidean distances, (n_rows, n_centres), of `x` (n_rows, d) to `centres` (n_centres, d).

    Formed from differences, not from x² - 2xc + c², which loses its digits in float32 away from the origin.
    """
    return lax.map(lambda centre: jnp.sum(jnp.square(x - centre[None, :]), axis=1), centres).T


def plus_plus(key: Array, x: Array, weight: Array, n_clusters: int) -> Array:
    """Greedy k-means++ centres.

    Each centre is the best of 2 + log(n_clusters) rows drawn with probability weight x squared distance, as in
    scikit-learn 1.9 `kmeans_plusplus`. Where all rows are taken (fewer distinct rows than clusters), rows repeat.

    Args:
        key: typed PRNG key.
        x: (n_rows, n_features) float.
        weight: (n_rows,) float >= 0; a row of weight 0 is never drawn.
        n_clusters: how many centres; static.

    Returns:
        (n_clusters, n_features), rows of `x`.

    Source: Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", 2007.
    """
    n_trials = 2 + int(math.log(n_clusters))
    key_first, key_rest = jax.random.split(key)
    first = x[_draw(key_first, weight, 1)[0]]

    def inertia(centres: Array) -> Array:
        return jnp.where(weight[:, None] > 0, weight[:, None] * squared_distances(x, centres), 0)

    closest = inertia(first[None, :])[:, 0]

    def step(closest: Array, key: Array) -> tuple[Array, Array]:
        mass = jnp.where(jnp.sum(closest) > 0, closest, weight)
        candidates = x[_draw(key, mass, n_trials)]
        reach = jnp.minimum(closest[:, None], inertia(candidates))
        best = jnp.argmin(jnp.sum(reach, axis=0))
        return reach[:, best], candidates[best]

    _, others = lax.scan(step, closest, jax.random.split(key_rest, n_clusters - 1))
    return jnp.concatenate([first[None, :], others])


def lloyd(x: Array, weight: Array, centres: Array, *, max_iter: int, block_size: int) -> Array:
    """Lloyd's iterations until no centre moves, at most `max_iter`; a cluster left empty keeps its centre.

    Args:
        x: (n_rows, n_features) float.
        weight: (n_rows,) float >= 0.
        centres: (n_clusters, n_features) to start from.
        max_iter: static bound on the iterations.
        block_size: rows handled at once; static.

    Returns:
        (n_clusters, n_features) centres.
    """

    def move(centres: Array) -> Array:
        # Sums of deviations from the nearest centre, not of the rows: float32 keeps its digits.
        def step(sums: tuple[Array, Array], rows: Array, weights: Array, start: Array) -> tuple[Array, Array]:
            rows = jnp.where(weights[:, None] > 0, rows, 0)  # padding may hold anything
            member = nearest_one_hot(rows, centres) * weights[:, None]
            shifts = lax.map(lambda kc: kc[0] @ (rows - kc[1][None, :]), (member.T, centres))
            return sums[0] + jnp.sum(member, axis=0), sums[1] + shifts

        zeros = (jnp.zeros(centres.shape[0], x.dtype), jnp.zeros_like(centres))
        sizes, shifts = fold_rows(step, zeros, x, weight, block_size)
        return centres + jnp.where(sizes > 0, 1 / jnp.where(sizes > 0, sizes, 1), 0)[:, None] * shifts

    def unfinished(state: tuple[Array, Array, Array]) -> Array:
        return (state[2] < max_iter) & state[1]

    def step(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        centres, _, n_steps = state
        moved = move(centres)
        return moved, jnp.any(moved != centres), n_steps + 1

    return lax.while_loop(unfinished, step, (centres, jnp.array(True), jnp.array(0)))[0]


def nearest_one_hot(x: Array, centres: Array) -> Array:
    """Membership of the nearest centre, (n_rows, n_clusters), one 1 a row."""
    return jax.nn.one_hot(jnp.argmin(squared_distances(x, centres), axis=1), centres.shape[0], dtype=x.dtype)


def _draw(key: Array, mass: Array, n: int) -> Array:
    """`n` row indices with probability proportional to `mass` (n_rows,) >= 0; (n,) int32."""
    upto = jnp.cumsum(mass)
    # Strictly below the total, so that the row found always has mass.
    level = jax.random.uniform(key, (n,), mass.dtype) * upto[-1] * (1 - jnp.finfo(mass.dtype).eps)
    return jnp.searchsorted(upto, level, side="right")
