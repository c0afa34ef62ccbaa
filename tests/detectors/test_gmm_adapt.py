"""A mixture for a new machine: the merged mixture, the MAP step, what is learnt of the source, what changes nothing."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax
from scipy.stats import multivariate_normal

from adjax.detectors.gmm import KIND, CovarianceType, GmmConfig, GmmHyper, GmmParams, make_gmm
from adjax.detectors.gmm.adapt import DEFAULT, learn_relevance, map_estimate
from adjax.detectors.gmm.config import place
from adjax.detectors.gmm.merge import merge_mixtures
from adjax.types import CONVERGED, NOT_FINITE, Training

D, K = 3, 2
HYPER = GmmHyper(reg_covar=1e-3)
KINDS: list[CovarianceType] = ["full", "tied", "diag", "spherical"]


def config_of(kind: CovarianceType) -> Any:
    return place(GmmConfig(n_components=K, covariance_type=kind), True)


def clips_of(machine: int, n: int, n_rows: int = 5, seed: int = 0) -> np.ndarray:
    """(n * n_rows, D) of a machine with two states, whose centre is far from the others'."""
    rng = np.random.default_rng([seed, machine])
    state = np.where(np.arange(n * n_rows)[:, None] % 2 == 0, 4.0, -4.0) * np.array([1.0, 0.5, 0.0])
    return (20 * machine + state + rng.normal(size=(n * n_rows, D)) * [1, 0.5, 2]).astype(np.float32)


def training(rows: np.ndarray, machine: Any, n_rows: int = 5) -> Training:
    n = len(rows) // n_rows
    clip = np.repeat(np.arange(n), n_rows).astype(np.int32)
    machine = np.broadcast_to(np.asarray(machine, np.int32), n)
    seeds = np.arange(machine.max() + 1, dtype=np.uint32)
    return Training(rows, np.ones(len(rows), np.float32), clip, machine, np.zeros(n, np.int32), seeds)


def mates_of(kind: CovarianceType, n_mates: int = 3) -> tuple[GmmParams, Training]:
    """Fitted mates, and six clips of each."""
    fit = jax.jit(make_gmm(config_of(kind), HYPER).fit)
    rows = [clips_of(m, 6) for m in range(n_mates)]
    fits = [fit(jax.random.key(m), x, np.ones(len(x), np.float32))[0] for m, x in enumerate(rows)]
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *fits)
    return params, training(np.concatenate(rows), np.repeat(np.arange(n_mates), 6))


def full(kind: CovarianceType, covariances: np.ndarray) -> np.ndarray:
    """(K, D, D)."""
    if kind == "tied":
        return np.broadcast_to(covariances, (K, D, D))
    if kind == "full":
        return covariances
    return np.stack([np.diag(np.broadcast_to(own, D)) for own in covariances])


@pytest.mark.parametrize("kind", KINDS)
def test_the_map_step_is_numpys(kind: CovarianceType) -> None:
    """Reynolds' formulae, with the relevance factor of a component relevance times its weight, in float64."""
    params, _ = mates_of(kind)
    universal = jax.jit(merge_mixtures, static_argnums=0)(config_of(kind), HYPER, params, jnp.ones(3))
    x, relevance = clips_of(7, 3), jnp.float32(4.0)
    weight = np.full(len(x), 0.2, np.float32)
    found = jax.jit(map_estimate, static_argnums=0)(config_of(kind), HYPER, universal, x, weight, relevance)

    start = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), universal)
    centre = x.astype(np.float64).mean(axis=0)
    means, covariances = centre + start.offsets, full(kind, start.covariances)
    density = [multivariate_normal.logpdf(x, mean, own) for mean, own in zip(means, covariances, strict=True)]
    resp = 0.2 * softmax(np.log(start.weights)[:, None] + np.stack(density), axis=0)
    n, factor = resp.sum(axis=1), 4.0 * start.weights
    share = (n / (n + factor))[:, None]
    own_mean = resp @ x / n[:, None]
    expected = share * own_mean + (1 - share) * means
    second = np.einsum("jn,na,nb->jab", resp, x, x) / n[:, None, None]
    mixed = share[:, :, None] * second + (1 - share[:, :, None]) * (
        covariances + np.einsum("ja,jb->jab", means, means)
    )
    own = mixed - np.einsum("ja,jb->jab", expected, expected)
    regularised = own + 1e-3 * share[:, :, None] * np.eye(
        D
    )  # what the imagined clips have been given already
    if kind == "tied":
        regularised = np.einsum("j,jab->ab", (n + factor) / (n + factor).sum(), regularised)
    elif kind != "full":
        regularised = np.diagonal(regularised, axis1=1, axis2=2)
        regularised = regularised.mean(axis=1) if kind == "spherical" else regularised
    assert_allclose(found.weights, (n + factor) / (n + factor).sum(), rtol=1e-4)
    assert_allclose(found.means, expected, rtol=1e-4, atol=1e-3)
    assert_allclose(found.covariances, regularised, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_relevance_goes_from_own_to_universal(kind: CovarianceType) -> None:
    params, _ = mates_of(kind)
    config = config_of(kind)
    universal = jax.jit(merge_mixtures, static_argnums=0)(config, HYPER, params, jnp.ones(3))
    x, weight = clips_of(7, 8), np.full(40, 0.2, np.float32)
    estimate = jax.jit(map_estimate, static_argnums=0)
    # About the machine's own mean.
    start = universal._replace(centre=jnp.asarray(x.mean(axis=0)))
    mates = estimate(config, HYPER, universal, x, weight, jnp.float32(1e7))
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-3, atol=1e-3), mates, start)
    # One step of EM from there.
    step = make_gmm(GmmConfig(n_components=K, covariance_type=kind, max_iter=1), HYPER)
    expected, _ = jax.jit(step.fit)(jax.random.key(0), x, weight, HYPER, start)
    own = estimate(config, HYPER, universal, x, weight, jnp.float32(0))
    assert_allclose(own.means, expected.means, rtol=1e-3, atol=1e-3)
    assert_allclose(own.covariances, expected.covariances, rtol=1e-2, atol=1e-3)
    assert_allclose(own.weights, expected.weights, rtol=1e-3)


def test_a_component_without_rows_stays() -> None:
    config = config_of("full")
    params, _ = mates_of("full")
    universal = jax.jit(merge_mixtures, static_argnums=0)(config, HYPER, params, jnp.ones(3))
    # All rows at one state: nothing is learnt of the other one, which is far from all.
    far = universal._replace(offsets=universal.offsets.at[1].add(1e3))
    x, weight = clips_of(0, 1), np.full(5, 0.2, np.float32)
    found = jax.jit(map_estimate, static_argnums=0)(config, HYPER, far, x, weight, jnp.float32(2.0))
    assert_allclose(found.means[1], x.mean(axis=0) + far.offsets[1], rtol=1e-5)
    assert_allclose(found.covariances[1], far.covariances[1], rtol=1e-3)
    assert not np.allclose(found.covariances[0], far.covariances[0], rtol=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_the_merged_mixture_of_one_machine_is_its_own(kind: CovarianceType) -> None:
    """Also where others have no share; of machines that differ by their place alone it is any of them."""
    params, _ = mates_of(kind)
    merge = jax.jit(merge_mixtures, static_argnums=0)
    lone = merge(config_of(kind), HYPER, params, jnp.array([0.0, 2.0, 0.0]))
    jax.tree.map(lambda a, b: assert_allclose(a, b[1], rtol=1e-3, atol=1e-4), lone, params)
    twins = jax.tree.map(lambda leaf: jnp.stack([leaf[0]] * 3), params)
    places = jnp.arange(3.0)[:, None] * 100
    twins = twins._replace(centre=twins.centre + places)
    found = merge(config_of(kind), HYPER, twins, jnp.ones(3))
    assert_allclose(found.covariances, params.covariances[0], rtol=1e-3, atol=1e-3)
    assert_allclose(found.centre, params.centre[0] + 100, rtol=1e-5)


@pytest.mark.parametrize("kind", ["full", "diag"])
def test_an_adapted_mixture_has_a_fitted_ones_shapes_and_hears_the_new_machine(kind: CovarianceType) -> None:
    """Frames, and one vector for each clip: from two clips it knows more than those two say."""
    params, memory = mates_of(kind)
    for n_rows in (5, 1):
        new = training(clips_of(9, 2, n_rows), 0, n_rows)
        source = memory if n_rows == 5 else training(np.asarray(memory.rows), np.repeat([0, 1, 2], 30), 1)
        assert KIND.adapt is not None
        found, info = KIND.adapt(config_of(kind), HYPER, jax.random.key(0), params, source, new)
        assert_array_equal(info.status, CONVERGED)
        assert jax.tree.map(lambda a: a.shape[1:], found) == jax.tree.map(lambda a: a.shape[1:], params)
        score = jax.jit(make_gmm(config_of(kind), HYPER).score)
        own = jax.tree.map(lambda leaf: leaf[0], found)
        others = clips_of(9, 40, seed=1)
        normal, odd = score(own, others), score(own, others + np.float32([0, 4, 0]))
        assert np.isfinite(normal).all()
        assert np.mean(np.asarray(odd)[:, None] > np.asarray(normal)[None]) > 0.9


def test_clips_of_weight_0_change_nothing() -> None:
    params, memory = mates_of("full")
    new = training(clips_of(9, 4), 0)
    weight = np.repeat(np.float32([1, 1, 0, 0]), 5)
    assert KIND.adapt is not None
    adapt = [config_of("full"), HYPER, jax.random.key(0), params]
    found, info = KIND.adapt(*adapt, memory, new._replace(weight=weight))
    rows = np.where(weight[:, None] > 0, new.rows, np.nan)
    held_out = np.asarray(memory.rows).copy()
    held_out[-5:] = np.nan
    again, _ = KIND.adapt(*adapt, memory, new._replace(rows=rows, weight=weight))
    jax.tree.map(assert_array_equal, found, again)
    less = np.where(np.arange(90) < 85, memory.weight, 0).astype(np.float32)
    one, _ = KIND.adapt(*adapt, memory._replace(weight=less), new)
    other, _ = KIND.adapt(*adapt, memory._replace(weight=less, rows=held_out), new)
    jax.tree.map(assert_array_equal, one, other)
    assert_array_equal(info.status, CONVERGED)


def test_what_is_not_finite_gets_a_status() -> None:
    params, memory = mates_of("diag")
    rows = clips_of(9, 2)
    rows[0] = np.inf
    assert KIND.adapt is not None
    _, info = KIND.adapt(config_of("diag"), HYPER, jax.random.key(0), params, memory, training(rows, 0))
    assert_array_equal(info.status, NOT_FINITE)


def test_relevance_is_learnt_from_the_source() -> None:
    """Mates of one shape are believed more than mates of shapes of their own."""
    config, key = config_of("diag"), jax.random.key(0)
    params, memory = mates_of("diag")
    alike = learn_relevance(config, HYPER, key, params, memory, 2)
    turned = np.stack([np.roll(np.eye(D), m, axis=0) for m in range(3)]).repeat(30, axis=0)
    rows = np.einsum("na,nab->nb", memory.rows, turned * np.float32([1, 5, 0.2])[None, :, None])
    fit = jax.jit(make_gmm(config, HYPER).fit)
    fits = [fit(jax.random.key(m), rows[30 * m : 30 * (m + 1)].astype(np.float32), np.ones(30, np.float32))[0]
            for m in range(3)]  # fmt: skip
    others = jax.tree.map(lambda *leaves: jnp.stack(leaves), *fits)
    different = learn_relevance(config, HYPER, key, others, memory._replace(rows=rows.astype(np.float32)), 2)
    assert different < alike


def test_without_a_source_to_learn_from_relevance_is_the_default() -> None:
    params, memory = mates_of("diag")
    nothing = memory._replace(weight=np.zeros_like(memory.weight))
    assert learn_relevance(config_of("diag"), HYPER, jax.random.key(0), params, nothing, 2) == DEFAULT
    lone = jax.tree.map(lambda leaf: leaf[:1], params)
    few = memory._replace(weight=np.where(np.arange(90) < 30, memory.weight, 0), seed=memory.seed[:1])
    assert learn_relevance(config_of("diag"), HYPER, jax.random.key(0), lone, few, 2) == DEFAULT
    assert KIND.adapt is not None
    found, info = KIND.adapt(
        config_of("diag"), HYPER, jax.random.key(0), lone, few, training(clips_of(9, 2), 0)
    )
    assert_array_equal(info.status, CONVERGED)
    assert np.isfinite(found.means).all()
