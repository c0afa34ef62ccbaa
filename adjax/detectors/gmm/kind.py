"""The mixture as a kind: its settings, what a sweep can share, and many fits from the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from threadpoolctl import threadpool_limits

from adjax.batching import on_cpu
from adjax.detectors.gmm.adapt import adapt
from adjax.detectors.gmm.config import GmmConfig, GmmHyper, place
from adjax.detectors.gmm.detector import make_gmm
from adjax.detectors.gmm.lanes import fit_lanes
from adjax.detectors.gmm.split import fit_split
from adjax.types import EngineOptions, Fitted, Kind, SettingsError

_COPIED_BYTES = (
    2**26
)  # rows that are copied for each set of weights; larger ones are fitted in turn, on all cores


def fit_many(
    config: GmmConfig,
    keys: Array,
    x: np.ndarray,
    weight: np.ndarray,
    hyper: GmmHyper,
    data: np.ndarray,
    fold: np.ndarray,
    options: EngineOptions,
) -> Fitted:
    """Many mixtures on all cores; see `Kind.engine`."""
    n_lanes = len(data)
    pairs, which = np.unique(np.stack([data, fold]), axis=1, return_inverse=True)
    if pairs.shape[1] * x[0].nbytes <= _COPIED_BYTES or not weight.shape[0] > 1:
        rows, weights = x[pairs[0]], weight[pairs[1]]
        if pairs.shape[1] == len(x) and np.array_equal(pairs[0], np.arange(len(x))):
            rows = x
        params, info = fit_lanes(config, keys, rows, weights, hyper, data=jnp.asarray(which.reshape(-1)))
    else:
        hyper = jax.tree.map(lambda value: jnp.broadcast_to(jnp.asarray(value), (n_lanes,)), hyper)
        fits = []
        for i in range(n_lanes):
            own = jax.tree.map(itemgetter(i), hyper)
            with threadpool_limits(1, user_api="blas"):
                fits.append(fit_split(config, keys[i], x[data[i]], weight[fold[i]], own))
            if options.on_step:
                options.on_step(1, float(fits[-1][1].objective))
        params, info = jax.tree.map(lambda *leaves: jnp.stack(leaves), *fits)
    return Fitted(params, info, np.zeros((n_lanes, 0), np.float32))


def _widen(configs: Sequence[GmmConfig]) -> GmmConfig:
    return replace(configs[0], n_components=max(_rounded(config.n_components) for config in configs))


def _group(config: GmmConfig) -> GmmConfig:
    """Components are rounded up to a power of two: few compiles, and no lane pays for twice as many as it has."""
    return replace(config, n_components=_rounded(config.n_components))


def _rounded(n_components: int) -> int:
    return 1 << (n_components - 1).bit_length() if n_components > 0 else 0


def _narrow(config: GmmConfig, hyper: GmmHyper) -> GmmHyper:
    if hyper.n_components is not None:
        raise SettingsError("set a lane's components by config.n_components alone")
    return hyper._replace(n_components=config.n_components)


def _n_floats(config: GmmConfig, d: int, n_train: int, n_test: int) -> int:
    k = config.n_components
    floats = 2 * k * d * d + n_test
    placed = place(config, on_cpu())
    if not placed.on_cpu:  # all lanes step together, each through a block of rows
        floats += 3 * min(placed.rows_a_block, n_train) * k * d
    return floats


def _least(config: Any) -> int:
    return config.n_components


KIND = Kind(
    name="gmm",
    summary="a Gaussian mixture by EM; the score is the negative log-likelihood",
    config=GmmConfig,
    hyper=GmmHyper,
    make=make_gmm,
    axes={
        "config.covariance_type": ("full",),
        "hyper.reg_covar": (1e-3,),
        "config.n_components": (1, 2, 4, 8),
    },
    recipes={"twfr": (GmmConfig(scoring="max_component"), {"pooling": "gwrp"})},
    engine=fit_many,
    widen=_widen,
    group=_group,
    narrow=_narrow,
    adapt=adapt,
    least=_least,
    n_floats=_n_floats,
    remedy="raise reg_covar, or standardize the features",
)
