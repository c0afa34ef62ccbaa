"""How far a clip is from the normal clips of its machine: the nearest one, rescaled by how densely they lie there.

Source: the toolkit's neighbours, rescaled by local density: D = (1 - cos) / 2, b_i the mean D of reference i
to its K nearest of the same machine, score min_i D / b_i.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from adjax.detectors.network.loss import normalize

CLOSEST = 1e-6  # of b: a few roundings of a cosine, where clips repeat each other


class Bank(NamedTuple):
    """Normal clips of all machines, those of weight 0 included, which are never anybody's neighbour.

    Attributes:
        vectors: (n_clips, d), of length 1.
        machine: (n_clips,) int32, whose each is; -1 of weight 0.
        spread: (n_clips,) b.
    """

    vectors: Array
    machine: Array
    spread: Array


def make_bank(vectors: Array, machine: Array, present: Array, n_neighbours: int) -> Bank:
    """The bank of vectors (n_clips, d) of clips whose `machine` (n_clips,) is; `present` (n_clips,) bool."""
    vectors = normalize(jnp.where(present[:, None], vectors, 0))
    owner = jnp.where(present, machine, -1).astype(jnp.int32)
    n = len(vectors)
    k = min(n_neighbours, n - 1)

    def spread(clip: tuple[Array, Array, Array]) -> Array:
        own, of, number = clip
        others = (owner == of) & (jnp.arange(n) != number)
        distances = jnp.where(others, _distances(vectors, own), jnp.inf)
        nearest = -lax.top_k(-distances, k)[0]
        near = jnp.isfinite(nearest)
        mean = jnp.sum(jnp.where(near, nearest, 0)) / jnp.maximum(jnp.sum(near), 1)
        return jnp.where(near.any(), jnp.maximum(mean, CLOSEST), 1.0)  # a machine's only clip: D as it is

    if k < 1:
        return Bank(vectors, owner, jnp.ones(n, vectors.dtype))
    return Bank(vectors, owner, lax.map(spread, (vectors, owner, jnp.arange(n)), batch_size=64))


def distance(bank: Bank, machine: Array, vector: Array) -> Array:
    """() how far `vector` (d,) is from the clips of a machine."""
    found = _distances(bank.vectors, normalize(vector[None, :])[0]) / bank.spread
    return jnp.min(jnp.where(bank.machine == machine, found, jnp.inf))


def _distances(vectors: Array, own: Array) -> Array:
    """(n,) D of unit vectors (n, d) from one (d,)."""
    return (1 - jnp.matmul(vectors, own, precision=lax.Precision.HIGHEST)) / 2
