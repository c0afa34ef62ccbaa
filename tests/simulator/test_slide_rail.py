"""The machine: its strokes, and the sounds that follow from them."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adjax.simulator.slide_rail import (
    Motion,
    crossing_times,
    draw_strokes,
    frame_ring,
    friction_gains,
    make_machine,
    motion_of,
)
from adjax.simulator.slide_rail_faults import N_BALLS, N_PITS, pit_positions, rail_clicks
from adjax.simulator.sound_synthesis import (
    CONTROL,
    RING,
    harmonics,
    noise_bins_hz,
    upsample,
)

SR = 16_000


@pytest.fixture(scope="module")
def motion() -> Motion:
    strokes = draw_strokes(jax.random.key(1), make_machine(4), duration=10.0)
    return motion_of(strokes, n_control=10 * SR // CONTROL, sr=SR)


def test_speed_is_a_trapezoid(motion: Motion) -> None:
    strokes, speed = motion.strokes, np.asarray(motion.speed)
    seconds = np.arange(speed.size) * CONTROL / SR
    machine = make_machine(4)
    assert speed.min() == 0.0
    for i in range(len(strokes.speed)):
        start, end, ramp = (float(x[i]) for x in (strokes.start_s, strokes.end_s, strokes.ramp_s))
        if start < 0.0 or end > 10.0:
            continue
        inside = (seconds > start + ramp + 2e-3) & (seconds < end - ramp - 2e-3)
        np.testing.assert_allclose(speed[inside], float(strokes.speed[i]), rtol=1e-5)
        dwell = (seconds > end + 2e-3) & (seconds < min(float(strokes.start_s[i + 1]), 10.0) - 2e-3)
        np.testing.assert_array_equal(speed[dwell], 0.0)
        slope = np.diff(speed)[(seconds[:-1] > start + 2e-3) & (seconds[1:] < start + ramp - 2e-3)]
        np.testing.assert_allclose(slope * SR / CONTROL, float(strokes.speed[i] / machine.ramp_s), rtol=2e-3)


def test_every_stroke_goes_the_same_way(motion: Motion) -> None:
    """The carriage returns to where it was: equal distances, out and back by turns."""
    strokes, machine = motion.strokes, make_machine(4)
    np.testing.assert_allclose(
        strokes.speed * (strokes.ramp_s + strokes.cruise_s), machine.travel_s - machine.ramp_s, rtol=1e-5
    )
    assert set(np.abs(np.diff(strokes.outward))) == {1.0}
    assert float(strokes.start_s[0]) <= 0.0
    assert float(strokes.end_s[-1]) >= 10.0


@pytest.mark.parametrize("number", [*range(7), 50, 51, 52])
def test_strokes_cover_the_clip(number: int) -> None:
    strokes = draw_strokes(jax.random.key(number), make_machine(number), duration=10.0)
    assert float(strokes.start_s[0]) <= 0.0
    assert float(strokes.end_s[-1]) >= 10.0
    assert (np.diff(strokes.start_s) > 0.5).all()


def test_travelled_is_the_integral_of_speed(motion: Motion) -> None:
    speed = np.asarray(motion.speed, np.float64)
    exact = np.concatenate([[0.0], np.cumsum(0.5 * (speed[1:] + speed[:-1])) * CONTROL / SR])
    np.testing.assert_allclose(motion.travelled, exact, atol=2e-5)


def test_motor_tone_follows_the_speed(motion: Motion) -> None:
    """While the carriage cruises at speed v, the motor's fundamental is at v * motor_hz."""
    machine, strokes = make_machine(4), motion.strokes
    amplitudes = jnp.zeros(28).at[0].set(1.0)
    tone = np.asarray(harmonics(machine.motor_hz * upsample(motion.travelled), amplitudes))
    whole = [i for i in range(len(strokes.speed)) if strokes.start_s[i] > 0.0 and strokes.end_s[i] < 10.0]
    for i in whole[:4]:
        first = int((strokes.start_s[i] + strokes.ramp_s[i]) * SR) + 1
        last = int((strokes.end_s[i] - strokes.ramp_s[i]) * SR) - 1
        ups = np.flatnonzero((tone[first : last - 1] < 0) & (tone[first + 1 : last] >= 0))
        rate = SR * (len(ups) - 1) / (ups[-1] - ups[0])
        assert rate == pytest.approx(float(strokes.speed[i] * machine.motor_hz), rel=0.01)


def test_crossing_times_are_where_the_carriage_is(motion: Motion) -> None:
    strokes = motion.strokes
    for position in (0.03, 0.3, 0.97):
        times, speeds = crossing_times(strokes, jnp.float32(position))
        seconds = np.arange(motion.speed.size) * CONTROL / SR
        for i in range(len(strokes.speed)):
            if strokes.start_s[i] < 0.0 or strokes.end_s[i] > 10.0:
                continue
            travelled = np.interp([strokes.start_s[i], times[i]], seconds, motion.travelled)
            length = float(strokes.speed[i] * (strokes.ramp_s[i] + strokes.cruise_s[i]))
            part = position if strokes.outward[i] > 0 else 1.0 - position
            assert np.diff(travelled)[0] / length == pytest.approx(part, abs=2e-3)
            assert float(speeds[i]) == pytest.approx(np.interp(times[i], seconds, motion.speed), abs=5e-3)


def test_friction_is_silent_at_rest_and_rises_and_brightens_with_speed() -> None:
    gains = np.asarray(friction_gains(make_machine(0), jnp.array([0.0, 0.3, 1.0]), 0.0, sr=SR))
    np.testing.assert_array_equal(gains[0], 0.0)
    assert (gains[2] ** 2).sum() > (gains[1] ** 2).sum() > 0.0
    hz = noise_bins_hz(SR)
    centroid = (gains[1:] ** 2 * hz).sum(axis=1) / (gains[1:] ** 2).sum(axis=1)
    assert centroid[1] > 1.2 * centroid[0]


def test_rail_clicks_come_when_the_carriage_passes_the_pits(motion: Motion) -> None:
    key, machine, strokes = jax.random.key(2), make_machine(4), motion.strokes
    click = jax.jit(partial(rail_clicks, n_samples=10 * SR, sr=SR))
    force = np.asarray(click(key, machine, strokes, 1.0))
    allowed = np.zeros(10 * SR, bool)
    n_hit = 0
    for place in pit_positions(key):
        times, speeds = crossing_times(strokes, place)
        for time, speed in zip(np.asarray(times), np.asarray(speeds), strict=True):
            burst = (N_BALLS - 1) / (4.0 * float(machine.ball_hz) * max(speed, 0.1))
            first, last = int(time * SR), int((time + burst) * SR) + 16
            allowed[max(first, 0) : max(last, 0)] = True
            if time > 0.0 and last < 10 * SR:
                n_hit += 1
                assert np.abs(force[first : first + 16]).max() > 0.0
    assert n_hit > N_PITS
    assert not allowed.all()
    np.testing.assert_array_equal(force[~allowed], 0.0)


@pytest.mark.parametrize("number", [0, 2, 4, 33])
def test_the_frame_resonates_at_its_modes_and_falls_silent(number: int) -> None:
    machine = make_machine(number)
    ring = np.asarray(frame_ring(machine, sr=SR), np.float64)
    assert np.abs(ring[-100:]).max() < 1e-3 * np.abs(ring[1:]).max()
    response = np.abs(np.fft.rfft(ring, 8 * RING))
    bins = np.rint(machine.mode_hz / SR * 8 * RING).astype(int)
    assert (response[bins] > 1.2).all()
