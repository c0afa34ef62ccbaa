"""One lane's training: Adam on the mean squared error, an epoch at a time, from an explicit state.

What an epoch does depends on the state alone, so that training in pieces, with a stop between any two epochs, is the
same as training in one go.

Nor does it depend on what else is in the program. The weights that a lane starts from, its windows, their order and
their batches are its own: beside other lanes, among rows of weight 0 or masked down from a wider bottleneck it is the
training that it is alone, to rounding. Training lets a rounding grow, from some 1e-6 of the loss after an epoch to some
1e-3 after thirty; so shapes are the config's own (whole batches, see also `in_training`), and "map" then gives the same
bits. With "vmap" all lanes are one product, which may round in another way for another number of lanes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from adjax.detectors.autoencoder.config import CONSTANTS, AutoencoderConfig, AutoencoderHyper, in_training
from adjax.detectors.autoencoder.network import (
    Weights,
    init_weights,
    is_kernel,
    reconstruct,
    reconstruct_and_follow,
)
from adjax.detectors.autoencoder.windows import (
    Span,
    Windows,
    gather_windows,
    inputs_and_targets,
    shuffle,
    windows_at,
)
from adjax.types import MAX_ITER, NOT_FINITE


class Lane(NamedTuple):
    """One training run: which windows, which settings, which luck.

    Attributes:
        key: typed PRNG key of the initial weights, the order and the noise.
        train: part of `Windows.train`.
        validation: part of `Windows.validation`.
        hyper: traced settings.
    """

    key: Array
    train: Span
    validation: Span
    hyper: AutoencoderHyper


class Sizes(NamedTuple):
    """Static: the counts of the largest lane's training and validation windows; they bound loops and buffers."""

    train: int
    validation: int


class TrainState(NamedTuple):
    """A lane in training.

    Attributes:
        weights: of the network of `in_training`.
        opt_state: Adam's.
        n_epochs: () int32, epochs made.
        status: () int32, MAX_ITER so far, or NOT_FINITE: the lane has stopped in the state of its last good epoch.
    """

    weights: Weights
    opt_state: Any
    n_epochs: Array
    status: Array


class Losses(NamedTuple):
    """Mean squared errors of an epoch; NaN where the lane has stopped, or has no validation windows.

    Attributes:
        train: () mean over the training windows, each as its step saw it.
        validation: () mean over the validation windows after the epoch.
    """

    train: Array
    validation: Array


def one_lane(key: Array, x: Array, weight: Array, hyper: AutoencoderHyper) -> tuple[Windows, Lane]:
    """A study of one lane, whose training windows start at every row of `x` (n_rows, n_features)."""
    n_rows = x.shape[0]
    none = jnp.zeros((), jnp.int32)
    windows = Windows(x, weight, jnp.arange(n_rows), jnp.zeros(0, jnp.int32))
    return windows, Lane(key, Span(none, jnp.asarray(n_rows)), Span(none, none), hyper)


def width_of(config: AutoencoderConfig, hyper: AutoencoderHyper) -> Array | int:
    """() units of the bottleneck in use."""
    return config.bottleneck if hyper.width is None else jnp.minimum(hyper.width, config.bottleneck)


def init_state(config: AutoencoderConfig, windows: Windows, lane: Lane) -> TrainState:
    """A lane before its first epoch."""
    key_init, _ = jax.random.split(lane.key)
    x = windows.x
    weights = init_weights(in_training(config), x.shape[1], key_init, width_of(config, lane.hyper), x.dtype)
    return state_of(config, weights, lane.hyper)


def state_of(config: AutoencoderConfig, weights: Weights, hyper: AutoencoderHyper) -> TrainState:
    """A training that starts from given weights."""
    opt_state = _adam(config, hyper).init(weights.params)
    return TrainState(weights, opt_state, jnp.zeros((), jnp.int32), jnp.full((), MAX_ITER, jnp.int32))


def train_epoch(
    config: AutoencoderConfig, sizes: Sizes, windows: Windows, lane: Lane, state: TrainState
) -> tuple[TrainState, Losses]:
    """One pass over a lane's training windows in a new order.

    A lane whose loss or weights are not finite afterwards keeps its state and stops: it makes no step from then on.
    """
    key_order, key_noise = epoch_keys(lane, state.n_epochs)
    order, count, total_weight = shuffle(key_order, sizes.train, windows, lane.train)
    # Also for fewer windows: steps of one shape round alike in any company.
    batch_size = config.batch_size
    order = jnp.pad(order, (0, -sizes.train % batch_size))
    runs = state.status != NOT_FINITE

    def step(number: Array, carry: tuple[Weights, Any, Array]) -> tuple[Weights, Any, Array]:
        weights, opt_state, total = carry
        start = number * batch_size
        index = lax.dynamic_slice_in_dim(order, start, batch_size)
        real = start + jnp.arange(batch_size) < count
        w = jnp.where(real, windows.weight[index], 0)
        inputs, targets = inputs_and_targets(config, gather_windows(windows.x, index, config.n_context))
        if config.denoising:
            noise = jax.random.normal(jax.random.fold_in(key_noise, number), inputs.shape, inputs.dtype)
            inputs = inputs + lane.hyper.noise * noise
        mask = real.astype(inputs.dtype)

        def loss_of(params: Any) -> tuple[Array, Any]:
            current = Weights(params, weights.batch_stats)
            output, batch_stats = reconstruct_and_follow(
                config, current, inputs, windows.x.shape[1], width_of(config, lane.hyper), mask
            )
            return _mean_error(output, targets, w), batch_stats

        (loss, batch_stats), grads = jax.value_and_grad(loss_of, has_aux=True)(weights.params)
        updates, opt_state = _adam(config, lane.hyper).update(grads, opt_state, weights.params)
        params = optax.apply_updates(weights.params, updates)
        return Weights(params, batch_stats), opt_state, total + loss * jnp.sum(w)

    # As many steps as the lane needs: a small machine's lane does not pay for a large one's.
    n_steps = jnp.where(runs, -(-count // batch_size), 0)
    start = (state.weights, state.opt_state, jnp.zeros((), windows.x.dtype))
    weights, opt_state, total = lax.fori_loop(0, n_steps, step, start)
    loss = total / total_weight
    finite = jnp.isfinite(loss) & _all_finite(weights)
    moved = TrainState(weights, opt_state, state.n_epochs + 1, state.status)
    kept = state._replace(status=jnp.full_like(state.status, NOT_FINITE))
    state = jax.tree.map(lambda new, old: jnp.where(finite & runs, new, old), moved, kept)
    validation = mean_error_over(config, sizes.validation, windows, lane, state.weights)
    return state, Losses(
        *(jnp.where(state.status != NOT_FINITE, value, jnp.nan) for value in (loss, validation))
    )


def epoch_keys(lane: Lane, n_epochs: Array | int) -> tuple[Array, Array]:
    """Keys of the order and of the noise of the epoch that follows `n_epochs` others."""
    _, key_epochs = jax.random.split(lane.key)
    key_order, key_noise = jax.random.split(jax.random.fold_in(key_epochs, n_epochs))
    return key_order, key_noise


def mean_error_over(
    config: AutoencoderConfig, size: int, windows: Windows, lane: Lane, weights: Weights
) -> Array:
    """() mean squared error over a lane's validation windows, by the running statistics; NaN without any."""
    if size == 0:
        return jnp.full((), jnp.nan, windows.x.dtype)
    block = min(config.block_size, size)

    def body(number: Array, total: Array) -> Array:
        index, real = windows_at(windows.validation, lane.validation, number * block + jnp.arange(block))
        inputs, targets = inputs_and_targets(config, gather_windows(windows.x, index, config.n_context))
        output = reconstruct(config, weights, inputs, windows.x.shape[1], width_of(config, lane.hyper))
        return total + jnp.sum(jnp.where(real, jnp.mean(jnp.square(output - targets), axis=1), 0))

    n_blocks = -(-lane.validation.length // block)
    return lax.fori_loop(0, n_blocks, body, jnp.zeros((), windows.x.dtype)) / lane.validation.length


def _mean_error(output: Array, target: Array, weight: Array) -> Array:
    errors = jnp.mean(jnp.square(output - target), axis=1)
    return jnp.sum(weight * errors) / jnp.sum(weight)


def _adam(config: AutoencoderConfig, hyper: AutoencoderHyper) -> optax.GradientTransformation:
    return optax.adamw(
        hyper.learning_rate,
        eps=CONSTANTS[config.constants].adam_epsilon,
        weight_decay=hyper.weight_decay,
        mask=is_kernel,
    )


def _all_finite(tree: Any) -> Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))
