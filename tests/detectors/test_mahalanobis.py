"""The borrowing Gaussian against a plain NumPy version with explicit inverses, and against scikit-learn."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.covariance import ledoit_wolf

from adjax.detectors.mahalanobis import _shrink, fit_gaussian, log_distance
from adjax.types import SettingsError

FIT = jax.jit(fit_gaussian, static_argnames=("n_machines", "covariance"))
MACHINE = np.repeat([0, 1, 2], [4, 9, 30])


def vectors(d: int = 6, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(len(MACHINE), d)) @ rng.normal(size=(d, d))
    return x * rng.uniform(0.5, 2.0, size=(3, d))[MACHINE] + 10.0 * rng.normal(size=(3, d))[MACHINE] - 60.0


def plain_log_distance(groups: list[np.ndarray], own: int, x: np.ndarray, covariance: str) -> np.ndarray:
    """Each formula as it is told in words, vector by vector."""
    d = x.shape[1]
    residuals = [group - group.mean(axis=0) for group in groups]
    freedom = [max(len(group) - 1, 1) for group in groups]
    deviation = x - groups[own].mean(axis=0)
    if covariance == "diag":
        variance = (residuals[own] ** 2).sum(axis=0) / freedom[own] + 1e-4
        return np.log((deviation**2 / variance).mean(axis=1))
    pooled = sum((r**2).sum(axis=0) for r in residuals) / sum(freedom)
    variances = [
        ((r**2).sum(axis=0) + 8 * pooled) / (n + 8) + 1e-4 for r, n in zip(residuals, freedom, strict=True)
    ]
    z = [r / np.sqrt(v) for r, v in zip(residuals, variances, strict=True)]
    share = freedom[own] / (freedom[own] + 256)
    moment = np.zeros((d, d))
    fourth = 0.0
    for machine, rows in enumerate(z):
        weight = (1 - share) / sum(freedom) + (share / freedom[own] if machine == own else 0.0)
        for row in rows:
            moment += weight * np.outer(row, row)
            fourth += weight**2 * (row @ row) ** 2
    n = 1 / (
        (1 - share) ** 2 / sum(freedom) + share**2 / freedom[own] + 2 * share * (1 - share) / sum(freedom)
    )
    mu = np.trace(moment) / d
    norm = (moment**2).sum()
    intensity = np.clip((fourth - norm / n) / (norm - d * mu**2), 1e-3, 1)
    inverse = np.linalg.inv((1 - intensity) * moment + intensity * mu * np.eye(d))
    scaled = deviation / np.sqrt(variances[own])
    return np.log(np.einsum("ni,ij,nj->n", scaled, inverse, scaled) / d)


def fitted(x: np.ndarray, own: int, covariance: str = "full", weight: np.ndarray | None = None):
    weight = np.ones(len(x), x.dtype) if weight is None else weight
    return FIT(x, weight, MACHINE, own, n_machines=3, covariance=covariance)


@pytest.mark.parametrize("covariance", ["full", "diag"])
@pytest.mark.parametrize("own", [0, 2])
@pytest.mark.parametrize("d", [6, 60])  # fewer and more numbers than vectors
def test_distances_equal_plain_numpy(x64, covariance: str, own: int, d: int) -> None:
    x = vectors(d)
    groups = [x[machine == MACHINE] for machine in range(3)]
    probe = vectors(d, seed=1)
    got = log_distance(fitted(x, own, covariance), jnp.asarray(probe))
    assert_allclose(got, plain_log_distance(groups, own, probe, covariance), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("n", "d"), [(40, 6), (12, 30)])
def test_shrinkage_is_ledoit_and_wolfs(x64, n: int, d: int) -> None:
    rng = np.random.default_rng(3)
    z = rng.normal(size=(n, d)) @ rng.normal(size=(d, d))
    expected, _ = ledoit_wolf(z, assume_centered=True)
    assert_allclose(_shrink(jnp.asarray(z), jnp.full(n, 1 / n), jnp.asarray(float(n))), expected, rtol=1e-9)


@pytest.mark.parametrize("hidden", [np.nan, 99.0])
def test_a_vector_of_weight_0_changes_nothing(x64, hidden: float) -> None:
    x = vectors()
    weight = np.ones(len(x))
    weight[[1, 7, 20]] = 0.0
    spoilt = np.where(weight[:, None] > 0, x, hidden)
    kept = [x[(machine == MACHINE) & (weight > 0)] for machine in range(3)]
    got = log_distance(fitted(spoilt, 1, weight=weight), jnp.asarray(x))
    assert_allclose(got, plain_log_distance(kept, 1, x, "full"), rtol=1e-9, atol=1e-9)


def test_float32_keeps_its_digits_far_from_zero(x64) -> None:
    x, probe = vectors(60), vectors(60, seed=1)
    exact = log_distance(fitted(x, 1), jnp.asarray(probe))
    single = log_distance(fitted(x.astype(np.float32), 1), jnp.asarray(probe, jnp.float32))
    assert single.dtype == jnp.float32
    assert_allclose(single, exact, atol=2e-3)


def test_vectors_that_are_all_alike_have_a_finite_distance() -> None:
    x = np.full((len(MACHINE), 6), -60.0, np.float32)
    near, far = log_distance(fitted(x, 0), jnp.asarray(x[:2] + np.array([[0.0], [1.0]], np.float32)))
    assert np.isfinite(near)
    assert far > near


def test_an_unknown_covariance_is_refused() -> None:
    with pytest.raises(SettingsError, match="tied"):
        fitted(vectors(), 0, "tied")


@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1e18, 1e30])
@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_the_scale_of_the_weights_changes_nothing(scale: float, covariance: Any) -> None:
    rng = np.random.default_rng(6)
    x = jnp.asarray(rng.normal(size=(20, 4)), jnp.float32)
    weight, machine = jnp.asarray(np.arange(20) % 5 > 0, jnp.float32), jnp.arange(20) % 2
    fit = partial(fit_gaussian, x, machine=machine, own=jnp.array(1), n_machines=2, covariance=covariance)
    expected = fit(weight)
    for one, other in zip(fit(weight * jnp.float32(scale)), expected, strict=True):
        assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    for bad in (-weight, weight.at[1].set(-1), weight.at[1].set(jnp.nan), 0 * weight):
        assert not all(np.all(np.isfinite(leaf)) for leaf in fit(bad))
