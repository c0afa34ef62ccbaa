"""The slide-rail simulator: motion, sources, faults, levels, determinism."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adjax.simulator.clips import (
    FAULTS,
    MACHINE_LEVEL_DB,
    Severity,
    SimulatedClip,
    clip_keys,
    machine_sound,
    simulate_batch,
)
from adjax.simulator.factory_noise import factory_noise
from adjax.simulator.slide_rail import (
    Machine,
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
    NOISE_FFT,
    RING,
    harmonics,
    noise_bins_hz,
    noise_frames,
    pulse_train,
    resonate,
    shaped_noise,
    slow_course,
    upsample,
)
from adjax.types import SettingsError

SR = 16_000
N_SAMPLES = 4 * SR
N_LANES = 5
IDS = (0, 2, 4)


def stack(machines: list[Machine]) -> Machine:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *machines)


def batch(key: jax.Array, ids: list[int], severities: list[Severity], snr_db: float = -6.0) -> SimulatedClip:
    """Clips that all have the same key, on the host; filled up to N_LANES and cut again, for one compile."""
    n = len(ids)
    if n != 2:
        ids, severities = ids + ids[-1:] * (N_LANES - n), severities + severities[-1:] * (N_LANES - n)
    keys = jnp.stack([key] * len(ids))
    severity = Severity(*(np.array(values, np.float32) for values in zip(*severities, strict=True)))
    clips = simulate_batch(keys, stack([make_machine(i) for i in ids]), severity, snr_db, n_samples=N_SAMPLES)
    return jax.tree.map(lambda x: np.asarray(x)[:n], clips)


@pytest.fixture(scope="module")
def clips() -> SimulatedClip:
    """Rows: healthy, then each fault alone, then all together; machine 4, one key."""
    severities = [
        Severity(),
        Severity(1.0),
        Severity(0.0, 1.0),
        Severity(0.0, 0.0, 1.0),
        Severity(1.0, 1.0, 1.0),
    ]
    return batch(jax.random.key(3), [4] * 5, severities)


@pytest.fixture(scope="module")
def motion() -> Motion:
    strokes = draw_strokes(jax.random.key(1), make_machine(4), duration=10.0)
    return motion_of(strokes, n_control=10 * SR // CONTROL, sr=SR)


@jax.jit
def _healthy_machine(key: jax.Array, machine: Machine) -> jax.Array:
    return machine_sound(key, machine, Severity(), n_samples=N_SAMPLES, sr=SR)[0]


def healthy_machine(key: jax.Array, machine: Machine) -> np.ndarray:
    return np.asarray(_healthy_machine(key, machine))


def power(x: np.ndarray) -> np.ndarray:
    return np.mean(np.asarray(x, np.float64) ** 2, axis=-1)


# -- the clip as a whole


def test_samples_are_finite_and_within_full_scale(clips: SimulatedClip) -> None:
    assert clips.samples.shape == (5, N_SAMPLES)
    assert clips.samples.dtype == np.float32
    assert np.isfinite(clips.samples).all()
    assert np.abs(clips.samples).max() <= 1.0
    assert power(clips.samples).min() > 0.0


def test_no_severity_is_no_fault(clips: SimulatedClip) -> None:
    np.testing.assert_array_equal(clips.fault[0], 0.0)


def test_the_fault_is_all_that_differs_from_the_healthy_clip(clips: SimulatedClip) -> None:
    healthy = clips.samples - clips.fault
    np.testing.assert_allclose(healthy, np.broadcast_to(clips.samples[0], healthy.shape), atol=1e-7)
    assert (power(clips.fault[1:]) > 0.0).all()


def test_faults_add_up(clips: SimulatedClip) -> None:
    np.testing.assert_allclose(clips.fault[4], clips.fault[1:4].sum(axis=0), atol=1e-6)


def test_a_fault_raises_the_level(clips: SimulatedClip) -> None:
    assert (power(clips.samples[1:]) > power(clips.samples[0])).all()


@pytest.mark.parametrize("fault", range(len(FAULTS)))
def test_fault_grows_with_severity(fault: int) -> None:
    severities = [Severity(*(level * (i == fault) for i in range(3))) for level in (0.25, 0.5, 1.0)]
    made = batch(jax.random.key(5), [0] * 3, severities)
    np.testing.assert_allclose(power(made.fault) / power(made.fault)[2], [1 / 16, 1 / 4, 1.0], rtol=1e-4)


@pytest.mark.parametrize("snr_db", [-6.0, 0.0, 6.0])
def test_snr_is_that_of_the_healthy_machine(snr_db: float) -> None:
    key, machine = jax.random.key(8), make_machine(0)
    made = batch(key, [0, 0], [Severity(), Severity(1.0, 1.0, 1.0)], snr_db)
    sound = healthy_machine(key, machine)
    sound = sound * 10 ** (MACHINE_LEVEL_DB / 20) / np.sqrt(power(sound))
    for samples, fault in zip(made.samples, made.fault, strict=True):
        background = samples - fault - sound
        assert 10 * np.log10(power(sound) / power(background)) == pytest.approx(snr_db, abs=0.01)


def test_same_key_same_clip_whatever_the_batch(clips: SimulatedClip) -> None:
    again = batch(jax.random.key(3), [4, 4], [Severity(), Severity(1.0)])
    np.testing.assert_allclose(again.samples, clips.samples[:2], atol=1e-6)


def test_another_key_is_another_clip(clips: SimulatedClip) -> None:
    other = batch(jax.random.key(4), [4] * 5, [Severity()] * 5)
    assert abs(np.corrcoef(other.samples[0], clips.samples[0])[0, 1]) < 0.5


def test_one_compile_serves_all_machines_and_faults() -> None:
    batch(jax.random.key(0), [1] * 3, [Severity(0.2), Severity(0.0, 0.9, 0.0), Severity()])
    compiled = simulate_batch._cache_size()
    batch(jax.random.key(1), [17, 6, 0], [Severity(), Severity(0.0, 0.0, 0.4), Severity(1.0)], 6.0)
    assert simulate_batch._cache_size() == compiled


# -- machines


def test_machines_differ_and_stay() -> None:
    for number in (*range(7), 123):
        for a, b in zip(make_machine(number), make_machine(number), strict=True):
            np.testing.assert_array_equal(a, b)
    strokes = {(float(m.travel_s), float(m.motor_hz), float(m.hiss_hz)) for m in map(make_machine, range(40))}
    assert len(strokes) == 40


def test_a_negative_machine_id_is_refused() -> None:
    with pytest.raises(SettingsError, match="machine_id=-1"):
        make_machine(-1)


def test_machines_sound_different() -> None:
    """Spectra (dB, third octaves) of one machine's clips lie closer than those of two machines."""

    def spectrum(number: int, seed: int) -> np.ndarray:
        bins = np.abs(np.fft.rfft(healthy_machine(jax.random.key(seed), make_machine(number)))) ** 2
        edges = np.geomspace(200, 16_000, 20).astype(int)
        bands = np.array([bins[a * 2 : b * 2].mean() for a, b in pairwise(edges)])
        return 10 * np.log10(bands / bands.sum())

    spectra = {(number, seed): spectrum(number, seed) for number in IDS for seed in (0, 1)}
    same = max(np.abs(spectra[i, 0] - spectra[i, 1]).mean() for i in IDS)
    other = min(np.abs(spectra[i, 0] - spectra[j, 1]).mean() for i in IDS for j in IDS if i != j)
    assert other > same


# -- motion


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


# -- sources


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


def test_a_dry_rail_is_only_heard_while_it_moves(clips: SimulatedClip) -> None:
    keys = clip_keys(jax.random.key(3))
    n_control = -(-N_SAMPLES // 256) * 16
    strokes = draw_strokes(keys.strokes, make_machine(4), duration=n_control * CONTROL / SR)
    speed = np.asarray(upsample(motion_of(strokes, n_control=n_control, sr=SR).speed))[:N_SAMPLES]
    moves = np.convolve(speed > 0.0, np.ones(2 * RING + NOISE_FFT), "same") > 0.5
    assert (~moves).sum() > 0
    assert power(clips.fault[3][~moves]) < 1e-3 * power(clips.fault[3][speed > 0.5])


def test_background_has_unit_power_and_falls_with_frequency() -> None:
    make = jax.jit(partial(factory_noise, n_samples=N_SAMPLES, sr=SR))
    noise = np.stack([make(jax.random.key(i)) for i in range(3)])
    np.testing.assert_allclose(power(noise), 1.0, rtol=1e-4)
    bins = np.mean(np.abs(np.fft.rfft(noise)) ** 2, axis=0)
    assert bins[200:2000].mean() > 30 * bins[8000:14_000].mean()
    assert np.abs(np.corrcoef(noise) - np.eye(3)).max() < 0.2


# -- building blocks


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
    assert power(flat) == pytest.approx(1.0, rel=0.02)
    kurtosis = np.mean(flat.astype(np.float64) ** 4) / power(flat) ** 2
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


@pytest.mark.parametrize("number", [0, 2, 4, 33])
def test_the_frame_resonates_at_its_modes_and_falls_silent(number: int) -> None:
    machine = make_machine(number)
    ring = np.asarray(frame_ring(machine, sr=SR), np.float64)
    assert np.abs(ring[-100:]).max() < 1e-3 * np.abs(ring[1:]).max()
    response = np.abs(np.fft.rfft(ring, 8 * RING))
    bins = np.rint(machine.mode_hz / SR * 8 * RING).astype(int)
    assert (response[bins] > 1.2).all()


def test_slow_course_is_linear_between_knots() -> None:
    knots = np.array([[0.0, 1.0, -1.0], [2.0, 2.0, 0.0]], np.float32)
    exact = [np.interp(np.linspace(0, 2, 9), np.arange(3), row) for row in knots]
    np.testing.assert_allclose(slow_course(jnp.asarray(knots), 9), exact, atol=1e-6)
