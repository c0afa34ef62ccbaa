"""The parameters of torchaudio's own tests, against librosa and, where it is installed, torch.stft."""

import itertools

import jax
import librosa
import numpy as np
import pytest
from jax import numpy as jnp

from adjax.features import get_window, mel_filterbank, mel_spectrogram, spectrogram

SR = 16_000
FRAMES = [(400, 200), (600, 100), (200, 50)]
POWERS = [1.0, 2.0, 3.0]
MELS = [64, 128, 32]  # one for each of FRAMES
frames = pytest.mark.parametrize(("n_fft", "hop_length"), FRAMES)
powers = pytest.mark.parametrize("power", POWERS)


def noise():
    return np.random.default_rng(0).uniform(-1, 1, SR // 2).astype(np.float32)


def close(got, expected):
    """1e-4 of each value; values a million times below the largest are rounding in float32."""
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6 * np.max(expected))


def torch_spectrogram(torch, y, n_fft, hop_length, power):
    window = torch.from_numpy(get_window("hann", n_fft, n_fft).astype(np.float32))
    spectrum = torch.stft(torch.from_numpy(y), n_fft, hop_length, window=window, return_complex=True)
    return spectrum.abs() ** power


@frames
@powers
def test_spectrogram_is_librosas(n_fft, hop_length, power):
    got = spectrogram(noise(), n_fft=n_fft, hop_length=hop_length, power=power)
    spectrum = librosa.stft(noise().astype(np.float64), n_fft=n_fft, hop_length=hop_length)
    assert got.dtype == jnp.float32
    close(got, np.abs(spectrum).T ** power)


@frames
@powers
def test_spectrogram_is_torchs(n_fft, hop_length, power):
    torch = pytest.importorskip("torch", reason="torch is not installed (pip install --group peers)")
    got = spectrogram(noise(), n_fft=n_fft, hop_length=hop_length, power=power, pad_mode="reflect")
    close(got, torch_spectrogram(torch, noise(), n_fft, hop_length, power).T.numpy())


GRID = [
    {"n_fft": n_fft, "hop_length": hop_length, "n_mels": n_mels, "norm": norm, "htk": htk}
    for ((n_fft, hop_length), n_mels), norm, htk in itertools.product(
        zip(FRAMES, MELS, strict=True), [None, "slaney"], [True, False]
    )
]


def bank_of(settings):
    return {key: settings[key] for key in ("n_fft", "n_mels", "norm", "htk")}


def name(settings):
    return "-".join(str(value) for value in settings.values())


def ours(settings):
    return jax.jit(lambda y: mel_spectrogram(y, sr=SR, pad_mode="reflect", **settings))(noise())


@pytest.mark.parametrize("settings", GRID, ids=name)
def test_mel_spectrogram_is_librosas(settings):
    expected = librosa.feature.melspectrogram(
        y=noise().astype(np.float64), sr=SR, pad_mode="reflect", dtype=np.float64, **settings
    )
    close(ours(settings), expected.T)


@pytest.mark.parametrize("settings", GRID, ids=name)
def test_mel_spectrogram_is_torchs(settings):
    torch = pytest.importorskip("torch", reason="torch is not installed (pip install --group peers)")
    power = torch_spectrogram(torch, noise(), settings["n_fft"], settings["hop_length"], 2.0)
    filters = torch.from_numpy(mel_filterbank(sr=SR, **bank_of(settings)).astype(np.float32))
    close(ours(settings), (filters @ power).T.numpy())
