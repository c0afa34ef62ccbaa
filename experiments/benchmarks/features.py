"""The front end: clips in memory and on disk to features, beside librosa, torch and the machine's limits.

Run:     python -m experiments.benchmarks.features [--quick] [--json FILE]
Works:   logmel, mfcc       of 32 clips of 10 s (16 kHz; 1024 / 512 / 128). Limit: SciPy's bare real FFTs of the
                            same frames, on all cores.
         gwrp_grid          GWRP of their log-mels for 51 values of r. Limit: for one r.
         wav_to_pooled      2,370 wav files (--quick: 240) to pooled log-mels. Limit: the slower of decoding alone
                            and computing alone.
         cached             their log-mels (380 MB) from the cache, against the run that filled it; cached_pooled
                            the same with pooled ones.
         memory             peak memory of wav_to_pooled by the number of clips, and its figure.
Result:  README.md beside this file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import scipy.fft

from adjax.batching import compile_clips, n_cores
from adjax.features import (
    frame,
    get_window,
    gwrp,
    log_mel_spectrogram,
    mel_filterbank,
    mfcc,
)
from experiments.benchmarks._from_disk import make_disk_cases
from experiments.benchmarks._harness import Case, find_peer, main

N_CLIPS, N_SAMPLES = 32, 160_000
SR, N_FFT, HOP_LENGTH, N_MELS, N_MFCC = 16_000, 1024, 512, 128, 20
SIZES: dict[str, Any] = {"sr": SR, "n_fft": N_FFT, "hop_length": HOP_LENGTH, "n_mels": N_MELS}
TOP_DB = 80.0
N_R = 51


def make_clips() -> np.ndarray:
    """(N_CLIPS, N_SAMPLES) float32: a hum in noise."""
    rng = np.random.default_rng(0)
    hum = 0.3 * np.sin(2 * np.pi * 120 * np.arange(N_SAMPLES) / SR)
    return (hum[None, :] + 0.05 * rng.standard_normal((N_CLIPS, N_SAMPLES))).astype(np.float32)


def make_ours(clips: np.ndarray) -> dict[str, Callable[[], np.ndarray]]:
    """Ours, on all cores."""
    log_mels = compile_clips(lambda y: log_mel_spectrogram(y, **SIZES))
    mfccs = compile_clips(lambda y: mfcc(log_mel_spectrogram(y, top_db=TOP_DB, **SIZES), n_mfcc=N_MFCC))
    return {"logmel": lambda: log_mels(clips), "mfcc": lambda: mfccs(clips)}


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


def make_memory_cases(clips: np.ndarray) -> list[Case]:
    """Log-mels and MFCCs, once everybody has been seen to compute the same."""
    peers = {
        "librosa": make_librosa(clips),
        "torch (batch)": make_torch(clips, clip_by_clip=False),
        "torch (clip by clip)": make_torch(clips, clip_by_clip=True),
    }
    window = get_window("hann", N_FFT, N_FFT).astype(np.float32)
    cut = jax.jit(jax.vmap(lambda y: frame(y, n_fft=N_FFT, hop_length=HOP_LENGTH)))
    frames = np.asarray(cut(clips)) * window
    cases = []
    for work, run in make_ours(clips).items():
        others = {name: runs[work] for name, runs in peers.items() if work in runs}
        for other in others.values():
            np.testing.assert_allclose(np.asarray(other()), run(), atol=1e-2)
        cases.append(Case(work, run, others, lambda: scipy.fft.rfft(frames, workers=n_cores())))
    return cases


def make_gwrp_case(clips: np.ndarray) -> Case:
    """A grid of r from one sort, one r, and NumPy with a sort for each r, as TWFR-GMM's own code does."""
    log_mels = make_ours(clips)["logmel"]()
    grid = np.linspace(0.0, 1.0, N_R).astype(np.float32)
    over_r = compile_clips(lambda x: jax.vmap(gwrp, in_axes=(None, 0))(x, grid))
    one_r = compile_clips(lambda x: gwrp(x, 0.5))

    def numpys(x: np.ndarray, r: float) -> np.ndarray:
        weights = np.power(r, np.arange(len(x)))
        return -np.sort(-x.T, axis=1) @ (weights / weights.sum())

    def numpy_grid() -> np.ndarray:
        return np.stack([[numpys(x, r) for r in grid] for x in log_mels])

    np.testing.assert_allclose(numpy_grid(), over_r(log_mels), rtol=1e-4, atol=1e-4)
    peers = {"NumPy, a sort for each r": numpy_grid}
    return Case("gwrp_grid", lambda: over_r(log_mels), peers, lambda: one_r(log_mels), rounds=5)


def make_cases(quick: bool) -> list[Case]:
    """All works; the quick ones from disk are of fewer clips."""
    clips = make_clips()
    return [*make_memory_cases(clips), make_gwrp_case(clips), *make_disk_cases(quick)]


if __name__ == "__main__":
    main("The front end", make_cases, packages=("librosa", "torch"))
