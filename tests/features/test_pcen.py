import jax
import librosa
import numpy as np
import pytest
from jax import numpy as jnp

from adjax.features import pcen

RATE = {"sr": 16_000, "hop_length": 512}


def magnitudes(n_frames=200):
    rng = np.random.default_rng(0)
    levels = 2.0**31 * 10.0 ** rng.uniform(-6, -1, 8)
    s = levels * rng.gamma(1.0, size=(n_frames, 8))
    s[50:60] = 0.0
    return s


@pytest.mark.parametrize(
    "settings",
    [{}, {"gain": 0.8, "bias": 10.0, "power": 0.25, "time_constant": 0.06, "eps": 1e-3}, {"power": 1.0}],
)
def test_equals_librosa_in_float64(x64, settings):
    s = magnitudes()
    got = jax.jit(lambda s: pcen(s, **RATE, **settings))(s)
    np.testing.assert_allclose(got, librosa.pcen(s.T, **RATE, **settings).T, rtol=1e-9, atol=1e-12)


def test_equals_librosa_in_float32():
    s = magnitudes()
    got = pcen(jnp.asarray(s, jnp.float32), **RATE)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, librosa.pcen(s.T, **RATE).T, rtol=1e-4, atol=1e-5)


def test_looks_back_only():
    s = jnp.asarray(magnitudes(), jnp.float32)
    padded = jnp.pad(s[:120], ((0, 80), (0, 0)), constant_values=99.0)
    np.testing.assert_allclose(pcen(padded, **RATE)[:120], pcen(s[:120], **RATE), rtol=1e-5)


def test_settings_are_traced_and_the_gradient_is_that_of_finite_differences(x64):
    s = jnp.asarray(magnitudes(30))
    start = jnp.array([0.9, 2.0, 0.5, 0.3])

    @jax.jit
    def loss(p):
        return pcen(s, **RATE, gain=p[0], bias=p[1], power=p[2], time_constant=p[3]).sum()

    slopes = jax.grad(loss)(start)
    for i in range(4):
        step = jnp.zeros(4).at[i].set(1e-6)
        np.testing.assert_allclose(slopes[i], (loss(start + step) - loss(start - step)) / 2e-6, rtol=1e-6)


def test_silence_is_zero_with_a_finite_gradient():
    silence = jnp.zeros((20, 3))

    @jax.jit
    def value_and_slope(s):
        value, pull_back = jax.vjp(lambda s: pcen(s, **RATE), s)
        return value, *pull_back(jnp.ones_like(value))

    value, slope = value_and_slope(silence)
    np.testing.assert_array_equal(value, silence)
    assert np.isfinite(slope).all()
