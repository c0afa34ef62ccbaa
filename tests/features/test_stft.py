import jax
import librosa
import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import numpy as jnp

from adjax.features import spectrogram, stft
from adjax.types import SettingsError

SIZES = {"n_fft": 64, "hop_length": 16}


def noise(n_samples, seed=0):
    return np.random.default_rng(seed).standard_normal(n_samples)


@pytest.mark.parametrize("window", ["hann", "hamming"])
@pytest.mark.parametrize(
    ("center", "boundary", "pad_mode"),
    [(True, "zeros", "constant"), (True, "even", "reflect"), (False, None, "constant")],
)
def test_equals_scipy(x64, window, center, boundary, pad_mode):
    y, n_fft, hop_length = noise(5000), 400, 160
    _, _, expected = scipy.signal.stft(
        y, window=window, nperseg=n_fft, noverlap=n_fft - hop_length, boundary=boundary, padded=False
    )
    expected = expected.T * scipy.signal.get_window(window, n_fft).sum()
    got = stft(y, n_fft=n_fft, hop_length=hop_length, window=window, center=center, pad_mode=pad_mode)
    np.testing.assert_allclose(got, expected, atol=1e-11)


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"n_fft": 512, "win_length": 400},
        {"n_fft": 512, "hop_length": 100, "win_length": 333, "window": "hamming"},
        {"n_fft": 401, "hop_length": 160, "center": False},
        {"n_fft": 1024, "hop_length": 512, "pad_mode": "reflect"},
    ],
)
def test_equals_librosa_with_its_defaults(x64, kwargs):
    y = noise(6000)
    np.testing.assert_allclose(
        jax.jit(lambda y: stft(y, **kwargs))(y), librosa.stft(y, **kwargs).T, atol=1e-10
    )


def test_float32():
    y = noise(16_000).astype(np.float32)
    got = stft(y, n_fft=1024, hop_length=512)
    assert got.dtype == jnp.complex64
    expected = librosa.stft(y.astype(np.float64), n_fft=1024, hop_length=512).T
    np.testing.assert_allclose(got, expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("power", [1.0, 2.0, 0.7])
def test_spectrogram_is_a_power_of_the_magnitude(x64, power):
    y = noise(500)
    np.testing.assert_allclose(
        spectrogram(y, power=power, **SIZES), np.abs(stft(y, **SIZES)) ** power, rtol=1e-12
    )


@pytest.mark.parametrize("power", [0.0, -1.0, "2", np.ones(2)])
def test_power_errors(power):
    with pytest.raises(SettingsError, match="power"):
        spectrogram(noise(500), power=power)


@pytest.mark.parametrize("power", [1.0, 2.0, 0.7])
def test_gradient_at_silence_is_zero(power):
    gradient = jax.jit(jax.grad(lambda y: spectrogram(y, power=power, **SIZES).sum()))(jnp.zeros(200))
    np.testing.assert_array_equal(gradient, np.zeros(200))


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([64, 75]), st.sampled_from([10, 64]), st.integers(0, 2**31))
def test_parseval(n_fft, hop_length, seed):
    y = noise(300, seed).astype(np.float32)
    settings = {"n_fft": n_fft, "hop_length": hop_length, "window": "boxcar", "center": False}
    energies = np.asarray(jax.jit(lambda y: spectrogram(y, **settings))(y), np.float64)
    folded = 2 * energies.sum(axis=1) - energies[:, 0] - (energies[:, -1] if n_fft % 2 == 0 else 0)
    frames = librosa.util.frame(y.astype(np.float64), frame_length=n_fft, hop_length=hop_length)
    np.testing.assert_allclose(folded / n_fft, (frames**2).sum(axis=0), rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.floats(-10, 10), st.floats(-10, 10), st.integers(0, 2**31))
def test_linearity(a, b, seed):
    x, y = noise(300, seed).astype(np.float32), noise(300, seed + 1).astype(np.float32)
    together = stft(np.float32(a) * x + np.float32(b) * y, **SIZES)
    apart = np.float32(a) * stft(x, **SIZES) + np.float32(b) * stft(y, **SIZES)
    np.testing.assert_allclose(together, apart, atol=1e-3)


def test_jit_vmap_and_eager_agree():
    batch = noise(3 * 500).reshape(3, 500).astype(np.float32)
    one = lambda y: stft(y, **SIZES)
    lanes = jax.jit(jax.vmap(one))(batch)
    for lane, y in zip(lanes, batch, strict=True):
        np.testing.assert_allclose(lane, one(y), atol=1e-4)
        np.testing.assert_allclose(jax.jit(one)(y), one(y), atol=1e-4)


def test_one_trace_for_one_shape():
    traces = []

    @jax.jit
    def traced(y, n_valid):
        traces.append(1)
        return stft(y, n_valid=n_valid, **SIZES)

    for n_valid in (0, 100, 500):
        traced(jnp.ones(500), n_valid)
    assert len(traces) == 1
