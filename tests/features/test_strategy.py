import jax
import numpy as np
import pytest
from jax import numpy as jnp

from adjax.batching import compile_clips
from adjax.features import log_mel_spectrogram, mel_spectrogram, stft
from adjax.features.strategy import real_dft
from adjax.types import ClipBatch, SettingsError

SIZES = {"n_fft": 512, "hop_length": 256}
MEL = {"sr": 16_000, "n_mels": 80, **SIZES}


def noise(n_samples=4000, seed=0):
    return np.random.default_rng(seed).standard_normal(n_samples).astype(np.float32)


@pytest.mark.parametrize("n_fft", [512, 401])
@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
def test_forms_of_the_dft_agree(n_fft, pad_mode):
    settings = {"n_fft": n_fft, "hop_length": 160, "pad_mode": pad_mode}
    by_fft = stft(noise(), dft="fft", **settings)
    by_product = stft(noise(), dft="matmul", **settings)
    np.testing.assert_allclose(by_product, by_fft, atol=1e-6 * np.abs(by_fft).max(), rtol=0)
    assert by_product.dtype == by_fft.dtype


def test_forms_of_the_dft_agree_in_float64(x64):
    y = noise().astype(np.float64)
    np.testing.assert_allclose(stft(y, dft="matmul", **SIZES), stft(y, dft="fft", **SIZES), atol=1e-11)


@pytest.mark.parametrize("n_mels", [20, 64, 80])
@pytest.mark.parametrize("fmin", [0.0, 500.0])
def test_forms_of_the_filterbank_agree(n_mels, fmin):
    settings = MEL | {"n_mels": n_mels, "fmin": fmin}
    dense = mel_spectrogram(noise(), filterbank="dense", **settings)
    np.testing.assert_allclose(mel_spectrogram(noise(), filterbank="banded", **settings), dense, rtol=1e-5)


def test_every_strategy_gives_the_same_log_mel_and_gradient():
    y = noise()
    runs = [
        jax.jit(
            jax.value_and_grad(
                lambda y, dft=dft, bank=bank: log_mel_spectrogram(y, dft=dft, filterbank=bank, **MEL).mean()
            )
        )(y)
        for dft in ("fft", "matmul")
        for bank in ("banded", "dense")
    ]
    for value, gradient in runs[1:]:
        np.testing.assert_allclose(value, runs[0][0], rtol=1e-5)
        np.testing.assert_allclose(gradient, runs[0][1], atol=1e-4 * np.abs(runs[0][1]).max())


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("n", [1, 2, 7, 128])
def test_the_product_is_the_real_dft_over_any_axis(n, axis):
    x = np.random.default_rng(n).standard_normal((n, n, n)).astype(np.float32)
    expected = np.fft.rfft(x, axis=axis)
    got = real_dft(jnp.asarray(x), axis=axis, dft="matmul")
    np.testing.assert_allclose(got, expected, atol=1e-6 * np.abs(expected).max(), rtol=0)


def test_errors():
    with pytest.raises(SettingsError, match="dft='dct'"):
        stft(noise(), dft="dct")
    with pytest.raises(SettingsError, match="filterbank='sparse'"):
        mel_spectrogram(noise(), filterbank="sparse", **MEL)
    with pytest.raises(SettingsError, match="pmap"):
        compile_clips(jnp.sum, strategy="pmap")
    with pytest.raises(SettingsError, match="n_parts=0"):
        compile_clips(jnp.sum, n_parts=0)


@pytest.mark.parametrize("n_parts", [None, 1, 2, 3, 9])
@pytest.mark.parametrize("n_clips", [1, 2, 5, 8])
def test_compiled_clips_are_those_of_one_after_the_other(n_parts, n_clips):
    batch = ClipBatch(
        np.arange(10.0 * n_clips, dtype=np.float32).reshape(n_clips, 10), np.arange(n_clips, dtype=np.int32)
    )
    traces = []

    def one(clip):
        traces.append(1)
        return {"sum": clip.samples.sum(), "n": clip.n_valid + 1}

    run = compile_clips(one, n_parts=n_parts)
    for _ in range(2):
        got = run(batch)
        np.testing.assert_array_equal(got["sum"], batch.samples.sum(axis=1))
        np.testing.assert_array_equal(got["n"], batch.n_valid + 1)
    assert len(traces) == 1


def test_an_error_in_a_part_is_raised():
    with pytest.raises(ZeroDivisionError):
        compile_clips(lambda y: 1 / 0, n_parts=2)(noise(4))
