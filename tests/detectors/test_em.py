"""One step of EM against plain NumPy; the fast forms against the exact ones; the triangular products."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal

from adjax.detectors.gmm import em, triangular
from adjax.detectors.gmm.factorise import factorise

COVARIANCE_TYPES = ["full", "tied", "diag", "spherical"]


gather_exactly = partial(em.gather, on_cpu=True)


def problem(seed: int, k: int = 3, d: int = 5, n: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    resp = rng.gamma(0.5, size=(k, n))
    return rng.normal(size=(n, d)), resp / resp.sum(axis=0), rng.normal(size=(k, d))


def mixture(kind: em.CovarianceType, seed: int, on_cpu: bool = True) -> em.Mixture:
    x, resp, means = problem(seed)
    sums = em.Statistics(
        jnp.zeros(()), *em.given_moments(kind, *map(jnp.asarray, (means, x.T, resp)), on_cpu=on_cpu)
    )
    means = jnp.asarray(means)
    return em.maximise(kind, sums, means, jnp.full(5, 1e-3), jnp.ones(3, bool), on_cpu=on_cpu)[0]


@pytest.mark.parametrize("on_cpu", [True, False])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_sufficient_statistics_and_maximisation(kind: em.CovarianceType, on_cpu: bool, x64: None) -> None:
    """Statistics about any reference give the weighted mean and covariance."""
    x, resp, _ = problem(0)
    mass = resp.sum(axis=1)
    means = resp @ x / mass[:, None]
    each = np.stack([(r[:, None] * (x - m)).T @ (x - m) for r, m in zip(resp, means, strict=True)])
    diagonal = np.diagonal(each, axis1=1, axis2=2) / mass[:, None] + 1e-3
    covariances = {
        "full": each / mass[:, None, None] + 1e-3 * np.eye(5),
        "tied": each.sum(axis=0) / mass.sum() + 1e-3 * np.eye(5),
        "diag": diagonal,
        "spherical": diagonal.mean(axis=1),
    }
    found = mixture(kind, 0, on_cpu)
    assert_allclose(found.weights, mass / mass.sum(), rtol=1e-12)
    assert_allclose(found.means, means, rtol=1e-10)
    assert_allclose(found.covariances, covariances[kind], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("on_cpu", [True, False])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_log_densities_are_scipys(kind: em.CovarianceType, on_cpu: bool, x64: None) -> None:
    found = mixture(kind, 1, on_cpu)
    x = problem(2)[0]
    expand = {
        "full": lambda c, k: c[k],
        "tied": lambda c, k: c,
        "diag": lambda c, k: np.diag(c[k]),
        "spherical": lambda c, k: c[k] * np.eye(5),
    }[kind]
    expected = [
        multivariate_normal(m, expand(np.asarray(found.covariances), k)).logpdf(x)
        for k, m in enumerate(found.means)
    ]
    densities = em.log_component_densities(kind, found, jnp.asarray(x.T), on_cpu=on_cpu)
    assert_allclose(densities, expected, rtol=1e-9)


@pytest.mark.parametrize("kind", ["diag", "spherical"])
def test_products_equal_the_exact_form_while_no_component_is_narrow(kind: em.CovarianceType) -> None:
    found = mixture(kind, 3)
    x = jnp.asarray(problem(4)[0].T, jnp.float32)
    weights = jnp.asarray(np.random.default_rng(5).uniform(size=40), jnp.float32)
    assert not em.is_narrow(kind, found, jnp.max(jnp.abs(x), axis=1))
    exact, fast = (
        jax.jit(f, static_argnums=0)(kind, found, x, weights) for f in (gather_exactly, em.gather_expanded)
    )
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-4, atol=1e-4), exact, fast)


@pytest.mark.parametrize("kind", ["diag", "spherical"])
def test_a_narrow_component_is_seen_before_the_products_lose_its_digits(kind: em.CovarianceType) -> None:
    """A standard deviation of 1e-4 of the data's spread: the expanded form is off by nats, and said to be."""
    rng = np.random.default_rng(6)
    x = jnp.asarray(3 + 1e-4 * rng.normal(size=(5, 40)), jnp.float32)
    inverse_std = jnp.full((1, 5) if kind == "diag" else 1, 1e4, jnp.float32)
    narrow = em.Mixture(jnp.ones(1), jnp.full((1, 5), 3.0), 1 / jnp.square(inverse_std), inverse_std)
    assert em.is_narrow(kind, narrow, jnp.max(jnp.abs(x), axis=1))
    exact, fast = (f(kind, narrow, x, jnp.ones(40)) for f in (gather_exactly, em.gather_expanded))
    reference = np.sum(
        -0.5 * np.sum(((np.asarray(x, float) - 3) * 1e4) ** 2, axis=0) + 5 * np.log(1e4 / np.sqrt(2 * np.pi))
    )
    assert_allclose(exact.log_likelihood, reference, rtol=1e-4)
    assert abs(float(fast.log_likelihood) - reference) > 1


def test_singular_covariances_get_more_only_where_some_was_asked_for() -> None:
    basis = np.random.default_rng(7).normal(size=(20, 2))
    singular = jnp.asarray(basis @ basis.T, jnp.float32)
    for reg, raised in ((1e-9, True), (0.0, False), (1e-1, False)):
        covariance, whitener, more = factorise(singular, jnp.full(20, reg, jnp.float32))
        assert bool(more) == raised
        if reg:
            assert np.all(np.isfinite(whitener))
            assert_allclose(
                whitener @ covariance @ whitener.T, np.eye(20), atol=5e-2
            )  # rank 2 of 20, float32


@pytest.mark.parametrize("panels", [True, False])
@pytest.mark.parametrize("d", [1, 7, 33, 64, 130])
def test_triangular_products_equal_the_plain_ones(d: int, panels: bool, x64: None) -> None:
    rng = np.random.default_rng(d)
    lower, x = np.tril(rng.normal(size=(d, d))), rng.normal(size=(d, 9))
    y = x * rng.uniform(size=9)
    product = triangular.lower_matmul(jnp.asarray(lower), jnp.asarray(x), panels=panels)
    assert_allclose(product, lower @ x, rtol=1e-9, atol=1e-10)
    product = triangular.symmetric_matmul(jnp.asarray(x), jnp.asarray(y), panels=panels)
    assert_allclose(product, x @ y.T, rtol=1e-9, atol=1e-10)
    assert_array_equal(product, np.asarray(product).T)
    filled = jnp.asarray(lower + np.triu(np.full((d, d), 5.0), 1))  # what stands above is not looked at
    assert_array_equal(triangular.mirror(filled), lower + np.tril(lower, -1).T)
