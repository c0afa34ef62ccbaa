"""Building blocks of the simulator, all pure JAX: draws, tones, pulses, shaped noise, resonance.

Three grids appear. Samples; the control grid, one point every `CONTROL` samples, for what moves; and noise
frames, one every `NOISE_HOP` samples, for spectra that change.

Fourier transforms are taken few rows at a time (`lax.map` with a batch size). With whole batches the simulator
hung for good under JAX 0.11.2 on 2 cores (never under 0.10.2), every thread asleep. The likely cause, as
PyAutoLabs/PyAutoFit issue 1530 found by native stacks: XLA's CPU transform splits a batch over the very thread
pool it runs on and waits. pocketfft, from which XLA's ducc stems, keeps a batch of fewer than 2 SIMD widths on
one thread (8 for lengths under 1000); with so few rows it has not hung since.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

# Lengths in samples; they set shapes.
CONTROL = 16
NOISE_FFT = 512
NOISE_HOP = NOISE_FFT // 2
PULSE = 16
RING = 2048

# Rows of one Fourier transform, few enough for one thread even with 4-wide SIMD.
_NOISE_ROWS = 16
_RING_ROWS = 4


def draw_normals(key: Array, *shapes: tuple[int, ...]) -> list[Array]:
    """Standard normal arrays of several shapes from one draw: each draw is dear to compile."""
    return _cut(jax.random.normal(key, (_total(shapes),)), shapes)


def draw_uniforms(key: Array, *shapes: tuple[int, ...]) -> list[Array]:
    """Arrays of several shapes, uniform in [0, 1), from one draw."""
    return _cut(jax.random.uniform(key, (_total(shapes),)), shapes)


def _total(shapes: tuple[tuple[int, ...], ...]) -> int:
    return sum(math.prod(shape) for shape in shapes)


def _cut(flat: Array, shapes: tuple[tuple[int, ...], ...]) -> list[Array]:
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    return [part.reshape(shape) for part, shape in zip(jnp.split(flat, ends[:-1]), shapes, strict=True)]


def slow_course(knots: Array, n: int) -> Array:
    """Straight lines between evenly spread knots: (..., n_knots) -> (..., n), as a matrix product."""
    n_knots = knots.shape[-1]
    place = np.linspace(0.0, n_knots - 1.0, n)
    hats = np.maximum(0.0, 1.0 - np.abs(place[None, :] - np.arange(n_knots)[:, None])).astype(np.float32)
    return jnp.matmul(knots, hats, precision="highest")


def upsample(control: Array) -> Array:
    """Linear interpolation from the control grid to samples: (n_control + 1,) -> (n_control * CONTROL,)."""
    part = jnp.arange(CONTROL) / CONTROL
    return (control[:-1, None] + (control[1:] - control[:-1])[:, None] * part[None, :]).ravel()


def phasor(cycles: ArrayLike) -> Array:
    """exp(2 pi i cycles), complex64."""
    angle = 2.0 * jnp.pi * (jnp.asarray(cycles) % 1.0)
    return jax.lax.complex(jnp.cos(angle), jnp.sin(angle))


def harmonics(phase: Array, amplitudes: Array) -> Array:
    """Sum of amplitudes[k] * sin(2 pi (k + 1) phase), by Clenshaw's recurrence (one sine, one cosine).

    Args:
        phase: (n,) cycles; only its fraction counts, which keeps float32 exact enough for the high harmonics.
        amplitudes: (n_harmonics,).

    Returns:
        (n,) float32.
    """
    angle = 2.0 * jnp.pi * (phase % 1.0)
    twice = 2.0 * jnp.cos(angle)
    newer, older = jnp.zeros_like(phase), jnp.zeros_like(phase)
    for amplitude in amplitudes[::-1]:
        newer, older = amplitude + twice * newer - older, newer
    return newer * jnp.sin(angle)


def pulse_train(
    times_s: Array, amplitudes: Array, width_s: Array | float, *, n_samples: int, sr: int
) -> Array:
    """Contact forces: one raised-cosine pulse at each time, placed between samples where it falls there.

    Args:
        times_s: (n_pulses,) seconds; pulses that begin outside the clip are left out.
        amplitudes: (n_pulses,) their areas in samples.
        width_s: seconds from foot to foot, at most `PULSE` samples.
        n_samples: length of the clip.
        sr: sample rate in Hz.

    Returns:
        (n_samples,) float32.
    """
    width = width_s * sr
    first = jnp.ceil(times_s * sr)
    offsets = first[:, None] - (times_s * sr)[:, None] + jnp.arange(PULSE)[None, :]
    shape = jnp.where(offsets < width, (1.0 - jnp.cos(2.0 * jnp.pi * offsets / width)) / width, 0.0)
    index = first.astype(jnp.int32)[:, None] + jnp.arange(PULSE)[None, :]
    index = jnp.where((times_s >= 0.0)[:, None], index, n_samples)  # a negative index would wrap to the end
    return jnp.zeros(n_samples).at[index].add(shape * amplitudes[:, None], mode="drop")


def noise_bins_hz(sr: int) -> np.ndarray:
    """Frequencies of the columns of `noise_frames`: (NOISE_FFT // 2 + 1,) float32, Hz."""
    return np.fft.rfftfreq(NOISE_FFT, 1.0 / sr).astype(np.float32)


def noise_frames(key: Array, *, n_samples: int) -> Array:
    """Complex white noise for `shaped_noise`: (n_noise_frames, NOISE_FFT // 2 + 1) complex64.

    The parts are bytes, evenly spread, not normal deviates: random numbers are the dearest part of a clip,
    and an output sample, which sums 512 of them, is normal all the same.
    """
    n_frames = -(-n_samples // NOISE_HOP) + 1
    words = jax.random.bits(key, (-(-n_frames // 2), NOISE_FFT // 2 + 1), np.uint32)
    parts = [((words >> shift) & 255).astype(np.float32) - 127.5 for shift in (0, 8, 16, 24)]
    pairs = jnp.concatenate([jax.lax.complex(parts[0], parts[1]), jax.lax.complex(parts[2], parts[3])])
    byte_std = np.sqrt((256.0**2 - 1.0) / 12.0)
    return pairs[:n_frames] * np.float32(np.sqrt(0.5 * NOISE_FFT) / byte_std)


def shaped_noise(frames: Array, gains: Array, *, n_samples: int) -> Array:
    """Noise with a spectrum that changes in time: white frames times gains, inverse FFT, overlap-add.

    Frames of `NOISE_FFT` samples under a sine window, half overlapping: independent frames add in power, and
    sin^2 + cos^2 = 1 keeps the level steady. Frame m is centred on sample m * NOISE_HOP.

    Args:
        frames: (n_noise_frames, n_bins) complex white noise.
        gains: (n_noise_frames, n_bins) amplitudes; gains of 1 give noise of variance about 1.
        n_samples: length of the clip.

    Returns:
        (n_samples,) float32.
    """
    window = np.sin(np.pi * (np.arange(NOISE_FFT) + 0.5) / NOISE_FFT).astype(np.float32)
    waves = jax.lax.map(jnp.fft.irfft, frames * gains, batch_size=_NOISE_ROWS) * window[None, :]
    return (waves[:-1, NOISE_HOP:] + waves[1:, :NOISE_HOP]).ravel()[:n_samples]


def resonate(force: Array, ring: Array) -> Array:
    """Convolve with an impulse response, by overlap-add: much faster than one transform of the whole clip.

    Args:
        force: (n_samples,).
        ring: (RING,) impulse response.

    Returns:
        (n_samples,) float32; what rings past the end is cut.
    """
    n_blocks = -(-force.shape[0] // RING)
    blocks = jnp.pad(force, (0, n_blocks * RING - force.shape[0])).reshape(n_blocks, RING)
    response = jnp.fft.rfft(ring, 2 * RING)

    def ring_out(block: Array) -> Array:
        return jnp.fft.irfft(jnp.fft.rfft(block, 2 * RING) * response, 2 * RING)

    waves = jax.lax.map(ring_out, blocks, batch_size=_RING_ROWS)
    tails = jnp.pad(waves[:-1, RING:], ((1, 0), (0, 0)))
    return (waves[:, :RING] + tails).ravel()[: force.shape[0]]
