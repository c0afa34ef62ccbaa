"""The mixtures of several machines as one of the same size.

Components go to the nearest of the merged mixture, which then takes their moments, again and again (Goldberger and
Roweis 2004, "Hierarchical clustering of a mixture model").
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.lax import Precision

from adjax.detectors.gmm import em
from adjax.detectors.gmm.config import CovarianceType, GmmHyper, GmmParams, PlacedConfig
from adjax.detectors.gmm.em import Mixture
from adjax.detectors.gmm.fit import Frame, into_frame, out_of_frame
from adjax.detectors.products import times

N_STEPS = 10  # assignments settle after two or three


def merge_mixtures(config: PlacedConfig, hyper: GmmHyper, params: GmmParams, share: Array) -> GmmParams:
    """One mixture of `config.n_components` for what the mixtures of several machines have in common.

    Each is seen about its own mean. Every machine's mixture is a start, and the end of the least divergence is taken.

    Args:
        config: static settings.
        hyper: traced settings, of the fits.
        params: leaves (n_machines, ...).
        share: (n_machines,) float >= 0, how much each machine counts; 0: not at all.

    Returns:
        The mixture, about the mean of the machines' means; a component that nothing is nearest to has weight 0.
    """
    kind = config.covariance_type
    share = share / jnp.sum(share)
    centre = times(share[None, :], params.centre)[0]
    reg = jnp.asarray(hyper.reg_covar, centre.dtype)
    variance = jnp.sum(share[:, None] * jax.vmap(lambda own: _variance(kind, own))(params), axis=0)
    frame = _frame(centre, variance, reg)

    def placed(own: GmmParams) -> Mixture:
        return into_frame(kind, own, frame._replace(centre=own.centre))

    each = jax.vmap(placed)(params)
    weights = (share[:, None] * each.weights).reshape(-1)
    means = each.means.reshape(len(weights), -1)
    covariances = jax.vmap(lambda own: one_each(kind, own.covariances, own.means))(each)
    covariances = covariances.reshape(len(weights), *covariances.shape[2:])

    def step(_: Array, mixture: Mixture) -> Mixture:
        owner = jnp.argmin(_divergence(kind, means, covariances, mixture), axis=1)
        resp = jnp.where(jnp.arange(config.n_components)[:, None] == owner[None, :], weights[None, :], 0)
        away = means - mixture.means[owner]
        if kind in ("full", "tied"):
            squares = away[:, :, None] * away[:, None, :] - jnp.diag(frame.reg)[None]
        else:
            squares = jnp.square(away) - frame.reg[None, :]
        scatter = times(resp, (covariances + squares).reshape(len(weights), -1))
        scatter = scatter.reshape(-1, *squares.shape[1:])
        scatter = scatter.sum(axis=0) if kind == "tied" else scatter
        mass = resp.sum(axis=1)
        sums = em.Statistics(jnp.zeros(()), mass, times(resp, away), scatter)
        return em.maximise(kind, sums, mixture.means, frame.reg, mass > 0, on_cpu=config.on_cpu)[0]

    def merge(start: Mixture) -> tuple[Mixture, Array]:
        found = lax.fori_loop(0, N_STEPS, step, start)
        nearest = jnp.min(_divergence(kind, means, covariances, found), axis=1)
        return found, jnp.sum(jnp.where(weights > 0, weights * nearest, 0))

    found, cost = lax.map(merge, each)
    best = jnp.argmin(jnp.where((share > 0) & jnp.isfinite(cost), cost, jnp.inf))
    return out_of_frame(kind, jax.tree.map(lambda leaf: leaf[best], found), frame)


def about(kind: CovarianceType, params: GmmParams, centre: Array, reg: Array) -> tuple[Frame, Mixture]:
    """A mixture moved to `centre` (d,), and the frame there in which its columns have variance 1; without a reach."""
    frame = _frame(centre, _variance(kind, params), reg)
    return frame, into_frame(kind, params._replace(centre=centre), frame)


def _frame(centre: Array, variance: Array, reg: Array) -> Frame:
    scale = jnp.sqrt(jnp.where(variance > 0, variance, 1))
    return Frame(centre, scale, reg / jnp.square(scale), jnp.zeros_like(centre))


def _variance(kind: CovarianceType, params: GmmParams) -> Array:
    """(d,) of the columns; one number for all columns of a spherical mixture, whose frame must have one."""
    own = one_each(kind, params.covariances, params.offsets)
    own = jnp.diagonal(own, axis1=1, axis2=2) if kind in ("full", "tied") else own
    variance = times(params.weights[None, :], own + jnp.square(params.offsets))[0]
    return jnp.full_like(variance, jnp.mean(variance)) if kind == "spherical" else variance


def one_each(kind: CovarianceType, covariances: Array, means: Array) -> Array:
    """Covariances of each component of means (k, d): (k, d, d), or their diagonals (k, d)."""
    k, d = means.shape
    if kind == "tied":
        return jnp.broadcast_to(covariances, (k, d, d))
    return jnp.broadcast_to(covariances[:, None], (k, d)) if kind == "spherical" else covariances


def _divergence(kind: CovarianceType, means: Array, covariances: Array, mixture: Mixture) -> Array:
    """(n, k) Kullback-Leibler divergence from each component of a mixture to each of n Gaussians, and a constant each.

    The constant is what does not depend on the mixture: the logarithm of the Gaussian's own determinant, and d.
    """
    k = len(mixture.means)
    away = means[:, None, :] - mixture.means[None, :, :]
    whiteners = one_each(kind, mixture.whiteners, mixture.means)
    if kind in ("full", "tied"):
        log_det = jnp.sum(jnp.log(jnp.diagonal(whiteners, axis1=1, axis2=2)), axis=1)
        precisions = jnp.einsum("kab,kac->kbc", whiteners, whiteners, precision=Precision.HIGHEST)
        white = jnp.einsum("kab,nkb->nka", whiteners, away, precision=Precision.HIGHEST)
    else:
        log_det, precisions = jnp.sum(jnp.log(whiteners), axis=1), jnp.square(whiteners)
        white = away * whiteners[None, :, :]
    trace = times(covariances.reshape(len(means), -1), precisions.reshape(k, -1).T)
    found = 0.5 * (trace + jnp.sum(jnp.square(white), axis=2)) - log_det[None, :]
    return jnp.where((mixture.weights > 0)[None, :], found, jnp.inf)
