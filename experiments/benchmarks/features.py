"""Log-mel and MFCC of 32 clips (10 s, 16 kHz; 1024 / 512 / 128) against librosa and torch.

Run:     python -m experiments.benchmarks.features [--quick] [--json FILE]
Limit:   SciPy's bare real FFTs of the same frames, on all cores.
Result:  milliseconds for the 32 (2 cores of an AMD EPYC; JAX 0.10.2, librosa 0.11.0, torch 2.13.0)
         logmel  ours 25.9, librosa 94.6, torch 106.1 (batch) and 30.1 (clip by clip), limit 15.3
         mfcc    ours 25.1, librosa 90.3, torch 97.3 (batch) and 28.0 (clip by clip), limit 14.7
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import scipy.fft

from adjax.features import frame, get_window, log_mel_spectrogram, map_clips, mel_filterbank, mfcc
from experiments.benchmarks._harness import Case, find_peer, main

N_CLIPS, N_SAMPLES = 32, 160_000
SR, N_FFT, HOP_LENGTH, N_MELS, N_MFCC = 16_000, 1024, 512, 128, 20
SIZES: dict[str, Any] = {"sr": SR, "n_fft": N_FFT, "hop_length": HOP_LENGTH, "n_mels": N_MELS}
TOP_DB = 80.0


def make_clips() -> np.ndarray:
    """(N_CLIPS, N_SAMPLES) float32: a hum in noise."""
    rng = np.random.default_rng(0)
    hum = 0.3 * np.sin(2 * np.pi * 120 * np.arange(N_SAMPLES) / SR)
    return (hum[None, :] + 0.05 * rng.standard_normal((N_CLIPS, N_SAMPLES))).astype(np.float32)


def make_ours(clips: np.ndarray) -> dict[str, Callable[[], jax.Array]]:
    """Ours, compiled over the batch as `map_clips` chooses."""
    batch = jax.device_put(clips)
    log_mels = jax.jit(lambda y: map_clips(lambda clip: log_mel_spectrogram(clip, **SIZES), y))
    mfccs = jax.jit(
        lambda y: map_clips(
            lambda clip: mfcc(log_mel_spectrogram(clip, top_db=TOP_DB, **SIZES), n_mfcc=N_MFCC), y
        )
    )
    return {"logmel": lambda: log_mels(batch), "mfcc": lambda: mfccs(batch)}


def make_librosa(clips: np.ndarray) -> dict[str, Callable[[], np.ndarray]]:
    """librosa, one clip at a time."""
    librosa = find_peer("librosa")
    if librosa is None:
        return {}

    def log_mel(y: np.ndarray) -> np.ndarray:
        return librosa.power_to_db(librosa.feature.melspectrogram(y=y, **SIZES), top_db=None).T

    def coefficients(y: np.ndarray) -> np.ndarray:
        return librosa.feature.mfcc(y=y, n_mfcc=N_MFCC, **SIZES).T

    return {
        "logmel": lambda: np.stack([log_mel(y) for y in clips]),
        "mfcc": lambda: np.stack([coefficients(y) for y in clips]),
    }


def make_torch(clips: np.ndarray, *, clip_by_clip: bool) -> dict[str, Callable[[], Any]]:
    """`torch.stft` and products with the mel and cosine bases; the whole batch at once, or clip by clip."""
    torch = find_peer("torch")
    if torch is None:
        return {}
    batch = torch.from_numpy(clips)
    window = torch.from_numpy(get_window("hann", N_FFT, N_FFT).astype(np.float32))
    mel_basis = torch.from_numpy(mel_filterbank(sr=SR, n_fft=N_FFT, n_mels=N_MELS).astype(np.float32))
    cosines = scipy.fft.dct(np.eye(N_MELS), axis=1, norm="ortho")[:, :N_MFCC]
    dct_basis = torch.from_numpy(cosines.astype(np.float32))

    def log_mel(y: Any) -> Any:
        spectrum = torch.stft(
            y, N_FFT, HOP_LENGTH, window=window, center=True, pad_mode="constant", return_complex=True
        )
        mel = mel_basis @ (spectrum.real**2 + spectrum.imag**2)
        return (10.0 * torch.log10(torch.clamp(mel, min=1e-10))).mT

    def coefficients(y: Any) -> Any:
        decibels = log_mel(y)
        loudest = decibels.amax(dim=(-2, -1), keepdim=True)
        return torch.maximum(decibels, loudest - TOP_DB) @ dct_basis

    def run(work: Callable[[Any], Any]) -> Any:
        with torch.inference_mode():
            return torch.stack([work(y) for y in batch]) if clip_by_clip else work(batch)

    return {"logmel": lambda: run(log_mel), "mfcc": lambda: run(coefficients)}


def make_cases(quick: bool) -> list[Case]:
    """The cases, once everybody has been seen to compute the same."""
    del quick  # the work stays the same, only the rounds are fewer
    clips = make_clips()
    ours = make_ours(clips)
    peers = {
        "librosa": make_librosa(clips),
        "torch (batch)": make_torch(clips, clip_by_clip=False),
        "torch (clip by clip)": make_torch(clips, clip_by_clip=True),
    }
    window = get_window("hann", N_FFT, N_FFT).astype(np.float32)
    cut = jax.jit(jax.vmap(lambda y: frame(y, n_fft=N_FFT, hop_length=HOP_LENGTH)))
    frames = np.asarray(cut(clips)) * window
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cases = []
    for work, run in ours.items():
        others = {name: runs[work] for name, runs in peers.items() if work in runs}
        for other in others.values():
            np.testing.assert_allclose(np.asarray(other()), run(), atol=1e-2)
        cases.append(Case(work, run, others, lambda: scipy.fft.rfft(frames, workers=cores)))
    return cases


if __name__ == "__main__":
    main("Features of 32 clips of 10 s", make_cases, packages=("librosa", "torch"))
