"""Recordings of humming machines, under names of any kind."""

from __future__ import annotations

import numpy as np

SETTINGS = ("n_components=1", "covariance_type=diag", "reg_covar=0.01")


OPTIONS = ["--model", "gmm", "--n-mels", "16", "--clip-pooling", "mean", "--set", *SETTINGS]


NAMES = ("Pumpe läuft (1).wav", "录音 2.wav", "запись №3.wav", "a,b;c'd.wav", "x\ty.wav", "z.WAV")


def hum(seed: int, loud: float = 1.0, hz: float = 500.0) -> np.ndarray:
    """Half a second."""
    rng = np.random.default_rng(seed)
    tone = 0.1 * np.sin(2 * np.pi * hz * np.arange(8000) / 16000)
    return (loud * (tone + 0.02 * rng.normal(size=8000))).astype(np.float32)
