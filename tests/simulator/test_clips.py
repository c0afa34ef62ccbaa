"""Simulated clips: faults, levels, sources, determinism."""

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
    draw_strokes,
    make_machine,
    motion_of,
)
from adjax.simulator.sound_synthesis import (
    CONTROL,
    NOISE_FFT,
    RING,
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


# -- sources


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
