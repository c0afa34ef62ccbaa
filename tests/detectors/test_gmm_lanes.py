"""Lanes: each equals a fit alone, whatever its neighbours do; masked components; many starts."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from adjax.detectors.gmm import CovarianceType, GmmConfig, GmmHyper, fit_gmm, fit_split, split
from adjax.detectors.gmm import lanes as gmm_lanes
from adjax.detectors.gmm.lanes import fit_lanes
from adjax.types import COLLAPSED, CONVERGED, MAX_ITER, NOT_FINITE, SettingsError

COVARIANCE_TYPES = ["full", "tied", "diag", "spherical"]


def machines(n: int = 160, d: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Three machines; the second has fewer rows, the third a row that is not finite."""
    rng = np.random.default_rng(0)
    centres = rng.normal(scale=6, size=(3, 4, d))
    x = centres[:, np.arange(n) % 4] + rng.normal(size=(3, n, d))
    weight = np.ones((3, n))
    weight[1, 100:], x[1, 100:] = 0, 99.0
    x[2, 5] = np.nan
    return x, weight


@pytest.mark.parametrize("lanes", ["map", "vmap"])
@pytest.mark.parametrize("n_init", [1, 3])
def test_a_lane_is_a_fit_alone_and_a_bad_one_harms_nobody(lanes: str, n_init: int, x64: None) -> None:
    x, weight = machines()
    config = GmmConfig(3, "full", max_iter=40, n_init=n_init, block_size=64)
    data = np.array([0, 2, 1, 0, 1])
    keys = jax.random.split(jax.random.key(1), 5)
    hyper = GmmHyper(reg_covar=jnp.array([1e-6, 1e-6, 1e-2, 1.0, 1e-4]), tol=1e-5)
    params, info = fit_lanes(config, keys, x, weight, hyper, data=data, lanes=lanes, chunk_steps=3)
    assert int(info.status[1]) == NOT_FINITE
    alone = jax.jit(partial(fit_gmm, config))
    for lane in (0, 2, 3, 4):
        own = GmmHyper(hyper.reg_covar[lane], hyper.tol)
        one, solo = alone(keys[lane], jnp.asarray(x[data[lane]]), jnp.asarray(weight[data[lane]]), own)
        assert int(info.n_steps[lane]) == int(solo.n_steps)
        assert int(info.status[lane]) == int(solo.status)
        assert_allclose(info.objective[lane], solo.objective, rtol=1e-8)
        jax.tree.map(lambda a, b, lane=lane: assert_allclose(a[lane], b, rtol=1e-6, atol=1e-8), params, one)


def test_the_batch_shrinks_to_its_unfinished_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is paid for: lane-steps, within a chunk of what each lane needs (and a power of two)."""
    x, weight = machines()
    sizes = []
    step = gmm_lanes._step_lanes

    def counted(config, n_steps, *args):
        sizes.append(args[-1].status.shape[0])
        return step(config, n_steps, *args)

    monkeypatch.setattr(gmm_lanes, "_step_lanes", counted)
    config = GmmConfig(3, "diag", max_iter=64)
    tol = jnp.array([1.0] * 7 + [0.0], jnp.float32)
    _, info = fit_lanes(
        config,
        jax.random.split(jax.random.key(0), 8),
        x[:1].astype(np.float32),
        weight[:1].astype(np.float32),
        GmmHyper(reg_covar=1e-3, tol=tol),
        data=np.zeros(8, int),
        lanes="vmap",
    )
    assert int(info.n_steps[7]) == 64
    assert np.all(np.asarray(info.n_steps[:7]) <= 8)
    assert sizes == [8] + [1] * 7


def test_settings_that_do_not_fit_together_are_refused() -> None:
    x, weight = machines()
    keys = jax.random.split(jax.random.key(0), 3)
    with pytest.raises(SettingsError, match="one a key"):
        fit_lanes(GmmConfig(), keys[:2], x, weight, GmmHyper())
    with pytest.raises(SettingsError, match="between 0 and 2"):
        fit_lanes(GmmConfig(), keys, x, weight, GmmHyper(), data=np.array([0, 1, 3]))
    with pytest.raises(SettingsError, match="auto, map, vmap"):
        fit_lanes(GmmConfig(), keys, x, weight, GmmHyper(), lanes="pmap")


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_the_masked_mixture_is_the_small_one(kind: str, x64: None) -> None:
    """From the same key, start included; one trace for all numbers of components."""
    x = jnp.asarray(machines()[0][0])
    weight = jnp.ones(len(x))
    n_traces = 0

    @jax.jit
    def masked(key, m):
        nonlocal n_traces
        n_traces += 1
        return fit_gmm(GmmConfig(5, kind), key, x, weight, GmmHyper(1e-4, 1e-6, m))

    for m in (1, 4):
        big, info = masked(jax.random.key(m), m)
        small, alone = jax.jit(partial(fit_gmm, GmmConfig(m, kind)))(
            jax.random.key(m), x, weight, GmmHyper(1e-4, 1e-6)
        )
        assert int(info.n_steps) == int(alone.n_steps)
        assert int(info.status) == int(alone.status)
        assert_allclose(info.objective, alone.objective, rtol=1e-9)
        assert_array_equal(big.weights[m:], 0)
        tied = kind == "tied"
        for name in ("weights", "offsets", "covariances", "precisions_chol"):
            whole = getattr(big, name)
            used = whole if tied and name in ("covariances", "precisions_chol") else whole[:m]
            assert_allclose(used, getattr(small, name), rtol=1e-6, atol=1e-9)
    assert n_traces == 1


def test_more_starts_never_lower_the_likelihood() -> None:
    x = jnp.asarray(machines()[0][0], jnp.float32)
    objectives = []
    for n_init in (1, 4):
        fit = jax.jit(partial(fit_gmm, GmmConfig(7, "diag", n_init=n_init)))
        objectives.append(
            [float(fit(jax.random.key(s), x, jnp.ones(len(x)), GmmHyper())[1].objective) for s in range(5)]
        )
    assert np.all(np.subtract(objectives[1], objectives[0]) >= 0)
    assert np.any(np.subtract(objectives[1], objectives[0]) > 1e-3)


def test_statuses_of_small_and_odd_data() -> None:
    """n = 1, n < k, a constant feature, more features than rows, collinear columns."""
    rng = np.random.default_rng(1)
    full = rng.normal(size=(40, 3)).astype(np.float32)
    odd = {
        "one row": full[:1],
        "fewer rows than components": full[:2],
        "a constant feature": np.c_[full, np.full(40, 7.0, np.float32)],
        "more features than rows": rng.normal(size=(10, 30)).astype(np.float32),
        "collinear": np.c_[full, full[:, :1] * 2],
    }
    for name, x in odd.items():
        params, info = jax.jit(partial(fit_gmm, GmmConfig(3)))(
            jax.random.key(0), jnp.asarray(x), jnp.ones(len(x)), GmmHyper(reg_covar=1e-3)
        )
        assert int(info.status) != NOT_FINITE, name
        assert all(np.all(np.isfinite(leaf)) for leaf in params), name
        if len(x) < 3:
            assert int(info.status) == COLLAPSED, name
        elif len(x) == 40:
            assert int(info.status) in (CONVERGED, MAX_ITER), name


@pytest.mark.parametrize(("kind", "n_init"), [("full", 2), ("diag", 1)])
def test_a_fit_split_over_threads_is_the_fit_in_one(
    kind: CovarianceType, n_init: int, x64: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also as a large lane, which is fitted so."""
    monkeypatch.setattr(split, "n_cores", lambda: 4)
    monkeypatch.setattr(gmm_lanes, "n_cores", lambda: 4)
    monkeypatch.setattr(gmm_lanes, "_fit_in_threads", None)
    x, weight = machines(1000)
    config = GmmConfig(3, kind, max_iter=30, n_init=n_init, block_size=48)  # 21 blocks: parts of 5 and 6
    assert split.n_parts(config, 1000) == 4
    keys, hyper = jax.random.split(jax.random.key(2), 3), GmmHyper(tol=1e-6)
    params, info = fit_lanes(config, keys, x, weight, hyper)
    alone = jax.jit(partial(fit_gmm, config))
    for lane in range(3):
        split_params, split_info = fit_split(config, keys[lane], x[lane], weight[lane], hyper)
        jax.tree.map(
            lambda a, b, lane=lane: assert_array_equal(a[lane], b), (params, info), (split_params, split_info)
        )
        one, solo = alone(keys[lane], jnp.asarray(x[lane]), jnp.asarray(weight[lane]), hyper)
        assert (int(info.n_steps[lane]), int(info.status[lane])) == (int(solo.n_steps), int(solo.status))
        assert_allclose(split_info.objective, solo.objective, rtol=1e-10)
        jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-6, atol=1e-8), split_params, one)
    assert int(info.status[2]) == NOT_FINITE
