"""One clip through a model: pure functions that `jit`, `vmap`, `grad` and export take, and their batches."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adjax.batching import in_parts, map_clips
from adjax.features.framing import frame_weights
from adjax.features.normalize import Standardizer, standardize
from adjax.features.recipes import FeatureConfig, make_frames, make_rows
from adjax.model.calibration import Calibration, Judged, judge
from adjax.model.lift import make_detector
from adjax.model.spec import DetectorSpec, ModelSpec
from adjax.types import AnyArray, SettingsError, of_machines

ClipScore = Judged
_STEPS = 16  # of the path along which an explanation adds up gradients
_FLOATS = 2**22  # of rows scored in one call


class DetectorParams(NamedTuple):
    """What a fit leaves behind.

    Attributes:
        model: (n_machines,) int32, which of the models judges each machine: its own, or its type's.
        standardizer: leaves (n_models, n_features); None: features are taken as they are.
        params: of the detector, leaves (n_models, ...), but for what is `Shared`.
        typical: (n_machines, n_bands) mean frame of normal clips, from which explanations start; NaN where not known.
    """

    model: AnyArray
    standardizer: Standardizer | None
    params: Any
    typical: AnyArray


class ModelParams(NamedTuple):
    """All numbers of a model: one `DetectorParams` for each detector, and the calibration."""

    detectors: tuple[DetectorParams, ...]
    calibration: Calibration


def parameters_of(own: DetectorParams, index: Any) -> Any:
    """Of some machines, whichever models judge them."""
    return of_machines(own.params, own.model[index])


def score_clip(
    spec: ModelSpec, params: ModelParams, machine: Array, samples: Array, n_valid: Array
) -> ClipScore:
    """Score one clip.

    Args:
        spec: what the model does; static.
        params: of the model.
        machine: () int, place in the model's machines.
        samples: (n_samples,) float at the front ends' rate, nominally in [-1, 1].
        n_valid: () int, how many leading samples are real.

    Raises:
        SettingsError: the model takes vectors, not sound.
    """
    parts = []
    for detector, own in zip(spec.detectors, params.detectors, strict=True):
        if not isinstance(detector.features, FeatureConfig):
            raise SettingsError("this model takes vectors from elsewhere; score rows, not samples")
        rows = _rows_of(detector.features, _frames_of(detector.features, samples, n_valid), n_valid)
        n_rows = detector.features.count_rows(n_valid)
        parts.append(score_rows(detector, own, machine, rows, frame_weights(n_rows, rows.shape[0])))
    return judge(params.calibration, spec.fusion, machine, jnp.concatenate(parts))


def score_rows(
    spec: DetectorSpec, params: DetectorParams, machine: Array, rows: Array, weight: Array
) -> Array:
    """(n_parts,) raw parts of one clip's rows (n_rows, n_features), of `weight` (n_rows,) 1 and then 0 for padding."""
    model = params.model[machine]
    if params.standardizer is not None:
        rows = standardize(jax.tree.map(lambda leaf: leaf[model], params.standardizer), rows)
    # Padding may hold anything, also NaN.
    rows = jnp.where(weight[:, None] > 0, rows, 0)
    return make_detector(spec).score(params.params, model, rows, weight)


def explain_clip(
    spec: ModelSpec, params: ModelParams, machine: Array, samples: Array, n_valid: Array
) -> Array:
    """Where in time and frequency a clip's score comes from.

    Gradients of the score are added up along the straight way from the machine's typical frame to the clip's frames
    (integrated gradients, Sundararajan et al. 2017), detector by detector as the fused score takes them, and what the
    rounding of that way leaves over is spread evenly, together with the score of the typical frame itself: the parts
    sum to the score.

    Args:
        spec: see `score_clip`.
        params: see `score_clip`.
        machine: see `score_clip`.
        samples: see `score_clip`.
        n_valid: see `score_clip`.

    Returns:
        (n_frames, n_bands) float in units of the score, of the first detector's frames (log-mels of an MFCC); 0 in
        padding. Frames of a second detector with other bands are left out.
    """
    first = spec.detectors[0].features
    if not isinstance(first, FeatureConfig):
        raise SettingsError("this model takes vectors from elsewhere; there are no frames to explain")
    alike = [isinstance(d.features, FeatureConfig) and d.features.same_frames(first) for d in spec.detectors]
    frames = _frames_of(first, samples, n_valid)
    weight = frame_weights(first.count_frames(n_valid), frames.shape[0])
    mean = jnp.sum(weight[:, None] * frames, axis=0) / jnp.maximum(jnp.sum(weight), 1)
    typical = params.detectors[0].typical[machine]
    start = jnp.where(jnp.isfinite(typical), typical, mean) if typical.shape == mean.shape else mean
    start = jnp.where(weight[:, None] > 0, jnp.broadcast_to(start[None, :], frames.shape), frames)

    def score(x: Array) -> Array:
        parts = []
        for detector, own, shared in zip(spec.detectors, params.detectors, alike, strict=True):
            assert isinstance(detector.features, FeatureConfig)
            own_frames = x if shared else _frames_of(detector.features, samples, n_valid)
            rows = _rows_of(detector.features, own_frames, n_valid)
            n_rows = detector.features.count_rows(n_valid)
            parts.append(score_rows(detector, own, machine, rows, frame_weights(n_rows, rows.shape[0])))
        return judge(params.calibration, spec.fusion, machine, jnp.concatenate(parts)).score

    def step(place: Array) -> Array:
        slope = jax.grad(score)(start + place * (frames - start))
        return jnp.where(jnp.isfinite(slope), slope, 0)  # at a kink, such as silence

    slopes = jax.lax.map(step, (jnp.arange(_STEPS) + 0.5) / _STEPS)
    found = weight[:, None] * jnp.mean(slopes, axis=0) * (frames - start)
    left = score(frames) - jnp.sum(found)
    return found + weight[:, None] * left / jnp.maximum(jnp.sum(weight) * frames.shape[1], 1)


def _frames_of(config: FeatureConfig, samples: Array, n_valid: Array) -> Array:
    return make_frames(config)(samples, n_valid)


def _rows_of(config: FeatureConfig, frames: Array, n_valid: Array) -> Array:
    return make_rows(config)(frames, n_valid)


def parts_of_clips(
    spec: DetectorSpec, params: DetectorParams, machine: int, rows: np.ndarray, offsets: np.ndarray
) -> np.ndarray:
    """(n_clips, n_parts) float32 raw parts of one machine's clips on the host; NaN for a clip with too few rows.

    A clip is padded to a length that depends on its own alone, and goes through by itself: it gets the same bits in any
    company.

    Args:
        spec: the detector.
        params: its numbers.
        machine: place in the model's machines.
        rows: (n_rows, n_features) float32, clip after clip.
        offsets: (n_clips + 1,) int, where each clip begins and ends.
    """
    lengths = np.diff(offsets)
    padded = np.array([padded_length(int(n)) for n in lengths], np.int64)
    n_parts = len(make_detector(spec).parts)
    found = np.full((len(lengths), n_parts), np.nan, np.float32)
    for length in np.unique(padded[lengths > 0]):
        own = np.flatnonzero((padded == length) & (lengths > 0))
        n_together = max(1, _FLOATS // (int(length) * rows.shape[1]))
        # Few sizes, so few compiles.
        size = min(n_together, padded_length(max(len(own), 4)))
        for start in range(0, len(own), size):
            some = own[start : start + size]
            batch = np.zeros((size, length, rows.shape[1]), np.float32)
            for place, i in enumerate(some):
                batch[place, : lengths[i]] = rows[offsets[i] : offsets[i + 1]]
            counts = np.zeros(size, np.int32)
            counts[: len(some)] = lengths[some]
            call = functools.partial(_parts_of_batch, spec, params, np.int32(machine))
            found[some] = in_parts(call, (batch, counts))[: len(some)]
    return found


def padded_length(n_rows: int) -> int:
    """Rows that a clip is padded to: at most a quarter more, so that clips of like length share a compile."""
    step = 1 << max((n_rows - 1).bit_length() - 3, 0) if n_rows > 0 else 1
    return -(-n_rows // step) * step


@functools.partial(jax.jit, static_argnums=0)
def _parts_of_batch(
    spec: DetectorSpec, params: DetectorParams, machine: Array, batch: tuple[Array, Array]
) -> Array:
    # One machine's numbers, once and not for each clip.
    model = params.model[machine]
    own = of_machines((params.standardizer, params.params), model[None])
    alone = DetectorParams(jnp.zeros(1, jnp.int32), own[0], own[1], params.typical[machine][None])

    def one(clip: tuple[Array, Array]) -> Array:
        rows, n_rows = clip
        return score_rows(spec, alone, jnp.int32(0), rows, frame_weights(n_rows, rows.shape[0]))

    return map_clips(one, batch, batch_size=64)


@functools.partial(jax.jit, static_argnums=1)
def judge_clips(calibration: Calibration, fusion: Any, machine: Array, parts: Array) -> Judged:
    """`judge` of many clips: `machine` (n,) int, `parts` (n, n_parts); every field has the leading axis n."""
    return jax.vmap(lambda m, own: judge(calibration, fusion, m, own))(machine, parts)
