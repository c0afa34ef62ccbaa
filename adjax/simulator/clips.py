"""Synthetic slide-rail clips: a simulated machine in a simulated factory, healthy or faulty.

`simulate` makes one clip from a key, a `Machine` (`make_machine`), a `Severity` and an SNR, all traced: one
compile serves every machine, fault and severity, and one more every `Condition` that they are heard in. It returns
the clip and, apart, what the fault changed in it, worked out with the same randomness: `clip.samples - clip.fault`
is the healthy clip of the same key.

Levels follow MIMII (Purohit et al. 2019): the machine stays at one level and the background is scaled to the
SNR. The SNR is that of the *healthy* machine over the whole clip, so a fault can raise the level; a condition's
distance and background level come on top.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from adjax.simulator.conditions import Condition, in_condition, responses
from adjax.simulator.factory_noise import factory_noise
from adjax.simulator.slide_rail import (
    Machine,
    draw_strokes,
    end_stop_knocks,
    frame_ring,
    friction_gains,
    make_machine,
    motion_of,
)
from adjax.simulator.slide_rail_faults import FAULTS, Severity, belt_slaps, belt_swing, dry_gains, rail_clicks
from adjax.simulator.sound_synthesis import (
    CONTROL,
    NOISE_HOP,
    harmonics,
    noise_frames,
    resonate,
    shaped_noise,
    upsample,
)

__all__ = ["FAULTS", "Machine", "Severity", "SimulatedClip", "make_machine", "simulate", "simulate_batch"]

SR = 16_000
DURATION_S = 10.0
MACHINE_LEVEL_DB = -46.0  # dBFS (rms) of the healthy machine, as in MIMII's slide rails


class SimulatedClip(NamedTuple):
    """A clip and its fault's part of it.

    Attributes:
        samples: (n_samples,) float32, machine and background, within [-1, 1] at the SNRs of MIMII.
        fault: (n_samples,) float32, what the fault added: exactly 0 everywhere for a healthy machine.
    """

    samples: Array
    fault: Array


class ClipKeys(NamedTuple):
    """The independent random streams of one clip."""

    strokes: Array
    friction: Array
    wear: Array
    knocks: Array
    pits: Array
    slaps: Array
    squeals: Array
    background: Array


def clip_keys(key: Array) -> ClipKeys:
    """Split a clip's key into its streams; faults have their own, so they leave the healthy part as it is."""
    return ClipKeys(*jax.random.split(key, len(ClipKeys._fields)))


def machine_sound(
    key: Array, machine: Machine, severity: Severity, *, n_samples: int, sr: int
) -> tuple[Array, Array]:
    """The machine alone, in arbitrary units: its healthy sound and the fault's part, (n_samples,) each."""
    keys = clip_keys(key)
    n_control = -(-n_samples // CONTROL)
    n_control += -n_control % (NOISE_HOP // CONTROL)  # whole noise hops
    n_whole = n_control * CONTROL
    sizes = {"n_samples": n_whole, "sr": sr}

    strokes = draw_strokes(keys.strokes, machine, duration=n_whole / sr)
    motion = motion_of(strokes, n_control=n_control, sr=sr)
    speed = upsample(motion.speed)

    balls = harmonics(machine.ball_hz * motion.travelled, machine.ball_amplitudes)
    frames = noise_frames(keys.friction, n_samples=n_whole)
    frame_speed = motion.speed[:: NOISE_HOP // CONTROL]
    gains = friction_gains(machine, frame_speed, jax.random.normal(keys.wear), sr=sr)
    running = shaped_noise(frames, gains, n_samples=n_whole) * upsample(1.0 + balls)
    running = (
        running + harmonics(machine.motor_hz * upsample(motion.travelled), machine.motor_amplitudes) * speed
    )
    running = running + upsample(balls * motion.speed)
    healthy = running + end_stop_knocks(keys.knocks, machine, strokes, **sizes)

    dry = dry_gains(keys.squeals, machine, motion, frame_speed, gains, severity.no_grease, sr=sr)
    fault = shaped_noise(frames, dry, n_samples=n_whole)
    fault = fault + running * upsample(belt_swing(machine, motion, severity.loose_belt))
    fault = fault + belt_slaps(keys.slaps, strokes, severity.loose_belt, **sizes)
    fault = fault + rail_clicks(keys.pits, machine, strokes, severity.rail_damage, **sizes)

    ring = frame_ring(machine, sr=sr)
    return resonate(healthy, ring)[:n_samples], resonate(fault, ring)[:n_samples]


def simulate(
    key: Array,
    machine: Machine,
    severity: Severity,
    snr_db: Array | float,
    condition: Condition | None = None,
    *,
    n_samples: int = int(SR * DURATION_S),
    sr: int = SR,
) -> SimulatedClip:
    """Simulate one clip.

    Args:
        key: PRNG key of the clip; the same key gives the same clip.
        machine: from `make_machine`.
        severity: of each fault, in [0, 1].
        snr_db: healthy machine over background, dB, in the nominal condition; MIMII has 6, 0 and -6.
        condition: how the machine runs and is heard; None: nominally, through no microphone (saves its filters).
        n_samples: length (static).
        sr: sample rate in Hz (static); the model is tuned at 16 kHz.

    Returns:
        The clip and the fault's part of it.
    """
    if condition is not None:
        machine = in_condition(machine, condition)
        harder = condition.speed * condition.load  # a pit is hit as hard as the stops are
        severity = severity._replace(rail_damage=severity.rail_damage * harder)
    healthy, fault = machine_sound(key, machine, severity, n_samples=n_samples, sr=sr)
    gain = 10.0 ** (MACHINE_LEVEL_DB / 20.0) * jax.lax.rsqrt(jnp.mean(healthy**2))
    background = factory_noise(clip_keys(key).background, n_samples=n_samples, sr=sr)
    background = background * 10.0 ** ((MACHINE_LEVEL_DB - snr_db) / 20.0)
    fault = fault * gain
    if condition is None:
        return SimulatedClip(healthy * gain + background + fault, fault)
    way, microphone = responses(condition, sr=sr)
    background = resonate(background * 10.0 ** (condition.background / 20.0), microphone)
    fault = resonate(fault, way)
    return SimulatedClip(resonate(healthy * gain, way) + background + fault, fault)


@partial(jax.jit, static_argnames=("n_samples", "sr"))
def simulate_batch(
    keys: Array,
    machines: Machine,
    severities: Severity,
    snr_db: Array | float,
    conditions: Condition | None = None,
    *,
    n_samples: int = int(SR * DURATION_S),
    sr: int = SR,
) -> SimulatedClip:
    """Simulate clips, one after another (`lax.map`: on a CPU a clip's working set stays in cache).

    Args:
        keys: (n_clips,) PRNG keys.
        machines: `Machine` with a leading axis of n_clips.
        severities: `Severity` of (n_clips,) arrays.
        snr_db: () for all of them.
        conditions: `Condition` of (n_clips,) arrays, or None for all of them.
        n_samples: length (static).
        sr: sample rate in Hz (static).

    Returns:
        `SimulatedClip` of (n_clips, n_samples) arrays.
    """

    def one(lane: tuple[Array, Machine, Severity, Condition | None]) -> SimulatedClip:
        key, machine, severity, condition = lane
        return simulate(key, machine, severity, snr_db, condition, n_samples=n_samples, sr=sr)

    return jax.lax.map(one, (keys, machines, severities, conditions))
