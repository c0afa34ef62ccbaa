"""Feature recipes: one clip to one matrix, by name and static settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp

from adjax.checks import check_fields, check_number
from adjax.features.framing import frame_weights, n_frames
from adjax.features.mel import MAX_N_FFT, log_mel_spectrogram, mel_edges, mel_spectrogram
from adjax.features.mfcc import delta, mfcc
from adjax.features.modulation import OCTAVES, flux_pool, modulation_pool
from adjax.features.normalize import normalize_clip
from adjax.features.pcen import pcen
from adjax.features.pooling import gwrp, max_pool, mean_pool, moment_pool, percentile_pool, std_pool
from adjax.features.stft import spectrogram
from adjax.features.views import GROUP, VIEWS, clip_views
from adjax.types import SettingsError

FeatureKind = Literal["log-mel", "mfcc", "spectrum", "pcen"]
Pooling = Literal[
    "none", "mean", "std", "max", "gwrp", "percentiles", "moments", "modulation", "flux", "views"
]
ClipNorm = Literal["none", "level", "feature"]
Floor = Literal["add", "max"]

# Of the DCASE baselines by year: 2020 takes log10(mel + eps), 2023 to 2026 log10(max(mel, eps)).
BASELINE_FLOORS: Mapping[str, Floor] = {"2020": "add", "2023": "max"}


@dataclass(frozen=True)
class FeatureConfig:
    """Static settings of the front end; the defaults are those of the DCASE 2020 baseline.

    Attributes:
        kind: "log-mel" in dB, "mfcc" of it, "spectrum", the magnitude of the STFT, "pcen", mel magnitudes
            behind a gain control, or "samples": the wave itself in blocks of hop_length, one after the other, the last
            one filled up from the clip's beginning.
        sr: sampling rate in Hz.
        n_fft: length of a frame in samples.
        hop_length: samples between frames.
        n_mels: mel bands (log-mel, MFCC and PCEN).
        n_mfcc: cepstral coefficients (MFCC).
        n_deltas: orders of time derivatives appended to the MFCCs: 0, 1 or 2.
        pad_mode: at the clip's ends: "constant" (librosa >= 0.10) or "reflect" (before).
        floor: what keeps the logarithm of log-mel and MFCC finite in silence (eps = 2.2e-16): "add" takes
            log10(mel + eps), "max" log10(max(mel, eps)); see `BASELINE_FLOORS`. The other kinds take no such
            logarithm and are the same with either.
        clip_norm: what each clip is freed of before pooling: "none", its "level" or each "feature"'s mean and
            scale; see `normalize_clip`.
        pooling: "none" keeps the frames; the others make one vector a clip, of one number a feature, or several
            ("percentiles"; "moments": 4; "modulation": 7 octaves; "views" of a log-mel: 5).
        gwrp_r: r of pooling "gwrp", in [0, 1]: 1 is the mean, 0 the maximum.
        percentiles: of pooling "percentiles", each in [0, 100].
    """

    kind: FeatureKind | Literal["samples"] = "log-mel"
    sr: int = 16000
    n_fft: int = 1024
    hop_length: int = 512
    n_mels: int = 128
    n_mfcc: int = 20
    n_deltas: int = 0
    pad_mode: Literal["constant", "reflect"] = "constant"
    floor: Floor = "add"
    clip_norm: ClipNorm = "none"
    pooling: Pooling = "none"
    gwrp_r: float = 0.5
    percentiles: tuple[float, ...] = (5.0, 25.0, 50.0, 75.0, 95.0)

    def check(self) -> FeatureConfig:
        """Itself.

        Raises:
            SettingsError: a setting out of its range, whether or not this kind and pooling use it.
        """
        check_number("sr", self.sr, low=1, whole=True)
        check_number("n_fft", self.n_fft, low=1, high=MAX_N_FFT, whole=True)
        check_number("hop_length", self.hop_length, low=1, high=MAX_N_FFT, whole=True)
        check_number("n_mels", self.n_mels, low=1, whole=True)
        check_number("n_deltas", self.n_deltas, low=0, high=2, whole=True)
        check_number("gwrp_r", self.gwrp_r, low=0, high=1)
        check_fields(self)
        for percentile in self.percentiles:
            check_number("percentiles", percentile, low=0, high=100)
        if not self.percentiles:
            raise SettingsError("percentiles=(): give at least one number from 0 to 100")
        if self.kind == "mfcc":
            check_number("n_mfcc", self.n_mfcc, low=1, high=self.n_mels, whole=True)
        if self.kind == "samples" and (self.pooling != "none" or self.clip_norm != "none"):
            raise SettingsError(
                f"kind='samples' is the wave as it is: leave pooling={self.pooling!r} and clip_norm={self.clip_norm!r} "
                "at 'none', or take another kind"
            )
        if self.kind not in ("spectrum", "samples"):
            mel_edges(sr=self.sr, n_fft=self.n_fft, n_mels=self.n_mels)
        if self.pooling == "views" and (self.kind != "log-mel" or self.n_mels % GROUP):
            raise SettingsError(
                f"pooling='views' needs log-mels of a multiple of {GROUP} bands, not kind={self.kind!r} with "
                f"n_mels={self.n_mels}: change n_mels, or take another pooling"
            )
        return self

    @property
    def n_features(self) -> int:
        """Columns of the matrix."""
        columns = {
            "log-mel": self.n_mels,
            "mfcc": self.n_mfcc * (1 + self.n_deltas),
            "spectrum": 1 + self.n_fft // 2,
            "pcen": self.n_mels,
            "samples": self.hop_length,
        }
        several = {
            "percentiles": len(self.percentiles),
            "moments": 4,
            "modulation": len(OCTAVES) - 1,
            "views": len(VIEWS),
        }
        return columns[self.kind] * several.get(self.pooling, 1)

    def n_rows(self, n_samples: int) -> int:
        """Rows that a clip of so many samples has: its frames, or 1 when they are pooled."""
        count = self._count(n_samples)
        return min(count, 1) if self.pooling != "none" else count

    def count_frames(self, n_valid: Array) -> Array:
        """() int, frames of a clip of `n_valid` real samples, traced."""
        return self._count(jnp.asarray(n_valid))

    def _count(self, n_samples: Any) -> Any:
        if self.kind == "samples":
            return -(-n_samples // self.hop_length)
        return n_frames(n_samples, n_fft=self.n_fft, hop_length=self.hop_length)

    def count_rows(self, n_valid: Array) -> Array:
        """() int, `n_rows` of a traced number of samples."""
        frames = self.count_frames(n_valid)
        return jnp.minimum(frames, 1) if self.pooling != "none" else frames

    def same_frames(self, other: FeatureConfig) -> bool:
        """Whether `make_frames` gives the same for both."""
        return self._of_frames() == other._of_frames()

    def _of_frames(self) -> FeatureConfig:
        kind = "log-mel" if self.kind == "mfcc" else self.kind
        usual = FeatureConfig()
        return replace(
            self, kind=kind, n_mfcc=usual.n_mfcc, n_deltas=usual.n_deltas, clip_norm=usual.clip_norm,
            pooling=usual.pooling, gwrp_r=usual.gwrp_r, percentiles=usual.percentiles,
        )  # fmt: skip


def make_features(config: FeatureConfig) -> Callable[[Array, Array], Array]:
    """Build the function (y, n_valid) -> features of one clip.

    It takes `y` (n_samples,) float and `n_valid` () int, its real samples, and returns (n_frames, n_features)
    float, or (1, n_features) when pooled. Rows after `config.n_rows(n_valid)` are padding.

    Raises:
        SettingsError: a setting out of its range.
    """
    config.check()
    frames_of, rows_of = make_frames(config), make_rows(config)
    return lambda y, n_valid: rows_of(frames_of(y, n_valid), n_valid)


def make_frames(config: FeatureConfig) -> Callable[[Array, Array], Array]:
    """The first half of `make_features`: (y, n_valid) -> (n_frames, n_bands), a spectrogram in the kind's units.

    Of an MFCC these are the log-mels that it is made of. Settings are checked by `make_features`.
    """
    framing: dict[str, Any] = {"n_fft": config.n_fft, "hop_length": config.hop_length}

    def frames_of(y: Array, n_valid: Array) -> Array:
        if config.kind == "samples":
            return _blocks(y, n_valid, config.hop_length)
        settings = {**framing, "pad_mode": config.pad_mode, "n_valid": n_valid}
        if config.kind == "spectrum":
            return spectrogram(y, power=1.0, **settings)
        settings |= {"sr": config.sr, "n_mels": config.n_mels}
        if config.kind == "pcen":
            magnitudes = 2.0**31 * mel_spectrogram(
                y, power=1.0, **settings
            )  # as if samples were 32-bit integers
            return pcen(magnitudes, sr=config.sr, hop_length=config.hop_length)
        # As the baselines: 20/power * log10, with the eps of float64.
        return log_mel_spectrogram(y, amin=np.finfo(np.float64).eps, floor=config.floor, **settings)

    return frames_of


def _blocks(y: Array, n_valid: Array, length: int) -> Array:
    """(n_blocks, length) of a clip, the last block of its samples filled up from its beginning; then padding."""
    n_blocks = -(-y.shape[0] // length)
    place = jnp.arange(n_blocks * length)
    return y[place % jnp.clip(n_valid, 1, y.shape[0])].reshape(n_blocks, length)


def make_rows(config: FeatureConfig) -> Callable[[Array, Array], Array]:
    """The second half: (frames, n_valid) -> rows: cepstra, normalisation, pooling."""
    pool = _make_pool(config)

    def rows_of(x: Array, n_valid: Array) -> Array:
        real = config.count_frames(n_valid)
        if config.kind == "mfcc":
            coefficients = mfcc(x, n_mfcc=config.n_mfcc)
            deltas = [delta(coefficients, order=i + 1, n_valid=real) for i in range(config.n_deltas)]
            x = jnp.concatenate([coefficients, *deltas], axis=1)
        weight = frame_weights(real, x.shape[0])
        if config.clip_norm != "none":
            x = normalize_clip(x, weight, by=config.clip_norm)
        return x if pool is None else pool(x, weight)[None, :]

    return rows_of


def _make_pool(config: FeatureConfig) -> Callable[[Array, Array], Array] | None:
    if config.pooling == "none":
        return None
    if config.pooling == "gwrp":
        return lambda x, weight: gwrp(x, config.gwrp_r, weight)
    if config.pooling == "percentiles":
        over_q = jax.vmap(percentile_pool, in_axes=(None, 0, None))
        return lambda x, weight: over_q(x, jnp.array(config.percentiles), weight).reshape(-1)
    return {
        "mean": mean_pool,
        "std": std_pool,
        "max": max_pool,
        "moments": moment_pool,
        "modulation": modulation_pool,
        "flux": flux_pool,
        "views": clip_views,
    }[config.pooling]
