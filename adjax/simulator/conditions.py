"""Conditions under which one machine is heard: how fast and how loaded it runs, and where which microphone hangs.

A domain is a set of conditions (`make_conditions`): the source of the training, and a target that lies outside its
range. A condition changes numbers of the traced `Machine` (`in_condition`) and filters what the microphone gets
(`responses`), so one compile serves every condition. At the nominal one, `Condition()`, nothing is changed.

The target's distances from the source were tuned, looking at labels, until the default model lost a tenth or two of its
AUC there: with `SMALL_DOMAINS` at strengths 0, .5 and 1 AUC target is .995, .921 and .866, AUC source .996, .993 and
.976.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from adjax.checks import check_number
from adjax.simulator.slide_rail import N_MOTOR, Machine
from adjax.simulator.sound_synthesis import RING
from adjax.types import SettingsError

Domain = Literal["source", "target"]
DOMAINS: tuple[Domain, ...] = ("source", "target")
NAMED = ("speed", "load", "distance", "background")  # of a condition, what a file's name tells

HIGH_LOSS_DB = 3.0  # what a doubled distance takes from the highs beside the level
HIGH_LOSS_HZ = 2000.0
PEAK_OCTAVES = 0.4  # half width (standard deviation) of the microphone's resonance
_CONDITION_STREAM = 20220


class Condition(NamedTuple):
    """How a machine runs and is heard. Scalars, () float32 in a program; the defaults are nominal.

    Attributes:
        speed: full speed of strokes and motor over the nominal one, [.6, 1.6].
        load: moved mass over the nominal one, [.5, 2]; more friction, and a motor that strains: its high harmonics.
        distance: of the microphone over the nominal one, [.5, 4]. The machine grows softer and duller, the factory
            around stays.
        background: level of the factory over the nominal one, dB, [-6, 6].
        tilt: of the microphone's response, dB per octave about 1 kHz, [-1.5, 1.5]; level beyond 3 octaves.
        peak: height of the microphone's resonance, dB, [-10, 10].
        peak_hz: its frequency, [500, 7000].
    """

    speed: Array | float = 1.0
    load: Array | float = 1.0
    distance: Array | float = 1.0
    background: Array | float = 0.0
    tilt: Array | float = 0.0
    peak: Array | float = 0.0
    peak_hz: Array | float = 3000.0

    @property
    def attributes(self) -> str:
        """What a file's name tells, as DCASE writes it: "speed_1.2_load_1.4_distance_2_background_1.5"."""
        return "_".join(f"{name}_{getattr(self, name):g}" for name in NAMED)


def make_conditions(machine_id: int, domain: Domain, *, strength: float = 1.0) -> tuple[Condition, ...]:
    """A domain's conditions of a machine: deterministic, and different ones for every id.

    Each target condition starts from one of the source's and goes off: faster or slower, more loaded, and all of them
    heard by another microphone, farther away, with more of the factory.

    Args:
        machine_id: >= 0, that of `make_machine`.
        domain: "source" or "target".
        strength: of the shift, in [0, 1]: how far the target's conditions have gone. At 0 they are the source's, at 1
            every speed, load and distance lies outside the source's range. The source does not depend on it.

    Returns:
        Three conditions of Python floats, rounded to what a file's name tells.

    Raises:
        SettingsError: a number out of range, or no such domain.
    """
    check_number("machine_id", machine_id, low=0, whole=True)
    check_number("strength", strength, low=0, high=1)
    if domain not in DOMAINS:
        raise SettingsError(f"domain={domain!r}: give one of {', '.join(DOMAINS)}")
    rng = np.random.default_rng([_CONDITION_STREAM, machine_id])
    loads = rng.permutation([0.9, 1.0, 1.1])
    source = [Condition(speed=0.95 + 0.05 * i, load=float(load)) for i, load in enumerate(loads)]
    signs = rng.choice([-1.0, 1.0], 3)
    faster, heavier = rng.uniform(1.35, 1.5) ** signs[0], rng.uniform(1.5, 1.8)
    place = {
        "distance": rng.uniform(1.5, 1.8),
        "background": rng.uniform(1.5, 2.5),
        "tilt": signs[1] * rng.uniform(1.0, 1.4),
        "peak": signs[2] * rng.uniform(6.0, 9.0),
        "peak_hz": 3000.0 * 2.0 ** rng.uniform(-1.0, 1.0),
    }
    target = [Condition(speed=one.speed * faster, load=one.load * heavier, **place) for one in source]
    part = strength if domain == "target" else 0.0
    return tuple(
        Condition(*(round(float(a + part * (b - a)), 3) for a, b in zip(near, far, strict=True)))
        for near, far in zip(source, target, strict=True)
    )


def in_condition(machine: Machine, condition: Condition) -> Machine:
    """The machine as it runs there; its clips' level stays that of `simulate`, so only proportions matter.

    Speed: the same way in less time with the same ramps; motor and balls turn faster, friction brightens and grows
    as it does within a stroke, the stops are hit harder. Load: friction grows with its square root, its high band
    and the stops more, the motor's harmonics most, the high ones above all.
    """
    speed, load = condition.speed, condition.load
    orders = np.arange(1, N_MOTOR + 1, dtype=np.float32)
    strain = load * orders ** (0.5 * jnp.log2(load))
    root = jnp.sqrt(speed)
    return machine._replace(
        travel_s=(machine.travel_s - machine.ramp_s) / speed + machine.ramp_s,
        motor_hz=machine.motor_hz * speed,
        motor_amplitudes=machine.motor_amplitudes * speed * strain,
        ball_hz=machine.ball_hz * speed,
        friction=machine.friction * speed**machine.friction_exponent * jnp.sqrt(load),
        friction_knee_hz=machine.friction_knee_hz * root,
        hiss=machine.hiss * jnp.sqrt(load),
        hiss_hz=machine.hiss_hz * root,
        impact=machine.impact * speed * load,
    )


def responses(condition: Condition, *, sr: int) -> tuple[Array, Array]:
    """What the microphone makes of the machine, and of the factory around.

    Returns:
        Impulse responses (RING,) float32 of the machine's way to the file and of the background's, causal
        (minimum phase): a clip starts when it did. The second holds no distance.
    """
    hz = np.fft.rfftfreq(2 * RING, 1.0 / sr).astype(np.float32)
    octaves = np.log2(np.clip(hz / 1000.0, 0.125, 8.0))
    away = (octaves - jnp.log2(condition.peak_hz / 1000.0)) / PEAK_OCTAVES
    microphone = condition.tilt * octaves + condition.peak * jnp.exp(-0.5 * away**2)
    high = hz**2 / (hz**2 + HIGH_LOSS_HZ**2)
    way = -jnp.log2(condition.distance) * (20.0 * np.log10(2.0) + HIGH_LOSS_DB * high)
    return _minimum_phase(microphone + way), _minimum_phase(microphone)


def _minimum_phase(gains_db: Array) -> Array:
    """The impulse response of these gains that has all its sound as early as can be: (RING + 1,) dB -> (RING,).

    The logarithm of a minimum-phase spectrum has a causal inverse transform (the folded cepstrum).
    """
    cepstrum = jnp.fft.irfft(gains_db * (np.log(10.0) / 20.0), 2 * RING)
    fold = np.r_[1.0, np.full(RING - 1, 2.0), 1.0, np.zeros(RING - 1)].astype(np.float32)
    return jnp.fft.irfft(jnp.exp(jnp.fft.rfft(cepstrum * fold)), 2 * RING)[:RING]
