"""The network as a `Detector`: trained in one go on all machines, and what it leaves behind to score with."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from adjax.batching import map_clips
from adjax.detectors.local_density import Metric, References, halved, make_references, nearness
from adjax.detectors.network.config import NetworkConfig, NetworkHyper, check_config
from adjax.detectors.network.network import Weights, embed
from adjax.detectors.network.training import (
    TrainState,
    end_epoch,
    init_state,
    plan_epoch,
    plan_step,
    train_step,
)
from adjax.detectors.rows import by_machine
from adjax.types import NOT_FINITE, Detector, FitInfo, Shared, Training, shared

PART = "network"
_METRIC: Metric = "cosine"
_MACHINES_AT_ONCE = 16  # on an accelerator, whose distances between references exist together


class NetworkParams(NamedTuple):
    """A trained network.

    Attributes:
        weights: `Shared` (Weights,), of all machines.
        references: leaves (n_machines, ...), the vectors of each one's normal clips.
    """

    weights: Shared
    references: References


class Clips(NamedTuple):
    """Where the waves of a training's clips lie, machine after machine.

    Attributes:
        first: (n_clips,) int32, the first of its rows.
        length: (n_clips,) int32, how many there are in its rows of weight > 0; 0: the clip is held out.
        machine: (n_clips,) int32, whose it is.
    """

    first: Array
    length: Array
    machine: Array


def make_network(config: NetworkConfig = NetworkConfig(), hyper: NetworkHyper = NetworkHyper()) -> Detector:
    """Build the network as a `Detector` of all machines, which it learns to tell apart.

    Rows are the blocks of a wave, one after the other (`FeatureConfig` kind "samples"). A fit sees all machines; of one
    alone there is nothing to learn. `FitInfo.objective` is the last epoch's loss, the same for all machines; a score is
    the distance to the nearest normal clip of the own machine, about 1 where it is as far as those are from each other
    (`adjax.detectors.local_density`).

    Raises:
        SettingsError: a setting out of its range.
    """
    check_config(config, hyper)

    def fit(key: Array, training: Training, hyper: NetworkHyper = hyper) -> tuple[NetworkParams, FitInfo]:
        rows, clips = training.rows, clips_of(training)
        n_clips = len(clips.first)
        size = min(config.batch_size, n_clips)
        key = own_key(key, training.seed)

        def epoch(state: TrainState, _: None) -> tuple[TrainState, Array]:
            plan = plan_epoch(config, key, state.n_epochs, clips.length > 0)

            def step(number: Array, carry: tuple[TrainState, Array]) -> tuple[TrainState, Array]:
                current, total = carry
                batch = plan_step(config, plan, number, clips.length, size)
                waves = jax.vmap(lambda clip, start: _wave(config, rows, clips, clip, start))(
                    batch.clip, batch.start
                )
                current, loss = train_step(config, current, hyper, waves, clips.machine[batch.clip], batch)
                return current, total + loss * jnp.sum(batch.mask)

            n_steps = jnp.where(state.status == NOT_FINITE, 0, plan.n_steps)
            after, total = lax.fori_loop(0, n_steps, step, (state, jnp.zeros((), rows.dtype)))
            return end_epoch(state, after, total / plan.n_taken)

        state = init_state(config, key, training.seed, hyper, rows.dtype)
        state, losses = lax.scan(epoch, state, length=config.n_epochs)
        vectors = lax.map(
            lambda clip: embed(config, state.weights, _wave(config, rows, clips, clip, 0)[None])[0],
            jnp.arange(n_clips),
        )
        params = finish(config, n_clips, state.weights, vectors, clips, training.seed)
        return params, info_of(state, losses[-1], training.seed.shape[0])

    def score(params: NetworkParams, machine: Array, rows: Array, weight: Array) -> Array:
        weights = params.weights.of(machine)
        own = jax.tree.map(lambda leaf: leaf[machine], params.references)
        n_samples = jnp.sum(weight > 0, dtype=jnp.int32) * rows.shape[1]
        place = jnp.arange(config.n_samples) % jnp.maximum(n_samples, 1)
        wave = rows.reshape(-1)[place]
        found = nearness(own, halved(embed(config, weights, wave[None]))[0], metric=_METRIC)
        return jnp.where(weight[0] > 0, found, jnp.nan)[None]

    return Detector(fit, score, (PART,), hyper)


def clips_of(training: Training) -> Clips:
    """The clips of a training, those of a machine together and in their order."""
    n_clips, d = training.machine.shape[0], training.rows.shape[1]
    order = jnp.argsort(training.machine, stable=True)
    real = (training.weight > 0).astype(jnp.int32)
    n_rows = jnp.zeros(n_clips, jnp.int32).at[training.clip].add(real)
    # Rows of a clip lie together, the real ones first.
    first = jnp.full(n_clips, len(training.clip), jnp.int32)
    first = first.at[training.clip].min(jnp.arange(len(training.clip), dtype=jnp.int32))
    return Clips(first[order], d * n_rows[order], training.machine[order])


def own_key(key: Array, seeds: Array) -> Array:
    """The key of a fit of the machines with these `seeds` (n_machines,), whatever their order."""
    return jax.random.fold_in(key, jnp.sum(seeds, dtype=jnp.uint32))


def finish(
    config: NetworkConfig, most: int, weights: Weights, vectors: Array, clips: Clips, seeds: Array
) -> NetworkParams:
    """What scores, of a trained network's vectors (n_clips, 2 width) of its clips.

    Args:
        config: static.
        most: clips of one machine, at most; static.
        weights: of the network.
        vectors: of the clips; of those that are held out they may be anything.
        clips: machine after machine.
        seeds: (n_machines,).
    """
    n_machines = seeds.shape[0]
    members = jnp.searchsorted(clips.machine, jnp.arange(n_machines))[:, None] + jnp.arange(most)[None, :]
    taken, number = (clips.length > 0).astype(vectors.dtype), jnp.arange(len(vectors))
    grouped = by_machine(Training(vectors, taken, number, clips.machine, number, seeds, members))
    density = jnp.ones((), vectors.dtype)

    def references(own: tuple[Array, Array]) -> References:
        return make_references(
            halved(own[0]), own[1], density, metric=_METRIC, rescale="ratio", n_local=config.n_neighbours
        )

    banks = map_clips(references, grouped, batch_size=_MACHINES_AT_ONCE)
    return NetworkParams(shared(weights, n_machines), banks)


def info_of(state: TrainState, loss: Array, n_machines: int) -> FitInfo:
    """How the one training ended, for each machine."""
    return FitInfo(
        *(jnp.broadcast_to(value, (n_machines,)) for value in (loss, state.n_epochs, state.status))
    )


def _wave(config: NetworkConfig, rows: Array, clips: Clips, clip: Array, start: Array | int) -> Array:
    """(n_samples,) of a clip from `start` on, repeated where it is shorter."""
    place = (start + jnp.arange(config.n_samples)) % jnp.maximum(clips.length[clip], 1)
    return rows[clips.first[clip] + place // rows.shape[1], place % rows.shape[1]]
