"""From residuals to scores: mean squares, or Mahalanobis norms under the covariance of the training residuals."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from adjax.detectors.autoencoder.config import AutoencoderConfig, AutoencoderHyper
from adjax.detectors.autoencoder.network import Weights, cut_weights, reconstruct
from adjax.detectors.autoencoder.training import Lane, width_of
from adjax.detectors.autoencoder.windows import Windows, gather_windows, inputs_and_targets, windows_at


class AutoencoderParams(NamedTuple):
    """A trained autoencoder.

    Attributes:
        weights: the network's.
        width: () int32, units of the bottleneck in use.
        whitening: (n_domains, n_outputs, n_outputs) lower triangular inverses W of the residual covariances'
            Cholesky factors, the squared norm is |W r|²; None for residual "mean_square".
    """

    weights: Weights
    width: Array
    whitening: Array | None


def finish(
    config: AutoencoderConfig,
    windows: Windows,
    lane: Lane,
    weights: Weights,
    domain: Array | None = None,
    source: tuple[Array, Array] | None = None,
) -> AutoencoderParams:
    """Turn trained weights into what scores.

    Args:
        config: static settings.
        windows: what was trained on.
        lane: which part of it.
        weights: the trained network's, of the bottleneck that `in_training` has.
        domain: (n_rows,) int32 in [0, n_domains), of the window that starts at each row; None: all 0. A domain
            without windows takes the covariance of all.
        source: another's `whitening`, and () how many windows it counts in each domain; None: none.
    """
    width = jnp.asarray(width_of(config, lane.hyper), jnp.int32)
    if config.residual == "mean_square":
        return AutoencoderParams(cut_weights(config, windows.x.shape[1], weights), width, None)
    scatter, mass = _scatter(config, windows, lane, weights, domain)
    empty = (mass == 0)[:, None, None]
    scatter = jnp.where(empty, jnp.sum(scatter, axis=0)[None], scatter)
    mass = jnp.where(mass == 0, jnp.sum(mass), mass)
    if source is not None:
        scatter, mass = scatter + source[1] * jax.vmap(_covariance)(source[0]), mass + source[1]
    covariances = scatter / jnp.maximum(mass - 1, 1)[:, None, None]
    whitening = jax.vmap(_whitening, in_axes=(0, None))(covariances, lane.hyper)
    return AutoencoderParams(cut_weights(config, windows.x.shape[1], weights), width, whitening)


def score_windows(config: AutoencoderConfig, params: AutoencoderParams, windows: Array) -> Array:
    """(n,) scores of windows (n, n_context, d), higher = more anomalous."""
    residual = residuals(config, params.weights, windows, params.width)
    if params.whitening is None:
        return jnp.mean(jnp.square(residual), axis=1)
    norms = [jnp.mean(jnp.square(_apply(whitening, residual)), axis=1) for whitening in params.whitening]
    return jnp.min(jnp.stack(norms), axis=0)


def residuals(config: AutoencoderConfig, weights: Weights, windows: Array, width: Array | int) -> Array:
    """(n, n_outputs) target minus output of windows (n, n_context, d)."""
    inputs, targets = inputs_and_targets(config, windows)
    return targets - reconstruct(config, weights, inputs, windows.shape[2], width)


def _scatter(
    config: AutoencoderConfig, windows: Windows, lane: Lane, weights: Weights, domain: Array | None
) -> tuple[Array, Array]:
    """Sums of residual outer products (n_domains, k, k), and of weights (n_domains,), over the lane's windows.

    About 0, not about their mean: a residual's mean is part of what is normal only as far as it is small.
    """
    n_features = windows.x.shape[1]
    n_outputs = n_features if config.predict == "middle" else config.n_context * n_features
    block = min(config.block_size, windows.train.shape[0])

    def body(number: Array, sums: tuple[Array, Array]) -> tuple[Array, Array]:
        index, real = windows_at(windows.train, lane.train, number * block + jnp.arange(block))
        weight = jnp.where(real, windows.weight[index], 0)
        gathered = gather_windows(windows.x, index, config.n_context)
        residual = residuals(config, weights, gathered, width_of(config, lane.hyper))
        # A row of weight 0 may hold anything, also NaN: keep it out, not only at weight 0.
        residual = jnp.where(weight[:, None] > 0, residual, 0)
        member = jnp.zeros(block, jnp.int32) if domain is None else domain[index]
        shares = weight[:, None] * (member[:, None] == jnp.arange(config.n_domains)[None, :])
        outer = [_apply((residual * share[:, None]).T, residual.T) for share in shares.T]
        return sums[0] + jnp.stack(outer), sums[1] + jnp.sum(shares, axis=0)

    start = (
        jnp.zeros((config.n_domains, n_outputs, n_outputs), windows.x.dtype),
        jnp.zeros(config.n_domains, windows.x.dtype),
    )
    return lax.fori_loop(0, -(-lane.train.length // block), body, start)


def _whitening(covariance: Array, hyper: AutoencoderHyper) -> Array:
    """Inverse of the Cholesky factor of a covariance (k, k) with a ridge, for it may rest on few windows."""
    k = covariance.shape[0]
    ridge = hyper.ridge * jnp.trace(covariance) / k
    chol = jnp.linalg.cholesky(covariance + ridge * jnp.eye(k, dtype=covariance.dtype))
    return lax.linalg.triangular_solve(chol, jnp.eye(k, dtype=covariance.dtype), left_side=True, lower=True)


def _covariance(whitening: Array) -> Array:
    """(k, k) of which this is the `_whitening`, with its ridge."""
    eye = jnp.eye(len(whitening), dtype=whitening.dtype)
    factor = lax.linalg.triangular_solve(whitening, eye, left_side=True, lower=True)
    return _apply(factor, factor)


def _apply(matrix: Array, residual: Array) -> Array:
    """(n, k) · (j, k)' in full float32."""
    return jnp.matmul(residual, matrix.T, precision=lax.Precision.HIGHEST)
