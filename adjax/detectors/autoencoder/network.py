"""The network: Dense -> BatchNorm -> ReLU, again and again, with a bottleneck that can be narrowed by a mask.

Flax stays in this module. The others see two pytrees: what is trained, and BatchNorm's running statistics.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax

from adjax.detectors.autoencoder.config import (
    BATCH_NORM_EPSILON,
    BATCH_NORM_MOMENTUM,
    CONSTANTS,
    AutoencoderConfig,
)


class Weights(NamedTuple):
    """A network's numbers.

    Attributes:
        params: kernels, biases and BatchNorm's scale and bias, by layer.
        batch_stats: BatchNorm's running mean and variance, by layer.
    """

    params: Any
    batch_stats: Any


class BatchNorm(nnx.Module):
    """Normalisation by the batch's mean and variance while training, by running ones afterwards."""

    def __init__(self, width: int, unbiased: bool, dtype: Any) -> None:
        self.unbiased = unbiased
        self.scale, self.bias = nnx.Param(jnp.ones(width, dtype)), nnx.Param(jnp.zeros(width, dtype))
        self.mean, self.var = nnx.BatchStat(jnp.zeros(width, dtype)), nnx.BatchStat(jnp.ones(width, dtype))

    def __call__(self, x: Array, mask: Array | None, count: Array | None = None) -> Array:
        """Normalise `x` (n, width); see `Autoencoder`."""
        if mask is None:
            mean, centred, var = self.mean[...], x - self.mean[...][None, :], self.var[...]
        else:
            # Row vectors times matrices: as fast as products are. Centred first: E[x²] - μ² would lose float32's
            # digits on log-mels in dB.
            n = jnp.sum(mask, dtype=x.dtype)
            share = mask / jnp.maximum(n, 1)
            mean = jnp.matmul(share, x, precision=lax.Precision.HIGHEST)
            centred = x - mean[None, :]
            var = jnp.matmul(share, jnp.square(centred), precision=lax.Precision.HIGHEST)
            if count is None:
                self._follow(mean, var * (n / jnp.maximum(n - 1, 1)) if self.unbiased else var)
            else:
                mean, var = self._join(mean, var, n / jnp.maximum(n + count, 1))
                centred = x - mean[None, :]
        scale = self.scale[...] * lax.rsqrt(var + BATCH_NORM_EPSILON)
        return centred * scale[None, :] + self.bias[...][None, :]

    def _join(self, mean: Array, var: Array, own: Array) -> tuple[Array, Array]:
        """Of rows of which the share `own` has that mean and variance, and the others the running ones."""
        apart = mean - self.mean[...]
        self.var[...] = own * var + (1 - own) * self.var[...] + own * (1 - own) * jnp.square(apart)
        self.mean[...] += own * apart
        return self.mean[...], self.var[...]

    def _follow(self, mean: Array, var: Array) -> None:
        step = 1 - BATCH_NORM_MOMENTUM
        self.mean[...] += step * (lax.stop_gradient(mean) - self.mean[...])
        self.var[...] += step * (lax.stop_gradient(var) - self.var[...])


class Autoencoder(nnx.Module):
    """Dense -> BatchNorm -> ReLU for every layer, the bottleneck included; the output is linear."""

    def __init__(
        self, config: AutoencoderConfig, n_features: int, key: Array, width: Array | int, dtype: Any
    ) -> None:
        n_outputs = n_features if config.predict == "middle" else config.n_context * n_features
        n_inputs = (config.n_context - (config.predict == "middle")) * n_features
        widths = (n_inputs, *config.hidden, config.bottleneck, *reversed(config.hidden), n_outputs)
        narrow = len(config.hidden) + 1  # the place of the bottleneck among the widths
        constants = CONSTANTS[config.constants]
        kernels, biases = [], []
        for number, (key_layer, (fan_in, fan_out)) in enumerate(
            zip(jax.random.split(key, len(widths) - 1), pairwise(widths), strict=True), start=1
        ):
            key_kernel, key_bias = jax.random.split(key_layer)
            # Drawn with the bottleneck's axis first: the numbers of a narrow one begin those of a wide one.
            if number == narrow:
                kernel = _uniform(key_kernel, (fan_out, fan_in), dtype).T
            else:
                kernel = _uniform(key_kernel, (fan_in, fan_out), dtype)
            used_in = width if number == narrow + 1 else fan_in
            used_out = width if number == narrow else fan_out
            glorot = constants.initial == "glorot"
            limit = jnp.sqrt((6 / (used_in + used_out)) if glorot else (1 / jnp.asarray(used_in))).astype(
                dtype
            )
            bias = jnp.zeros(fan_out, dtype) if glorot else limit * _uniform(key_bias, (fan_out,), dtype)
            kernels.append(nnx.Param(limit * kernel))
            biases.append(nnx.Param(bias))
        self.kernels, self.biases = nnx.List(kernels), nnx.List(biases)
        self.reduced = config.compute_dtype == "bfloat16"
        self.norms = nnx.List(
            [BatchNorm(width, constants.unbiased_variance, dtype) for width in widths[1:-1]]
        )

    def __call__(
        self, x: Array, width: Array | int, mask: Array | None = None, count: Array | None = None
    ) -> Array:
        """Reconstruct windows.

        Args:
            x: (n, n_inputs).
            width: () units of the bottleneck in use. The rest put out 0, hence learn nothing and change nothing.
            mask: (n,) 1 or 0: train on these rows and use their statistics. None: use the running statistics.
            count: () rows that the running statistics count beside those of `mask`: use, and keep, those of both.

        Returns:
            (n, n_outputs).
        """
        for number, norm in enumerate(self.norms):
            # BatchNorm takes the bias out again: its gradient is 0. Computed, it would be rounding noise, and Adam,
            # which takes steps of the same length whatever the gradient's scale, would walk on it.
            bias = lax.stop_gradient(self.biases[number][...])
            x = nnx.relu(norm(self._product(x, number) + bias[None, :], mask, count))
            if number == len(self.norms) // 2:
                x = x * (jnp.arange(x.shape[1]) < width)[None, :]
        return self._product(x, len(self.norms)) + self.biases[-1][...][None, :]

    def _product(self, x: Array, number: int) -> Array:
        """`x` (n, n_in) times the layer's kernel, in the dtype of `x` and the kernel; rounded on the way if reduced.

        Rounded are both factors and the product, hence also the factors of both products of the gradient.
        """
        kernel = self.kernels[number][...]
        if not self.reduced:
            return x @ kernel
        return (x.astype(jnp.bfloat16) @ kernel.astype(jnp.bfloat16)).astype(kernel.dtype)


def _uniform(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    return jax.random.uniform(key, shape, dtype, -1, 1)


def init_weights(
    config: AutoencoderConfig, n_features: int, key: Array, width: Array | int, dtype: Any
) -> Weights:
    """Draw the weights of a new network.

    Args:
        config: static settings.
        n_features: columns of a row; a window has n_context times as many.
        key: typed PRNG key.
        width: () units of the bottleneck in use: they get the weights of a network built that narrow.
        dtype: of the weights.
    """
    model = Autoencoder(config, n_features, key, width, dtype)
    return Weights(*nnx.split(model, nnx.Param, nnx.BatchStat)[1:])


def cut_weights(config: AutoencoderConfig, n_features: int, weights: Weights) -> Weights:
    """Those of a wider bottleneck without its last units, down to what the config has."""
    dtype = jax.tree.leaves(weights)[0].dtype
    shapes = jax.eval_shape(
        lambda: init_weights(config, n_features, jax.random.key(0), config.bottleneck, dtype)
    )
    return jax.tree.map(lambda leaf, own: leaf[tuple(map(slice, own.shape))], weights, shapes)


def reconstruct(
    config: AutoencoderConfig, weights: Weights, x: Array, n_features: int, width: Array | int
) -> Array:
    """What the trained network makes of inputs `x` (n, n_inputs); (n, n_outputs)."""
    return nnx.merge(_graph(config, n_features), *weights)(x, width)


def reconstruct_and_follow(
    config: AutoencoderConfig, weights: Weights, x: Array, n_features: int, width: Array | int, mask: Array
) -> tuple[Array, Any]:
    """The same while training, under the statistics of the masked rows; also the new running statistics."""
    model = nnx.merge(_graph(config, n_features), *weights, copy=True)  # BatchNorm writes to its own copy
    return model(x, width, mask), nnx.state(model, nnx.BatchStat)


def adapt_statistics(
    config: AutoencoderConfig,
    weights: Weights,
    x: Array,
    target: Array,
    n_features: int,
    width: Array | int,
    mask: Array,
    count: Array,
) -> Weights:
    """The network with the statistics of other inputs.

    Those of BatchNorm, layer after layer (Li et al. 2016, "AdaBN"), and behind them the output's mean: no norm follows
    the last layer, whose bias knows how loud its old machine was.

    Args:
        config: static settings.
        weights: trained.
        x: (n, n_inputs), finite.
        target: (n, n_outputs), finite.
        n_features: columns of a row.
        width: () units of the bottleneck in use.
        mask: (n,) 1, or 0 for rows that change nothing.
        count: () >= 0, inputs that the old statistics count beside these.
    """
    model = nnx.merge(_graph(config, n_features), *weights, copy=True)
    residual = target - model(x, width, mask, count)
    share = mask / jnp.maximum(jnp.sum(mask) + count, 1)
    model.biases[-1][...] += jnp.matmul(share, residual, precision=lax.Precision.HIGHEST)
    return Weights(*nnx.split(model, nnx.Param, nnx.BatchStat)[1:])


def is_kernel(params: Any) -> Any:
    """The tree of `params` with True at the kernels."""
    return jax.tree.map(lambda leaf: leaf.ndim == 2, params)


def _graph(config: AutoencoderConfig, n_features: int) -> Any:
    """The static structure of the module, without computing any weight."""
    abstract = nnx.eval_shape(
        lambda: Autoencoder(config, n_features, jax.random.key(0), config.bottleneck, jnp.float32)
    )
    return nnx.split(abstract, nnx.Param, nnx.BatchStat)[0]
