"""The dense autoencoder of the DCASE 2020 Task 2 baseline; the anomaly score is the reconstruction error.

A vector is a window of consecutive rows. Windows are gathered from the rows inside the compiled step, so the
matrix of all windows (five times the features) never exists. Flax stays in this module: the rest sees `Detector`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array, lax

from adjax.detectors.rows import map_rows
from adjax.types import MAX_ITER, NOT_FINITE, Detector, FitInfo, SettingsError


@dataclass(frozen=True)
class AutoencoderConfig:
    """Static settings: each value is one compile. The defaults are the 2020 baseline's.

    Attributes:
        n_context: consecutive rows in a window.
        hidden: widths of the encoder's layers; the decoder's are the same, reversed.
        bottleneck: width of the layer between them.
        n_epochs: passes over the windows; there is no early stopping.
        batch_size: windows a step.
        block_size: windows scored at once; memory and speed, not the result.
    """

    n_context: int = 5
    hidden: tuple[int, ...] = (128, 128, 128, 128)
    bottleneck: int = 8
    n_epochs: int = 100
    batch_size: int = 512
    block_size: int = 2048


class AutoencoderHyper(NamedTuple):
    """Traced settings, swept without a new compile.

    Attributes:
        learning_rate: () of Adam.
    """

    learning_rate: Array | float = 1e-3


class AutoencoderParams(NamedTuple):
    """A trained autoencoder: the states that Flax splits off its module.

    Attributes:
        params: kernels, biases and BatchNorm's scale and bias.
        batch_stats: BatchNorm's running mean and variance.
    """

    params: Any
    batch_stats: Any


class Autoencoder(nnx.Module):
    """Dense -> BatchNorm -> ReLU for every layer, the bottleneck included; the output is linear.

    Source: y-kawagu/dcase2020_task2_baseline `keras_model.py`; BatchNorm's and the initialiser's constants are
    Keras's (momentum .99, epsilon 1e-3, Glorot uniform).
    """

    def __init__(self, config: AutoencoderConfig, n_inputs: int, rngs: nnx.Rngs) -> None:
        widths = (n_inputs, *config.hidden, config.bottleneck, *reversed(config.hidden))
        glorot = nnx.initializers.glorot_uniform()
        pairs = list(pairwise(widths))
        self.layers = nnx.List([nnx.Linear(i, o, kernel_init=glorot, rngs=rngs) for i, o in pairs])
        # The fast variance E[x²] - μ² loses float32's digits on log-mels in dB.
        self.norms = nnx.List(
            [
                nnx.BatchNorm(o, momentum=0.99, epsilon=1e-3, use_fast_variance=False, rngs=rngs)
                for _, o in pairs
            ]
        )
        self.output = nnx.Linear(widths[-1], n_inputs, kernel_init=glorot, rngs=rngs)

    def __call__(self, x: Array, mask: Array | None = None) -> Array:
        """Reconstruct `x` (n, n_inputs).

        Args:
            x: (n, n_inputs) windows.
            mask: (n,) bool: train on these rows and use their statistics. None: use the running statistics.
        """
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = norm(layer(x), use_running_average=mask is None, mask=None if mask is None else mask[:, None])
            x = nnx.relu(x)
        return self.output(x)


def make_autoencoder(
    config: AutoencoderConfig = AutoencoderConfig(),
    hyper: AutoencoderHyper = AutoencoderHyper(),  # noqa: B008 (immutable)
    on_epoch: Callable[[Array], None] | None = None,
) -> Detector:
    """Build the autoencoder as a `Detector`.

    Its `fit(key, x, weight, hyper)` takes rows in time order, clip after clip; `weight` is 0 where no whole
    window starts (see `Detector.n_context`). `FitInfo.objective` is the mean training loss of the last epoch;
    `score` is the mean squared error over a window's values.

    Weights are 0 or more: a window of weight 2 counts twice in the loss, and like any other in BatchNorm's
    statistics.

    Args:
        config: static settings.
        hyper: default traced settings.
        on_epoch: called on the host with each epoch's mean loss, without holding up the device.

    Raises:
        SettingsError: a setting out of its range.
    """
    sizes = (config.n_context, config.bottleneck, config.n_epochs, config.batch_size, config.block_size)
    if min(sizes + config.hidden) < 1:
        raise SettingsError(f"sizes, widths and counts must be at least 1: {config}")

    def fit(
        key: Array, x: Array, weight: Array, hyper: AutoencoderHyper = hyper
    ) -> tuple[AutoencoderParams, FitInfo]:
        return fit_autoencoder(config, key, x, weight, hyper, on_epoch)

    def score(params: AutoencoderParams, x: Array) -> Array:
        x = jnp.asarray(x)
        graph = _graph(config, config.n_context * x.shape[1])

        def score_block(index: Array) -> Array:
            windows = gather_windows(x, index, config.n_context)
            model = nnx.merge(graph, params.params, params.batch_stats)
            return jnp.mean(jnp.square(model(windows) - windows), axis=1)

        return map_rows(score_block, x.shape[0], config.block_size, x.dtype)

    return Detector(fit=fit, score=score, hyper=hyper, n_context=config.n_context)


def gather_windows(x: Array, index: Array, n_context: int) -> Array:
    """Windows of `n_context` consecutive rows of `x` (n_rows, d) that start at `index` (n,).

    Returns:
        (n, n_context · d). A window that would run past the last row repeats that row.
    """
    rows = jnp.minimum(index[:, None] + jnp.arange(n_context)[None, :], x.shape[0] - 1)
    return x[rows].reshape(index.shape[0], -1)


def fit_autoencoder(
    config: AutoencoderConfig,
    key: Array,
    x: Array,
    weight: Array,
    hyper: AutoencoderHyper,
    on_epoch: Callable[[Array], None] | None = None,
) -> tuple[AutoencoderParams, FitInfo]:
    """Train by Adam on the mean squared error, with the windows in a new order each epoch.

    Args:
        config: static settings.
        key: typed PRNG key of the initial weights and of the order.
        x: (n_rows, n_features) float, in time order.
        weight: (n_rows,) float >= 0 of the window that starts at each row.
        hyper: traced settings.
        on_epoch: see `make_autoencoder`.

    Returns:
        The trained parameters and how training ended: NOT_FINITE where the loss was not (or no window had any
        weight), else MAX_ITER, since there is no early stopping.
    """
    x, weight = jnp.asarray(x), jnp.asarray(weight)
    key_init, key_shuffle = jax.random.split(key)
    n_inputs = config.n_context * x.shape[1]
    model = Autoencoder(config, n_inputs, nnx.Rngs(key_init))
    graph, *states = nnx.split(model, nnx.Param, nnx.BatchStat)
    params, batch_stats = states
    adam = optax.adam(hyper.learning_rate, eps=1e-7)  # Keras's epsilon
    n_rows = x.shape[0]
    batch_size = min(config.batch_size, n_rows)
    n_steps = -(-n_rows // batch_size)
    n_windows = jnp.sum(weight > 0)

    def loss_of(params: Any, batch_stats: Any, windows: Array, w: Array) -> tuple[Array, Any]:
        model = nnx.merge(graph, params, batch_stats, copy=True)  # BatchNorm writes to its own copy
        errors = jnp.mean(jnp.square(model(windows, mask=w > 0) - windows), axis=1)
        return jnp.sum(w * errors) / jnp.sum(w), nnx.state(model, nnx.BatchStat)

    def update(state: _Training, index: Array, w: Array) -> tuple[_Training, Array]:
        windows = jnp.where(w[:, None] > 0, gather_windows(x, index, config.n_context), 0)
        value_and_grad = jax.value_and_grad(loss_of, has_aux=True)
        (loss, batch_stats), grads = value_and_grad(state.params, state.batch_stats, windows, w)
        updates, opt_state = adam.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return _Training(params, batch_stats, opt_state), loss * jnp.sum(w)

    def epoch(state: _Training, key: Array) -> tuple[_Training, Array]:
        # Windows of weight 0 go last, so that every batch before them is full, however a lane is padded.
        order = jnp.argsort(jnp.where(weight > 0, jax.random.uniform(key, (n_rows,)), 2.0))
        order = jnp.pad(order, (0, n_steps * batch_size - n_rows))

        def step(state: _Training, number: Array) -> tuple[_Training, Array]:
            place = number * batch_size + jnp.arange(batch_size)
            index = order[place]
            w = jnp.where(place < n_windows, weight[index], 0)
            # A batch of padding must not move the weights by Adam's momentum.
            return lax.cond(
                number * batch_size < n_windows,
                update,
                lambda s, *_: (s, jnp.zeros((), x.dtype)),
                state,
                index,
                w,
            )

        state, losses = lax.scan(step, state, jnp.arange(n_steps))
        loss = jnp.sum(losses) / jnp.sum(weight)
        if on_epoch is not None:
            jax.debug.callback(on_epoch, loss)
        return state, loss

    start = _Training(params, batch_stats, adam.init(params))
    end, losses = lax.scan(epoch, start, jax.random.split(key_shuffle, config.n_epochs))
    finite = jnp.all(jnp.isfinite(losses))
    info = FitInfo(losses[-1], jnp.array(config.n_epochs), jnp.where(finite, MAX_ITER, NOT_FINITE))
    return AutoencoderParams(end.params, end.batch_stats), info


class _Training(NamedTuple):
    params: Any
    batch_stats: Any
    opt_state: Any


def _graph(config: AutoencoderConfig, n_inputs: int) -> Any:
    """The static structure of the module, without computing any weight."""
    abstract = nnx.eval_shape(lambda: Autoencoder(config, n_inputs, nnx.Rngs(jax.random.key(0))))
    return nnx.split(abstract, nnx.Param, nnx.BatchStat)[0]
