import jax
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import numpy as jnp

from adjax.features import gwrp, max_pool, mean_pool, moment_pool, percentile_pool, std_pool
from adjax.features._numerics import sort_rows

POOLINGS = {
    "mean": mean_pool,
    "std": std_pool,
    "max": max_pool,
    "gwrp_0": lambda x, weight=None: gwrp(x, 0.0, weight),
    "gwrp_half": lambda x, weight=None: gwrp(x, 0.5, weight),
    "gwrp_1": lambda x, weight=None: gwrp(x, 1.0, weight),
    "moments": moment_pool,
    "percentile_30": lambda x, weight=None: percentile_pool(x, 30.0, weight),
}
every_pooling = pytest.mark.parametrize("pool", POOLINGS.values(), ids=POOLINGS.keys())


def decibels(n_frames=50, n_features=6, seed=0):
    rng = np.random.default_rng(seed)
    return (3.0 * rng.standard_normal((n_frames, n_features)) - 60.0).astype(np.float32)


def test_mean_std_and_max_are_numpys():
    x = decibels()
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean_pool(x), exact.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(std_pool(x), exact.std(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(max_pool(x), x.max(axis=0))


def test_moments_are_scipys():
    x = decibels()
    exact = x.astype(np.float64)
    expected = [exact.mean(axis=0), exact.std(axis=0), scipy.stats.skew(exact), scipy.stats.kurtosis(exact)]
    np.testing.assert_allclose(moment_pool(x), np.concatenate(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, -100.0, -63.7])
def test_moments_of_a_constant_feature_are_its_value_and_zeros(value):
    x = np.full((313, 1), value, np.float32)
    np.testing.assert_array_equal(jax.jit(moment_pool)(x), np.array([value, 0, 0, 0], np.float32))


@pytest.mark.parametrize("q", [0.0, 5.0, 50.0, 63.7, 100.0])
@pytest.mark.parametrize("n_frames", [1, 2, 50])
def test_percentile_is_numpys(q, n_frames):
    x = decibels(n_frames)
    np.testing.assert_allclose(percentile_pool(x, q), np.percentile(x, q, axis=0), rtol=1e-6)


@pytest.mark.parametrize("r", [0.0, 0.02, 0.5, 0.98, 1.0])
def test_gwrp_is_twfr_gmms(r):
    x = decibels()
    weights = np.power(r, np.arange(50))
    expected = -np.sort(-x.astype(np.float64), axis=0).T @ (weights / weights.sum())
    np.testing.assert_allclose(gwrp(x, r), expected, rtol=1e-6)


def test_gwrp_ends_are_maximum_and_mean():
    x = decibels()
    np.testing.assert_array_equal(gwrp(x, 0.0), x.max(axis=0))
    np.testing.assert_allclose(gwrp(x, 1.0), x.astype(np.float64).mean(axis=0), rtol=1e-6)


GWRP_OVER_R = jax.jit(jax.vmap(gwrp, in_axes=(None, 0)))


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([1, 2, 30]), st.integers(0, 2**31))
def test_gwrp_lies_between_mean_and_maximum_and_falls_with_r(n_frames, seed):
    x = decibels(n_frames, 3, seed)
    pooled = np.asarray(GWRP_OVER_R(x, jnp.linspace(0.0, 1.0, 11)))
    rounding = 1e-4
    assert (np.diff(pooled, axis=0) <= rounding).all()
    assert (pooled <= x.max(axis=0)[None, :] + rounding).all()
    assert (pooled >= x.mean(axis=0)[None, :] - rounding).all()


@every_pooling
def test_padding_is_inert(pool):
    x = decibels()
    weight = (np.arange(50) % 3 > 0).astype(np.float32)
    pooled = jax.jit(pool)
    got = pooled(np.where(weight[:, None] > 0, x, np.float32(0)), weight)
    np.testing.assert_array_equal(got, pooled(np.where(weight[:, None] > 0, x, np.float32(99)), weight))
    np.testing.assert_allclose(got, jax.jit(pool)(x[weight > 0]), rtol=1e-6, atol=1e-5)


def test_weights_count_frames():
    x, counts = decibels(4), np.array([1, 3, 0, 2])
    repeated = np.repeat(x, counts, axis=0)
    for pool in (mean_pool, std_pool, max_pool, moment_pool):
        np.testing.assert_allclose(pool(x, counts), pool(repeated), rtol=1e-5)


@every_pooling
def test_no_frames_pool_to_zeros_with_a_finite_gradient(pool):
    x = decibels()
    pooled = pool(x, np.zeros(50))
    np.testing.assert_array_equal(pooled, np.zeros_like(pooled))
    assert np.isfinite(jax.jit(jax.grad(lambda x: pool(x, np.zeros(50)).sum()))(x)).all()


@every_pooling
@pytest.mark.parametrize("x", [decibels(), np.full((50, 6), -100.0, np.float32)], ids=["sound", "silence"])
def test_gradient_is_finite(pool, x):
    weight = (np.arange(50) < 40).astype(np.float32)
    gradient = jax.jit(jax.grad(lambda x: pool(x, weight).sum()))(x)
    assert np.isfinite(gradient).all()
    assert not np.asarray(gradient[40:]).any()


@pytest.mark.parametrize("r", [0.0, 0.5, 1.0])
def test_gradient_with_respect_to_r(x64, r):
    x = jnp.asarray(decibels(), jnp.float64)
    pooled = jax.jit(lambda r: gwrp(x, r).sum())
    slope = jax.jit(jax.grad(pooled))(r)
    step = 1e-7
    low, high = max(0.0, r - step), min(1.0, r + step)
    numeric = (pooled(high) - pooled(low)) / (high - low)
    np.testing.assert_allclose(slope, numeric, rtol=1e-4)


@every_pooling
def test_jit_vmap_and_eager_agree(pool):
    batch = np.stack([decibels(seed=seed) for seed in range(3)])
    lanes = jax.jit(jax.vmap(pool))(batch)
    for lane, x in zip(lanes, batch, strict=True):
        np.testing.assert_allclose(lane, pool(x), rtol=1e-5)
        np.testing.assert_allclose(jax.jit(pool)(x), pool(x), rtol=1e-5)


@pytest.mark.parametrize("name", ["std", "moments", "percentile_30", "gwrp_half"])
def test_gradient_equals_finite_differences(x64, name):
    x = jnp.asarray(decibels(20), jnp.float64)
    loss = jax.jit(lambda x: (POOLINGS[name](x) ** 2).sum())
    direction = jnp.asarray(np.random.default_rng(3).standard_normal(x.shape))
    slope = (loss(x + 1e-6 * direction) - loss(x - 1e-6 * direction)) / 2e-6
    np.testing.assert_allclose((jax.jit(jax.grad(loss))(x) * direction).sum(), slope, rtol=1e-6)


def test_a_grid_of_r_sorts_once():
    grid = jax.make_jaxpr(jax.vmap(gwrp, in_axes=(None, 0)))(decibels(), jnp.linspace(0.0, 1.0, 51))
    sorts = [e for e in grid.jaxpr.eqns if "sort" in str(e)]
    assert [e.outvars[0].aval.shape for e in sorts] == [(6, 50)]


def test_sort_is_numpys():
    x = np.concatenate(
        [decibels(40, 3).T, np.array([[-np.inf, np.inf, 0.0, -0.0, 1e-40, -1e-40, 5, -5] * 5] * 3)], axis=1
    )
    x = x.astype(np.float32)
    np.testing.assert_array_equal(jax.jit(sort_rows)(x), np.sort(x, axis=1))
    lanes = jax.jit(jax.vmap(sort_rows))(np.stack([x, -x]))
    np.testing.assert_array_equal(lanes[1], np.sort(-x, axis=1))
