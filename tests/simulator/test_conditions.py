"""Conditions of a machine: what they are, what they change, and that the nominal one changes nothing."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adjax.features.mel import mel_spectrogram
from adjax.simulator.clips import FAULTS, Severity, SimulatedClip, simulate_batch
from adjax.simulator.conditions import Condition, in_condition, make_conditions, responses
from adjax.simulator.slide_rail import MIN_STROKE_S, Machine, make_machine
from adjax.types import SettingsError

SR = 16_000
N_SAMPLES = 2 * SR
N_LANES = 6
HEALTHY = Severity()
RANGES = Condition(
    (0.6, 1.6), (0.5, 2.0), (0.5, 4.0), (-6.0, 6.0), (-1.5, 1.5), (-10.0, 10.0), (500.0, 7000.0)
)


def heard(
    conditions: list[Condition] | None, severity: Severity = HEALTHY, first_key: int = 0
) -> SimulatedClip:
    """Clips of machine 4, one for each of N_LANES conditions (None: none), each with a key of its own."""
    keys = jnp.stack([jax.random.key(first_key + i) for i in range(N_LANES)])
    machines = Machine(*(np.stack([value] * N_LANES) for value in make_machine(4)))
    severities = Severity(*(np.full(N_LANES, value, np.float32) for value in severity))
    stacked = None
    if conditions is not None:
        assert len(conditions) == N_LANES
        stacked = Condition(*(np.array(values, np.float32) for values in zip(*conditions, strict=True)))
    clips = simulate_batch(keys, machines, severities, -6.0, stacked, n_samples=N_SAMPLES)
    return jax.tree.map(np.asarray, clips)


def log_mels(clips: SimulatedClip) -> np.ndarray:
    """(n_clips, 32) dB, the mean level of each band."""
    mel = [
        mel_spectrogram(samples, sr=SR, n_fft=1024, hop_length=512, n_mels=32) for samples in clips.samples
    ]
    return 10.0 * np.log10(np.mean(mel, axis=1))


# -- which ones


def test_a_machine_has_the_same_conditions_every_time_and_its_own() -> None:
    for domain in ("source", "target"):
        assert make_conditions(3, domain) == make_conditions(3, domain)
    assert len({make_conditions(i, "target") for i in range(20)}) == 20
    assert len(set(make_conditions(3, "source"))) == 3


def test_no_shift_is_the_source() -> None:
    for i in range(20):
        source = make_conditions(i, "source")
        assert make_conditions(i, "target", strength=0.0) == source
        assert make_conditions(i, "source", strength=0.3) == source


@pytest.mark.parametrize("machine_id", range(40))
def test_a_full_shift_leaves_the_sources_range_and_stays_in_its_own(machine_id: int) -> None:
    source, target = (make_conditions(machine_id, domain) for domain in ("source", "target"))
    for name in ("speed", "load", "distance"):
        own = [getattr(one, name) for one in source]
        assert all(not min(own) <= getattr(one, name) <= max(own) for one in target)
    half = make_conditions(machine_id, "target", strength=0.5)
    for a, b, c in zip(source, half, target, strict=True):
        np.testing.assert_allclose(b, (np.array(a) + np.array(c)) / 2.0, atol=1e-3)
    for one in (*source, *target):
        assert all(low <= value <= high for value, (low, high) in zip(one, RANGES, strict=True))
        machine = in_condition(make_machine(machine_id), one)
        assert machine.travel_s + machine.dwell_s > 1.1 * MIN_STROKE_S  # strokes are bounded by it


@pytest.mark.parametrize(
    ("machine_id", "domain", "strength", "message"),
    [
        (-1, "source", 1.0, "machine_id"),
        (0, "elsewhere", 1.0, "source, target"),
        (0, "target", 1.1, "strength"),
    ],
)
def test_bad_settings_are_refused(machine_id: int, domain: str, strength: float, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        make_conditions(machine_id, domain, strength=strength)  # type: ignore[arg-type]


def test_a_name_tells_speed_load_distance_and_background() -> None:
    assert (
        Condition(1.2, 1.4, 2.0, -1.5, 0.3, 4.0).attributes == "speed_1.2_load_1.4_distance_2_background_-1.5"
    )


# -- what they do


def test_the_nominal_condition_changes_nothing() -> None:
    plain, nominal = heard(None), heard([Condition()] * N_LANES)
    np.testing.assert_allclose(nominal.samples, plain.samples, atol=2e-6)
    for value, same in zip(make_machine(4), in_condition(make_machine(4), Condition()), strict=True):
        np.testing.assert_allclose(same, value, rtol=1e-6)


def test_all_conditions_share_a_compile_and_a_healthy_machine_has_no_fault() -> None:
    clips = heard([Condition()] * N_LANES)
    compiled = simulate_batch._cache_size()
    both = [*make_conditions(4, "source"), *make_conditions(4, "target")]
    clips = heard(both)
    assert simulate_batch._cache_size() == compiled
    assert not clips.fault.any()
    for i in range(len(FAULTS)):
        assert heard(both, Severity(*np.eye(3)[i])).fault.any(axis=1).all()


def test_a_faster_machine_goes_the_same_way_in_less_time() -> None:
    machine = make_machine(0)
    fast = in_condition(machine, Condition(speed=1.5))
    way = machine.travel_s - machine.ramp_s
    np.testing.assert_allclose(1.5 * (fast.travel_s - fast.ramp_s), way, rtol=1e-6)
    np.testing.assert_allclose(fast.motor_hz, 1.5 * machine.motor_hz, rtol=1e-6)
    loaded = in_condition(machine, Condition(load=1.5))
    gains = loaded.motor_amplitudes / machine.motor_amplitudes
    assert np.all(np.diff(gains) > 0.0)
    assert loaded.friction > machine.friction


def test_a_loaded_carriage_hits_the_rails_pits_harder() -> None:
    """Its motor and friction are louder, too: at one level the clicks lose a little, not a load's worth and more."""
    nominal, loaded = (heard([Condition(load=load)] * N_LANES, Severity(1.0)).fault for load in (1.0, 1.8))
    ratio = np.sqrt(np.mean(loaded**2, axis=1) / np.mean(nominal**2, axis=1))
    assert np.all((ratio > 0.5) & (ratio < 1.0))


@pytest.mark.parametrize(
    ("condition", "machine_db", "factory_db"),
    [
        (Condition(), (0.0, 0.0), (0.0, 0.0)),
        (Condition(distance=2.0), (-6.2, -8.7), (0.0, 0.0)),
        (Condition(tilt=1.0), (-1.0, 2.5), (-1.0, 2.5)),
        (Condition(peak=6.0, peak_hz=5657.0), (0.0, 6.0), (0.0, 6.0)),
    ],
)
def test_the_microphone_hears_what_the_condition_says(
    condition: Condition, machine_db: tuple[float, float], factory_db: tuple[float, float]
) -> None:
    """Gains at 500 Hz and 5,657 Hz; a sound is never heard before it was made."""
    for ring, wanted in zip(responses(condition, sr=SR), (machine_db, factory_db), strict=True):
        spectrum = np.fft.rfft(ring, 16 * SR)
        got = 20.0 * np.log10(np.abs(spectrum[[16 * 500, 16 * 5657]]))
        np.testing.assert_allclose(got, wanted, atol=0.1)
        assert np.sum(np.asarray(ring)[:64] ** 2) > 0.95 * np.sum(np.asarray(ring) ** 2)


def test_the_targets_spectra_lie_apart_from_the_sources() -> None:
    """Bands' levels: the domains' means differ by more than the clips of a domain do; without a shift they do not."""
    source = log_mels(heard([*make_conditions(4, "source")] * 2))
    spread = source.std(axis=0, ddof=1)
    apart = {}
    for strength in (0.0, 1.0):
        conditions = [*make_conditions(4, "target", strength=strength)] * 2
        target = log_mels(heard(conditions, first_key=N_LANES))
        apart[strength] = np.mean(np.abs(target.mean(axis=0) - source.mean(axis=0)) / spread)
    assert apart[1.0] > 2.0 * apart[0.0]
    assert apart[1.0] > 1.0 > apart[0.0]
