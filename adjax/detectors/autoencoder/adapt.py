"""An autoencoder for a new machine from few clips: a mate's, with the new machine's statistics, trained a little more.

1. Of the mates' networks the one is taken that reconstructs the new clips best, once it has their statistics. (A mean
   of the networks' weights would mean nothing: each was trained from a start of its own.)
2. Adaptive BatchNorm: every layer's mean and variance, and the output's mean, are those of the new clips' windows,
   beside which the mate's own count as `Plan.old_clips` clips.
3. `Plan.n_epochs` epochs at `RATE` of the learning rate.

The plan is learnt from the source: each mate is adapted to from the others, by as many of its clips as the new machine
has, and the plan is taken by which its other clips are reconstructed best.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from adjax.detectors.autoencoder.config import AutoencoderConfig, AutoencoderHyper
from adjax.detectors.autoencoder.network import Weights, adapt_statistics
from adjax.detectors.autoencoder.residuals import AutoencoderParams, finish
from adjax.detectors.autoencoder.training import (
    Lane,
    Sizes,
    TrainState,
    mean_error_over,
    state_of,
    train_epoch,
    width_of,
)
from adjax.detectors.autoencoder.windows import Span, Windows, gather_windows, inputs_and_targets
from adjax.types import MAX_ITER, NOT_FINITE, FitInfo, Training

RATE = 0.1
MOST_EPOCHS = 16
OLD_CLIPS = (0.25, 1.0, 4.0, 16.0)


class Plan(NamedTuple):
    """How a mate's network is adapted.

    Attributes:
        old_clips: as many the mate's own statistics count beside the new ones, > 0.
        n_epochs: of training, >= 0.
    """

    old_clips: float
    n_epochs: int


DEFAULT = Plan(1.0, 4)  # where there is nothing to learn it from


class Rows(NamedTuple):
    """Some clips' windows.

    Attributes:
        x: (n_rows, d) float.
        weight: (n_rows,) float >= 0, of the windows that start there.
        clip: (n_rows,) int, whose they are.
    """

    x: np.ndarray
    weight: np.ndarray
    clip: np.ndarray

    def starts(self, clips: np.ndarray) -> np.ndarray:
        """Where the clips' windows start."""
        return np.flatnonzero((self.weight > 0) & np.isin(self.clip, clips)).astype(np.int32)


def adapt(
    config: AutoencoderConfig,
    hyper: AutoencoderHyper,
    key: Array,
    params: AutoencoderParams,
    memory: Training,
    new: Training,
) -> tuple[AutoencoderParams, FitInfo]:
    """See `Kind.adapt`; the objective is the mean squared error of the new windows in the end."""
    rows = _rows_of(new)
    clips = _clips_of(rows)
    if not len(clips):
        found = jax.tree.map(lambda leaf: leaf[:1], params)
        return found, FitInfo(np.full(1, np.nan), np.zeros(1, np.int32), np.array([NOT_FINITE], np.int32))
    plan = learn_plan(config, hyper, key, params, memory, len(clips))
    study = _study(key, rows, rows.starts(clips), rows.starts(clips), hyper)
    count = jnp.float32(plan.old_clips * len(rows.starts(clips)) / len(clips))
    mate = nearest_mate(config, *study, params.weights, count)
    start = jax.tree.map(lambda leaf: leaf[mate], params.weights)
    state, errors = fine_tune(config, plan.n_epochs, *study, start, count)
    domain = np.asarray(new.domain)[rows.clip] if config.n_domains > 1 else None
    source = None if params.whitening is None else (params.whitening[mate], count)
    found = _finish(config, *study, state.weights, domain, source)
    good = all(bool(jnp.isfinite(leaf).all()) for leaf in (errors[-1], *jax.tree.leaves(found)))
    status = np.array([MAX_ITER if good else NOT_FINITE], np.int32)
    return jax.tree.map(lambda leaf: leaf[None], found), FitInfo(errors[-1:], state.n_epochs[None], status)


def learn_plan(
    config: AutoencoderConfig,
    hyper: AutoencoderHyper,
    key: Array,
    params: AutoencoderParams,
    memory: Training,
    n_clips: int,
) -> Plan:
    """The plan by which left-out clips of the mates are reconstructed best, when `n_clips` others adapt to them.

    `DEFAULT` where there is one mate only, or none with two clips in memory.
    """
    rows, n_mates = _rows_of(memory), len(memory.seed)
    each = [_clips_of(rows, np.asarray(memory.machine) == mate) for mate in range(n_mates)]
    if n_mates < 2 or max(map(len, each)) < 2:
        return DEFAULT
    halves = []
    for mate, clips in enumerate(each):
        key_mate = jax.random.fold_in(key, memory.seed[mate])
        order = clips[np.asarray(jax.random.permutation(key_mate, len(clips)))]
        n_taken = min(n_clips, len(clips) // 2)
        halves.append((rows.starts(order[:n_taken]), rows.starts(order[n_taken:]), n_taken))
    most = Sizes(max(len(half[0]) for half in halves), max(len(half[1]) for half in halves))
    total = np.zeros((len(OLD_CLIPS), MOST_EPOCHS + 1))
    for mate, (train, validation, n_taken) in enumerate(halves):
        if not n_taken:
            continue
        key_mate = jax.random.fold_in(key, memory.seed[mate])
        study = _study(key_mate, rows, train, validation, hyper, most)
        others = jax.tree.map(lambda leaf, mate=mate: np.delete(leaf, mate, axis=0), params.weights)
        for i, old in enumerate(OLD_CLIPS):
            count = jnp.float32(old * len(train) / n_taken)
            nearest = int(nearest_mate(config, *study, others, count))
            start = jax.tree.map(lambda leaf, i=nearest: leaf[i], others)
            _, errors = fine_tune(config, MOST_EPOCHS, *study, start, count)
            total[i] += np.log(errors)  # no mate's clips count more because they are loud
    place = np.argmin(np.where(np.isfinite(total), total, np.inf))
    which, n_epochs = np.unravel_index(place, total.shape)
    return Plan(OLD_CLIPS[which], int(n_epochs))


@partial(jax.jit, static_argnums=(0, 1))
def nearest_mate(
    config: AutoencoderConfig, sizes: Sizes, windows: Windows, lane: Lane, mates: Weights, count: Array
) -> Array:
    """() which of the networks, leaves (n_mates, ...), reconstructs a lane's training windows best, once `settled`."""
    same = windows._replace(validation=windows.train), lane._replace(validation=lane.train)

    def error(weights: Weights) -> Array:
        found = settled(config, sizes, windows, lane, weights, count)
        return mean_error_over(config, sizes.train, *same, found)

    errors = lax.map(error, mates)
    return jnp.argmin(jnp.where(jnp.isfinite(errors), errors, jnp.inf))


@partial(jax.jit, static_argnums=(0, 1, 2))
def fine_tune(
    config: AutoencoderConfig,
    n_epochs: int,
    sizes: Sizes,
    windows: Windows,
    lane: Lane,
    mate: Weights,
    count: Array,
) -> tuple[TrainState, Array]:
    """A mate's network, `settled`, and after some epochs at `RATE` of the learning rate; settled again after each.

    (The running statistics would follow the weights too slowly.)

    Returns:
        The state, and (n_epochs + 1,) mean squared errors of the validation windows, the first before any training.
    """
    lane = lane._replace(hyper=lane.hyper._replace(learning_rate=RATE * lane.hyper.learning_rate))

    def settle(params: Any) -> tuple[Weights, Array]:
        weights = settled(config, sizes, windows, lane, Weights(params, mate.batch_stats), count)
        return weights, mean_error_over(config, sizes.validation, windows, lane, weights)

    def epoch(state: TrainState, _: None) -> tuple[TrainState, Array]:
        state, _losses = train_epoch(config, Sizes(sizes.train, 0), windows, lane, state)
        weights, error = settle(state.weights.params)
        return state._replace(weights=weights), error

    weights, first = settle(mate.params)
    state, errors = lax.scan(epoch, state_of(config, weights, lane.hyper), length=n_epochs)
    return state, jnp.append(first, errors)


def settled(
    config: AutoencoderConfig, sizes: Sizes, windows: Windows, lane: Lane, weights: Weights, count: Array
) -> Weights:
    """A network with the statistics of a lane's training windows, beside which its own count as () `count`."""
    mask = (jnp.arange(sizes.train) < lane.train.length).astype(windows.x.dtype)
    inputs, targets = inputs_and_targets(config, gather_windows(windows.x, windows.train, config.n_context))
    width = width_of(config, lane.hyper)
    return adapt_statistics(config, weights, inputs, targets, windows.x.shape[1], width, mask, count)


@partial(jax.jit, static_argnums=(0, 1))
def _finish(
    config: AutoencoderConfig,
    sizes: Sizes,
    windows: Windows,
    lane: Lane,
    weights: Weights,
    domain: Array | None,
    source: tuple[Array, Array] | None,
) -> AutoencoderParams:
    return finish(config, windows, lane, weights, domain, source)


def _rows_of(training: Training) -> Rows:
    return Rows(np.asarray(training.rows), np.asarray(training.weight), np.asarray(training.clip))


def _clips_of(rows: Rows, among: np.ndarray | None = None) -> np.ndarray:
    """Clips that have a window, of those `among` (n_clips,) bool."""
    found = np.unique(rows.clip[rows.weight > 0])
    return found if among is None else found[among[found]]


def _study(
    key: Array,
    rows: Rows,
    train: np.ndarray,
    validation: np.ndarray,
    hyper: AutoencoderHyper,
    sizes: Sizes | None = None,
) -> tuple[Sizes, Windows, Lane]:
    """A study of one lane; indices are padded to `sizes`, by one that is there."""
    sizes = sizes or Sizes(len(train), len(validation))

    def padded(index: np.ndarray, size: int) -> Array:
        return jnp.asarray(np.pad(index, (0, size - len(index)), mode="edge" if len(index) else "constant"))

    windows = Windows(
        jnp.asarray(rows.x),
        jnp.asarray(rows.weight),
        padded(train, sizes.train),
        padded(validation, sizes.validation),
    )
    none = jnp.zeros((), jnp.int32)
    hyper = jax.tree.map(jnp.asarray, hyper)
    return (
        sizes,
        windows,
        Lane(key, Span(none, jnp.int32(len(train))), Span(none, jnp.int32(len(validation))), hyper),
    )
