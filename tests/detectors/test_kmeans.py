"""The start of the mixture."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.cluster import KMeans

from adjax.detectors import kmeans


def blobs(k: int, n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(scale=10, size=(k, 4))[rng.integers(k, size=n)] + rng.normal(size=(n, 4))).astype(
        np.float32
    )


def plus_plus(seed: int, x: jax.Array, weight: jax.Array, k: int, m: int | None = None) -> jax.Array:
    return _plus_plus(jax.random.key(seed), x, weight, k, k if m is None else m)


@partial(jax.jit, static_argnums=3)
def _plus_plus(key: jax.Array, x: jax.Array, weight: jax.Array, k: int, m: int) -> jax.Array:
    origin, active = x[0], jnp.arange(k) < m
    found = kmeans.plus_plus(key, x, weight, k, origin=origin, active=active, block_size=32)
    return found + origin[None, :]


def lloyd(x: jax.Array, centres: jax.Array, max_iter: int, block_size: int) -> jax.Array:
    origin = jnp.mean(x, axis=0)
    moved = kmeans.lloyd(
        x,
        jnp.ones(len(x)),
        centres - origin[None, :],
        origin=origin,
        active=jnp.ones(len(centres), bool),
        max_iter=max_iter,
        block_size=block_size,
    )
    return moved + origin[None, :]


def test_plus_plus_finds_one_row_of_each_far_blob() -> None:
    centres = np.array([[0, 0], [100, 0], [0, 100], [100, 100], [50, 300]], np.float32)
    x = jnp.asarray(np.repeat(centres, 20, axis=0))
    for seed in range(10):
        found = plus_plus(seed, x, jnp.ones(100), 5)
        assert {tuple(row) for row in np.asarray(found)} == {tuple(row) for row in centres}


def test_plus_plus_never_draws_a_row_of_weight_0() -> None:
    x = jnp.asarray(np.r_[blobs(2, 50), np.full((50, 4), 1e6, np.float32)])
    weight = jnp.asarray(np.r_[np.ones(50), np.zeros(50)], jnp.float32)
    for seed in range(10):
        assert np.max(plus_plus(seed, x, weight, 4)) < 1e5


def test_plus_plus_repeats_no_row_while_there_are_others() -> None:
    """Narrow blobs far from the origin: the distance of a row to itself must be exactly 0."""
    x = jnp.asarray(1e4 + 1e-2 * blobs(2, 12))
    assert len(np.unique(x, axis=0)) == 12
    for seed in range(10):
        assert len(np.unique(plus_plus(seed, x, jnp.ones(12), 12), axis=0)) == 12


@pytest.mark.parametrize("m", [1, 2, 3, 8])
def test_masked_plus_plus_draws_what_the_small_one_draws(m: int) -> None:
    x = jnp.asarray(blobs(5, 200))
    for seed in range(5):
        masked, small = plus_plus(seed, x, jnp.ones(200), 9, m), plus_plus(seed, x, jnp.ones(200), m)
        assert_array_equal(masked[:m], small)


def test_lloyd_equals_scikit_learn_from_the_same_centres(x64: None) -> None:
    x = blobs(5, 400).astype(np.float64)
    start = x[:5]
    theirs = KMeans(5, init=start, n_init=1, tol=0, max_iter=100, algorithm="lloyd").fit(x)
    assert_allclose(lloyd(jnp.asarray(x), jnp.asarray(start), 100, 64), theirs.cluster_centers_, rtol=1e-9)


def test_an_empty_cluster_keeps_its_centre() -> None:
    x = jnp.asarray(blobs(2, 60))
    start = jnp.concatenate([x[:2], jnp.full((1, 4), 1e4)])
    assert_allclose(lloyd(x, start, 5, 16)[2], start[2])


@pytest.mark.parametrize("scale", [2.0**-100, 2.0**100])
def test_the_scale_of_the_weights_changes_nothing(scale: float) -> None:
    """Weights of any scale, also where weight times distance would be no float32; bad ones show."""
    rng = np.random.default_rng(5)
    x = jnp.asarray(
        1e-9 * rng.normal(size=(60, 3)) if scale < 1 else 1e9 * rng.normal(size=(60, 3)), jnp.float32
    )
    weight = jnp.asarray(rng.uniform(0.5, 1, 60), jnp.float32)
    start = plus_plus(0, x, weight, 4)
    assert_array_equal(plus_plus(0, x, weight * scale, 4), start)
    rest = {"origin": jnp.zeros(3), "active": jnp.ones(4, bool), "max_iter": 5, "block_size": 32}
    expected = kmeans.lloyd(x, weight, start, **rest)
    assert_array_equal(kmeans.lloyd(x, weight * scale, start, **rest), expected)
    assert np.all(np.isfinite(expected))
    assert not np.all(np.isfinite(kmeans.lloyd(x, -weight, start, **rest)))
