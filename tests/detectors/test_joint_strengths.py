"""Strengths learnt from the mates: the likelihood against SciPy, and simulated machines whose hierarchy is known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from adjax.detectors import joint_strengths
from adjax.detectors.joint import KIND, JointConfig, JointHyper, learn_joint
from adjax.detectors.joint_strengths import (
    CORRELATION,
    MATES,
    MOST_JUDGED,
    MOST_PLAYS,
    learn_strengths,
    log_likelihoods,
)
from adjax.detectors.marginals import Shape, fit_marginals, to_scores
from adjax.model.lift import members_of
from adjax.types import Training

D = 6


def training(machines: list[np.ndarray], weight: np.ndarray | None = None) -> Training:
    rows = np.concatenate(machines).astype(np.float32)
    owner = np.repeat(np.arange(len(machines)), [len(own) for own in machines]).astype(np.int32)
    weight = np.ones(len(rows), np.float32) if weight is None else weight
    numbers = (rows, weight, np.arange(len(rows), dtype=np.int32), owner, np.zeros_like(owner))
    seeds = np.arange(len(machines), dtype=np.uint32)
    return Training(*map(jnp.asarray, (*numbers, seeds, members_of(owner, len(machines)))))


def learn(machines: list[np.ndarray], n_clips: int, shape: Shape = "linear") -> tuple[float, float]:
    (mates, correlation), known = learn_strengths(training(machines), n_clips, shape=shape)
    assert known
    return float(mates), float(correlation)


def machines(*, same_correlation: bool, same_spread: bool, n: int = 150) -> list[np.ndarray]:
    """Four machines of D columns: their correlations are the same or not, and so are the columns' deviations."""
    found = []
    for number in range(4):
        rng = np.random.default_rng(number)
        own = np.random.default_rng(99 if same_correlation else [7, number])
        mix = np.linalg.qr(own.normal(size=(D, D)))[0] * np.array([3, 2, 1, 0.5, 0.2, 0.1])
        mix /= np.linalg.norm(mix, axis=1)[:, None]  # so that every column has the variance 1
        spread = 1 if same_spread else np.exp(1.5 * rng.normal(size=D))
        found.append(3 * rng.normal(size=D) + rng.normal(size=(n, D)) @ mix.T * spread)
    return found


def by_hand(
    every: list[np.ndarray], player: int, heard: np.ndarray, judged: np.ndarray, mates: float, prior: float
) -> np.ndarray:
    """Log densities of a player's judged clips, with linear marginals, in float64."""
    others = [own for i, own in enumerate(every) if i != player]
    k, n_others = len(heard), [len(own) - 1 for own in others]

    def squares(own: np.ndarray) -> np.ndarray:
        return ((own - own.mean(axis=0)) ** 2).sum(axis=0)

    def deviation(own: np.ndarray, beside: list[np.ndarray]) -> np.ndarray:
        pooled = sum(map(squares, beside)) / sum(len(one) - 1 for one in beside)
        return np.sqrt((squares(own) + mates * pooled) / max(len(own) - 1 + mates, 1))

    scale = deviation(heard, [*others, heard])
    z = [(own - own.mean(axis=0)) / deviation(own, every) for own in others]
    z.append((heard - heard.mean(axis=0)) / scale)
    freedom = max(k - 1, 1)
    total, share = sum(n_others) + freedom, freedom / (freedom + prior)
    of_mates, of_own = (1 - share) / total, share / freedom
    weights = [np.full(len(own), of_mates) for own in others] + [np.full(k, of_mates + of_own)]
    x, w = np.concatenate(z), np.concatenate(weights)
    moment = (x * w[:, None]).T @ x
    n_effective = 1 / (of_mates**2 * total + (of_own**2 + 2 * of_own * of_mates) * freedom)
    mu, norm = np.trace(moment) / D, (moment**2).sum()
    noise = ((w * (x**2).sum(axis=1)) ** 2).sum() - norm / n_effective
    intensity = np.clip(noise / (norm - D * mu**2), 1e-3, 1)
    shrunken = (1 - intensity) * moment + intensity * mu * np.eye(D)
    covariance = (1 + 1 / k) * shrunken * np.outer(scale, scale)
    return stats.multivariate_normal(heard.mean(axis=0), covariance).logpdf(judged)


def test_the_likelihood_is_that_of_scipys_gaussian() -> None:
    every = [
        own.astype(np.float32).astype(float)
        for own in machines(same_correlation=True, same_spread=False, n=9)
    ]
    rows = jnp.asarray(np.stack(every), jnp.float32)
    found, columns, there = log_likelihoods(
        rows, jnp.ones((4, 9), bool), jnp.int32(3), shape="linear", room=8
    )
    assert_array_equal(columns, D)
    assert_array_equal(there.sum(axis=1), 6)
    assert len(columns) == MOST_PLAYS  # two by each of four mates: every third clip, from another one on
    for place, (player, first) in {0: (0, 2), 1: (0, 1), 6: (3, 2)}.items():
        heard = np.arange(9) % 3 == first
        for i, mates in enumerate(MATES):
            for j, prior in enumerate(CORRELATION):
                own = every[player]
                expected = by_hand(every, player, own[heard], own[~heard], mates, prior)
                assert_allclose(found[i, j, place, :6], expected, rtol=2e-3, atol=5e-3)


def test_slopes_of_the_maps_are_finite_differences() -> None:
    own = np.exp(np.random.default_rng(0).normal(size=(60, D)))
    rows = jnp.asarray(own[None], jnp.float32)
    fitted, _ = jax.jit(fit_marginals, static_argnames="shape")(
        rows, jnp.ones((1, 60), bool), 8.0, shape="normal"
    )
    marginals = jax.tree.map(lambda leaf: np.asarray(leaf[0]), fitted)
    low, high = (
        marginals.knots[8:-8:6],
        marginals.knots[9:-7:6],
    )  # halfway between two knots: elsewhere are bends
    x, step = (marginals.centre + (low + high) / 2 / marginals.factor, (high - low) / 4 / marginals.factor)
    scores = jax.jit(to_scores)
    above, below = (np.asarray(scores(marginals, x + sign * step), float) for sign in (1, -1))
    _, logs = jax.jit(joint_strengths._scores_and_slopes)(marginals, x)
    assert_allclose(logs, np.log((above - below) / (2 * step)).sum(axis=1), atol=0.05)


@pytest.mark.parametrize("shape", ["linear", "normal"])
def test_machines_that_share_correlations_lean_on_them(shape: Shape) -> None:
    _, shared = learn(machines(same_correlation=True, same_spread=True), 20, shape)
    _, own = learn(machines(same_correlation=False, same_spread=True), 20, shape)
    assert shared >= {"linear": 256, "normal": 64}[shape]
    assert own <= 16


def test_machines_of_the_same_spreads_lean_on_them() -> None:
    same, _ = learn(machines(same_correlation=True, same_spread=True), 10)
    other, _ = learn(machines(same_correlation=True, same_spread=False), 10)
    assert same == 128
    assert other == 2


def test_a_few_wild_clips_choose_nothing_and_what_is_not_finite_loses() -> None:
    likelihood = np.zeros((len(MATES), len(CORRELATION), 2, MOST_JUDGED), np.float32)
    likelihood[2, 3] = 5.0
    likelihood[0, 0, :, :3] = 1e6  # nearly all other clips say that 2, 3 is better
    likelihood[1, 1] = 5.5
    likelihood[1, 1, 0, 7] = np.nan  # the best otherwise
    there = np.ones((2, MOST_JUDGED), bool)
    (mates, correlation), known = joint_strengths.choose(likelihood, jnp.full(2, D), there)
    assert known
    assert (int(mates), int(correlation)) == (2, 3)
    there[0, 7] = False  # padding
    (mates, correlation), _ = joint_strengths.choose(likelihood, jnp.full(2, D), there)
    assert (int(mates), int(correlation)) == (1, 1)
    assert not joint_strengths.choose(likelihood * np.nan, jnp.full(2, D), there)[1]
    assert not joint_strengths.choose(likelihood, jnp.full(2, D), there & False)[1]


def test_padding_and_constant_columns_change_nothing() -> None:
    every = machines(same_correlation=True, same_spread=False, n=40)
    padded = [np.concatenate([own, np.full((5, D), 99.0)]) for own in every]
    weight = np.tile(np.repeat([1.0, 0.0], [40, 5]), 4).astype(np.float32)
    wide = [np.concatenate([own, np.full((len(own), 3), 7.3)], axis=1) for own in every]
    expected = learn(every, 5)
    (mates, correlation), _ = learn_strengths(training(padded, weight), 5, shape="linear")
    assert (float(mates), float(correlation)) == expected
    assert learn(wide, 5) == expected


@pytest.mark.parametrize(
    ("n_machines", "n_clips"), [(1, 3), (2, 39)], ids=["one mate alone", "mates of too few clips"]
)
def test_where_the_mates_say_nothing_the_settings_stay(n_machines: int, n_clips: int) -> None:
    few = training(machines(same_correlation=True, same_spread=True, n=40)[:n_machines])
    hyper = learn_joint(JointConfig("linear"), JointHyper(5.0, 7.0), few, n_clips)
    assert (float(hyper.mates), float(hyper.correlation)) == (5.0, 7.0)


def test_of_many_mates_some_play() -> None:
    every = machines(same_correlation=True, same_spread=True, n=12) * 5  # 20 machines
    rows = jnp.asarray(np.stack(every), jnp.float32)
    present = jnp.ones((20, 12), bool).at[3].set(False)
    found, _, there = log_likelihoods(rows, present, jnp.int32(4), shape="linear", room=8)
    assert found.shape == (len(MATES), len(CORRELATION), MOST_PLAYS, MOST_JUDGED)
    assert_array_equal(there.sum(axis=1), 8)
    assert KIND.learn is learn_joint
