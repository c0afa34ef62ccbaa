import itertools
import sys

import jax
import librosa
import numpy as np
import pytest
import soundfile
from jax import numpy as jnp

from adjax.features import (
    hz_to_mel,
    log_mel_spectrogram,
    mel_filterbank,
    mel_spectrogram,
    mel_to_hz,
    n_frames,
    to_decibels,
)
from adjax.types import SettingsError

SR = 16_000
DCASE = {"sr": SR, "n_fft": 1024, "hop_length": 512, "n_mels": 128}


def machine_sound(n_samples=8000, seed=0):
    """Hum, a squeak, and noise about 30 dB below; values that float32 holds exactly."""
    rng = np.random.default_rng(seed)
    t = np.arange(n_samples) / SR
    y = 0.3 * np.sin(2 * np.pi * 120 * t) + 0.1 * np.sin(2 * np.pi * 3000 * t) * (t % 0.2 < 0.05)
    return (y + 0.01 * rng.standard_normal(n_samples)).astype(np.float32)


def librosa_mel(y, **kwargs):
    """librosa's mel spectrogram in float64 throughout, time-major."""
    return librosa.feature.melspectrogram(y=y.astype(np.float64), dtype=np.float64, **kwargs).T


def grid():
    """A seeded sample of the full grid, chosen so that each row brings many new pairs of values."""
    axes = {
        "n_fft": [400, 600, 1024],
        "hop_length": [160, 512],
        "win_length": [None, 300],
        "window": ["hann", "hamming"],
        "center": [True, False],
        "pad_mode": ["constant", "reflect"],
        "power": [1.0, 2.0],
        "n_mels": [32, 64, 128],
        "htk": [False, True],
        "norm": ["slaney", None],
        "range": [(0.0, None), (50.0, 7000.0)],
    }
    rows = list(itertools.product(*axes.values()))
    np.random.default_rng(5).shuffle(rows := np.array(rows, dtype=object))
    chosen, seen = [], set()
    for row in rows:
        settings = dict(zip(axes, row, strict=True))
        settings["fmin"], settings["fmax"] = settings.pop("range")
        pairs = set(itertools.combinations(settings.items(), 2))
        if settings["n_mels"] * 8 > settings["n_fft"] * (2 - settings["htk"]) or pairs <= seen:
            continue  # bands without a bin, which adjax refuses; or nothing new
        if len(pairs - seen) >= 8 or len(chosen) < 12:
            chosen.append(settings)
            seen |= pairs
    return chosen


@pytest.mark.parametrize("settings", grid(), ids=lambda s: "-".join(str(v) for v in s.values()))
def test_log_mel_equals_librosa(settings):
    y = machine_sound()
    expected = librosa_mel(y, sr=SR, **settings)
    # dB are 20 log10 of a magnitude: librosa's amplitude_to_db for power 1, its power_to_db for power 2.
    expected = np.log10(np.maximum(expected, 1e-10)) * 20 / settings["power"]
    got = jax.jit(lambda y: log_mel_spectrogram(y, sr=SR, **settings))(y)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, expected, atol=1e-3, rtol=0)


def test_defaults_are_librosas():
    y = machine_sound(22_050)
    expected = librosa.power_to_db(librosa_mel(y, sr=22_050), top_db=None)
    np.testing.assert_allclose(log_mel_spectrogram(y, sr=22_050), expected, atol=1e-3)


def test_float64(x64):
    y = machine_sound().astype(np.float64)
    np.testing.assert_allclose(mel_spectrogram(y, **DCASE), librosa_mel(y, **DCASE), rtol=1e-10)


@pytest.mark.parametrize("machine", ["slider", "fan"])
def test_real_clips_equal_librosa(shared, machine):
    path = sorted((shared / "data" / "mimii_mini").rglob(f"{machine}/train/*.wav"))[0]
    y, sr = soundfile.read(path, dtype="float32")
    expected = librosa.power_to_db(librosa_mel(y, **DCASE | {"sr": sr}), top_db=None)
    assert expected.shape == (313, 128)
    np.testing.assert_allclose(log_mel_spectrogram(y, **DCASE | {"sr": sr}), expected, atol=1e-3)


@pytest.mark.parametrize("htk", [False, True])
def test_mel_scale_equals_librosa_and_inverts(htk):
    hz = np.array([0.0, 1.0, 440.0, 999.0, 1000.0, 1001.0, 8000.0])
    np.testing.assert_allclose(hz_to_mel(hz, htk=htk), librosa.hz_to_mel(hz, htk=htk), rtol=1e-14)
    np.testing.assert_allclose(mel_to_hz(hz_to_mel(hz, htk=htk), htk=htk), hz, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "settings",
    [
        {"sr": 16_000, "n_fft": 1024},
        {"sr": 22_050, "n_fft": 2048, "htk": True},
        {"sr": 16_000, "n_fft": 401, "n_mels": 40, "norm": None},
        {"sr": 16_000, "n_fft": 1024, "n_mels": 64, "fmin": 50.0, "fmax": 7800.0, "htk": True, "norm": None},
    ],
)
def test_filterbank_equals_librosa(settings):
    np.testing.assert_allclose(
        mel_filterbank(**settings), librosa.filters.mel(dtype=np.float64, **settings), atol=1e-15
    )


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"n_fft": 256, "n_mels": 128}, "mel bands hold no FFT bin"),
        ({"fmax": 8001.0}, "fmax=8001"),
        ({"fmin": -1.0}, "fmin=-1"),
        ({"fmin": 4000.0, "fmax": 4000.0}, "fmin=4000"),
        ({"norm": "l2"}, "l2"),
        ({"n_mels": 0}, "n_mels=0"),
    ],
)
def test_filterbank_errors(settings, match):
    with pytest.raises(SettingsError, match=match):
        mel_filterbank(**({"sr": SR, "n_fft": 1024} | settings))


@pytest.mark.parametrize("top_db", [None, 30.0])
@pytest.mark.parametrize("ref", [1.0, 0.25])
def test_decibels_are_librosas(x64, top_db, ref):
    s = np.concatenate([[0.0, 1e-12], np.logspace(-9, 3, 50)])
    expected = librosa.power_to_db(s, ref=ref, top_db=top_db)
    np.testing.assert_allclose(to_decibels(jnp.asarray(s), ref=ref, top_db=top_db), expected, atol=1e-10)
    expected = librosa.amplitude_to_db(s, ref=ref, amin=1e-5, top_db=top_db)
    got = to_decibels(jnp.asarray(s), power=1.0, ref=ref, amin=1e-5, top_db=top_db)
    np.testing.assert_allclose(got, expected, atol=1e-10)


@pytest.mark.parametrize("power", [1.0, 2.0])
@pytest.mark.parametrize("floor", ["add", "max"])
def test_log_mel_of_the_dcase_baselines(floor, power):
    y, eps = machine_sound(), sys.float_info.epsilon
    y[4000:] = 0.0
    mel = librosa_mel(y, power=power, **DCASE)
    floored = mel + eps if floor == "add" else np.maximum(mel, eps)
    got = log_mel_spectrogram(y, power=power, amin=eps, floor=floor, **DCASE)
    np.testing.assert_allclose(got, 20.0 / power * np.log10(floored), atol=1e-3)
    assert np.asarray(got).min() == pytest.approx(20.0 / power * np.log10(eps), abs=1e-3)


def test_decibel_errors():
    with pytest.raises(SettingsError, match="clip"):
        to_decibels(jnp.ones(3), floor="clip")
    with pytest.raises(SettingsError, match="power"):
        to_decibels(jnp.ones(3), power=0.0)


@pytest.mark.parametrize("top_db", [None, 20.0])
@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
def test_padding_is_inert(pad_mode, top_db):
    log_mel = jax.jit(
        lambda y, n: log_mel_spectrogram(y, n_valid=n, pad_mode=pad_mode, top_db=top_db, **DCASE)
    )
    bare_log_mel = jax.jit(lambda y: log_mel_spectrogram(y, pad_mode=pad_mode, top_db=top_db, **DCASE))
    y = machine_sound()
    for n_valid in (1, 700, 8000):
        real = np.arange(8000) < n_valid
        got = log_mel(np.where(real, y, np.float32(0)), n_valid)
        np.testing.assert_array_equal(got, log_mel(np.where(real, y, np.float32(99)), n_valid))
        bare = bare_log_mel(y[:n_valid])
        assert bare.shape[0] == n_frames(n_valid, n_fft=1024, hop_length=512)
        np.testing.assert_allclose(got[: bare.shape[0]], bare, atol=1e-3)


@pytest.mark.parametrize("power", [1.0, 2.0])
@pytest.mark.parametrize("floor", ["add", "max"])
def test_gradient_is_finite_and_zero_at_silence(floor, power):
    settings = {"power": power, "amin": sys.float_info.epsilon, "floor": floor}
    gradient = jax.jit(jax.grad(lambda y: log_mel_spectrogram(y, **settings, **DCASE).sum()))
    np.testing.assert_array_equal(gradient(jnp.zeros(2000)), np.zeros(2000))
    half = machine_sound(2000)
    half[1000:] = 0.0
    of_half = np.asarray(gradient(half))
    assert np.isfinite(of_half).all()
    assert of_half.any()


def test_gradient_equals_finite_differences(x64):
    y = jnp.asarray(machine_sound(600), jnp.float64)
    loss = jax.jit(lambda y: log_mel_spectrogram(y, sr=SR, n_fft=256, hop_length=128, n_mels=20).mean())
    direction = jnp.asarray(np.random.default_rng(3).standard_normal(600))
    slope = (loss(y + 1e-7 * direction) - loss(y - 1e-7 * direction)) / 2e-7
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(y) @ direction, slope, rtol=1e-5)


def test_jit_vmap_and_eager_agree():
    batch = np.stack([machine_sound(3000, seed) for seed in range(3)])
    one = lambda y: log_mel_spectrogram(y, **DCASE)
    lanes = jax.jit(jax.vmap(one))(batch)
    for lane, y in zip(lanes, batch, strict=True):
        np.testing.assert_allclose(lane, one(y), atol=1e-3)
        np.testing.assert_allclose(jax.jit(one)(y), one(y), atol=1e-3)
