"""The mixture as a detector: the anomaly score is the negative log-likelihood."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from adjax.checks import unit_weights
from adjax.detectors import kmeans
from adjax.detectors.gmm import em
from adjax.detectors.gmm.checks import check_rows, check_settings
from adjax.detectors.gmm.config import (
    CovarianceType,
    GmmConfig,
    GmmHyper,
    GmmParams,
    PlacedConfig,
    Start,
    as_mixture,
    where_lowered,
)
from adjax.detectors.gmm.fit import (
    EmState,
    Frame,
    active_components,
    best_start,
    end_em,
    make_frame,
    out_of_frame,
    run_em,
    start_em,
    start_keys,
)
from adjax.detectors.rows import map_rows
from adjax.types import FitInfo, RowDetector


def make_gmm(config: GmmConfig = GmmConfig(), hyper: GmmHyper = GmmHyper()) -> RowDetector:
    """Build the mixture as a `RowDetector`.

    Its `fit(key, x, weight, hyper, start=None)` is `fit_gmm`; `FitInfo.objective` is the mean log-likelihood of a
    training vector in nats, `score` is minus the log-likelihood.

    Args:
        config: static settings.
        hyper: default traced settings.

    Raises:
        SettingsError: a setting out of its range.
    """
    check_settings(config, hyper)

    def fit(
        key: Array, x: Array, weight: Array, hyper: GmmHyper = hyper, start: Start = None
    ) -> tuple[GmmParams, FitInfo]:
        return fit_gmm(config, key, x, weight, hyper, start)

    score_anywhere = where_lowered(_score, config)

    def score(params: GmmParams, x: Array) -> Array:
        return score_anywhere(params, jnp.asarray(x))

    return RowDetector(fit=fit, score=score, hyper=hyper)


def fit_gmm(
    config: GmmConfig, key: Array, x: Array, weight: Array, hyper: GmmHyper, start: Start = None
) -> tuple[GmmParams, FitInfo]:
    """Fit a mixture by EM.

    The updates, the stopping rule and the order of the steps are those of scikit-learn 1.9 `GaussianMixture`, so
    that both agree from the same start; except where float32 calls a covariance singular that float64 would not.

    Args:
        config: static settings.
        key: typed PRNG key of the starts; unused where `start` is given.
        x: (n_rows, n_features) float.
        weight: (n_rows,) float >= 0, of any scale; a row of weight 0 is padding.
        hyper: traced settings.
        start: (n_rows, n_components) responsibilities to start from, parameters to go on from (a warm start; for
            given means see `start_from_means`), or None: greedy k-means++ and Lloyd's iterations, `n_init` times.

    Returns:
        The parameters and how the fit ended: NOT_FINITE where data, weights, traced settings or covariances were
        unusable (the parameters are then the last finite ones, if there were any, and the objective is NaN if there
        was no start), COLLAPSED where a component rests on less than one
        average row, REGULARIZED where a covariance needed more than `reg_covar`.

    Raises:
        SettingsError: a static setting out of range, shapes that do not fit together; and, from outside a program that
            is being traced, traced settings or weights that no fit can use.
    """
    x, weight = jnp.asarray(x), jnp.asarray(weight)
    check_settings(config, hyper)
    check_rows(x, weight)
    return where_lowered(_fit, config)(key, x, weight, hyper, start)


def _fit(
    config: PlacedConfig, key: Array, x: Array, weight: Array, hyper: GmmHyper, start: Start
) -> tuple[GmmParams, FitInfo]:
    weight = unit_weights(weight)
    frame = make_frame(config, x, weight, hyper)
    return end_em(config, frame, weight, search(config, frame, key, x, weight, hyper, start))


def search(
    config: PlacedConfig, frame: Frame, key: Array, x: Array, weight: Array, hyper: GmmHyper, start: Start
) -> EmState:
    """EM from its start to its end, the best of `n_init` where none is given."""
    if start is not None or config.n_init == 1:
        return run_em(config, frame, x, weight, hyper, start_em(config, frame, key, x, weight, hyper, start))

    def one(key: Array) -> EmState:
        return run_em(config, frame, x, weight, hyper, start_em(config, frame, key, x, weight, hyper))

    keys = start_keys(config, key)
    return best_start(lax.map(one, keys) if config.on_cpu else jax.vmap(one)(keys))


def start_from_means(
    config: GmmConfig,
    x: Array,
    weight: Array,
    means: Array,
    hyper: GmmHyper = GmmHyper(),
) -> GmmParams:
    """Parameters to start from given means: weights and covariances are those of the rows nearest to each.

    Args:
        config: static settings.
        x: (n_rows, n_features) float.
        weight: (n_rows,) float >= 0.
        means: (n_components, n_features).
        hyper: traced settings.

    Raises:
        SettingsError: see `fit_gmm`.
    """
    arrays = (jnp.asarray(x), jnp.asarray(weight), jnp.asarray(means))
    check_settings(config, hyper)
    check_rows(*arrays[:2])
    return where_lowered(_start_from_means, config)(*arrays, hyper)


def _start_from_means(
    config: PlacedConfig, x: Array, weight: Array, means: Array, hyper: GmmHyper
) -> GmmParams:
    weight = unit_weights(weight)
    frame = make_frame(config, x, weight, hyper)
    active = active_components(config, hyper)
    offsets = means - frame.centre[None, :]

    def nearest(index: Array) -> Array:
        columns = (x[index] - frame.centre[None, :]).T
        return kmeans.nearest(columns, offsets, active).T

    resp = nearest(jnp.arange(x.shape[0]))
    state = start_em(config, frame, jax.random.key(0), x, weight, hyper, resp)
    params = out_of_frame(config.covariance_type, state.mixture, frame)
    return params._replace(offsets=jnp.where(active[:, None], offsets, params.offsets))


def log_joint(kind: CovarianceType, params: GmmParams, x: Array, *, block_size: int = 1024) -> Array:
    """log(weight_k N_k(x)), (n_rows, k) nats, of `x` (n_rows, d); its softmax are the responsibilities."""
    return (
        log_component_densities(kind, params, x, block_size=block_size)
        + em.log_weights(params.weights)[None, :]
    )


def log_component_densities(
    kind: CovarianceType, params: GmmParams, x: Array, *, block_size: int = 1024
) -> Array:
    """Log N_k(x), (n_rows, k) nats, of `x` (n_rows, d); -inf for components of weight 0."""
    cpu, others = (partial(_densities, kind, block_size, on_cpu) for on_cpu in (True, False))
    return lax.platform_dependent(params, x, cpu=cpu, default=others)


def _densities(kind: CovarianceType, block_size: int, on_cpu: bool, params: GmmParams, x: Array) -> Array:
    mixture = as_mixture(kind, params)

    def block(index: Array) -> Array:
        columns = (x[index] - params.centre[None, :]).T
        return em.log_component_densities(kind, mixture, columns, on_cpu=on_cpu).T

    return map_rows(block, x.shape[0], block_size, x.dtype, params.weights.shape[0])


def _score(config: PlacedConfig, params: GmmParams, x: Array) -> Array:
    densities = _densities(config.covariance_type, config.rows_a_block, config.on_cpu, params, x)
    if config.scoring == "max_component":
        return -jnp.max(densities, axis=1)
    return -jax.nn.logsumexp(densities + em.log_weights(params.weights)[None, :], axis=1)
