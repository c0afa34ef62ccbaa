"""Layers of the two branches: convolutions without biases, norms without scale and shift, squeeze-excitation.

Channels come last. Every form was chosen for a CPU's gradient, whose time is nearly all of a training's; an accelerator
takes them as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax

# PyTorch's, which the reference leaves alone.
NORM_MOMENTUM, NORM_EPSILON = 0.1, 1e-5
SQUEEZE = 16  # channels for each number that squeeze-excitation goes through


def kernel(*shape: int) -> nnx.Param:
    """A kernel (..., n_in, n_out) that is yet to be drawn, see `network.init_weights`."""
    return nnx.Param(jnp.zeros(shape))


class Norm(nnx.Module):
    """BatchNorm without scale and shift, over all axes but the last."""

    def __init__(self, width: int) -> None:
        self.mean, self.var = nnx.BatchStat(jnp.zeros(width)), nnx.BatchStat(jnp.ones(width))

    def __call__(self, x: Array, mask: Array | None) -> Array:
        """Normalise.

        Args:
            x: (n, ..., width).
            mask: (n,) 1 or 0: train, by the statistics of these clips. None: by the running ones.
        """
        over = (1,) * (x.ndim - 1)
        if mask is None:
            centred, var = x - self.mean[...].reshape(*over, -1), self.var[...]
        else:
            inner = tuple(range(1, x.ndim - 1))
            count = jnp.sum(mask)
            share = mask / jnp.maximum(count, 1)
            mean = jnp.matmul(share, x.mean(inner), precision=lax.Precision.HIGHEST)
            centred = x - mean.reshape(*over, -1)
            var = jnp.matmul(share, jnp.square(centred).mean(inner), precision=lax.Precision.HIGHEST)
            n = count * math.prod(x.shape[i] for i in inner)
            self._follow(mean, var * (n / jnp.maximum(n - 1, 1)))
        return centred * lax.rsqrt(var + NORM_EPSILON).reshape(*over, -1)

    def _follow(self, mean: Array, var: Array) -> None:
        self.mean[...] += NORM_MOMENTUM * (lax.stop_gradient(mean) - self.mean[...])
        self.var[...] += NORM_MOMENTUM * (lax.stop_gradient(var) - self.var[...])


class SqueezeExcite(nnx.Module):
    """Each channel times a number in (0, 1) that the means of all channels decide."""

    def __init__(self, width: int) -> None:
        inner = max(1, width // SQUEEZE)
        self.squeeze, self.excite = kernel(width, inner), kernel(inner, width)

    def __call__(self, x: Array) -> Array:
        """`x` (n, ..., width), scaled."""
        inner = tuple(range(1, x.ndim - 1))
        scale = nnx.sigmoid(nnx.relu(x.mean(inner) @ self.squeeze[...]) @ self.excite[...])
        return x * jnp.expand_dims(scale, inner)


class Residual(nnx.Module):
    """Norm, then two convolutions of 3 x 3 with squeeze-excitation beside what went in, shrunk if the stride is 2."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        self.stride = stride
        self.outer, self.inner = Norm(n_in), Norm(n_out)
        self.first, self.second = kernel(3, 3, n_in, n_out), kernel(3, 3, n_out, n_out)
        self.scale = SqueezeExcite(n_out)
        self.skip = kernel(n_in, n_out) if stride > 1 else None

    def __call__(self, x: Array, mask: Array | None) -> Array:
        """(n, t, f, n_in) to (n, t / stride, f / stride, n_out)."""
        x = self.outer(x, mask)
        y = convolve(nnx.relu(x), self.first[...], self.stride, 1)
        y = convolve(nnx.relu(self.inner(y, mask)), self.second[...], 1, 1)
        y = self.scale(y)
        return y + (x if self.skip is None else max_pool(x, 1) @ self.skip[...])


def frugal(
    call: Callable[[Any, Array, Array | None], Array], module: Any, x: Array, mask: Array | None
) -> Array:
    """`call(module, x, mask)`, of which the gradient keeps only `x` and computes the rest again.

    `jax.checkpoint` cannot do that on a CPU, whose compiler finds both computations equal and keeps the first. Here the
    second one depends on the gradient that comes back, times 0.
    """
    if mask is None:
        return call(module, x, mask)
    parts: Any = nnx.split(module, nnx.Param, nnx.BatchStat)
    graph, params, stats = parts

    def run(params: Any, stats: Any, x: Array, mask: Array) -> tuple[Array, Any]:
        own = nnx.merge(graph, params, stats, copy=True)
        return call(own, x, mask), nnx.state(own, nnx.BatchStat)

    def again(given: tuple[Any, ...], slopes: tuple[Array, Any]) -> tuple[Any, ...]:
        params, stats, x, mask = given
        later = 0 * slopes[0].reshape(-1)[0]
        return jax.vjp(run, params, stats, x + later, mask)[1](slopes)

    frugally = jax.custom_vjp(run)
    frugally.defvjp(lambda *given: (run(*given), given), again)
    y, stats = frugally(params, stats, x, mask)
    nnx.update(module, stats)
    return y


def convolve(x: Array, weights: Array, stride: int, padding: int) -> Array:
    """`x` (n, t, f, n_in) by weights (k, k, n_in, n_out)."""
    return lax.conv_general_dilated(
        x, weights, (stride, stride), [(padding, padding)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def convolve_spectrum(x: Array, weights: Array, stride: int) -> Array:
    """`x` (n, length, n_in) by weights (k, n_in, n_out), k a multiple of the stride; no padding.

    As one product with neighbouring blocks of a stride each: the gradient of the second layer's convolution as such
    takes a CPU 30 times as long. The first one, of a single channel, is as fast as it comes.
    """
    k, n_in, n_out = weights.shape
    if n_in == 1:
        return lax.conv_general_dilated(
            x, weights, (stride,), "VALID", dimension_numbers=("NWC", "WIO", "NWC")
        )
    n, ratio = 1 + (x.shape[1] - k) // stride, k // stride
    blocks = x[:, : (n + ratio - 1) * stride].reshape(len(x), n + ratio - 1, stride * n_in)
    return jnp.concatenate([blocks[:, i : i + n] for i in range(ratio)], axis=2) @ weights.reshape(-1, n_out)


def max_pool(x: Array, padding: int) -> Array:
    """(n, t, f, c): the largest of 3 x 3, every 2.

    Of slices, one axis after the other: the gradient of a windowed reduction takes a CPU three times as long.
    """
    around = (padding, padding)
    x = jnp.pad(x, ((0, 0), around, around, (0, 0)), constant_values=-jnp.inf) if padding else x
    for axis in (1, 2):
        last = 2 * ((x.shape[axis] - 3) // 2)
        slices = [lax.slice_in_dim(x, i, i + last + 1, 2, axis) for i in range(3)]
        x = jnp.maximum(jnp.maximum(slices[0], slices[1]), slices[2])
    return x
