"""The building blocks of sounds."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adjax.simulator.slide_rail import (
    frame_ring,
    make_machine,
)
from adjax.simulator.sound_synthesis import (
    RING,
    harmonics,
    noise_bins_hz,
    noise_frames,
    pulse_train,
    resonate,
    shaped_noise,
    slow_course,
)

SR = 16_000


def test_harmonics_are_sums_of_sines() -> None:
    phase, amplitudes = jnp.linspace(0.0, 3.0, 1001), jnp.array([0.5, 0.0, -0.3, 0.2])
    exact = sum(
        a * np.sin(2 * np.pi * (k + 1) * np.asarray(phase, np.float64)) for k, a in enumerate(amplitudes)
    )
    np.testing.assert_allclose(harmonics(phase, amplitudes), exact, atol=2e-5)


def test_shaped_noise_has_the_asked_spectrum() -> None:
    n = 20 * SR
    frames = noise_frames(jax.random.key(0), n_samples=n)
    flat = np.asarray(shaped_noise(frames, jnp.ones(frames.shape), n_samples=n))
    assert flat.shape == (n,)
    power = np.mean(flat.astype(np.float64) ** 2)
    assert power == pytest.approx(1.0, rel=0.02)
    kurtosis = np.mean(flat.astype(np.float64) ** 4) / power**2
    assert kurtosis == pytest.approx(3.0, abs=0.05)
    band = (noise_bins_hz(SR) > 2000) & (noise_bins_hz(SR) < 3000)
    gains = jnp.broadcast_to(jnp.asarray(band, jnp.float32)[None, :], frames.shape)
    bins = np.abs(np.fft.rfft(np.asarray(shaped_noise(frames, gains, n_samples=n)))) ** 2
    hz = np.fft.rfftfreq(n, 1 / SR)
    assert bins[(hz > 1900) & (hz < 3100)].sum() > 0.99 * bins.sum()


def test_shaped_noise_keeps_its_level_between_frames() -> None:
    n = 256 * 2000
    frames = noise_frames(jax.random.key(1), n_samples=n)
    noise = np.asarray(shaped_noise(frames, jnp.ones(frames.shape), n_samples=n), np.float64)
    level = np.mean(noise.reshape(-1, 256) ** 2, axis=0)
    assert level.std() < 0.06
    assert np.polyfit(np.cos(2 * np.pi * np.arange(256) / 256), level, 1)[0] == pytest.approx(0.0, abs=0.02)


def test_pulses_keep_their_area_and_place() -> None:
    times, areas = jnp.array([-0.001, 0.01, 0.0200312, 0.0999]), jnp.array([9.0, 1.0, 2.0, 4.0])
    force = np.asarray(pulse_train(times, areas, 5e-4, n_samples=1600, sr=SR), np.float64)
    assert force[150:180].sum() == pytest.approx(1.0, abs=1e-4)
    assert force[310:340].sum() == pytest.approx(2.0, abs=1e-4)
    centre = (force * np.arange(1600))[310:340].sum() / 2.0
    assert centre == pytest.approx(0.0200312 * SR + 0.5 * 5e-4 * SR, abs=0.01)
    assert np.flatnonzero(force).min() >= 160
    assert force[1598:].sum() < 4.0  # the last pulse is cut, not wrapped round


def test_resonance_is_a_convolution() -> None:
    ring = frame_ring(make_machine(2), sr=SR)
    force = np.asarray(jax.random.normal(jax.random.key(0), (3 * RING + 77,)))
    exact = np.convolve(force.astype(np.float64), np.asarray(ring, np.float64))[: force.size]
    np.testing.assert_allclose(resonate(jnp.asarray(force), ring), exact, atol=2e-5)


def test_slow_course_is_linear_between_knots() -> None:
    knots = np.array([[0.0, 1.0, -1.0], [2.0, 2.0, 0.0]], np.float32)
    exact = [np.interp(np.linspace(0, 2, 9), np.arange(3), row) for row in knots]
    np.testing.assert_allclose(slow_course(jnp.asarray(knots), 9), exact, atol=1e-6)
