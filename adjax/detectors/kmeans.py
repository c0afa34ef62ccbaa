"""k-means with fixed shapes, the start of the Gaussian mixture.

Centres are held relative to an `origin` near the rows, so that float32 keeps their digits. Blocks of rows come
transposed, (n_features, n_rows): sums over features then run along whole vectors.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.lax import Precision

from adjax.checks import unit_weights
from adjax.detectors.rows import fold_rows, map_rows


def squared_distances(columns: Array, centres: Array) -> Array:
    """Squared Euclidean distances, (n_centres, n), of `columns` (d, n) to `centres` (n_centres, d).

    Formed from differences: of a row to itself it is exactly 0, so that no row is drawn twice.
    """
    return lax.map(lambda centre: jnp.sum(jnp.square(columns - centre[:, None]), axis=0), centres)


def nearest(columns: Array, centres: Array, active: Array) -> Array:
    """Membership of the nearest centre of `active` (n_centres,), (n_centres, n), one 1 a column.

    By a product, since ‖x - c‖² is smallest where xc - ‖c‖²/2 is largest; rounding may decide between centres that
    are almost equally near, which a start may afford.
    """
    closeness = jnp.matmul(centres, columns, precision=Precision.HIGHEST)
    closeness = closeness - 0.5 * jnp.sum(jnp.square(centres), axis=1)[:, None]
    closeness = jnp.where(active[:, None], closeness, -jnp.inf)
    return jax.nn.one_hot(jnp.argmax(closeness, axis=0), centres.shape[0], dtype=columns.dtype, axis=0)


def plus_plus(
    key: Array,
    x: Array,
    weight: Array,
    n_clusters: int,
    *,
    origin: Array,
    active: Array,
    block_size: int,
) -> Array:
    """Greedy k-means++ centres.

    Each centre is the best of 2 + log(number of clusters) rows drawn with probability weight x squared distance,
    as in scikit-learn 1.9 `kmeans_plusplus`. Where all rows are taken (fewer distinct rows than clusters), rows
    repeat. The draws of a cluster depend on its place and the key alone: m active clusters of n_clusters get the
    centres that m clusters alone would get.

    Args:
        key: typed PRNG key.
        x: (n_rows, n_features) float.
        weight: (n_rows,) float >= 0, of any scale; a row of weight 0 is never drawn.
        n_clusters: how many centres; static.
        origin: (n_features,) that centres are relative to.
        active: (n_clusters,) bool, True for the first m: which of them are wanted.
        block_size: rows handled at once; static.

    Returns:
        (n_clusters, n_features), rows of `x` minus `origin`; zeros where not active.

    Source: Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", 2007.
    """
    weight = unit_weights(weight)
    # Looked up, not computed: a logarithm in float32 could fall on the other side of an integer.
    n_trials = np.array([2 + int(math.log(max(m, 1))) for m in range(n_clusters + 1)])
    tried = jnp.arange(n_trials[-1]) < jnp.asarray(n_trials)[jnp.sum(active)]

    def inertia(centres: Array) -> Array:
        """(n_rows, n_centres) weighted squared distances."""

        def block(index: Array) -> Array:
            columns = (x[index] - origin[None, :]).T
            return squared_distances(columns, centres).T

        distances = map_rows(block, x.shape[0], block_size, x.dtype, centres.shape[0])
        return jnp.where(weight[:, None] > 0, weight[:, None] * distances, 0)

    first = x[_draw(jax.random.fold_in(key, 0), weight, 1)[0]] - origin
    closest = inertia(first[None, :])[:, 0]

    def step(number: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        closest, centres = state
        mass = jnp.where(jnp.sum(closest) > 0, closest, weight)
        candidates = x[_draw(jax.random.fold_in(key, number), mass, n_trials[-1])] - origin[None, :]
        reach = jnp.minimum(closest[:, None], inertia(candidates))
        best = jnp.argmin(jnp.where(tried, jnp.sum(reach, axis=0), jnp.inf))
        return reach[:, best], centres.at[number].set(candidates[best])

    centres = jnp.zeros((n_clusters, x.shape[1]), x.dtype).at[0].set(first)
    return lax.fori_loop(1, jnp.sum(active), step, (closest, centres))[1]


def lloyd(
    x: Array,
    weight: Array,
    centres: Array,
    *,
    origin: Array,
    active: Array,
    max_iter: int,
    block_size: int,
    tol: Array | float = 0.0,
) -> Array:
    """Lloyd's iterations until the centres rest, at most `max_iter`; a cluster left empty keeps its centre.

    Args:
        x: (n_rows, n_features) float.
        weight: (n_rows,) float >= 0, of any scale.
        centres: (n_clusters, n_features) to start from, relative to `origin`.
        origin: (n_features,).
        active: (n_clusters,) bool, which of them take part.
        max_iter: static bound on the iterations.
        block_size: rows handled at once; static.
        tol: () the centres rest when the squares of their moves sum to no more, in squared units of `x`.

    Returns:
        (n_clusters, n_features) centres, relative to `origin`; not all finite where a weight is negative or not finite.
    """
    weight = unit_weights(weight)

    def move(centres: Array) -> Array:
        def step(sums: tuple[Array, Array], rows: Array, weights: Array, start: Array) -> tuple[Array, Array]:
            rows = jnp.where(weights[:, None] > 0, rows, origin[None, :])  # padding may hold anything
            columns = (rows - origin[None, :]).T
            member = nearest(columns, centres, active) * weights[None, :]
            sizes = jnp.sum(member, axis=1)
            totals = jnp.matmul(member, columns.T, precision=Precision.HIGHEST)
            return sums[0] + sizes, sums[1] + totals - sizes[:, None] * centres

        zeros = (jnp.zeros(centres.shape[0], x.dtype), jnp.zeros_like(centres))
        sizes, shifts = fold_rows(step, zeros, x, weight, block_size)
        return centres + jnp.where(sizes > 0, 1 / jnp.where(sizes > 0, sizes, 1), 0)[:, None] * shifts

    def unfinished(state: tuple[Array, Array, Array]) -> Array:
        return (state[2] < max_iter) & state[1]

    def step(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        centres, _, n_steps = state
        moved = move(centres)
        return moved, jnp.sum(jnp.square(moved - centres)) > tol, n_steps + 1

    return lax.while_loop(unfinished, step, (centres, jnp.array(True), jnp.array(0)))[0]


def _draw(key: Array, mass: Array, n: int) -> Array:
    """`n` row indices with probability proportional to `mass` (n_rows,) >= 0; (n,) int32."""
    upto = jnp.cumsum(mass)
    # A key for each draw: the first m of n are then those that m alone would be. Strictly below the total, so
    # that the row found always has mass.
    uniform = jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(key, i), (), mass.dtype))(
        jnp.arange(n)
    )
    return jnp.searchsorted(upto, uniform * upto[-1] * (1 - jnp.finfo(mass.dtype).eps), side="right")
