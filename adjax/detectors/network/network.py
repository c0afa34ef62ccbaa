"""The network: two branches, from a wave to a vector that says whose it is.

Source: TakuyaFujimura/dcase-asd-toolkit, `asdkit/models/multiresnet/` (T. Fujimura et al., "Improvements of
discriminative feature space training for anomalous sound detection in unlabeled conditions", ICASSP 2025), written
anew. Flax stays in this module and `layers`. The others see two pytrees: what is trained, and running statistics.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from adjax.detectors.network.config import STEM, NetworkConfig
from adjax.detectors.network.layers import (
    Norm,
    Residual,
    SqueezeExcite,
    convolve,
    convolve_spectrum,
    frugal,
    kernel,
    max_pool,
)
from adjax.detectors.network.spectra import spectrogram, spectrum


class Weights(NamedTuple):
    """A network's numbers.

    Attributes:
        params: kernels, by layer.
        batch_stats: the norms' running mean and variance, by layer.
    """

    params: Any
    batch_stats: Any


class SpectrumBranch(nnx.Module):
    """Convolutions over the whole clip's spectrum, each with ReLU and squeeze-excitation, then dense layers."""

    def __init__(self, config: NetworkConfig) -> None:
        width = config.width
        self.strides = config.strides
        self.kernels = nnx.List([kernel(k, width if i else 1, width) for i, k in enumerate(config.kernels)])
        self.scales = nnx.List([SqueezeExcite(width) for _ in config.kernels])
        n_inputs = [config.spectrum_length * width, *[width] * (config.n_dense - 1)]
        self.dense = nnx.List([kernel(n, width) for n in n_inputs])
        self.norms = nnx.List([Norm(width) for _ in n_inputs[1:]])

    def __call__(self, x: Array, mask: Array | None) -> Array:
        """(n, width) of spectra (n, length)."""
        x = x[:, :, None]
        for weights, stride, scale in zip(self.kernels, self.strides, self.scales, strict=True):
            x = scale(nnx.relu(convolve_spectrum(x, weights[...], stride)))
        x = x.reshape(len(x), -1) @ self.dense[0][...]
        for norm, weights in zip(self.norms, self.dense[1:], strict=True):
            x = nnx.relu(norm(x, mask)) @ weights[...]
        return x


class Stem(nnx.Module):
    """A norm for each bin, a convolution, and the largest of its neighbours."""

    def __init__(self, config: NetworkConfig) -> None:
        self.bins, self.norm = Norm(config.spectrogram_size[1]), Norm(config.channels[0])
        self.kernel = kernel(STEM[0], STEM[0], 1, config.channels[0])

    def __call__(self, x: Array, mask: Array | None) -> Array:
        """(n, t, f, channels) of spectrograms (n, n_frames, n_bins)."""
        x = convolve(self.bins(x, mask)[:, :, :, None], self.kernel[...], STEM[1], 0)
        return max_pool(nnx.relu(self.norm(x, mask)), 0)


class SpectrogramBranch(nnx.Module):
    """A small residual network over the spectrogram, then the maximum over time."""

    def __init__(self, config: NetworkConfig) -> None:
        size = config.map_size[1]
        self.stem = Stem(config)
        blocks, n_in = [], config.channels[0]
        for i, n_out in enumerate(config.channels):
            stride = 2 if i else 1
            blocks += [Residual(n_in, n_out, stride), Residual(n_out, n_out, 1)]
            n_in, size = n_out, 1 + (size - 1) // stride
        self.blocks = nnx.List(blocks)
        self.norm, self.dense = Norm(size * n_in), kernel(size * n_in, config.width)

    def __call__(self, x: Array, mask: Array | None) -> Array:
        """(n, width) of spectrograms (n, n_frames, n_bins)."""
        x = frugal(Stem.__call__, self.stem, x, mask)
        for block in self.blocks:
            x = frugal(Residual.__call__, block, x, mask)
        return self.norm(x.max(axis=1).reshape(len(x), -1), mask) @ self.dense[...]


class Network(nnx.Module):
    """Both branches, one vector after the other."""

    def __init__(self, config: NetworkConfig) -> None:
        self.spectrum, self.spectrogram = SpectrumBranch(config), SpectrogramBranch(config)

    def __call__(self, whole: Array, short: Array, mask: Array | None) -> Array:
        """(n, 2 width) of spectra and spectrograms."""
        return jnp.concatenate([self.spectrum(whole, mask), self.spectrogram(short, mask)], axis=1)


def init_weights(config: NetworkConfig, key: Array, dtype: Any) -> Weights:
    """Draw the weights of a new network as PyTorch does: each kernel within 1 / sqrt(fan_in).

    All in one draw: one for each of 60 kernels takes half a minute to compile.
    """
    empty = Weights(*nnx.split(Network(config), nnx.Param, nnx.BatchStat)[1:])
    kernels, structure = jax.tree.flatten(empty.params)
    ends = np.cumsum([leaf.size for leaf in kernels])
    drawn = jnp.split(jax.random.uniform(key, (int(ends[-1]),), dtype, -1, 1), ends[:-1].tolist())
    drawn = [
        values.reshape(leaf.shape) / math.sqrt(math.prod(leaf.shape[:-1]))
        for values, leaf in zip(drawn, kernels, strict=True)
    ]
    stats = jax.tree.map(lambda leaf: leaf.astype(dtype), empty.batch_stats)
    return Weights(jax.tree.unflatten(structure, drawn), stats)


def embed(config: NetworkConfig, weights: Weights, waves: Array) -> Array:
    """(n, 2 width) vectors of `waves` (n, n_samples), each clip by itself."""
    model = nnx.merge(_graph(config), *weights)
    return model(spectrum(config, waves), spectrogram(config, waves), None)


def embed_and_follow(config: NetworkConfig, weights: Weights, waves: Array, mask: Array) -> tuple[Array, Any]:
    """The same while training, under the statistics of the masked clips; also the new running statistics."""
    model = nnx.merge(_graph(config), *weights, copy=True)  # norms write to their own copy
    vectors = model(spectrum(config, waves), spectrogram(config, waves), mask)
    return vectors, nnx.state(model, nnx.BatchStat)


def _graph(config: NetworkConfig) -> Any:
    """The static structure of the module, without computing any weight."""
    return nnx.split(nnx.eval_shape(lambda: Network(config)), nnx.Param, nnx.BatchStat)[0]
