"""The maths of the joint Gaussian: one machine's deviations, those that its mates agree on, how the two are mixed."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from adjax.detectors.marginals import Marginals, to_scores
from adjax.detectors.products import times

MIN_SHRINKAGE = 1e-3  # keeps the correlation's condition below 1e3 · d, which float32 can take


class Moments(NamedTuple):
    """Deviations of the normal scores from the machines' means: sums, to which another machine can be added.

    Attributes:
        squares: (d, d) sum of their outer products.
        fourths: () sum of their squared squared lengths.
        freedom: () degrees of freedom.
    """

    squares: Array
    fourths: Array
    freedom: Array


def deviations_of(marginals: Marginals, rows: Array, present: Array) -> tuple[Array, Moments]:
    """One machine's mean (d,) of its normal scores, and the moments of the deviations from it.

    Args:
        marginals: of the machine.
        rows: (n, d) float, its clips.
        present: (n,) bool, which are there.
    """
    n = present.sum().astype(rows.dtype)
    scores = jnp.where(present[:, None], to_scores(marginals, rows), 0)
    mean = scores.sum(axis=0) / jnp.maximum(n, 1)
    z = jnp.where(present[:, None], scores - mean[None], 0)
    freedom = jnp.maximum(n - 1, 1) * (n > 0)
    return mean, Moments(times(z.T, z), jnp.sum(jnp.sum(z**2, axis=1) ** 2), freedom)


def moments_of(marginals: Marginals, rows: Array, present: Array) -> Moments:
    """Of all machines together (arguments have their axis in front): one after the other, so that few d x d exist."""
    d = rows.shape[2]

    def add(total: Moments, own: Any) -> tuple[Moments, None]:
        return jax.tree.map(jnp.add, total, deviations_of(*own)[1]), None

    zero = jnp.zeros((), rows.dtype)
    start = Moments(jnp.zeros((d, d), rows.dtype), zero, zero)
    return jax.lax.scan(add, start, (marginals, rows, present))[0]


def covariance_of(marginals: Marginals, own: Moments, everyone: Moments, prior: Array) -> Array:
    """(d, d) covariance of one machine's normal scores, positive definite.

    Args:
        marginals: of the machine.
        own: of its deviations.
        everyone: of the deviations of all machines, its own included.
        prior: () >= 0, as many clips the correlations of all count.
    """
    n, total, d = own.freedom, jnp.maximum(everyone.freedom, 1), len(own.squares)
    share = n / jnp.maximum(n + prior, 1)
    of_mates, of_own = (1 - share) / total, share / jnp.maximum(n, 1)
    moves = (marginals.factor > 0).astype(own.squares.dtype)
    moment = of_mates * everyone.squares * moves[:, None] * moves[None, :] + of_own * own.squares
    # Ledoit and Wolf's intensity, with weights in place of 1/n: a row of the machine itself has both weights.
    both = of_own**2 + 2 * of_own * of_mates
    spread = of_mates**2 * everyone.fourths + both * own.fourths
    n_effective = 1 / jnp.maximum(of_mates**2 * total + both * n, 1e-30)
    # Columns that are left out are 0 there: neither what the identity is for the others, nor far from it.
    n_columns = jnp.maximum(jnp.sum(moves), 1)
    mu, norm = jnp.trace(moment) / n_columns, jnp.sum(moment**2)
    noise = spread - norm / n_effective
    intensity = jnp.clip(noise / jnp.maximum(norm - n_columns * mu**2, 1e-12), MIN_SHRINKAGE, 1)
    # At least 1e-6 on the diagonal: clips that are all alike have no correlation, yet a distance.
    return (1 - intensity) * moment + intensity * jnp.maximum(mu, 1e-6) * jnp.eye(d, dtype=moves.dtype)
