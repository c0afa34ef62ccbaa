import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.preprocessing import StandardScaler

from adjax.features import fit_standardizer, normalize_clip, standardize, unstandardize
from adjax.types import SettingsError


def decibels(n_vectors=2000, n_features=4, spread=3.0):
    return (spread * np.random.default_rng(0).standard_normal((n_vectors, n_features)) - 60.0).astype(
        np.float32
    )


@pytest.mark.parametrize("spread", [3.0, 0.03])
@pytest.mark.parametrize("n_vectors", [2000, 200_000])
def test_float32_keeps_mean_and_variance_of_decibels(n_vectors, spread):
    x = decibels(n_vectors, spread=spread)
    exact = StandardScaler().fit(x.astype(np.float64))
    got = jax.jit(fit_standardizer)(x)
    np.testing.assert_allclose(got.mean, exact.mean_, rtol=2e-7)
    np.testing.assert_allclose(got.std, exact.scale_, rtol=1e-4)


def test_weighted_fit_is_scikit_learns(x64):
    x, weight = decibels().astype(np.float64), np.random.default_rng(1).uniform(size=2000)
    exact = StandardScaler().fit(x, sample_weight=weight)
    got = fit_standardizer(x, weight)
    np.testing.assert_allclose(got.mean, exact.mean_, rtol=1e-12)
    np.testing.assert_allclose(got.std, exact.scale_, rtol=1e-12)


def test_padding_is_inert():
    x, weight = decibels(), (np.arange(2000) < 1500).astype(np.float32)
    fit = jax.jit(fit_standardizer)
    got = fit(np.where(weight[:, None] > 0, x, np.float32(0)), weight)
    other = fit(np.where(weight[:, None] > 0, x, np.float32(99)), weight)
    np.testing.assert_array_equal(got.mean, other.mean)
    np.testing.assert_array_equal(got.std, other.std)
    bare = fit_standardizer(x[:1500])
    np.testing.assert_allclose(got.mean, bare.mean, rtol=2e-7)
    np.testing.assert_allclose(got.std, bare.std, rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, -100.0, -63.7, 1e-20])
@pytest.mark.parametrize("n_vectors", [1, 7, 100_001])
def test_constant_features_get_scale_one(value, n_vectors):
    x = np.full((n_vectors, 2), value, np.float32)
    got = jax.jit(fit_standardizer)(x)
    np.testing.assert_array_equal(got.std, [1.0, 1.0])
    np.testing.assert_allclose(standardize(got, x), 0.0, atol=1e-5)


def test_no_data_is_the_identity():
    got = fit_standardizer(decibels(), np.zeros(2000))
    np.testing.assert_array_equal(got.mean, np.zeros(4))
    np.testing.assert_array_equal(got.std, np.ones(4))


def test_standardized_data_and_back():
    x = decibels()
    fitted = fit_standardizer(x)
    z = np.asarray(standardize(fitted, x), np.float64)
    np.testing.assert_allclose(z.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(z.std(axis=0), 1.0, rtol=1e-5)
    np.testing.assert_allclose(unstandardize(fitted, standardize(fitted, x)), x, rtol=1e-6)


def test_jit_vmap_and_gradient():
    batch = np.stack([decibels(100), np.full((100, 4), -5.0, np.float32)])
    lanes = jax.jit(jax.vmap(fit_standardizer))(batch)
    loss = lambda x: (standardize(fit_standardizer(x), x) ** 4).sum()
    gradient = jax.jit(jax.grad(loss))
    for lane, x in enumerate(batch):
        solo = fit_standardizer(x)
        np.testing.assert_allclose(lanes.mean[lane], solo.mean, rtol=1e-6)
        np.testing.assert_allclose(lanes.std[lane], solo.std, rtol=1e-5)
        assert np.isfinite(gradient(x)).all()


@pytest.mark.parametrize("by", ["level", "feature"])
def test_a_normalized_clip_forgets_its_loudness(by):
    x, weight = decibels(100), (np.arange(100) < 70).astype(np.float32)
    normal = jax.jit(lambda x, w: normalize_clip(x, w, by=by))
    got = normal(x, weight)
    np.testing.assert_allclose(normal(x + 20, weight), got, atol=1e-4)
    garbage = np.where(weight[:, None] > 0, x, np.float32(99))
    np.testing.assert_array_equal(normal(garbage, weight)[:70], got[:70])
    np.testing.assert_allclose(normalize_clip(x[:70], by=by), got[:70], atol=1e-4)
    np.testing.assert_allclose(np.mean(got[:70]), 0.0, atol=1e-4)
    if by == "level":  # the colour stays
        np.testing.assert_allclose(np.diff(got, axis=1), np.diff(x, axis=1), atol=1e-4)


def test_clip_norm_errors():
    with pytest.raises(SettingsError, match="max"):
        normalize_clip(decibels(), by="max")


@pytest.mark.parametrize("scale", [1e-36, 1e-18, 1e18, 1e36])
def test_the_scale_of_the_weights_changes_nothing(scale: float) -> None:
    rng = np.random.default_rng(7)
    x = jnp.asarray(1e-3 * rng.normal(size=(20, 3)), jnp.float32)
    weight = jnp.asarray(rng.uniform(0.5, 1, 20), jnp.float32)
    expected = fit_standardizer(x, weight)
    found = fit_standardizer(x, weight * jnp.float32(scale))
    assert_allclose(found.mean, expected.mean, rtol=1e-4, atol=1e-8)
    assert_allclose(found.std, expected.std, rtol=1e-5)
    for bad in (-weight, weight.at[1].set(jnp.nan), weight.at[1].set(jnp.inf)):
        assert np.all(np.isnan(fit_standardizer(x, bad).mean))


@pytest.mark.parametrize("unit", [2.0**-90, 2.0**60, 2.0**90])
def test_the_unit_of_a_feature_changes_nothing(unit: float) -> None:
    """Squares in it would be 0, or beyond float32."""
    x = decibels(50)
    expected, found = fit_standardizer(x), fit_standardizer(x * np.float32(unit))
    np.testing.assert_array_equal(found.std, expected.std * np.float32(unit))
    np.testing.assert_array_equal(found.mean, expected.mean * np.float32(unit))
