"""The factory around the machine: coloured noise, hum of other machines, and a clank now and then.

Every clip gets a background of its own: its slope, its bumps, its slow swells, and how many tones stand out.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adjax.simulator.sound_synthesis import (
    draw_normals,
    draw_uniforms,
    noise_bins_hz,
    noise_frames,
    phasor,
    shaped_noise,
    slow_course,
)

N_BUMPS = 4
N_HUM_LINES = 5  # harmonics of each other machine that hums
# Fundamentals of the other machines: the factory always has the same ones, at slightly different speeds.
HUM_HZ = np.array([118.0, 243.0, 430.0, 785.0], np.float32)
HUM_BLOCK = 32  # samples over which a line keeps its phasor
N_CLANKS = 3
CLANK_S = 0.4


def coloured_noise(key: Array, site: Array | float, *, n_samples: int, sr: int) -> Array:
    """Falling noise with a few broad bumps, swelling slowly, lows and highs apart.

    Args:
        key: PRNG key.
        site: () -1 for the bright place in the factory, 1 for the dull one.
        n_samples: length.
        sr: sample rate in Hz.

    Returns:
        (n_samples,) float32.
    """
    key_noise, key_shape, key_place = jax.random.split(key, 3)
    frames = noise_frames(key_noise, n_samples=n_samples)
    slope, knee, height, level, tilt = draw_normals(key_shape, (), (), (N_BUMPS,), (12,), (12,))
    centre, width = draw_uniforms(key_place, (N_BUMPS,), (N_BUMPS,))

    hz = np.maximum(noise_bins_hz(sr), 20.0)
    octaves = np.log2(hz / 1000.0)
    shape = 0.5 * (-4.9 - 0.6 * site + 0.4 * slope) * jnp.log2(1.0 + (hz / (80.0 * jnp.exp(0.3 * knee))) ** 2)
    away = (octaves[None, :] - (6.5 * centre - 3.5)[:, None]) / (0.3 + 0.7 * width)[:, None]
    bumps = 1.5 * height[:, None] * jnp.exp(-0.5 * away**2)
    level = 0.7 * slow_course(level, frames.shape[0])[:, None]
    tilt = 0.25 * slow_course(tilt, frames.shape[0])[:, None] * octaves[None, :]
    gains_db = (shape + bumps.sum(axis=0))[None, :] + level + tilt
    return shaped_noise(frames, jnp.exp(gains_db * (np.log(10.0) / 20.0)), n_samples=n_samples)


def hum(key: Array, *, n_samples: int, sr: int) -> Array:
    """Tones of other machines, harmonics of a few fundamentals that wander a little: (n_samples,) float32.

    A line is a phasor, set every HUM_BLOCK samples, times a short run of its mean frequency, which makes the
    sum of all lines one small matrix product.
    """
    key_normal, key_uniform = jax.random.split(key)
    n_hums = len(HUM_HZ)
    lines = (n_hums, N_HUM_LINES)
    loud, speed, sizes, walk, swell = draw_normals(
        key_normal, (n_hums, 1), (n_hums, 1), lines, (n_hums, 8), (n_hums, 40)
    )
    (first,) = draw_uniforms(key_uniform, lines)
    n_blocks = -(-n_samples // HUM_BLOCK)
    order = jnp.arange(1.0, N_HUM_LINES + 1)[None, :]
    f0 = HUM_HZ[:, None] * jnp.exp(0.04 * speed)
    size = jnp.exp(0.7 * loud + 0.4 * sizes) / order * (f0 * order < 0.45 * sr)

    drift = 1.0 + 0.002 * slow_course(walk, n_blocks)
    cycles = jnp.cumsum(f0 * drift, axis=1) * (HUM_BLOCK / sr) % 1.0
    phasors = phasor(cycles[:, None, :] * order[:, :, None] + first[:, :, None])
    phasors = phasors * size[:, :, None] * jnp.exp(0.25 * slow_course(swell, n_blocks))[:, None, :]
    runs = phasor((f0 * order).reshape(-1, 1) * jnp.arange(HUM_BLOCK)[None, :] / sr)
    waves = jnp.matmul(phasors.reshape(-1, n_blocks).T, runs, precision="highest")
    return waves.real.ravel()[:n_samples]


def clanks(key: Array, *, n_samples: int, sr: int) -> Array:
    """Up to N_CLANKS distant knocks of metal, each a few dying modes, each there in one clip of five."""
    length = min(int(CLANK_S * sr), n_samples)
    shape = (N_CLANKS, 3)
    there, when, pitch, decay, size = draw_uniforms(key, (N_CLANKS,), (N_CLANKS,), shape, shape, shape)
    start = (when * (n_samples - length + 1)).astype(jnp.int32)
    hz = 300.0 * 20.0**pitch
    decay = 0.02 + 0.06 * decay
    size = (0.2 + 0.8 * size) * (700.0 / (700.0 + hz))
    seconds = (jnp.arange(length) / sr)[None, None, :]
    rings = (
        size[:, :, None]
        * jnp.exp(-seconds / decay[:, :, None])
        * jnp.sin(2.0 * jnp.pi * hz[:, :, None] * seconds)
    )
    rings = rings.sum(axis=1) * (there < 0.2)[:, None]
    total = jnp.zeros(n_samples)
    for i in range(N_CLANKS):
        here = jax.lax.dynamic_slice(total, (start[i],), (length,))
        total = jax.lax.dynamic_update_slice(total, here + rings[i], (start[i],))
    return total


def factory_noise(key: Array, *, n_samples: int, sr: int) -> Array:
    """A background of mean square 1: (n_samples,) float32."""
    key_noise, key_hum, key_share, key_clank = jax.random.split(key, 4)
    bright, part = draw_uniforms(key_share, (), ())
    site = jnp.where(bright < 0.5, -1.0, 1.0)
    noise = coloured_noise(key_noise, site, n_samples=n_samples, sr=sr)
    tones = hum(key_hum, n_samples=n_samples, sr=sr)
    share = jnp.where(site < 0.0, 0.2 + 0.4 * part, 0.01 + 0.09 * part)
    mixed = jnp.sqrt(1.0 - share) * _unit(noise) + jnp.sqrt(share) * _unit(tones)
    return _unit(mixed + 2.5 * clanks(key_clank, n_samples=n_samples, sr=sr))


def _unit(x: Array) -> Array:
    """Scaled to mean square 1."""
    return x * jax.lax.rsqrt(jnp.mean(x**2) + 1e-20)
