"""Rows of known machines for a new one with few: moved, recoloured, or all brought to one space; and more from few.

Rows of weight 0 are padding: they change nothing, and what becomes of them means nothing. Strengths are traced, in
[0, 1]. A source row's `machine` says about whose mean it lies: covariances are those within machines, for no machine
moves from where one is to where another is.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import Precision

from adjax.features._numerics import safe_divide

RIDGE = (
    1e-4  # of a column's variance within machines, so that a column that another explains can be divided by
)


def shift(
    source: Array,
    weight: Array,
    machine: Array,
    new: Array,
    new_weight: Array,
    strength: Array | float = 1.0,
    *,
    n_machines: int,
) -> Array:
    """Move each machine's rows so that their mean is that of the new machine's.

    Args:
        source: (n, d) float.
        weight: (n,) float >= 0.
        machine: (n,) int in [0, n_machines), whose each row is.
        new: (k, d) float.
        new_weight: (k,) float >= 0.
        strength: () in [0, 1], share of the way.
        n_machines: static.

    Returns:
        (n, d) float.
    """
    means = _means(source, weight, machine, n_machines)
    return source + strength * (_mean(new, new_weight)[None, :] - means)[machine]


def coral(
    source: Array,
    weight: Array,
    machine: Array,
    new: Array,
    new_weight: Array,
    strength: Array | float = 0.5,
    *,
    n_machines: int,
) -> Array:
    """Give the source the new machine's mean and covariance (CORAL; Sun, Feng and Saenko 2016).

    Rows are whitened by their covariance within machines and recoloured with that of the new rows, which is shrunken
    towards the former, for k rows do not tell d columns' covariance.

    Args:
        source: (n, d) float.
        weight: (n,) float >= 0.
        machine: (n,) int in [0, n_machines), whose each row is.
        new: (k, d) float.
        new_weight: (k,) float >= 0.
        strength: () in [0, 1], share of the new rows' own covariance; 0 is `shift`.
        n_machines: static.

    Returns:
        (n, d) float; about the new mean the covariance of all, within machines, is the shrunken one.
    """
    away = source - _means(source, weight, machine, n_machines)[machine]
    within = _covariance(away, weight)
    mean = _mean(new, new_weight)
    own = _covariance(new - mean[None, :], new_weight)
    unit = _unit(within)
    white = _power(within / unit[:, None] / unit[None, :], -0.5)
    colour = _power(((1 - strength) * within + strength * own) / unit[:, None] / unit[None, :], 0.5)
    return mean[None, :] + _times(_times(away / unit[None, :], white), colour) * unit[None, :]


def whiten(
    rows: Array,
    weight: Array,
    machine: Array,
    strength: Array | float = 0.0,
    *,
    n_machines: int,
) -> Array:
    """Bring all machines to one space: mean 0, and covariance the identity.

    Args:
        rows: (n, d) float, of the new machine as well as of the others.
        weight: (n,) float >= 0.
        machine: (n,) int in [0, n_machines), whose each row is.
        strength: () in [0, 1], share of each machine's own covariance, beside that within all of them.
        n_machines: static.

    Returns:
        (n, d) float. With strength 0 the covariance within machines is the identity, with strength 1 each machine's.
    """
    away = rows - _means(rows, weight, machine, n_machines)[machine]
    within = _covariance(away, weight)
    unit = _unit(within)
    away = away / unit[None, :]

    def one(number: Array) -> Array:
        own = _covariance(away, jnp.where(machine == number, weight, 0))
        return _power((1 - strength) * (within / unit[:, None] / unit[None, :]) + strength * own, -0.5)

    def place(number: Array, placed: Array) -> Array:
        return jnp.where((machine == number)[:, None], _times(away, one(number)), placed)

    return jax.lax.fori_loop(0, n_machines, place, jnp.zeros_like(away))


def mixup(key: Array, rows: Array, weight: Array, count: int) -> Array:
    """`count` rows, each somewhere between two of (n, d) `rows`, both drawn by their `weight` (n,) >= 0."""
    key_first, key_second, key_share = jax.random.split(key, 3)
    first, second = (_draw(one, weight, count) for one in (key_first, key_second))
    share = jax.random.uniform(key_share, (count, 1), rows.dtype)
    return share * rows[first] + (1 - share) * rows[second]


def smote(key: Array, rows: Array, weight: Array, count: int, n_neighbours: int = 5) -> Array:
    """`count` rows, each between one of (n, d) `rows` and one of its nearest (Chawla et al. 2002).

    Args:
        key: typed PRNG key.
        rows: (n, d) float, columns of one scale.
        weight: (n,) float >= 0, by which the first one is drawn.
        count: static.
        n_neighbours: of which the second is drawn, all alike; where there are fewer, of those. Static.

    Returns:
        (count, d) float; copies of the row where there is one alone.
    """
    key_first, key_second, key_share = jax.random.split(key, 3)
    first = _draw(key_first, weight, count)
    x = jnp.where((weight > 0)[:, None], rows, 0)
    apart = jax.lax.map(lambda row: jnp.sum(jnp.square(x - row[None, :]), axis=1), x[first])
    other = (weight > 0)[None, :] & (first[:, None] != jnp.arange(len(rows))[None, :])
    near, who = jax.lax.top_k(jnp.where(other, -apart, -jnp.inf), min(n_neighbours, len(rows)))
    luck = jnp.where(near > -jnp.inf, jax.random.uniform(key_second, near.shape), -1)
    second = jnp.take_along_axis(who, jnp.argmax(luck, axis=1)[:, None], axis=1)[:, 0]
    second = jnp.where(near[:, 0] > -jnp.inf, second, first)
    share = jax.random.uniform(key_share, (count, 1), rows.dtype)
    return rows[first] + share * (rows[second] - rows[first])


def _draw(key: Array, weight: Array, count: int) -> Array:
    return jax.random.categorical(key, jnp.log(weight), shape=(count,))


def _mean(rows: Array, weight: Array) -> Array:
    return _means(rows, weight, jnp.zeros(len(rows), jnp.int32), 1)[0]


def _means(rows: Array, weight: Array, machine: Array, n_machines: int) -> Array:
    """(n_machines, d) mean of each machine's rows; 0 without any."""
    x = jnp.where((weight > 0)[:, None], rows, 0)
    share = weight[:, None] * jax.nn.one_hot(machine, n_machines, dtype=rows.dtype)
    share = safe_divide(share, share.sum(axis=0, keepdims=True) + jnp.zeros_like(share))
    first = _times(share.T, x)
    # A second pass: float32 keeps its digits far from the origin.
    return first + _times(share.T, jnp.where((weight > 0)[:, None], x - first[machine], 0))


def _covariance(away: Array, weight: Array) -> Array:
    """(d, d) of deviations (n, d); 0 without any."""
    x = jnp.where((weight > 0)[:, None], away, 0)
    total = weight.sum()
    return _times(x.T, safe_divide(weight, total + jnp.zeros_like(weight))[:, None] * x)


def _unit(covariance: Array) -> Array:
    """(d,) standard deviation of each column; 1 of one that is constant."""
    variance = jnp.diagonal(covariance)
    return jnp.sqrt(jnp.where(variance > 0, variance, 1))


def _power(covariance: Array, exponent: float) -> Array:
    """A symmetric matrix (d, d) of columns of about one scale, raised to a power; eigenvalues at least `RIDGE`."""
    values, vectors = jnp.linalg.eigh(covariance)
    return _times(vectors * (jnp.maximum(values, RIDGE) ** exponent)[None, :], vectors.T)


def _times(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=Precision.HIGHEST)
