from functools import partial

import jax
import librosa
import numpy as np
import pytest
from jax import numpy as jnp

from adjax.features import delta, log_mel_spectrogram, mfcc
from adjax.types import SettingsError

SIZES = {"sr": 16_000, "n_fft": 1024, "hop_length": 512, "n_mels": 64}


def clip(dtype):
    rng = np.random.default_rng(0)
    y = np.sin(np.arange(16_000) * 0.05) * 0.3 + 0.01 * rng.standard_normal(16_000)
    return y.astype(np.float32).astype(dtype)


@partial(jax.jit, static_argnums=1)
def adjax_mfcc(y, n_mfcc, lifter):
    return mfcc(log_mel_spectrogram(y, top_db=80.0, **SIZES), n_mfcc=n_mfcc, lifter=lifter)


def librosa_mfcc(n_mfcc, lifter):
    mel = librosa.feature.melspectrogram(y=clip(np.float64), dtype=np.float64, **SIZES)
    return librosa.feature.mfcc(S=librosa.power_to_db(mel), n_mfcc=n_mfcc, lifter=lifter).T


@pytest.mark.parametrize(("n_mfcc", "lifter"), [(20, 0), (13, 22), (64, 7.5)])
def test_equals_librosa_in_float32(n_mfcc, lifter):
    got = adjax_mfcc(clip(np.float32), n_mfcc, lifter)
    expected = librosa_mfcc(n_mfcc, lifter)
    assert got.dtype == jnp.float32
    # Relative to each coefficient's own size over the clip: single values pass through zero.
    size = np.abs(expected).mean(axis=0)
    assert (np.abs(got - expected).max(axis=0) / size).max() < 1e-3


@pytest.mark.parametrize(("n_mfcc", "lifter"), [(20, 0), (13, 22), (64, 7.5)])
def test_equals_librosa_in_float64(x64, n_mfcc, lifter):
    got = adjax_mfcc(clip(np.float64), n_mfcc, lifter)
    np.testing.assert_allclose(got, librosa_mfcc(n_mfcc, lifter), rtol=1e-6, atol=1e-9)


def test_whole_pipeline_is_librosas_mfcc():
    expected = librosa.feature.mfcc(y=clip(np.float32), n_mfcc=13, **SIZES).T
    got = adjax_mfcc(clip(np.float32), 13, 0)
    np.testing.assert_allclose(got, expected, atol=1e-2)


def test_lifter_is_traced_and_finite_at_zero():
    x = jnp.asarray(np.random.default_rng(3).standard_normal((2, 8)), jnp.float32)
    lifted = jax.jit(jax.vmap(lambda lifter: mfcc(x, n_mfcc=4, lifter=lifter)))(jnp.array([0.0, 22.0]))
    np.testing.assert_allclose(lifted[0], mfcc(x, n_mfcc=4), rtol=1e-5)
    np.testing.assert_allclose(lifted[1], mfcc(x, n_mfcc=4, lifter=22), rtol=1e-5)
    assert np.isfinite(jax.grad(lambda lifter: mfcc(x, n_mfcc=4, lifter=lifter).sum())(0.0))


@pytest.mark.parametrize(
    ("settings", "match"),
    [({"n_mfcc": 9}, "n_mfcc=9"), ({"n_mfcc": 0}, "n_mfcc=0"), ({"n_mfcc": 4, "lifter": -1}, "lifter=-1")],
)
def test_mfcc_errors(settings, match):
    with pytest.raises(SettingsError, match=match):
        mfcc(jnp.ones((2, 8)), **settings)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(("width", "n_frames"), [(9, 40), (9, 9), (3, 5), (5, 6)])
def test_delta_equals_librosa(x64, order, width, n_frames):
    x = np.random.default_rng(1).standard_normal((n_frames, 4)) - 60.0
    expected = librosa.feature.delta(x.T, width=width, order=order).T
    got = jax.jit(lambda x: delta(x, width=width, order=order))(x)
    np.testing.assert_allclose(got, expected, atol=1e-11)


@pytest.mark.parametrize("order", [1, 2])
def test_delta_in_float32_forgets_the_level(order):
    x = np.random.default_rng(1).standard_normal((40, 4)).astype(np.float32) - 600.0
    expected = librosa.feature.delta(x.astype(np.float64).T, order=order).T
    np.testing.assert_allclose(delta(x, order=order), expected, atol=1e-6)


@pytest.mark.parametrize("order", [1, 2])
def test_delta_of_a_padded_clip_is_that_of_the_bare_clip(order):
    x = np.random.default_rng(2).standard_normal((30, 4)).astype(np.float32)
    padded = jax.jit(lambda x, n: delta(x, order=order, n_valid=n))
    bare = jax.jit(lambda x: delta(x, order=order))
    for n_valid in (0, 8, 9, 12, 30):
        got = padded(np.where(np.arange(30)[:, None] < n_valid, x, np.float32(99)), n_valid)
        if n_valid < 9:
            assert not np.asarray(got).any()
        else:
            np.testing.assert_allclose(got[:n_valid], bare(x[:n_valid]), atol=1e-6)
            assert not np.asarray(got[n_valid:]).any()


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"width": 8}, "width=8"),
        ({"width": 1}, "width=1"),
        ({"order": 0}, "order=0"),
        ({"width": 13}, "clip of 12"),
    ],
)
def test_delta_errors(settings, match):
    with pytest.raises(SettingsError, match=match):
        delta(jnp.ones((12, 2)), **settings)


def test_gradients_are_finite():
    x = jnp.zeros((12, 8))
    gradient = jax.jit(jax.grad(lambda x: (delta(mfcc(x, n_mfcc=4)) ** 2).sum()))(x)
    assert np.isfinite(gradient).all()
