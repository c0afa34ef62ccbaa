from __future__ import annotations

import numpy as np
import pytest

from adjax.data.rates import resample, resampled_length


def density(samples: np.ndarray, sr: int, low: float, high: float) -> float:
    """Power per Hz between two frequencies."""
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2 / len(samples) / 0.375
    hertz = np.fft.rfftfreq(len(samples), 1 / sr)
    return float(power[(hertz >= low) & (hertz < high)].mean() / sr)


@pytest.mark.parametrize("sr_file", [17_600, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000, 192_000])
def test_noise_stays_white_up_to_the_end(sr_file: int) -> None:
    """soxr alone falls by 3 dB at .95 and by 30 dB at .98 of the Nyquist frequency."""
    x = np.random.default_rng(0).standard_normal(8 * sr_file).astype(np.float32)
    y = resample(x, sr_file, 16_000)
    assert y.dtype == np.float32
    before = density(x, sr_file, 100, 7900)
    for low, high in ((100, 4000), (7300, 7600), (7600, 7900)):
        assert 10 * np.log10(density(y, 16_000, low, high) / before) == pytest.approx(0, abs=0.4)


@pytest.mark.parametrize("sr_file", [32_000, 48_000, 44_100])
@pytest.mark.parametrize("hertz", [8200, 9000, 12_000, 15_900])
def test_what_lies_above_is_gone(sr_file: int, hertz: float) -> None:
    x = np.sin(2 * np.pi * hertz * np.arange(2 * sr_file) / sr_file).astype(np.float32)
    y = resample(x, sr_file, 16_000)
    assert 20 * np.log10(np.abs(y[2000:-2000]).max()) < -90


@pytest.mark.parametrize("sr_file", [1000, 8000, 15_999, 16_001, 32_000, 48_000])
@pytest.mark.parametrize("n", [1, 2, 3, 999, 15_018, 15_019, 40_000])
def test_lengths(sr_file: int, n: int) -> None:
    y = resample(np.ones(n, np.float32), sr_file, 16_000)
    assert len(y) == resampled_length(n, sr_file, 16_000) == int(np.ceil(n * 16_000 / sr_file))
    assert np.isfinite(y).all()


@pytest.mark.parametrize("sr_file", [32_000, 48_000])
def test_in_time(sr_file: int) -> None:
    """A slow pulse stays where it was, also across the blocks of the filter."""
    for centre in (0.5, 15_018 / 32_000, 1.4):
        t, u = np.arange(2 * sr_file) / sr_file, np.arange(2 * 16_000) / 16_000
        y = resample(np.exp(-(((t - centre) / 0.002) ** 2)).astype(np.float32), sr_file, 16_000)
        np.testing.assert_allclose(y, np.exp(-(((u - centre) / 0.002) ** 2)), atol=1e-4)
