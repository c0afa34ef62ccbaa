"""What a fault adds to a slide rail's sound: MIMII's three anomalies, each from 0 (healthy) to 1 (severe).

`rail_damage`: pits at fixed places of the rail; as the carriage passes, each loaded ball clicks on them.
`loose_belt`: the belt swings at its own rate, a sub-harmonic of the motor, which modulates the running noise,
and slaps its guides after each reversal.
`no_grease`: dry friction is louder and brighter, and squeals in narrow bands in spells.

Every function returns forces or gains *on top of* the healthy ones and exactly zero at severity 0, so that
the ground truth is the fault's own part of the clip.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adjax.simulator.slide_rail import Machine, Motion, Strokes, crossing_times
from adjax.simulator.sound_synthesis import NOISE_FFT, draw_uniforms, noise_bins_hz, pulse_train, slow_course

FAULTS = ("rail_damage", "loose_belt", "no_grease")

N_PITS = 6
N_BALLS = 12
N_SLAPS = 20
N_SQUEALS = 3


class Severity(NamedTuple):
    """How severe each fault is: () float32 in [0, 1] each; all 0 is a healthy machine. Faults may combine."""

    rail_damage: Array | float = 0.0
    loose_belt: Array | float = 0.0
    no_grease: Array | float = 0.0


def pit_positions(key: Array) -> Array:
    """Where the rail is damaged: (N_PITS,) in (0.1, 0.9) of the way out. `key` is that of `rail_clicks`."""
    return jax.random.uniform(jax.random.split(key)[0], (N_PITS,), minval=0.1, maxval=0.9)


def rail_clicks(
    key: Array, machine: Machine, strokes: Strokes, severity: Array | float, *, n_samples: int, sr: int
) -> Array:
    """Clicks of `rail_damage`: (n_samples,) force pulses, a burst of N_BALLS a pit and stroke.

    The burst begins when the carriage's leading ball reaches the pit; the next balls follow at the ball rate
    of that speed. A click's force goes with the speed.
    """
    places = pit_positions(key)
    depths = 0.85 ** jnp.arange(N_PITS)
    times, speeds = jax.vmap(crossing_times, in_axes=(None, 0))(strokes, places)
    spacing = 1.0 / (machine.ball_hz * 4.0 * jnp.maximum(speeds, 0.1))
    each = times[:, :, None] + spacing[:, :, None] * jnp.arange(N_BALLS)[None, None, :]
    scatter = jnp.exp(0.4 * jax.random.normal(jax.random.split(key)[1], each.shape))
    force = severity * (depths[:, None] * speeds)[:, :, None] * scatter
    return pulse_train(each.ravel(), 20.0 * force.ravel(), 2.5e-4, n_samples=n_samples, sr=sr)


def belt_slaps(key: Array, strokes: Strokes, severity: Array | float, *, n_samples: int, sr: int) -> Array:
    """Rattle of `loose_belt`: (n_samples,) force pulses that die away after each start and stop."""
    ends = jnp.concatenate([strokes.start_s, strokes.end_s])
    gaps, sizes = draw_uniforms(key, (ends.shape[0], N_SLAPS), (ends.shape[0], N_SLAPS))
    delay = jnp.cumsum(2e-3 + 12e-3 * gaps, axis=1)
    force = jnp.exp(-delay / 0.08) * (0.3 + 0.7 * sizes)
    times = (ends[:, None] + delay).ravel()
    return pulse_train(times, 5.0 * severity * force.ravel(), 3.5e-4, n_samples=n_samples, sr=sr)


def belt_swing(machine: Machine, motion: Motion, severity: Array | float) -> Array:
    """Amplitude modulation of `loose_belt` at the belt's rate: (n_control + 1,) float32, to add to 1."""
    phase = 2.0 * jnp.pi * (machine.belt_order * machine.motor_hz * motion.travelled % 1.0)
    return 1.8 * severity * (1.0 - jnp.cos(phase))


def dry_gains(
    key: Array,
    machine: Machine,
    motion: Motion,
    speed: Array,
    friction: Array,
    severity: Array | float,
    *,
    sr: int,
) -> Array:
    """What `no_grease` adds to the gains of the friction noise: (n_noise_frames, n_bins) float32.

    Args:
        key: PRNG key of the squeals.
        machine: the machine.
        motion: gives the strokes, some of which squeal and some do not.
        speed: (n_noise_frames,) at the noise frames' centres.
        friction: (n_noise_frames, n_bins) healthy gains.
        severity: of the fault.
        sr: sample rate in Hz.
    """
    hz = noise_bins_hz(sr)
    # Dry friction brightens: nothing below a few hundred Hz, all of it above a few kHz.
    raised = friction * (hz**2 / (hz**2 + 1500.0**2))[None, :]
    places, spells = draw_uniforms(key, (N_SQUEALS,), (N_SQUEALS, 4 * motion.strokes.start_s.shape[0]))
    spell = jnp.clip(4.0 * slow_course(spells, speed.shape[0]) - 2.2, 0.0, 1.0) * jnp.sqrt(speed)[None, :]
    centre = (machine.hiss_hz * (0.45 + 0.85 * places))[:, None] * (0.9 + 0.1 * speed)[None, :]
    lines = jnp.exp(-0.5 * ((hz[None, None, :] - centre[:, :, None]) / np.float32(sr / NOISE_FFT)) ** 2)
    squeal = jnp.sum(spell[:, :, None] * lines, axis=0)
    return severity * (3.5 * raised + 2.0 * machine.friction * squeal)
