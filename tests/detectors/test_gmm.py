"""The mixture against scikit-learn, its invariances, and what it says when a fit goes wrong."""

from __future__ import annotations

import warnings
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from numpy.testing import assert_allclose
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from adjax.detectors.gmm import (
    GmmConfig,
    GmmHyper,
    fit,
    fit_gmm,
    fit_split,
    log_joint,
    make_gmm,
    split,
    start_from_means,
)
from adjax.types import COLLAPSED, CONVERGED, MAX_ITER, NOT_FINITE, REGULARIZED, SettingsError

COVARIANCE_TYPES = ["full", "tied", "diag", "spherical"]


def clusters(seed: int, n: int = 300, d: int = 5, k: int = 3, spread: float = 3.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(scale=spread, size=(k, d))
    mixing = rng.normal(size=(k, d, d)) / np.sqrt(d)
    which = rng.integers(k, size=n)
    return centres[which] + np.einsum("nde,ne->nd", mixing[which] + np.eye(d), rng.normal(size=(n, d)))


def soft_start(seed: int, n: int, k: int) -> np.ndarray:
    resp = np.random.default_rng(seed).gamma(0.3, size=(n, k)) + 1e-3
    return resp / resp.sum(1, keepdims=True)


def sklearn_from(
    x: np.ndarray, resp: np.ndarray, kind: str, max_iter: int, tol: float, reg_covar: float
) -> GaussianMixture:
    """scikit-learn's EM from the given responsibilities."""
    model = GaussianMixture(
        resp.shape[1], covariance_type=kind, max_iter=max_iter, tol=tol, reg_covar=reg_covar
    )
    model._initialize_parameters = lambda x, *args, **kwargs: model._initialize(x, resp)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(x)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("max_iter", [1, 200])
def test_em_equals_scikit_learn_from_the_same_start(x64: None, kind: str, max_iter: int) -> None:
    x, resp = clusters(0), soft_start(1, 300, 4)
    theirs = sklearn_from(x, resp, kind, max_iter, tol=1e-6, reg_covar=1e-5)
    ours = make_gmm(GmmConfig(4, kind, max_iter=max_iter, block_size=128), GmmHyper(reg_covar=1e-5, tol=1e-6))
    params, info = jax.jit(ours.fit)(
        jax.random.key(0), jnp.asarray(x), jnp.ones(300), ours.hyper, jnp.asarray(resp)
    )
    assert int(info.n_steps) == theirs.n_iter_
    assert int(info.status) == (CONVERGED if theirs.converged_ else MAX_ITER)
    assert_allclose(info.objective, theirs.lower_bound_, rtol=1e-9)
    assert_allclose(params.weights, theirs.weights_, rtol=1e-7)
    assert_allclose(params.means, theirs.means_, rtol=1e-7, atol=1e-9)
    assert_allclose(params.covariances, theirs.covariances_, rtol=1e-7, atol=1e-9)
    assert_allclose(ours.score(params, jnp.asarray(x)), -theirs.score_samples(x), rtol=1e-8)


def test_max_component_score_ignores_the_weights(x64: None) -> None:
    from scipy.stats import multivariate_normal

    x = jnp.asarray(clusters(2))
    detector = make_gmm(GmmConfig(3, scoring="max_component"))
    params, _ = jax.jit(detector.fit)(jax.random.key(0), x, jnp.ones(300), detector.hyper)
    densities = [
        multivariate_normal(mean, cov).logpdf(x)
        for mean, cov in zip(params.means, params.covariances, strict=True)
    ]
    assert_allclose(detector.score(params, x), -np.max(densities, axis=0), rtol=1e-9)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_likelihood_never_falls(x64: None, kind: str) -> None:
    """EM one step at a time, each from the responsibilities of the step before."""
    x, resp, weight = jnp.asarray(clusters(3)), jnp.asarray(soft_start(4, 300, 3)), jnp.ones(300)
    detector = make_gmm(GmmConfig(3, kind, max_iter=1), GmmHyper(reg_covar=0.0, tol=0.0))

    @jax.jit
    def step(resp):
        params, info = jax.jit(detector.fit)(jax.random.key(0), x, weight, detector.hyper, resp)
        log_prob = log_joint(kind, params, x)
        return jax.nn.softmax(log_prob, axis=1), info.objective

    bounds = []
    for _ in range(30):
        resp, bound = step(resp)
        bounds.append(float(bound))
    assert np.all(np.diff(bounds) > -1e-10)
    assert bounds[-1] > bounds[0]


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_padding_is_inert(kind: str) -> None:
    x = clusters(5).astype(np.float32)
    detector = make_gmm(GmmConfig(3, kind, block_size=64))
    fit = jax.jit(detector.fit)
    key, hyper = jax.random.key(1), GmmHyper(1e-4, 1e-4)
    weight = np.r_[np.ones(300), np.zeros(50)].astype(np.float32)
    one, info_one = fit(key, np.r_[x, np.zeros((50, 5))].astype(np.float32), weight, hyper)
    two, info_two = fit(key, np.r_[x, np.full((50, 5), 99.0)].astype(np.float32), weight, hyper)
    bad, _ = fit(key, np.r_[x, np.full((50, 5), np.nan)].astype(np.float32), weight, hyper)
    jax.tree.map(np.testing.assert_array_equal, (one, info_one), (two, info_two))
    jax.tree.map(np.testing.assert_array_equal, one, bad)


def test_integer_weights_are_repeated_rows(x64: None) -> None:
    x, resp = clusters(6), soft_start(7, 300, 3)
    times = np.random.default_rng(8).integers(0, 4, size=300)
    detector = make_gmm(GmmConfig(3))
    key = jax.random.key(0)
    weighted, info = jax.jit(detector.fit)(
        key, jnp.asarray(x), jnp.asarray(times * 1.0), detector.hyper, jnp.asarray(resp)
    )
    repeated, again = jax.jit(detector.fit)(
        key,
        jnp.asarray(np.repeat(x, times, axis=0)),
        jnp.ones(times.sum()),
        detector.hyper,
        jnp.asarray(np.repeat(resp, times, axis=0)),
    )
    assert int(info.n_steps) == int(again.n_steps)
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-8, atol=1e-10), weighted, repeated)


@pytest.mark.parametrize("batch", [jax.vmap, lambda f: lambda *args: lax.map(lambda a: f(*a), args)])
def test_a_lane_is_a_solo_run(batch, x64: None) -> None:
    """Machines of different size share one call: the shorter is padded."""
    x = np.stack([clusters(9), clusters(10), clusters(11)])
    weight = np.ones((3, 300))
    weight[1, 200:] = 0
    keys = jax.random.split(jax.random.key(3), 3)
    detector = make_gmm(GmmConfig(3, "full"))
    lanes = jax.jit(batch(lambda key, x, w: detector.fit(key, x, w, detector.hyper)))(keys, x, weight)
    for lane in range(3):
        solo = jax.jit(detector.fit)(keys[lane], x[lane], weight[lane], detector.hyper)
        jax.tree.map(lambda a, b, lane=lane: assert_allclose(a[lane], b, rtol=1e-6, atol=1e-8), lanes, solo)


def test_one_trace_a_shape_while_traced_settings_vary() -> None:
    detector = make_gmm(GmmConfig(2, "diag"))
    n_traces = 0

    def counted(*args):
        nonlocal n_traces
        n_traces += 1
        return detector.fit(*args)

    fit = jax.jit(counted)
    x = clusters(12).astype(np.float32)
    for seed, reg in ((0, 1e-6), (1, 1e-3), (2, 1e-1)):
        fit(jax.random.key(seed), x, np.ones(300, np.float32), GmmHyper(jnp.float32(reg), jnp.float32(1e-3)))
    assert n_traces == 1


@cache
def short_fit(kind: str):
    """One compile a precision, for all offsets."""
    return jax.jit(make_gmm(GmmConfig(3, kind, max_iter=10)).fit)


@pytest.mark.parametrize("offset", [0.0, -60.0, 1e4, 1e6])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_float32_agrees_with_float64_far_from_the_origin(x64: None, kind: str, offset: float) -> None:
    """The same rounded data in both."""
    x, resp = (clusters(13) + offset).astype(np.float32), soft_start(14, 300, 3)
    fit = short_fit(kind)
    objectives = []
    for dtype in (jnp.float32, jnp.float64):
        hyper = GmmHyper(jnp.asarray(1e-3, dtype), jnp.asarray(0.0, dtype))
        args = jnp.asarray(x, dtype), jnp.ones(300, dtype), hyper, jnp.asarray(resp, dtype)
        objectives.append(fit(jax.random.key(0), *args)[1].objective)
    assert objectives[0].dtype == jnp.float32
    assert_allclose(objectives[0], objectives[1], atol=1e-2)


def test_recovers_known_parameters() -> None:
    rng = np.random.default_rng(15)
    means = np.array([[-4.0, 0.0], [4.0, 1.0], [0.0, 6.0]])
    which = rng.choice(3, p=[0.5, 0.3, 0.2], size=20_000)
    x = (means[which] + rng.normal(size=(20_000, 2)) * [1.0, 0.5]).astype(np.float32)
    detector = make_gmm(GmmConfig(3), GmmHyper(tol=1e-6))
    params, info = jax.jit(detector.fit)(jax.random.key(0), x, np.ones(20_000, np.float32), detector.hyper)
    order = np.argsort(-np.asarray(params.weights))
    assert int(info.status) == CONVERGED
    assert_allclose(params.weights[order], [0.5, 0.3, 0.2], atol=0.01)
    assert_allclose(params.means[order], means, atol=0.05)
    assert_allclose(params.covariances[order], np.broadcast_to(np.diag([1.0, 0.25]), (3, 2, 2)), atol=0.05)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_bad_rows_give_a_status_and_never_convergence(value: float) -> None:
    x = clusters(16).astype(np.float32)
    x[7] = value
    detector = make_gmm(GmmConfig(3))
    _, info = jax.jit(detector.fit)(jax.random.key(0), jnp.asarray(x), jnp.ones(300), detector.hyper)
    assert int(info.status) == NOT_FINITE


def test_singular_covariance_gives_a_status() -> None:
    """Collinear columns and no regularisation."""
    column = np.random.default_rng(17).normal(size=(300, 1)).astype(np.float32)
    detector = make_gmm(GmmConfig(1), GmmHyper(reg_covar=0.0))
    _, info = jax.jit(detector.fit)(
        jax.random.key(0), jnp.asarray(np.c_[column, column]), jnp.ones(300), detector.hyper
    )
    assert int(info.status) == NOT_FINITE


def test_fewer_distinct_rows_than_components_is_reported() -> None:
    x = jnp.asarray(np.repeat([[0.0, 0.0], [5.0, 5.0]], 20, axis=0), jnp.float32)
    detector = make_gmm(GmmConfig(4), GmmHyper(reg_covar=1e-3))
    params, info = jax.jit(detector.fit)(jax.random.key(0), x, jnp.ones(40), detector.hyper)
    assert int(info.status) == COLLAPSED
    assert np.all(np.isfinite(detector.score(params, x)))


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(SettingsError, match="n_components"):
        make_gmm(GmmConfig(n_components=0))
    with pytest.raises(SettingsError, match="covariance_type"):
        make_gmm(GmmConfig(covariance_type="round"))


def test_starts_from_given_means_and_goes_on_from_parameters(x64: None) -> None:
    """A warm start: 3 iterations and then 4 are 7; a start from means keeps those means."""
    x, weight = jnp.asarray(clusters(18)), jnp.ones(300)
    means = x[:3]
    key = jax.random.key(0)
    hyper = GmmHyper(tol=0.0)
    start = start_from_means(GmmConfig(3), x, weight, means, hyper)
    assert_allclose(start.means, means, rtol=1e-12)
    three, four, seven = (jax.jit(make_gmm(GmmConfig(3, max_iter=n)).fit) for n in (3, 4, 7))
    half, _ = three(key, x, weight, hyper, start)
    resumed, info = four(key, x, weight, hyper, half)
    whole, expected = seven(key, x, weight, hyper, start)
    assert_allclose(info.objective, expected.objective, rtol=1e-10)
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-6, atol=1e-9), resumed, whole)


def test_jit_equals_eager(x64: None) -> None:
    x, resp = jnp.asarray(clusters(19, n=60)), jnp.asarray(soft_start(20, 60, 2))
    detector = make_gmm(GmmConfig(2, "full", max_iter=3))
    args = jax.random.key(0), x, jnp.ones(60), detector.hyper, resp
    compiled = jax.jit(detector.fit)(*args)
    with jax.disable_jit():
        eager = detector.fit(*args)
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-9, atol=1e-11), compiled, eager)


@cache
def invariance_fit(kind: str):
    detector = make_gmm(GmmConfig(2, kind, max_iter=5, block_size=32))
    return jax.jit(lambda x, w, reg, resp: detector.fit(jax.random.key(0), x, w, GmmHyper(reg, 0.0), resp))


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**16), shift=st.floats(-1e3, 1e3), scale=st.floats(1e-3, 1e3))
def test_invariances(kind: str, seed: int, shift: float, scale: float) -> None:
    """Permuting rows, shifting, scaling, and splitting a weight over two rows change nothing but the units."""
    with jax.enable_x64(True):
        x, resp = clusters(seed, n=50, d=3, k=2), soft_start(seed + 1, 50, 2)
        fit = invariance_fit(kind)
        one = np.ones(50)
        base, info = fit(x, one, 1e-4, resp)
        order = np.random.default_rng(seed).permutation(50)
        permuted, _ = fit(x[order], one, 1e-4, resp[order])
        assert_allclose(permuted.means, base.means, rtol=1e-7, atol=1e-9)
        moved, after = fit(x * scale + shift, one, 1e-4 * scale**2, resp)
        assert_allclose(moved.means, base.means * scale + shift, rtol=1e-6, atol=1e-7 * scale)
        assert_allclose(moved.covariances, base.covariances * scale**2, rtol=1e-5, atol=1e-8 * scale**2)
        assert_allclose(after.objective, info.objective - 3 * np.log(scale), rtol=1e-7, atol=1e-7)
        weight = one.copy()
        weight[0], weight[49] = 0.25, 0.75
        twin, twin_resp = x.copy(), resp.copy()
        twin[49], twin_resp[49] = x[0], resp[0]
        left_out = one.copy()
        left_out[49] = 0
        split, _ = fit(twin, weight, 1e-4, twin_resp)
        whole, _ = fit(x, left_out, 1e-4, resp)
        assert_allclose(split.means, whole.means, rtol=1e-7, atol=1e-9)


def test_a_raised_covariances_rounding_does_not_keep_em_going(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer rows than features in each component: the smallest pivots are rounding, and so is what they add."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(300, 8)) @ rng.normal(size=(8, 64)) * 3 + 0.5 * rng.normal(size=(300, 64))).astype(
        "f4"
    )
    config, hyper = GmmConfig(8, max_iter=60, block_size=64), GmmHyper(reg_covar=1e-6, tol=1e-6)

    def steps(x: np.ndarray) -> tuple[int, int]:
        info = jax.jit(partial(fit_gmm, config))(jax.random.key(0), jnp.asarray(x), jnp.ones(len(x)), hyper)[
            1
        ]
        return int(info.n_steps), int(info.status)

    n_steps, status = steps(x)
    assert n_steps < 10
    assert status == REGULARIZED
    healthy = np.tile(x, (12, 1)) + rng.normal(size=(3600, 64)).astype("f4")
    expected = steps(healthy)
    assert expected[1] != REGULARIZED
    monkeypatch.setattr(fit, "_RAISED_ERROR", 0.0)
    assert steps(x)[0] == 60
    assert steps(healthy) == expected


def test_a_split_fit_starts_where_it_is_told_and_uses_the_components_it_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(split, "n_cores", lambda: 2)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(600, 3)), jnp.float32)
    config, weight = GmmConfig(3, max_iter=5, block_size=64), jnp.ones(600)
    assert split.n_parts(config, 600) == 2
    resp = jax.nn.one_hot(jnp.arange(600) % 3, 3)
    for hyper, start in ((GmmHyper(tol=0.0), resp), (GmmHyper(tol=0.0, n_components=2), None)):
        found = fit_split(config, jax.random.key(0), x, weight, hyper, start)
        expected = fit_gmm(config, jax.random.key(0), x, weight, hyper, start)
        jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-3, atol=1e-4), found, expected)
        again = fit_split(config, jax.random.key(0), x, weight, hyper, found[0])
        assert float(again[1].objective) >= float(found[1].objective)
