"""A linear slide rail as a physical model: the machine's parameters, its motion and its healthy sounds.

A carriage runs back and forth on a rail: it speeds up, cruises, slows down and dwells at the stop. Everything
that sounds follows that motion. Friction noise grows and brightens with speed, the harmonics of the motor and
of the recirculating balls sweep with it (their phase is the integral of speed), and the end stops knock at
each reversal. The frame's resonances then colour all of it (`frame_ring`).

Every number that the maths uses is a field of the traced pytree `Machine`, so one compile serves all machine
ids.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adjax.checks import check_number
from adjax.simulator.sound_synthesis import CONTROL, RING, draw_normals, noise_bins_hz, pulse_train

MIN_STROKE_S = 0.5  # the shortest stroke and dwell together that a machine may have; bounds the stroke count

N_MOTOR = 28
N_BALL = 6
N_MODES = 6
MODE_RING_S = 0.018  # longest time constant of a mode: its ring must die within RING samples


class Machine(NamedTuple):
    """One slide rail. Scalars are () float32; full speed is 1, so "at full speed" rates are in Hz.

    Attributes:
        travel_s: seconds of one stroke, ramps included.
        ramp_s: seconds to full speed, and to standstill.
        dwell_s: seconds of standstill at each end.
        return_speed: full speed of the return stroke over that of the outward one.
        timing_jitter: standard deviation of the speed and the dwell from stroke to stroke, relative.
        motor_hz: motor's fundamental at full speed.
        motor_amplitudes: (N_MOTOR,) of its harmonics 1, 2, ...
        ball_hz: rate at which balls enter the loaded zone at full speed.
        ball_amplitudes: (N_BALL,) of its harmonics, as a force and as a modulation of the friction.
        friction: rms-like level of the friction noise at full speed.
        friction_exponent: level goes with speed to this power.
        friction_knee_hz: frequency above which the broad part of friction falls, at full speed.
        friction_slope: how fast it falls, in powers of frequency (amplitude).
        hiss: amplitude of friction's high band relative to the broad part.
        hiss_hz: centre of the high band at full speed; it moves with the square root of speed.
        hiss_octaves: width (standard deviation) of the high band.
        impact: amplitude of the end-stop knocks.
        belt_order: the belt's own rate over the motor's (< 1, a sub-harmonic).
        mode_hz: (N_MODES,) resonances of the frame.
        mode_q: (N_MODES,) their quality factors.
        mode_gains: (N_MODES,) their peaks over the direct sound.
    """

    travel_s: Array
    ramp_s: Array
    dwell_s: Array
    return_speed: Array
    timing_jitter: Array
    motor_hz: Array
    motor_amplitudes: Array
    ball_hz: Array
    ball_amplitudes: Array
    friction: Array
    friction_exponent: Array
    friction_knee_hz: Array
    friction_slope: Array
    hiss: Array
    hiss_hz: Array
    hiss_octaves: Array
    impact: Array
    belt_order: Array
    mode_hz: Array
    mode_q: Array
    mode_gains: Array


# What tells the catalogued machines apart at a glance, after the real slide rails of MIMII: 00 long strokes,
# 02 slow and dull (so the hardest to judge), 04 short strokes under a whining motor, 06 short, bright
# strokes.
_CATALOGUE: dict[int, dict[str, float]] = {
    0: {"travel_s": 1.70, "ramp_s": 0.25, "dwell_s": 0.35, "hiss": 0.18, "motor_hz": 95.0, "whine": 0.15},
    1: {"travel_s": 1.30, "ramp_s": 0.20, "dwell_s": 0.50, "hiss": 0.12, "motor_hz": 130.0, "whine": 0.20},
    2: {"travel_s": 2.40, "ramp_s": 0.40, "dwell_s": 0.20, "hiss": 0.14, "motor_hz": 75.0, "whine": 0.08},
    3: {"travel_s": 0.90, "ramp_s": 0.12, "dwell_s": 0.60, "hiss": 0.14, "motor_hz": 160.0, "whine": 0.10},
    4: {"travel_s": 0.55, "ramp_s": 0.16, "dwell_s": 0.45, "hiss": 0.20, "motor_hz": 250.0, "whine": 0.40},
    5: {"travel_s": 2.00, "ramp_s": 0.30, "dwell_s": 0.45, "hiss": 0.11, "motor_hz": 110.0, "whine": 0.15},
    6: {"travel_s": 0.55, "ramp_s": 0.10, "dwell_s": 0.55, "hiss": 0.25, "motor_hz": 185.0, "whine": 0.05},
}
_MACHINE_STREAM = 20200


def make_machine(machine_id: int) -> Machine:
    """The machine of an id: deterministic, and a different one for every id.

    Args:
        machine_id: >= 0. Strokes, brightness and motor of ids 0 to 6 come from a catalogue and the rest is
            drawn; any other id is drawn entirely, from the catalogue's ranges.

    Returns:
        A `Machine` of float32 NumPy arrays (stack several with `jax.tree.map`).

    Raises:
        SettingsError: it is no such id.
    """
    check_number("machine_id", machine_id, low=0, whole=True)
    rng = np.random.default_rng([_MACHINE_STREAM, machine_id])
    drawn = {
        "travel_s": rng.uniform(0.5, 2.4),
        "ramp_s": rng.uniform(0.08, 0.2),
        "dwell_s": rng.uniform(0.2, 0.6),
        "hiss": rng.uniform(0.08, 0.25),
        "motor_hz": rng.uniform(70.0, 220.0),
        "whine": rng.uniform(0.05, 0.4),
    } | _CATALOGUE.get(machine_id, {})
    orders = np.arange(1, N_MOTOR + 1)
    motor = rng.lognormal(0.0, 0.6, N_MOTOR) / orders ** rng.uniform(1.0, 1.5)
    motor /= np.linalg.norm(motor)
    mesh = int(rng.integers(9, 15))  # teeth of the pinion: its mesh and twice that stand out of the harmonics
    motor += drawn.pop("whine") * (
        (orders == mesh) + 0.5 * (orders == 2 * mesh) + 0.3 * (abs(orders - mesh) == 1)
    )
    ball = rng.lognormal(0.0, 0.4, N_BALL) / np.arange(1, N_BALL + 1)
    edges = np.geomspace(250.0, 6500.0, N_MODES + 1)
    mode_hz = rng.uniform(edges[:-1], edges[1:])
    values = drawn | {
        "return_speed": rng.uniform(0.8, 1.0),
        "timing_jitter": 0.02,
        "motor_amplitudes": 0.5 * motor,
        "ball_hz": rng.uniform(18.0, 40.0),
        "ball_amplitudes": 0.3 * ball / np.linalg.norm(ball),
        "friction": 1.0,
        "friction_exponent": rng.uniform(0.6, 1.1),
        "friction_knee_hz": rng.uniform(250.0, 500.0),
        "friction_slope": rng.uniform(1.1, 1.4),
        "hiss_hz": rng.uniform(3200.0, 5600.0),
        "hiss_octaves": rng.uniform(0.3, 0.6),
        "impact": rng.uniform(4.0, 9.0),
        "belt_order": 1.0 / rng.uniform(7.0, 11.0),
        "mode_hz": mode_hz,
        "mode_q": np.minimum(rng.uniform(8.0, 30.0, N_MODES), np.pi * mode_hz * MODE_RING_S),
        "mode_gains": rng.uniform(0.5, 2.0, N_MODES),
    }
    return Machine._make(np.asarray(values[name], np.float32) for name in Machine._fields)


class Strokes(NamedTuple):
    """The strokes of a clip, (n_strokes,) float32 each, some of them before its start or past its end.

    Attributes:
        start_s: when the carriage leaves the stop.
        ramp_s: seconds to full speed.
        cruise_s: seconds at full speed.
        speed: full speed of this stroke (about 1).
        outward: 1.0 on the way out, 0.0 on the way back.
    """

    start_s: Array
    ramp_s: Array
    cruise_s: Array
    speed: Array
    outward: Array

    @property
    def end_s(self) -> Array:
        """When the carriage stands still again."""
        return self.start_s + 2.0 * self.ramp_s + self.cruise_s


class Motion(NamedTuple):
    """The carriage's motion on the control grid, one point every `CONTROL` samples, both ends included.

    Attributes:
        strokes: the strokes it is made of.
        speed: (n_control + 1,) float32 >= 0, absolute speed; 1 is full speed.
        travelled: (n_control + 1,) float32, integral of the speed in seconds at full speed.
    """

    strokes: Strokes
    speed: Array
    travelled: Array


def draw_strokes(key: Array, machine: Machine, *, duration: float) -> Strokes:
    """Strokes that cover a clip: equal distances, slightly unequal speeds and dwells, at a random phase.

    Args:
        key: PRNG key.
        machine: the machine.
        duration: seconds of the clip (static: it bounds the number of strokes).
    """
    n_strokes = int(np.ceil(duration / MIN_STROKE_S)) + 4
    key_jitter, key_phase = jax.random.split(key)
    jitter = machine.timing_jitter * jnp.clip(jax.random.normal(key_jitter, (2, n_strokes)), -2.0, 2.0)
    part, side = jax.random.uniform(key_phase, (2,))
    outward = (jnp.arange(n_strokes) + (side < 0.5)) % 2.0
    speed = (1.0 + jitter[0]) * jnp.where(outward > 0, 1.0, machine.return_speed)
    distance = machine.travel_s - machine.ramp_s
    ramp = jnp.full((n_strokes,), machine.ramp_s)
    cruise = jnp.maximum(distance / speed - ramp, 0.0)
    period = 2.0 * ramp + cruise + machine.dwell_s * (1.0 + 3.0 * jitter[1])
    start = jnp.cumsum(period) - period - part * (period[0] + period[1])
    return Strokes(start, ramp, cruise, speed, outward)


def motion_of(strokes: Strokes, *, n_control: int, sr: int) -> Motion:
    """Trapezoidal speed and its integral on the control grid.

    Args:
        strokes: the strokes, in time order.
        n_control: control intervals, each `CONTROL` samples.
        sr: sample rate in Hz.
    """
    top = strokes.start_s + strokes.ramp_s
    knots = jnp.stack([strokes.start_s, top, top + strokes.cruise_s, strokes.end_s], axis=1).ravel()
    zero = jnp.zeros_like(strokes.speed)
    heights = jnp.stack([zero, strokes.speed, strokes.speed, zero], axis=1).ravel()
    seconds = jnp.arange(n_control + 1) * (CONTROL / sr)
    speed = jnp.interp(seconds, knots, heights)
    steps = 0.5 * (speed[1:] + speed[:-1]) * (CONTROL / sr)
    return Motion(strokes, speed, jnp.concatenate([jnp.zeros(1), jnp.cumsum(steps)]))


def crossing_times(strokes: Strokes, position: Array) -> tuple[Array, Array]:
    """When, and how fast, each stroke passes a place on the rail.

    Args:
        strokes: (n_strokes,) strokes.
        position: () in (0, 1), the place as a part of the way out.

    Returns:
        (n_strokes,) seconds and (n_strokes,) speeds.
    """
    length = strokes.speed * (strokes.ramp_s + strokes.cruise_s)
    way = length * jnp.where(strokes.outward > 0, position, 1.0 - position)
    # Three pieces of a trapezoid: distance goes with time squared, then linearly, then squared from the far
    # end.
    ramp_way = 0.5 * strokes.speed * strokes.ramp_s
    first = jnp.sqrt(jnp.maximum(2.0 * way * strokes.ramp_s / strokes.speed, 0.0))
    middle = strokes.ramp_s + (way - ramp_way) / strokes.speed
    left = jnp.sqrt(jnp.maximum(2.0 * (length - way) * strokes.ramp_s / strokes.speed, 0.0))
    last = 2.0 * strokes.ramp_s + strokes.cruise_s - left
    after = jnp.where(way < ramp_way, first, jnp.where(way > length - ramp_way, last, middle))
    speed = strokes.speed * jnp.minimum(jnp.minimum(first, left) / strokes.ramp_s, 1.0)
    return strokes.start_s + after, speed


def friction_gains(machine: Machine, speed: Array, wear: Array | float, *, sr: int) -> Array:
    """Amplitude of the friction noise over time and frequency: level, knee and high band follow the speed.

    Args:
        machine: the machine.
        speed: (n_noise_frames,) at the noise frames' centres.
        wear: () standard normal; how the day's lubrication sets the high band.
        sr: sample rate in Hz.

    Returns:
        (n_noise_frames, n_bins) float32; zero where the carriage stands.
    """
    hz = noise_bins_hz(sr)[None, :]
    v = jnp.maximum(speed, 1e-3)[:, None]
    knee = machine.friction_knee_hz * jnp.sqrt(v)
    broad = (1.0 + (hz / knee) ** 2) ** (-0.5 * machine.friction_slope)
    octaves = jnp.log2(jnp.maximum(hz, 1.0) / (machine.hiss_hz * jnp.sqrt(v)))
    high = machine.hiss * jnp.exp(0.25 * wear) * jnp.exp(-0.5 * (octaves / machine.hiss_octaves) ** 2)
    level = machine.friction * v**machine.friction_exponent * (speed > 0.0)[:, None]
    return level * (broad + high)


def end_stop_knocks(key: Array, machine: Machine, strokes: Strokes, *, n_samples: int, sr: int) -> Array:
    """A knock where each stroke ends and a softer one where the next begins: (n_samples,) force pulses."""
    n_strokes = strokes.start_s.shape[0]
    of_clip, each = draw_normals(key, (), (2 * n_strokes,))
    strength = machine.impact * jnp.exp(0.5 * of_clip + 0.4 * each)
    strength = strength * jnp.concatenate([jnp.ones(n_strokes), jnp.full(n_strokes, 0.4)])
    times = jnp.concatenate([strokes.end_s, strokes.start_s])
    return pulse_train(times, strength, 6e-4, n_samples=n_samples, sr=sr)


def frame_ring(machine: Machine, *, sr: int) -> Array:
    """The frame's answer to a unit force: the direct sound and dying modes.

    A mode of gain g rings as 2 a g exp(-a t) cos(2 pi f0 t), a = pi f0 / Q: the impulse response of a
    resonator whose peak is g at f0.

    Returns:
        (RING,) float32.
    """
    seconds = jnp.arange(RING)[None, :] / sr
    decay = jnp.pi * machine.mode_hz / machine.mode_q
    modes = jnp.exp(-decay[:, None] * seconds) * jnp.cos(2.0 * jnp.pi * machine.mode_hz[:, None] * seconds)
    ring = jnp.sum((2.0 * machine.mode_gains * decay / sr)[:, None] * modes, axis=0)
    return ring.at[0].add(1.0)
