"""EM with a gradient: the slope of the parameters where EM has ended, not of the way there.

EM's loop has no end that is known beforehand, so reverse mode cannot go through it, and forward mode goes through all
of it. But where EM has converged, parameters z are a fixed point of one iteration, z = M(z, x), so that

    dz/dx = (1 - dM/dz)^-1 dM/dx

(implicit function theorem): one linear equation in place of a hundred remembered iterations, solved by GMRES from
products alone. Both modes have it, and memory does not grow with the iterations.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.flatten_util import ravel_pytree
from jax.scipy.sparse.linalg import gmres

from adjax.checks import unit_weights
from adjax.detectors.gmm.checks import check_rows, check_settings
from adjax.detectors.gmm.config import (
    GmmConfig,
    GmmHyper,
    GmmParams,
    PlacedConfig,
    Start,
    place,
    where_lowered,
)
from adjax.detectors.gmm.detector import search
from adjax.detectors.gmm.em import Mixture, maximise
from adjax.detectors.gmm.fit import EmState, Frame, active_components, end_em, gather, make_frame
from adjax.types import FitInfo

RESIDUAL = 1e-6  # of the linear equation, as a share of its right-hand side; float32 ends at about 1e-5
RESTART, MAX_RESTARTS = 20, 10  # vectors that GMRES keeps, and how often it begins anew


def fit_implicit(
    config: GmmConfig, key: Array, x: Array, weight: Array, hyper: GmmHyper, start: Start = None
) -> tuple[GmmParams, FitInfo]:
    """`fit_gmm` that can be differentiated, in forward and in reverse mode.

    Parameters are those of `fit_gmm`; they depend on `x`, `weight` and `hyper.reg_covar` as the fixed point of EM does,
    whatever the start. So ask for convergence: a small `tol` (1e-8 in float64, 1e-5 in float32) and enough `max_iter`.
    Where EM has not converged, the gradient is that of one more iteration there, which may be far off; of a fit that
    is not finite nothing is. `centre` counts as constant; `offsets` have its slope.

    Args:
        config: see `fit_gmm`.
        key: see `fit_gmm`.
        x: see `fit_gmm`.
        weight: see `fit_gmm`.
        hyper: see `fit_gmm`.
        start: see `fit_gmm`.

    Returns:
        See `fit_gmm`; how the fit ended has no gradient.

    Raises:
        SettingsError: see `fit_gmm`.
    """
    x, weight = jnp.asarray(x), jnp.asarray(weight)
    check_settings(config, hyper)
    check_rows(x, weight)
    weight = unit_weights(weight)
    frame, state = where_lowered(_search, config)(key, *lax.stop_gradient((x, weight, hyper, start)))
    # The slope has one form for all platforms, which is the same to rounding.
    placed = place(config, on_cpu=False)
    reg = jnp.asarray(hyper.reg_covar, x.dtype) / jnp.square(frame.scale)
    active = active_components(config, hyper)
    # Their whiteners say all that covariances do.
    found, unravel = ravel_pytree((state.mixture.weights, state.mixture.means, state.mixture.whiteners))

    def once_more(flat: Array, x: Array, weight: Array, reg: Array) -> Mixture:
        weights, means, whiteners = unravel(flat)
        mixture = state.mixture._replace(weights=weights, means=means, whiteners=whiteners)
        sums = gather(placed, frame, x, weight, mixture)
        return maximise(config.covariance_type, sums, means, reg, active, on_cpu=False)[0]

    def moved(flat: Array) -> Array:
        mixture = once_more(flat, *still)
        return ravel_pytree((mixture.weights, mixture.means, mixture.whiteners))[0]

    still = lax.stop_gradient((x, weight, reg))
    _, slope = jax.linearize(moved, found)
    new = once_more(found, x, weight, reg)
    change, _ = ravel_pytree((new.weights, new.means, new.whiteners))
    # The right-hand side is 0, and has a slope.
    limits = {"tol": RESIDUAL, "restart": RESTART, "maxiter": MAX_RESTARTS}
    flat = found + gmres(lambda v: v - slope(v), _slope_of(change), **limits)[0]
    new = once_more(flat, x, weight, reg)
    mixture = jax.tree.map(lambda value, new: value + _slope_of(new), state.mixture, new)
    state = state._replace(mixture=mixture)
    params, info = end_em(placed, frame, weight, state)
    return params, lax.stop_gradient(info)


def _slope_of(value: Array) -> Array:
    """0 with the slope of a value."""
    return value - lax.stop_gradient(value)


def _search(
    config: PlacedConfig, key: Array, x: Array, weight: Array, hyper: GmmHyper, start: Start
) -> tuple[Frame, EmState]:
    frame = make_frame(config, x, weight, hyper)  # where rows are seen from changes no fit
    return frame, search(config, frame, key, x, weight, hyper, start)
