"""All fits of one group of machines, as lanes of few compiled programs: the model, and those with clips held out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from threadpoolctl import threadpool_limits

from adjax.batching import map_clips
from adjax.data.clips import ClipTable
from adjax.detectors.kinds import kind_of
from adjax.features.normalize import Standardizer, fit_standardizer, standardize
from adjax.model.extraction import ClipFeatures
from adjax.model.lift import make_detector, members_of, window_starts
from adjax.model.spec import DetectorSpec
from adjax.types import (
    Detector,
    EngineOptions,
    FitError,
    FitInfo,
    Fitted,
    Kind,
    MachineId,
    RowDetector,
    Training,
)


class Lane(NamedTuple):
    """One fit of a group.

    Attributes:
        number: 0 the model, k + 1 that without fold k; part of the fit's key.
        left_out: (n_clips,) bool.
    """

    number: int
    left_out: np.ndarray

    def of(self, clips: np.ndarray) -> Lane:
        """For some of the clips."""
        return Lane(self.number, self.left_out[clips])


class GroupFit(NamedTuple):
    """What the lanes of a group left behind.

    Attributes:
        params: (standardizer, params of the detector), leaves (n_lanes, n_machines, ...), but for what is `Shared`.
        objective: (n_lanes, n_machines).
        n_steps: (n_lanes, n_machines) int.
        status: (n_lanes, n_machines) int.
        n_vectors: (n_machines,) int, of the last lane.
        losses: (n_lanes, n_epochs).
        remarks: of the engine.
    """

    params: tuple[Standardizer | None, Any]
    objective: np.ndarray
    n_steps: np.ndarray
    status: np.ndarray
    n_vectors: np.ndarray
    losses: np.ndarray
    remarks: tuple[str, ...]


def fit_group(
    spec: DetectorSpec,
    key: Array,
    features: ClipFeatures,
    machines: Sequence[MachineId],
    machine: np.ndarray,
    lanes: Sequence[Lane],
    options: EngineOptions,
    most: int = 0,
) -> GroupFit:
    """Fit all lanes of one group.

    Args:
        spec: of the detector.
        key: of the model.
        features: of the group's clips.
        machines: (n_machines,) their names; one for a detector that knows one machine only.
        machine: (n_clips,) int, whose each clip is.
        lanes: what to leave out.
        options: see `EngineOptions`.
        most: see `members_of`.

    Raises:
        FitError: fewer rows than the detector needs.
    """
    kind, made = kind_of(spec.kind), spec.make()
    lengths = np.diff(features.offsets)
    clip = np.repeat(np.arange(len(lengths)), lengths)
    rows, real = features.rows, np.ones(len(features.rows), np.float32)
    if kind.fit_all is None:  # which takes rows as they are: they may be too many to copy
        rows, real = pad_rows(rows, real)
    clip = np.pad(clip, (0, len(rows) - len(clip)), mode="edge").astype(np.int32)
    kept = np.stack([real * ~lane.left_out[clip] for lane in lanes]).astype(np.float32)
    n_context = made.n_context if isinstance(made, RowDetector) else 1
    weights = np.stack([window_starts(clip, own, n_context) for own in kept])
    owner = machine[clip]
    n_vectors = np.array([int(np.sum(weights[-1][owner == m] > 0)) for m in range(len(machines))])
    if len(machines) == 1 or lanes[-1].number == 0:  # without a fold, one of several machines may have few
        _check_enough(kind, spec, machines, n_vectors, len(lengths), weights)
    domain = domain_of_clips(features.clips)
    options = options._replace(domain=domain[clip])
    seeds = np.array([name.seed for name in machines], np.uint32)
    members = members_of(np.where(real > 0, owner, -1), len(machines), most)
    training = Training(rows, kept, clip, machine.astype(np.int32), domain, seeds, members)
    if spec.standardize:  # each lane by the clips that it sees
        parts = [
            _fit_standardized(kind, spec, key, training, weights[i], kept[i], lane, options)
            for i, lane in enumerate(lanes)
        ]
        standardizer = jax.tree.map(lambda *leaves: np.stack(leaves), *(part[0] for part in parts))
        fitted = Fitted(
            jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *(part[1].params for part in parts)),
            jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *(part[1].info for part in parts)),
            np.concatenate([part[1].losses for part in parts]),
            tuple(remark for part in parts for remark in part[1].remarks),
        )
    else:
        standardizer = None
        numbers = [lane.number for lane in lanes]
        fitted = _fit_lanes(kind, spec, key, training, weights, kept, numbers, options)
    info = FitInfo(*(np.asarray(leaf) for leaf in fitted.info))
    return GroupFit(
        (standardizer, fitted.params),
        info.objective,
        info.n_steps,
        info.status,
        n_vectors,
        np.asarray(fitted.losses),
        fitted.remarks,
    )


def _check_enough(
    kind: Kind,
    spec: DetectorSpec,
    machines: Sequence[MachineId],
    n_vectors: np.ndarray,
    n_clips: int,
    weights: np.ndarray,
) -> None:
    needed = kind.least(spec.config)
    fewest = int(np.min(np.sum(weights > 0, axis=1))) if len(machines) == 1 else int(n_vectors.min())
    if min(fewest, int(n_vectors.min())) < needed:
        name = machines[int(n_vectors.argmin())].label
        raise FitError(
            f"{name} has {min(fewest, int(n_vectors.min()))} training vectors in {n_clips} clips (without those that "
            f"are held out), the {spec.kind} needs at least {needed}: add normal clips of this machine, or fit one "
            "model for each type"
        )


def _fit_standardized(
    kind: Kind,
    spec: DetectorSpec,
    key: Array,
    training: Training,
    weight: np.ndarray,
    kept: np.ndarray,
    lane: Lane,
    options: EngineOptions,
) -> tuple[Standardizer, Fitted]:
    """One lane, each machine's features by its own mean and scale."""
    owner = np.asarray(training.machine)[np.asarray(training.clip)]
    n_machines = len(training.seed)
    own = [compiled_standardizer(training.rows, kept * (owner == m)) for m in range(n_machines)]
    standardizer = jax.tree.map(lambda *leaves: np.stack(leaves), *own)
    rows = np.asarray(training.rows)
    scaled = np.asarray(compiled_standardize(own[0], rows)) if n_machines == 1 else np.empty_like(rows)
    for m in range(n_machines if n_machines > 1 else 0):
        scaled[owner == m] = np.asarray(compiled_standardize(own[m], rows))[owner == m]
    folder = options.folder
    if folder is not None and lane.number:
        options = options._replace(folder=folder / f"fold_{lane.number}")
    fitted = _fit_lanes(
        kind, spec, key, training._replace(rows=scaled), weight[None], kept[None], [lane.number], options
    )
    return standardizer, fitted


# Of padded rows; a sweep uses them too, so that its trials train on the bits that a run trains on.
compiled_standardizer = jax.jit(fit_standardizer)
compiled_standardize = jax.jit(standardize)


def _fit_lanes(
    kind: Kind,
    spec: DetectorSpec,
    key: Array,
    training: Training,
    weights: np.ndarray,
    kept: np.ndarray,
    numbers: Sequence[int],
    options: EngineOptions,
) -> Fitted:
    """Leaves (n_lanes, n_machines, ...)."""
    made = spec.make()
    with threadpool_limits(1, user_api="blas"):  # LAPACK's threads only wait for each other on a covariance
        if isinstance(made, Detector) and kind.fit_all:
            keys = _lane_keys(key, np.asarray(numbers, np.uint32))
            return kind.fit_all(spec.config, keys, training, kept, spec.hyper, options)
        if isinstance(made, Detector):
            keys = _lane_keys(key, np.asarray(numbers, np.uint32))
            params, info = jax.block_until_ready(
                _fit_joint(spec, keys, training._replace(weight=np.zeros(0, np.float32)), kept)
            )
            return Fitted(params, info, np.zeros((len(numbers), 0), np.float32))
        own = jax.random.fold_in(key, training.seed[0])
        keys = _lane_keys(own, np.asarray(numbers, np.uint32))
        lanes = np.arange(len(numbers))
        fitted = fit_rows(
            kind,
            spec.config,
            spec.hyper,
            keys,
            training.rows[None],
            weights,
            np.zeros_like(lanes),
            lanes,
            options,
        )
    params, info = jax.tree.map(lambda leaf: leaf[:, None], (fitted.params, fitted.info))
    return Fitted(params, info, fitted.losses, fitted.remarks)


def fit_rows(
    kind: Kind,
    config: Any,
    hyper: Any,
    keys: Array,
    rows: Any,
    weights: Any,
    data: np.ndarray,
    fold: np.ndarray,
    options: EngineOptions = EngineOptions(),
) -> Fitted:
    """Many fits of a row detector: by the kind's engine, or as one compiled call; arguments as in `Kind.engine`."""
    if kind.engine is not None:
        return kind.engine(config, keys, rows, weights, hyper, data, fold, options)
    hyper = jax.tree.map(lambda value: jnp.broadcast_to(jnp.asarray(value), (len(data),)), hyper)
    params, info = _fit_each(kind.make, config, type(hyper), keys, rows, weights, hyper, data, fold)
    return Fitted(params, info, np.zeros((len(data), 0), np.float32))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _fit_each(
    make: Callable[[Any, Any], Any],
    config: Any,
    hyper_type: Any,
    keys: Array,
    rows: Array,
    weights: Array,
    hyper: Any,
    data: Array,
    fold: Array,
) -> tuple[Any, FitInfo]:
    made = make(config, hyper_type())
    return map_clips(
        lambda lane: made.fit(lane[0], rows[lane[2]], weights[lane[3]], lane[1]), (keys, hyper, data, fold)
    )


@functools.partial(jax.jit, static_argnums=0)
def _fit_joint(spec: DetectorSpec, keys: Array, training: Training, weights: Array) -> tuple[Any, FitInfo]:
    detector = make_detector(spec)

    def one(lane: tuple[Array, Array]) -> tuple[Any, FitInfo]:
        return detector.fit(lane[0], training._replace(weight=lane[1]), spec.hyper)

    # In turn: each lane is a batch of machines by itself.
    return jax.lax.map(one, (keys, weights))


def _lane_keys(key: Array, numbers: np.ndarray) -> Array:
    """(n_lanes,) keys; that of number 0 is the key itself, so that held-out fits never change the model."""
    return jax.vmap(lambda n: jax.lax.cond(n == 0, lambda: key, lambda: jax.random.fold_in(key, n)))(
        jnp.asarray(numbers)
    )


def domain_of_clips(clips: ClipTable) -> np.ndarray:
    """(n_clips,) int32, 1 for clips of a target domain, else 0."""
    return np.array([clip.domain == "target" for clip in clips], np.int32)


def pad_rows(rows: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pad to a multiple of 2^(floor(log2 n) - 3), at most 12.5% more: machines of like size share a compile."""
    n_rows = len(rows)
    step = 1 << max(n_rows.bit_length() - 4, 0)
    extra = -n_rows % step
    return np.pad(rows, ((0, extra), (0, 0))), np.pad(weights, (0, extra))
