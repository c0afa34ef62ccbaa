"""Features of one clip, in pure JAX: write for one, batch from outside (`jax.vmap` or `adjax.batching.map_clips`).

Arrays are time-major, (n_frames, n_features): the transpose of librosa's.
"""

from adjax.features.alignment import coral, mixup, shift, smote, whiten
from adjax.features.context import stack_frames
from adjax.features.framing import frame, frame_weights, get_window, n_frames
from adjax.features.mel import (
    hz_to_mel,
    log_mel_spectrogram,
    mel_filterbank,
    mel_spectrogram,
    mel_to_hz,
    to_decibels,
)
from adjax.features.mfcc import delta, mfcc
from adjax.features.modulation import flux_pool, modulation_pool
from adjax.features.normalize import (
    Standardizer,
    fit_standardizer,
    normalize_clip,
    standardize,
    unstandardize,
)
from adjax.features.pcen import pcen
from adjax.features.pooling import gwrp, max_pool, mean_pool, moment_pool, percentile_pool, std_pool
from adjax.features.stft import spectrogram, stft
from adjax.features.views import VIEWS, clip_views, envelope_spectrum

__all__ = [
    "VIEWS",
    "Standardizer",
    "clip_views",
    "coral",
    "delta",
    "envelope_spectrum",
    "fit_standardizer",
    "flux_pool",
    "frame",
    "frame_weights",
    "get_window",
    "gwrp",
    "hz_to_mel",
    "log_mel_spectrogram",
    "max_pool",
    "mean_pool",
    "mel_filterbank",
    "mel_spectrogram",
    "mel_to_hz",
    "mfcc",
    "mixup",
    "modulation_pool",
    "moment_pool",
    "n_frames",
    "normalize_clip",
    "pcen",
    "percentile_pool",
    "shift",
    "smote",
    "spectrogram",
    "stack_frames",
    "standardize",
    "std_pool",
    "stft",
    "to_decibels",
    "unstandardize",
    "whiten",
]
