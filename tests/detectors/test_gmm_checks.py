"""What a mixture refuses on the host, how it ends in a program, and that the scale of weights is no setting."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from adjax.detectors.gmm import GmmConfig, GmmHyper, fit_gmm, fit_lanes, fit_split, make_gmm, start_from_means
from adjax.detectors.gmm.estimator import GaussianMixture
from adjax.types import CONVERGED, NOT_FINITE, SettingsError

X = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
ONES = np.ones(60, np.float32)
KEY = jax.random.key(0)
NAN, INF = float("nan"), float("inf")


def in_lanes(config: GmmConfig, x: Any, weight: Any, hyper: GmmHyper) -> Any:
    return fit_lanes(config, KEY[None], x[None], weight[None], hyper)


def by_detector(config: GmmConfig, x: Any, weight: Any, hyper: GmmHyper) -> Any:
    return make_gmm(config).fit(KEY, x, weight, hyper)


def from_means(config: GmmConfig, x: Any, weight: Any, hyper: GmmHyper) -> Any:
    return start_from_means(config, x, weight, jnp.zeros((2, 2)), hyper)


ENTRIES: list[Callable[..., Any]] = [
    lambda config, x, weight, hyper: fit_gmm(config, KEY, x, weight, hyper),
    lambda config, x, weight, hyper: fit_split(config, KEY, x, weight, hyper),
    in_lanes,
    by_detector,
    from_means,
]
NAMES = ["fit_gmm", "fit_split", "fit_lanes", "make_gmm", "start_from_means"]
CONFIGS = [
    (GmmConfig(0), "n_components=0"),
    (GmmConfig(2.0), "n_components=2.0"),
    (GmmConfig(2**70), "n_components="),
    (GmmConfig(2, "round"), "covariance_type='round'"),
    (GmmConfig(2, max_iter=-1), "max_iter=-1"),
    (GmmConfig(2, n_init=0), "n_init=0"),
    (GmmConfig(2, n_kmeans_iter=-1), "n_kmeans_iter=-1"),
    (GmmConfig(2, block_size=0), "block_size=0"),
    (GmmConfig(2, scoring="best"), "scoring='best'"),
]
HYPERS = [
    *[(GmmHyper(n_components=n), f"n_components={n}") for n in (9, 0, -1, 1.5, NAN)],
    *[(GmmHyper(reg_covar=r), f"reg_covar={r}") for r in (NAN, INF, -1.0)],
    *[(GmmHyper(tol=t), f"tol={t}") for t in (NAN, INF, -1.0)],
]
WEIGHTS = [-ONES, 0 * ONES, np.where(np.arange(60) == 3, NAN, ONES), np.where(np.arange(60) == 3, INF, ONES)]
WEIGHTS += [np.where(np.arange(60) == 3, -1, ONES)]
ROWS = [
    (X[:0], ONES[:0], "nothing to fit to"),
    (X[:, :0], ONES, "nothing to fit to"),
    (X[:, 0], ONES, "n_rows, n_features"),
    (X, ONES[:5], "n_rows, n_features"),
    (X.astype(np.int32), ONES, "give floats"),
]


@pytest.mark.parametrize("fit", ENTRIES, ids=NAMES)
def test_every_entry_refuses_what_it_cannot_fit(fit: Callable[..., Any]) -> None:
    for config, message in CONFIGS:
        with pytest.raises(SettingsError, match=message):
            fit(config, X, ONES, GmmHyper())
    for hyper, message in HYPERS:
        with pytest.raises(SettingsError, match=message):
            fit(GmmConfig(2), X, ONES, hyper)
        with pytest.raises(SettingsError, match=message.partition("=")[0]):
            fit(GmmConfig(2), X, ONES, jax.tree.map(jnp.asarray, hyper))
    for weight in WEIGHTS:
        with pytest.raises(SettingsError, match="weight"):
            fit(GmmConfig(2), X, weight.astype(np.float32), GmmHyper())
    for x, weight, message in ROWS:
        with pytest.raises(SettingsError, match=message):
            fit(GmmConfig(2), x, weight, GmmHyper())


def test_make_gmm_refuses_its_settings_and_fit_lanes_no_lanes() -> None:
    for config, message in CONFIGS:
        with pytest.raises(SettingsError, match=message):
            make_gmm(config)
    for hyper, message in HYPERS:
        with pytest.raises(SettingsError, match=message):
            make_gmm(GmmConfig(2), hyper)
    with pytest.raises(SettingsError, match="no lanes to fit"):
        fit_lanes(GmmConfig(2), jax.random.split(KEY, 0), X[None][:0], ONES[None][:0], GmmHyper())
    hyper = GmmHyper(jnp.array([1e-3, -1.0]))
    with pytest.raises(SettingsError, match=r"reg_covar=-1\.0"):
        fit_lanes(GmmConfig(2), jax.random.split(KEY, 2), np.stack([X, X]), np.stack([ONES, ONES]), hyper)
    with pytest.raises(SettingsError, match="chunk_steps=0"):
        fit_lanes(GmmConfig(2), KEY[None], X[None], ONES[None], GmmHyper(), lanes="vmap", chunk_steps=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *[
            ({name: n}, name)
            for name in ("n_components", "n_init")
            for n in (0, -1, 1.5, 2**70, NAN, "2", True)
        ],
        *[({"max_iter": n}, "max_iter") for n in (-1, 1.5, 2**70, NAN)],
        *[({name: n}, name) for name in ("reg_covar", "tol") for n in (-1, NAN, INF, "x")],
        ({"covariance_type": "round"}, "covariance_type"),
        ({"scoring": "best"}, "scoring"),
    ],
)
def test_the_estimator_refuses_with_the_same_error(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        GaussianMixture(**settings).fit(X)


@pytest.mark.parametrize("weight", WEIGHTS)
def test_the_estimator_refuses_weights(weight: np.ndarray) -> None:
    with pytest.raises(SettingsError, match="sample_weight"):
        GaussianMixture(2).fit(X, sample_weight=weight)


@pytest.mark.parametrize("kind", ["full", "diag"])
def test_in_a_program_what_cannot_be_fitted_is_not_finite(kind: str) -> None:
    """Nothing can be raised there, so the status says it, and no number passes for a result."""
    fit = jax.jit(partial(fit_gmm, GmmConfig(2, kind)))
    good = GmmHyper(1e-3, 1e-3, 2)
    bad = [good._replace(n_components=n) for n in (9, 3, 0, -1)]
    bad += [good._replace(reg_covar=r) for r in (NAN, INF, -1.0)]
    bad += [good._replace(tol=t) for t in (NAN, INF, -1.0)]
    for hyper in bad:
        _, info = fit(KEY, X, ONES, hyper)
        assert int(info.status) == NOT_FINITE, hyper
        assert np.isnan(info.objective), hyper
    for weight in WEIGHTS:
        _, info = fit(KEY, X, weight.astype(np.float32), good)
        assert int(info.status) == NOT_FINITE, weight
        assert np.isnan(info.objective), weight
    _, info = fit(KEY, X, ONES, good)
    assert int(info.status) == CONVERGED


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_the_scale_of_the_weights_changes_nothing(kind: Any) -> None:
    weight = np.random.default_rng(1).uniform(0.2, 1, 60).astype(np.float32)
    fit = jax.jit(partial(fit_gmm, GmmConfig(2, kind, n_init=2)))
    expected, info = fit(KEY, X, weight, GmmHyper())
    for scale in (1e-30, 1e-18, 1e18, 1e37):
        scaled = weight * np.float32(scale)
        params, found = fit(KEY, X, scaled, GmmHyper())
        assert int(found.status) == int(info.status) == CONVERGED
        assert_allclose(found.objective, info.objective, rtol=1e-5)
        jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=2e-4, atol=2e-5), params, expected)
    exactly, _ = fit(KEY, X, weight * np.float32(2.0**-60), GmmHyper())
    jax.tree.map(np.testing.assert_array_equal, exactly, expected)


def test_every_way_to_fit_takes_weights_of_any_scale() -> None:
    weight = np.random.default_rng(1).uniform(0.2, 1, 60).astype(np.float32)
    scaled = weight * np.float32(2.0**-60)
    config, hyper = GmmConfig(2), GmmHyper()
    ways = dict(zip(NAMES, ENTRIES, strict=True))
    for name in ("fit_split", "fit_lanes", "start_from_means"):
        fits = [ways[name](config, X, w, hyper) for w in (weight, scaled)]
        jax.tree.map(np.testing.assert_array_equal, *fits)
    together = [fit_lanes(config, KEY[None], X[None], w[None], hyper, lanes="vmap") for w in (weight, scaled)]
    jax.tree.map(np.testing.assert_array_equal, *together)
    ours = [GaussianMixture(2, random_state=0).fit(X, sample_weight=w) for w in (weight, scaled)]
    np.testing.assert_array_equal(ours[0].covariances_, ours[1].covariances_)
