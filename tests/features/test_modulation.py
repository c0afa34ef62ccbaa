import jax
import numpy as np
import pytest
import scipy.integrate
from jax import numpy as jnp

from adjax.features import flux_pool, modulation_pool
from adjax.features.modulation import OCTAVES

N_BANDS = len(OCTAVES) - 1


def decibels(n_frames=60, n_features=3, seed=0):
    rng = np.random.default_rng(seed)
    return (3.0 * rng.standard_normal((n_frames, n_features)) - 60.0).astype(np.float32)


def test_flux_is_the_mean_change():
    x = decibels()
    np.testing.assert_allclose(flux_pool(x), np.abs(np.diff(x, axis=0)).mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(flux_pool(x[:1]), np.zeros(3))


def test_shares_are_the_integrals_of_the_periodogram(x64):
    x = decibels().astype(np.float64)
    centred = (x - x.mean(axis=0))[:, 0]

    def density(f):
        return np.abs(np.exp(-2j * np.pi * f * np.arange(60)) @ centred) ** 2

    got = modulation_pool(jnp.asarray(x)).reshape(N_BANDS, 3)[:, 0]
    for share, low, high in zip(got, OCTAVES[:-1], OCTAVES[1:], strict=True):
        energy, _ = scipy.integrate.quad(density, low, high, limit=200, epsrel=1e-10)
        np.testing.assert_allclose(share, 2 * energy / (centred**2).sum(), rtol=1e-8)


def test_the_octaves_share_out_the_whole_variance():
    shares = np.asarray(modulation_pool(decibels())).reshape(N_BANDS, 3)
    assert (shares >= 0).all()
    np.testing.assert_allclose(shares.sum(axis=0), 1.0, rtol=1e-5)


@pytest.mark.parametrize("band", range(1, N_BANDS))
def test_a_rhythm_lies_in_its_band(band):
    frequency = np.sqrt(max(OCTAVES[band], 1e-3) * OCTAVES[band + 1])
    strokes = np.sin(2 * np.pi * frequency * np.arange(313))[:, None].astype(np.float32)
    shares = np.asarray(modulation_pool(strokes))
    assert shares.argmax() == band
    assert shares[band] > 0.8


def test_level_and_size_of_the_swings_do_not_matter(x64):
    x = jnp.asarray(decibels(), jnp.float64)
    np.testing.assert_allclose(modulation_pool(7.0 * x + 30.0), modulation_pool(x), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("value", [0.0, -100.0, -63.7])
def test_a_constant_feature_has_no_rhythm_and_a_finite_gradient(value):
    x = jnp.full((50, 2), value)
    np.testing.assert_array_equal(modulation_pool(x), np.zeros(2 * N_BANDS))
    assert np.isfinite(jax.jit(jax.grad(lambda x: modulation_pool(x).sum()))(x)).all()


@pytest.mark.parametrize("pool", [flux_pool, modulation_pool])
def test_padding_is_inert(pool):
    x, weight = decibels(), (np.arange(60) < 41).astype(np.float32)
    pooled = jax.jit(pool)
    got = pooled(np.where(weight[:, None] > 0, x, np.float32(0)), weight)
    np.testing.assert_array_equal(got, pooled(np.where(weight[:, None] > 0, x, np.float32(99)), weight))
    np.testing.assert_allclose(got, pool(x[:41]), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(pool(x, np.zeros(60)), np.zeros_like(got))


@pytest.mark.parametrize("pool", [flux_pool, modulation_pool])
def test_jit_vmap_and_eager_agree(pool):
    batch = np.stack([decibels(seed=seed) for seed in range(3)])
    lanes = jax.jit(jax.vmap(pool))(batch)
    for lane, x in zip(lanes, batch, strict=True):
        np.testing.assert_allclose(lane, pool(x), rtol=1e-4, atol=1e-6)


def test_gradient_equals_finite_differences(x64):
    x = jnp.asarray(decibels(20), jnp.float64)
    loss = jax.jit(lambda x: (modulation_pool(x) ** 2).sum() + flux_pool(x).sum())
    direction = jnp.asarray(np.random.default_rng(3).standard_normal(x.shape))
    slope = (loss(x + 1e-6 * direction) - loss(x - 1e-6 * direction)) / 2e-6
    np.testing.assert_allclose((jax.jit(jax.grad(loss))(x) * direction).sum(), slope, rtol=1e-6)
