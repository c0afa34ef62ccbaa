import jax
import numpy as np
import pytest
from jax import numpy as jnp

from adjax.batching import map_clips, n_cores, threads
from adjax.features import frame_weights, log_mel_spectrogram, mean_pool, n_frames
from adjax.types import ClipBatch, SettingsError

SIZES = {"n_fft": 256, "hop_length": 128}


def clip_mean(clip: ClipBatch):
    log_mel = log_mel_spectrogram(clip.samples, sr=16_000, n_mels=32, n_valid=clip.n_valid, **SIZES)
    return mean_pool(log_mel, frame_weights(n_frames(clip.n_valid, **SIZES), log_mel.shape[0])), clip.n_valid


BARE = jax.jit(lambda y: mean_pool(log_mel_spectrogram(y, sr=16_000, n_mels=32, **SIZES)))


@pytest.mark.parametrize(
    ("strategy", "batch_size"), [("auto", None), ("map", None), ("vmap", None), ("vmap", 2), ("vmap", 5)]
)
def test_strategies_agree_with_the_bare_clips(strategy, batch_size):
    samples = np.random.default_rng(0).standard_normal((5, 3000)).astype(np.float32)
    n_valid = np.array([3000, 1, 255, 256, 1700], np.int32)
    run = jax.jit(lambda batch: map_clips(clip_mean, batch, strategy=strategy, batch_size=batch_size))
    pooled, lengths = run(ClipBatch(jnp.asarray(samples), jnp.asarray(n_valid)))
    np.testing.assert_array_equal(lengths, n_valid)
    for row, clip, length in zip(pooled, samples, n_valid, strict=True):
        bare = BARE(clip[:length])
        np.testing.assert_allclose(row, bare, atol=1e-3)


def test_errors():
    with pytest.raises(SettingsError, match="pmap"):
        map_clips(jnp.sum, jnp.ones((2, 3)), strategy="pmap")
    with pytest.raises(SettingsError, match="batch_size=0"):
        map_clips(jnp.sum, jnp.ones((2, 3)), batch_size=0)


def test_results_come_in_order_and_in_the_callers_precision() -> None:
    assert n_cores() >= 1
    for enabled, dtype in ((True, jnp.float64), (False, jnp.float32)):
        with jax.enable_x64(enabled), threads(3) as over:
            results = over(lambda n: jnp.arange(n) / np.float64(2), list(range(1, 8)))
        assert [len(result) for result in results] == list(range(1, 8))
        assert {result.dtype for result in results} == {jnp.dtype(dtype)}


def test_a_failure_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError), threads(2) as over:
        over(lambda n: 1 // n, [1, 0, 2])
