"""Sub-cluster AdaCos with a fixed scale, and mixup.

Source: the toolkit's `asdkit/losses/scadacos.py` (`dynamic: false`, `trainable: true`) and
`asdkit/augmentations/mixup.py` (K. Wilkinghoff, "Sub-cluster AdaCos: learning representations for anomalous sound
detection", IJCNN 2021).
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.nn import logsumexp


def draw_centres(key: Array, seeds: Array, n_centres: int, n_features: int, dtype: Any) -> Array:
    """(n_machines, n_centres, n_features) before training, those of a machine by its seed, within Glorot's limit."""
    n_machines = seeds.shape[0]
    limit = math.sqrt(6 / (n_features + n_machines * n_centres))

    def draw(seed: Array) -> Array:
        shape = (n_centres, n_features)
        return jax.random.uniform(jax.random.fold_in(key, seed), shape, dtype, -limit, limit)

    return jax.vmap(draw)(seeds)


def log_probabilities(vectors: Array, centres: Array) -> Array:
    """(n, n_machines) log p of each machine, a softmax over all centres summed over a machine's own.

    Args:
        vectors: (n, d).
        centres: (n_machines, n_centres, d).
    """
    n_machines, n_centres, _ = centres.shape
    scale = math.sqrt(2) * math.log(n_machines * n_centres - 1)
    flat = normalize(centres.reshape(n_machines * n_centres, -1))
    logits = scale * jnp.matmul(normalize(vectors), flat.T, precision=lax.Precision.HIGHEST)
    own = logsumexp(logits.reshape(len(logits), n_machines, n_centres), axis=2)
    return own - logsumexp(own, axis=1, keepdims=True)


def adacos_loss(vectors: Array, centres: Array, target: Array, mask: Array) -> Array:
    """() mean cross-entropy of vectors (n, d) with `target` (n, n_machines), over the clips of `mask` (n,) 1."""
    losses = -jnp.sum(target * log_probabilities(vectors, centres), axis=1)
    return jnp.sum(mask * losses) / jnp.maximum(jnp.sum(mask), 1)


def mix(key: Array, waves: Array, target: Array, mask: Array, chance: Array | float) -> tuple[Array, Array]:
    """Waves (n, n_samples) and targets (n, n_machines), by chance mixed with those of another clip of the batch.

    λ is uniform in [0, 1]. Clips of `mask` 0 are nobody's partner; real clips come first.
    """
    key_share, key_partner, key_whether = jax.random.split(key, 3)
    n = len(waves)
    share = jax.random.uniform(key_share, (n,), waves.dtype)
    luck = jax.random.uniform(key_partner, (n,))
    partner = jnp.argsort(jnp.where(mask > 0, luck, 2.0))
    whether = jax.random.uniform(key_whether, (n,)) < chance
    other = jnp.where(whether, 1 - share, 0).astype(waves.dtype)[:, None]
    return (1 - other) * waves + other * waves[partner], (1 - other) * target + other * target[partner]


def normalize(x: Array) -> Array:
    """`x` (n, d), each row of length 1; zeros stay zeros."""
    return x * lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(x), axis=1, keepdims=True), 1e-24))
