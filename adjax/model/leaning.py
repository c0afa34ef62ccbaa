"""Which bands or columns a machine's model leans on: where a change of normal clips would move the score most.

A share is the mean over normal clips of |d score / d column|, summed over the clip's rows, times the column's spread
within the machine's clips, of all columns' together. It says what the model looks at, not what a fault will move.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adjax.data.clips import Clip
from adjax.features.framing import frame_weights
from adjax.features.names import column_names
from adjax.model.calibration import judge
from adjax.model.domains import TARGET, in_target
from adjax.model.extraction import ClipFeatures
from adjax.model.judging import entries_of
from adjax.model.model import Model
from adjax.model.score import ModelParams, padded_length, score_rows
from adjax.model.spec import DetectorSpec, ModelSpec, VectorConfig
from adjax.model.vectors import align
from adjax.types import MachineId

MOST_CLIPS = 32  # of a machine that are looked at
LEAST = 3  # of fewer nobody can tell


class Leaning(NamedTuple):
    """What one machine's model leans on.

    Attributes:
        machine: its name.
        columns: names of bands ("loud 431 Hz") or columns; those that several detectors see are one.
        shares: (n_columns,) float64 >= 0, of sum 1; all 0 where nothing moves the score.
        constant: (n_columns,) bool, those that are the same in all of the machine's clips; their share is 0.
    """

    machine: MachineId
    columns: tuple[str, ...]
    shares: np.ndarray
    constant: np.ndarray

    @property
    def unused(self) -> np.ndarray:
        """(n_columns,) bool: columns that move, and do not move the score of normal clips; of others they may."""
        return (self.shares == 0) & ~self.constant


def leanings(model: Model, clips: Sequence[ClipFeatures]) -> tuple[Leaning, ...]:
    """What the model leans on, for each machine that has at least 3 clips, in the model's order.

    Detectors of samples have no columns, and are left out. Where clips are single rows, the slope is taken midway
    between two of them: at a clip that it has learnt by heart, a nearest neighbour has none.

    Args:
        model: fitted.
        clips: normal clips for each detector, such as its memory; those that not all detectors have are left out.

    Raises:
        DataError: see `adjax.model.vectors.align`.
        SettingsError: see there.
    """
    every = [align(own, detector) for detector, own in zip(model.spec.detectors, clips, strict=True)]
    names = [names_of(detector) for detector in model.spec.detectors]
    columns = tuple(dict.fromkeys(name for own in names for name in own))
    every = _same_clips(every)
    places = np.array([_entry_of(clip, model.machines) for clip in every[0].clips], np.int64)
    found = []
    for number, machine in enumerate(model.machines):
        own = np.flatnonzero(places == number)
        if len(own) < LEAST or not columns:
            continue
        some = own[np.unique(np.linspace(0, len(own) - 1, MOST_CLIPS).round().astype(int))].tolist()
        moved = np.zeros(len(columns))
        spread = np.zeros(len(columns))
        slopes = _mean_slopes(model, number, [features.at(some) for features in every])
        for features, own_names, slope in zip(every, names, slopes, strict=True):
            if own_names:
                at = [columns.index(name) for name in own_names]
                deviation = _spread(features.at(own.tolist()).rows)
                np.add.at(moved, at, slope * deviation)
                np.maximum.at(spread, at, deviation)
        total = moved.sum()
        shares = moved / total if total > 0 and np.isfinite(total) else np.zeros(len(columns))
        found.append(Leaning(machine, columns, shares, spread == 0))
    return tuple(found)


def _same_clips(every: Sequence[ClipFeatures]) -> list[ClipFeatures]:
    """Those that are there for all detectors, in the order of the first."""
    found = [{(clip.machine, clip.path): i for i, clip in enumerate(own.clips)} for own in every]
    common = [name for name in found[0] if all(name in own for own in found)]
    return [own.at([places[name] for name in common]) for own, places in zip(every, found, strict=True)]


def _entry_of(clip: Clip, machines: Sequence[MachineId]) -> int:
    """Which entry a normal clip was fitted to."""
    entries = [in_target(clip.machine)] * (clip.domain == TARGET) + [clip.machine]
    return next((machines.index(own) for own in entries if own in machines), entries_of(clip, machines)[0])


def names_of(detector: DetectorSpec) -> tuple[str, ...]:
    """The columns that a detector sees; () of samples."""
    front_end = detector.features
    if isinstance(front_end, VectorConfig):
        return front_end.columns or tuple(f"column {i}" for i in range(front_end.n_features))
    return column_names(front_end)


def _spread(rows: np.ndarray) -> np.ndarray:
    """(d,) standard deviation, 0 of what is constant exactly."""
    deviation = (rows - rows[:1]).astype(np.float64)
    return np.where(np.ptp(rows, axis=0) > 0, deviation.std(axis=0), 0.0)


def _mean_slopes(model: Model, machine: int, clips: Sequence[ClipFeatures]) -> list[np.ndarray]:
    """For each detector (d,) the mean over clips of the summed |slope|."""
    lengths = np.stack([np.diff(own.offsets) for own in clips], axis=1)  # (n_clips, n_detectors)
    shapes = np.array([[padded_length(int(n)) for n in row] for row in lengths])
    total = [np.zeros(own.rows.shape[1]) for own in clips]
    for shape in np.unique(shapes, axis=0):
        some = np.flatnonzero((shapes == shape).all(axis=1))
        batch = []
        for own, length, counts in zip(clips, shape.tolist(), lengths[some].T, strict=True):
            rows = np.zeros((len(some), length, own.rows.shape[1]), np.float32)
            for place, (i, n) in enumerate(zip(some, counts, strict=True)):
                rows[place, :n] = own.rows[own.offsets[i] : own.offsets[i] + n]
            batch.append((rows + np.roll(rows, 1, axis=0)) / 2 if length == 1 else rows)
        slopes = _slopes(
            model.spec, model.params, np.int32(machine), tuple(batch), lengths[some].astype(np.int32)
        )
        for sums, slope in zip(total, slopes, strict=True):
            sums += np.asarray(slope, np.float64).sum(axis=0)
    return [sums / len(lengths) for sums in total]


@functools.partial(jax.jit, static_argnums=0)
def _slopes(
    spec: ModelSpec, params: ModelParams, machine: Array, rows: tuple[Array, ...], counts: Array
) -> tuple[Array, ...]:
    """For each detector (n_clips, d) |slope| of the score, summed over rows; 0 where it is no number, as at a kink."""

    def one(clip: Any) -> tuple[Array, ...]:
        own, n_rows = clip

        def score(own: tuple[Array, ...]) -> Array:
            parts = [
                score_rows(detector, of_detector, machine, x, frame_weights(n_rows[i], x.shape[0]))
                for i, (detector, of_detector, x) in enumerate(
                    zip(spec.detectors, params.detectors, own, strict=True)
                )
            ]
            return judge(params.calibration, spec.fusion, machine, jnp.concatenate(parts)).score

        slopes = jax.grad(score)(own)
        return tuple(jnp.sum(jnp.abs(jnp.where(jnp.isfinite(x), x, 0)), axis=0) for x in slopes)

    return jax.lax.map(one, (rows, counts))
