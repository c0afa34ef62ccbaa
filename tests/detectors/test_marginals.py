"""Columns made normal: any unit, any tail, few clips or many, ties, constants, padding."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from adjax.detectors.marginals import N_KNOTS, REACH, Agreed, Marginals, fit_marginals, to_scores, without

FIT = jax.jit(fit_marginals, static_argnames="shape")
SCORES = jax.jit(to_scores)


def fit(*machines: np.ndarray, mates: float = 8.0, shape: str = "normal", room: int = 0) -> Marginals:
    """The maps of machines, (n, d) each, padded with what must not matter."""
    most = max(room, *map(len, machines))
    rows = np.full((len(machines), most, machines[0].shape[1]), 99.0, np.float32)
    present = np.zeros((len(machines), most), bool)
    for m, own in enumerate(machines):
        rows[m, : len(own)], present[m, : len(own)] = own, True
    return FIT(jnp.asarray(rows), jnp.asarray(present), mates, shape=shape)[0]


def of(maps: Marginals, machine: int) -> Marginals:
    return jax.tree.map(lambda leaf: leaf[machine], maps)


def drawn(seed: int, n: int = 500) -> np.ndarray:
    """(n, 4): normal, lognormal, Student's with 2 degrees of freedom, uniform."""
    rng = np.random.default_rng(seed)
    columns = rng.normal(size=n), np.exp(rng.normal(size=n)), rng.standard_t(2, n), rng.uniform(size=n)
    return np.stack(columns, axis=1).astype(np.float32)


def test_columns_of_any_shape_become_normal() -> None:
    maps = of(fit(drawn(0, 2000)), 0)
    for seed in (0, 1):
        scores = np.asarray(SCORES(maps, drawn(seed, 2000)))
        for column in scores.T:
            assert stats.kstest(column, "norm").statistic < 0.05
            assert abs(column.std() - 1) < 0.06


def test_it_is_the_normal_score_of_the_mixed_distribution_function() -> None:
    """Brute force for a lone machine at its own clips: (n F + 8 F0) / (n + 8), F0 the normal and its own again."""
    own = drawn(3, 40)[:, :1]
    maps = of(fit(own, mates=0.0), 0)
    z = (own - own.mean()) / own.std(ddof=1)
    order = np.argsort(z[:, 0])
    mine = (np.arange(40) + 0.5) / 40
    pool = np.quantile(z[:, 0], np.linspace(0, 1, N_KNOTS))
    below = [(np.sum(pool < v - 1e-6) + np.sum(pool < v + 1e-6)) / 2 / N_KNOTS for v in z[order, 0]]
    before = (8 * stats.norm.cdf(z[order, 0]) + 40 * np.array(below)) / 48
    expected = stats.norm.ppf(np.clip((40 * mine + 8 * before) / 48, 0.5 / 41, 1 - 0.5 / 41))
    assert_allclose(np.asarray(SCORES(maps, own))[order, 0], expected, atol=0.06)


def test_units_and_offsets_change_nothing() -> None:
    own, new = drawn(4, 60), drawn(5, 60)
    unit = np.float32(2.0) ** np.array([40, -40, 3, 0], np.float32)
    first, second = fit(own, own[:9] + 1), fit(own * unit, (own[:9] + 1) * unit)
    assert_allclose(SCORES(of(first, 0), new), SCORES(of(second, 0), new * unit), rtol=1e-5, atol=1e-5)
    far = fit(own + np.float32(64), own[:9] + np.float32(65))
    assert_allclose(
        SCORES(of(first, 0), new), SCORES(of(far, 0), new + np.float32(64)), atol=2e-2
    )  # 64 + x has fewer digits


def test_maps_rise_and_level_off() -> None:
    maps = of(fit(drawn(6)), 0)
    assert (np.diff(maps.knots, axis=0) >= 0).all()
    assert (np.diff(maps.heights, axis=0) >= 0).all()
    line = np.linspace(-50, 50, 2001, dtype=np.float32)
    scores = np.asarray(SCORES(maps, np.tile(line[:, None], (1, 4))))
    assert (np.diff(scores, axis=0) >= -1e-5).all()
    assert (scores[-1] > maps.heights[-1]).all()
    assert (np.abs(scores) <= np.abs(maps.heights).max() + REACH).all()
    steps = np.abs(np.diff(scores, axis=0)).max()
    assert steps < 2.5  # no jump where the tails begin


def test_values_that_repeat_get_the_mean_of_their_scores() -> None:
    own = np.repeat(np.float32([0, 1, 1, 1, 2, 2]), 20)[:, None]
    scores = np.asarray(SCORES(of(fit(own), 0), np.float32([[0], [1], [2]])))[:, 0]
    assert scores[0] < scores[1] < scores[2]
    assert_allclose(scores[1], stats.norm.ppf((20 + 30) / 120), atol=0.15)


def test_a_constant_column_says_nothing_and_does_no_harm() -> None:
    own = np.hstack([drawn(7, 30), np.full((30, 2), [1e6, 0.1], np.float32)])
    maps = of(fit(own), 0)
    assert_array_equal(maps.factor[4:], 0)
    found = np.asarray(SCORES(maps, own + 1))
    assert_array_equal(found[:, 4:], 0)
    assert_allclose(found[:, :4], SCORES(of(fit(own[:, :4]), 0), own[:, :4] + 1), rtol=1e-5)


def test_a_column_that_only_mates_move_has_their_scale() -> None:
    still = drawn(8, 30)
    still[:, 0] = 5
    maps = of(fit(still, drawn(9, 30)), 0)
    assert 0.3 < 1 / maps.factor[0] < 1
    scores = np.asarray(SCORES(maps, np.float32([[5, 0, 0, 0], [9, 0, 0, 0]])))[:, 0]
    assert abs(scores[0]) < 0.5
    assert scores[1] > 2


def test_few_clips_have_the_shape_of_the_mates() -> None:
    skewed = [
        np.exp(np.random.default_rng(i).normal(size=(n, 1))).astype(np.float32)
        for i, n in ((0, 8), (1, 2000))
    ]
    maps = fit(*skewed)
    alone = fit(skewed[0])
    new = np.exp(np.random.default_rng(2).normal(size=(2000, 1))).astype(np.float32)
    together = stats.skew(np.asarray(SCORES(of(maps, 0), new))[:, 0])
    assert abs(together) < abs(stats.skew(np.asarray(SCORES(of(alone, 0), new))[:, 0]))


@pytest.mark.parametrize("shape", ["normal", "linear"])
def test_padding_and_machines_without_clips_change_nothing(shape: str) -> None:
    own, other = drawn(10, 20), drawn(11, 33)
    first, second = fit(own, other, shape=shape), fit(own, other, own[:0], shape=shape, room=50)
    for machine in (0, 1):
        assert_allclose(
            SCORES(of(first, machine), other), SCORES(of(second, machine), other), rtol=1e-4, atol=1e-4
        )


def test_the_linear_map_centres_and_scales() -> None:
    own = drawn(12, 50)
    scores = np.asarray(SCORES(of(fit(own, mates=0.0, shape="linear"), 0), own))
    assert_allclose(scores.mean(axis=0), 0, atol=1e-5)
    assert_allclose(scores.std(axis=0, ddof=1), 1, rtol=1e-4)


def test_a_score_has_a_gradient_everywhere() -> None:
    own = np.hstack([drawn(13, 30), np.zeros((30, 1), np.float32)])
    maps = of(fit(own), 0)
    slope = jax.jit(jax.vmap(jax.grad(lambda x: to_scores(maps, x[None]).sum())))
    for x in (own, own + 100, own - 100, np.zeros_like(own)):
        assert np.isfinite(slope(jnp.asarray(x))).all()


def test_a_value_that_many_clips_have_is_the_same_however_it_is_rounded() -> None:
    own = np.repeat(np.float32([7.1, 7.1, 7.3]), 20)[:, None]
    maps = of(fit(own), 0)
    near = [own[0, 0], np.nextafter(own[0, 0], np.float32(0)), np.nextafter(own[0, 0], np.float32(9))]
    scores = np.asarray(SCORES(maps, np.array(near, np.float32)[:, None]))[:, 0]
    assert_allclose(scores, scores[0], atol=1e-3)
    assert scores[0] < SCORES(maps, own[-1:])[0, 0]


@pytest.mark.parametrize("shape", ["normal", "linear"])
def test_a_machine_can_be_added_and_left_out_again(shape: str) -> None:
    """By what the mates say a machine is as if fitted with them; one that has no say is as if it were not there."""
    mates, own = [drawn(14, 20) * 100, drawn(15, 20), drawn(16, 20)], drawn(17, 6)
    present = jnp.ones((3, 20), bool)

    def agreed(*machines: np.ndarray) -> Agreed:
        return FIT(jnp.asarray(np.stack(machines)), present[: len(machines)], 0.0, shape=shape)[1]

    def added(known: Agreed) -> Marginals:
        return of(FIT(jnp.asarray(own[None]), present[:1, :6], 8.0, shape=shape, known=known)[0], 0)

    alike = added(agreed(*mates[1:]))
    left_out = added(without(agreed(*mates), 0))
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-4, atol=1e-5), alike, left_out)
    assert not np.allclose(added(agreed(*mates)).factor, alike.factor)
    if shape == "linear":
        together = fit(*mates[1:], own, mates=8.0, shape=shape)
        assert_allclose(alike.factor, together.factor[2], rtol=1e-4)
