"""Training: AdamW on sub-cluster AdaCos, a step at a time, from an explicit state.

What a step does depends on the state, the batch and its number alone; so training in pieces, with a stop between any
two epochs, is the same as training in one go, whether batches are gathered in the program or on the host.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from adjax.detectors.network.config import NetworkConfig, NetworkHyper
from adjax.detectors.network.loss import adacos_loss, draw_centres, mix
from adjax.detectors.network.network import Weights, embed_and_follow, init_weights
from adjax.types import MAX_ITER, NOT_FINITE


class TrainState(NamedTuple):
    """A network in training.

    Attributes:
        weights: of the network.
        centres: (n_machines, n_centres, 2 width).
        opt_state: AdamW's.
        n_epochs: () int32, epochs made.
        status: () int32, MAX_ITER so far, or NOT_FINITE: it has stopped in the state of its last good epoch.
    """

    weights: Weights
    centres: Array
    opt_state: Any
    n_epochs: Array
    status: Array


class Plan(NamedTuple):
    """The order in which an epoch takes clips.

    Attributes:
        key: of the epoch's steps.
        order: (n_clips,) int32, the clips taken, then the others.
        n_taken: () int32.
        n_steps: () int32.
    """

    key: Array
    order: Array
    n_taken: Array
    n_steps: Array


class Batch(NamedTuple):
    """What a step takes.

    Attributes:
        clip: (size,) int32; padding repeats the first.
        mask: (size,) 1 for clips, then 0 for padding.
        start: (size,) int32, where in a clip that is longer than the network hears it begins.
        key: of mixup.
    """

    clip: Array
    mask: Array
    start: Array
    key: Array


def init_state(
    config: NetworkConfig, key: Array, seeds: Array, hyper: NetworkHyper, dtype: Any
) -> TrainState:
    """Before the first epoch; `seeds` (n_machines,) are those of the machines' names."""
    key_weights, key_centres, _ = jax.random.split(key, 3)
    weights = init_weights(config, key_weights, dtype)
    centres = draw_centres(key_centres, seeds, config.n_centres, 2 * config.width, dtype)
    opt_state = _adamw(hyper).init((weights.params, centres))
    return TrainState(
        weights, centres, opt_state, jnp.zeros((), jnp.int32), jnp.full((), MAX_ITER, jnp.int32)
    )


def plan_epoch(config: NetworkConfig, key: Array, n_epochs: Array | int, taken: Array) -> Plan:
    """The epoch that follows `n_epochs` others; of clips `taken` (n_clips,) bool, in batches of one size or one apart.

    A clip's luck is the key's and its rank's among those that are taken: the order is the same whatever lies between.
    (PyTorch's loader fills all batches but the last, and norms cannot train on a last one of a single clip.)
    """
    key_epoch = jax.random.fold_in(jax.random.split(key, 3)[2], n_epochs)
    key_order, key_steps = jax.random.split(key_epoch)
    luck = jax.random.uniform(key_order, taken.shape)[jnp.cumsum(taken) - 1]
    order = jnp.argsort(jnp.where(taken, luck, 2.0)).astype(jnp.int32)
    n_taken = jnp.sum(taken, dtype=jnp.int32)
    return Plan(key_steps, order, n_taken, -(-n_taken // config.batch_size))


def plan_step(config: NetworkConfig, plan: Plan, number: Array | int, length: Array, size: int) -> Batch:
    """The batch of one step; `length` (n_clips,) int32 samples of each clip, `size` static."""
    key_start, key_mix = jax.random.split(jax.random.fold_in(plan.key, number))
    n_steps = jnp.maximum(plan.n_steps, 1)
    first = number * plan.n_taken // n_steps
    place = first + jnp.arange(size)
    real = place < (number + 1) * plan.n_taken // n_steps
    clip = plan.order[jnp.where(real, place, first)]
    spare = jnp.maximum(length[clip] - config.n_samples, 0)
    start = jnp.floor(jax.random.uniform(key_start, (size,)) * spare).astype(jnp.int32)
    return Batch(clip, real.astype(jnp.float32), start, key_mix)


def batch_size_of(config: NetworkConfig, n_clips: int) -> int:
    """Clips of the largest batch."""
    n_steps = -(-n_clips // config.batch_size)
    return max(1, -(-n_clips // max(n_steps, 1)))


def train_step(
    config: NetworkConfig, state: TrainState, hyper: NetworkHyper, waves: Array, machine: Array, batch: Batch
) -> tuple[TrainState, Array]:
    """One step on `waves` (size, n_samples) of clips whose `machine` (size,) is; the new state, and the loss."""
    target = (machine[:, None] == jnp.arange(len(state.centres))[None, :]).astype(waves.dtype)
    waves, target = mix(batch.key, waves, target, batch.mask, hyper.mixup)

    def loss_of(trained: tuple[Any, Array]) -> tuple[Array, Any]:
        params, centres = trained
        current = Weights(params, state.weights.batch_stats)
        vectors, batch_stats = embed_and_follow(config, current, waves, batch.mask)
        return adacos_loss(vectors, centres, target, batch.mask), batch_stats

    trained = (state.weights.params, state.centres)
    (loss, batch_stats), grads = jax.value_and_grad(loss_of, has_aux=True)(trained)
    updates, opt_state = _adamw(hyper).update(grads, state.opt_state, trained)
    params, centres = optax.apply_updates(trained, updates)
    return state._replace(weights=Weights(params, batch_stats), centres=centres, opt_state=opt_state), loss


def end_epoch(before: TrainState, after: TrainState, loss: Array) -> tuple[TrainState, Array]:
    """The state with one epoch more, and its loss; the one before, and NaN, if it is not finite or has stopped."""
    good = jnp.isfinite(loss) & (before.status != NOT_FINITE) & _all_finite((after.weights, after.centres))
    moved = after._replace(n_epochs=before.n_epochs + 1)
    kept = before._replace(status=jnp.full_like(before.status, NOT_FINITE))
    state = jax.tree.map(lambda new, old: lax.select(good, new, old), moved, kept)
    return state, jnp.where(good, loss, jnp.nan)


def _adamw(hyper: NetworkHyper) -> optax.GradientTransformation:
    return optax.adamw(hyper.learning_rate, weight_decay=hyper.weight_decay)


def _all_finite(tree: Any) -> Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))
