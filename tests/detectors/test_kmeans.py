"""The start of the mixture."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from numpy.testing import assert_allclose
from sklearn.cluster import KMeans

from adjax.detectors import kmeans


def blobs(k: int, n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(scale=10, size=(k, 4))[rng.integers(k, size=n)] + rng.normal(size=(n, 4))).astype(
        np.float32
    )


def test_plus_plus_finds_one_row_of_each_far_blob() -> None:
    centres = np.array([[0, 0], [100, 0], [0, 100], [100, 100], [50, 300]], np.float32)
    x = jnp.asarray(np.repeat(centres, 20, axis=0))
    for seed in range(10):
        found = kmeans.plus_plus(jax.random.key(seed), x, jnp.ones(100), 5)
        assert {tuple(row) for row in np.asarray(found)} == {tuple(row) for row in centres}


def test_plus_plus_never_draws_a_row_of_weight_0() -> None:
    x = jnp.asarray(np.r_[blobs(2, 50), np.full((50, 4), 1e6, np.float32)])
    weight = jnp.asarray(np.r_[np.ones(50), np.zeros(50)], jnp.float32)
    for seed in range(10):
        assert np.max(kmeans.plus_plus(jax.random.key(seed), x, weight, 4)) < 1e5


def test_lloyd_equals_scikit_learn_from_the_same_centres(x64: None) -> None:
    x = blobs(5, 400).astype(np.float64)
    start = x[:5]
    theirs = KMeans(5, init=start, n_init=1, tol=0, max_iter=100, algorithm="lloyd").fit(x)
    ours = kmeans.lloyd(jnp.asarray(x), jnp.ones(400), jnp.asarray(start), max_iter=100, block_size=64)
    assert_allclose(ours, theirs.cluster_centers_, rtol=1e-9)


def test_an_empty_cluster_keeps_its_centre() -> None:
    x = jnp.asarray(blobs(2, 60))
    start = jnp.concatenate([x[:2], jnp.full((1, 4), 1e4)])
    assert_allclose(kmeans.lloyd(x, jnp.ones(60), start, max_iter=5, block_size=16)[2], start[2])
