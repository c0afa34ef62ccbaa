"""The joint Gaussian: against NumPy and scikit-learn, mates, folds, statuses."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.covariance import ledoit_wolf
from sklearn.metrics import roc_auc_score

from adjax.detectors.joint import JointConfig, JointHyper, make_joint
from adjax.detectors.joint_gaussian import MIN_SHRINKAGE
from adjax.model.lift import members_of
from adjax.types import CONVERGED, NOT_FINITE, SettingsError, Training

D = 5
LINEAR = JointConfig("linear")


def training(machines: list[np.ndarray], weight: np.ndarray | None = None) -> Training:
    rows = np.concatenate(machines).astype(np.float32)
    owner = np.repeat(np.arange(len(machines)), [len(own) for own in machines]).astype(np.int32)
    weight = np.ones(len(rows), np.float32) if weight is None else weight
    numbers = (rows, weight, np.arange(len(rows), dtype=np.int32), owner, np.zeros_like(owner))
    seeds = np.arange(len(machines), dtype=np.uint32)
    return Training(*map(jnp.asarray, (*numbers, seeds, members_of(owner, len(machines)))))


def fit(config: JointConfig, train: Training, hyper: JointHyper = JointHyper()):
    return jax.jit(make_joint(config).fit)(jax.random.key(0), train, hyper)


def scores(config: JointConfig, params: Any, machine: int, x: np.ndarray) -> np.ndarray:
    score = make_joint(config).score
    one = jax.jit(jax.vmap(lambda row: score(params, jnp.int32(machine), row[None], jnp.ones(1))[0]))
    return np.asarray(one(jnp.asarray(x, jnp.float32)))


def correlated(seed: int, n: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(99).normal(size=(D, D))
    return (rng.normal(size=(n, D)) @ mix + 10).astype(np.float32)


def test_a_lone_machine_is_scikit_learns_ledoit_wolf() -> None:
    own, new = correlated(0, 80), correlated(1, 30)
    params, info = fit(LINEAR, training([own]), JointHyper(mates=0.0))
    assert_array_equal(info.status, CONVERGED)
    scale = own.std(axis=0, ddof=1)
    z = (own - own.mean(axis=0)) / scale
    covariance, shrinkage = ledoit_wolf(z, assume_centered=True)
    assert shrinkage > MIN_SHRINKAGE
    deviation = (new - own.mean(axis=0)) / scale
    squares = np.einsum("ni,ij,nj->n", deviation, np.linalg.inv(covariance), deviation)
    # Here the moment has n - 1 below it, in scikit-learn n, and so has the shrinkage.
    found = np.exp(scores(LINEAR, params, 0, new)) * D
    assert_allclose(found, squares, rtol=0.03)


@pytest.mark.parametrize("n", [4, 60])
def test_correlations_come_from_the_mates_where_clips_are_few(n: int) -> None:
    """Brute force of the mixed moment and its shrinkage, in float64."""
    machines = [correlated(2, n), correlated(3, 90) + 5]
    params, _ = fit(LINEAR, training(machines))
    freedom = np.array([n - 1, 89.0])
    residual = [own - own.mean(axis=0) for own in map(np.float64, machines)]
    squares = [(r**2).sum(axis=0) for r in residual]
    pooled = sum(squares) / freedom.sum()
    z = [r / np.sqrt((s + 8 * pooled) / (f + 8)) for r, s, f in zip(residual, squares, freedom, strict=True)]
    share = freedom[0] / (freedom[0] + 256)
    weights = np.concatenate(
        [
            np.full(n, (1 - share) / freedom.sum() + share / freedom[0]),
            np.full(90, (1 - share) / freedom.sum()),
        ]
    )
    every = np.concatenate(z)
    moment = (every * weights[:, None]).T @ every
    of_mates, of_own = (1 - share) / freedom.sum(), share / freedom[0]
    n_effective = 1 / (of_mates**2 * freedom.sum() + (of_own**2 + 2 * of_own * of_mates) * freedom[0])
    mu, norm = np.trace(moment) / D, (moment**2).sum()
    noise = ((weights * (every**2).sum(axis=1)) ** 2).sum() - norm / n_effective
    intensity = np.clip(noise / (norm - D * mu**2), MIN_SHRINKAGE, 1)
    expected = (1 - intensity) * moment + intensity * mu * np.eye(D)
    whitening = np.asarray(params.whitening[0], np.float64)
    assert_allclose(np.linalg.inv(whitening.T @ whitening), expected, rtol=2e-3, atol=2e-3)
    assert_allclose(params.mean[0], 0, atol=1e-4)


@pytest.mark.parametrize("config", [JointConfig(), LINEAR])
def test_a_held_out_clip_is_not_there(config: JointConfig) -> None:
    machines = [correlated(4, 12), correlated(5, 9)]
    weight = np.ones(21, np.float32)
    weight[[3, 15]] = 0
    changed = [own.copy() for own in machines]
    changed[0][3], changed[1][6 - 3] = 1e6, -1e6
    first, _ = fit(config, training([np.delete(machines[0], 3, axis=0), np.delete(machines[1], 3, axis=0)]))
    second, info = fit(config, training(changed, weight))
    assert_array_equal(info.status, CONVERGED)
    new = correlated(6, 20)
    for machine in (0, 1):
        assert_allclose(
            scores(config, first, machine, new), scores(config, second, machine, new), rtol=1e-3, atol=1e-3
        )


def test_heavy_tails_cost_less_when_columns_are_made_normal() -> None:
    rng = np.random.default_rng(7)

    def clips(n: int, shift: float) -> np.ndarray:
        z = rng.multivariate_normal(np.zeros(D), 0.8 * np.ones((D, D)) + 0.2 * np.eye(D), n)
        z[:, 0] += shift
        return np.sinh(1.5 * z)

    own, normal, odd = clips(200, 0), clips(300, 0), clips(300, 2.0)
    aucs = []
    for config in (JointConfig(), LINEAR):
        params, _ = fit(config, training([own]))
        found = np.concatenate([scores(config, params, 0, x) for x in (normal, odd)])
        aucs.append(roc_auc_score(np.repeat([0, 1], 300), found))
    assert aucs[0] > aucs[1] + 0.03


@pytest.mark.parametrize("config", [JointConfig(), LINEAR])
def test_constant_columns_change_nothing(config: JointConfig) -> None:
    machines, new = [correlated(2, 20), correlated(3, 30) + 5], correlated(4, 10) * 2

    def wider(rows: np.ndarray) -> np.ndarray:
        return np.concatenate([rows, np.full((len(rows), 40), 7.3, np.float32)], axis=1)

    params, _ = fit(config, training(machines))
    wide, _ = fit(config, training([wider(own) for own in machines]))
    expected = scores(config, params, 0, new)
    assert_allclose(scores(config, wide, 0, wider(new)), expected, rtol=1e-4, atol=1e-4)


def test_statuses() -> None:
    own, constant = correlated(8, 10), np.ones((10, D), np.float32)
    assert_array_equal(fit(LINEAR, training([own, own + 1]))[1].status, [CONVERGED] * 2)
    assert_array_equal(fit(LINEAR, training([constant]))[1].status, [NOT_FINITE])
    weight = np.repeat([1, 0], 10).astype(np.float32)
    assert_array_equal(fit(LINEAR, training([own, own], weight))[1].status, [CONVERGED, NOT_FINITE])
    own = own.copy()
    own[0, 0] = np.nan
    assert_array_equal(fit(LINEAR, training([own, own + 1]))[1].status, [NOT_FINITE] * 2)
    for hyper in (JointHyper(mates=np.nan), JointHyper(correlation=-1.0)):
        assert_array_equal(fit(LINEAR, training([correlated(8, 10)]), hyper)[1].status, [NOT_FINITE])


@pytest.mark.parametrize("hyper", [JointHyper(mates=-1.0), JointHyper(correlation=np.inf)])
def test_settings_out_of_range(hyper: JointHyper) -> None:
    with pytest.raises(SettingsError, match=r"mates|correlation"):
        make_joint(JointConfig(), hyper)
