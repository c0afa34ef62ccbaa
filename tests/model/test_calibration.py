"""Held-out scores to p-values: ranks, the tail, decisions, and their validity by simulation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from adjax.model.calibration import calibrate, judge, no_calibration, p_values, tail_p_values

JUDGE = jax.jit(judge, static_argnums=1)


def one_part(scores: np.ndarray, rate: float = 0.05):
    return calibrate([scores[:, None]], np.zeros((1, 1), int), "max", rate)[0]


def test_p_values_are_ranks_and_fall_smoothly_beyond_them() -> None:
    scores = jnp.array([[1.0, 2.0, 3.0, 4.0, jnp.inf]])
    for value, expected in ((0.0, 1.0), (1.0, 1.0), (1.5, 0.8), (3.5, 0.4), (4.0, 0.4)):
        p, beyond = p_values(scores, 4, jnp.array([2.0]), jnp.array([value]))
        assert_allclose(p, expected, rtol=1e-6)
        assert not beyond
    p, beyond = p_values(scores, 4, jnp.array([2.0]), jnp.array([6.0]))
    assert_allclose(p, np.exp(-1.0) / 5, rtol=1e-6)
    assert beyond
    assert np.isnan(p_values(scores, 4, jnp.array([2.0]), jnp.array([jnp.nan]))[0])
    assert np.isnan(p_values(scores, 0, jnp.array([2.0]), jnp.array([1.0]))[0])


def test_the_smallest_honest_value_is_one_in_n_plus_one() -> None:
    calibration = one_part(np.random.default_rng(0).normal(size=19))
    found = JUDGE(calibration, "max", 0, jnp.array([50.0]))
    assert found.extrapolated
    assert found.p_value < 1 / 20
    inside = JUDGE(calibration, "max", 0, jnp.asarray(calibration.centre[0]))
    assert not inside.extrapolated
    assert inside.p_value >= 1 / 20


def test_a_held_out_clip_has_no_part_in_what_judges_it() -> None:
    """Brute force: each clip centred and scaled by all the others, mates included."""
    rng = np.random.default_rng(1)
    parts = [rng.normal(size=(n, 2)) for n in (5, 8)]
    calibration, held_out = calibrate(parts, np.zeros((2, 2), int), "max", 0.05)
    for m, own in enumerate(parts):
        other = parts[1 - m]
        expected = []
        for i in range(len(own)):
            rest = np.delete(own, i, axis=0)
            squares = sum((np.maximum(x - x.mean(axis=0), 0) ** 2).sum(axis=0) for x in (rest, other))
            spread = np.sqrt(squares / (len(rest) - 1 + len(other) - 1))
            expected.append(((own[i] - rest.mean(axis=0)) / spread).max())
        assert_allclose(held_out[m], expected)
        assert_allclose(calibration.scores[m][: len(own)], np.sort(expected), rtol=1e-5)
        assert calibration.n_held_out[m] == len(own)
    assert np.isinf(calibration.scores[0][5:]).all()


@pytest.mark.parametrize("fusion", ["max", "mean", "fisher"])
@pytest.mark.parametrize("n", [9, 40, 200])
def test_normal_clips_are_called_anomalous_as_often_as_asked_for(fusion: str, n: int) -> None:
    """Exchangeable clips with a heavy upper tail, three parts: no more than the rate, and not much less."""
    rng = np.random.default_rng(2)
    rates, got = (0.1, 0.2), []
    for _ in range(60):
        train, test = np.exp(rng.normal(size=(n, 3))), np.exp(rng.normal(size=(100, 3)))
        calibration, _ = calibrate([train], np.zeros((1, 3), int), fusion, 0.05)
        p = jax.vmap(lambda own, c=calibration: JUDGE(c, fusion, 0, own).p_value)(
            jnp.asarray(test, jnp.float32)
        )
        got.append([np.mean(np.asarray(p) <= rate) for rate in rates])
    for rate, share, error in zip(rates, np.mean(got, axis=0), stats.sem(got, axis=0), strict=True):
        assert share < rate + 3 * error + 0.02
        assert share > 0.5 * rate - 3 * error


def test_a_decision_follows_the_rate_and_nothing_else() -> None:
    calibration = one_part(np.arange(20.0))
    value = jnp.array([18.5])
    assert JUDGE(calibration, "max", 0, value).decision == 0
    looser = calibration._replace(false_alarm_rate=np.float32(0.2))
    first, second = JUDGE(calibration, "max", 0, value), JUDGE(looser, "max", 0, value)
    assert second.decision == 1
    assert_array_equal(first.score, second.score)
    assert_array_equal(first.p_value, second.p_value)


def test_without_calibration_there_is_no_decision() -> None:
    raw = JUDGE(no_calibration(1, 2, 0.05), "max", 0, jnp.array([3.0, 4.0]))
    assert (float(raw.score), int(raw.decision)) == (4.0, -1)
    assert np.isnan(raw.p_value)


def test_parts_that_are_all_alike_do_not_divide_by_zero() -> None:
    calibration = one_part(np.ones(10))
    assert np.isfinite(JUDGE(calibration, "max", 0, jnp.array([1.0])).score)
    assert JUDGE(calibration, "max", 0, jnp.array([2.0])).decision == 1


def test_what_stands_apart() -> None:
    scores = np.random.default_rng(3).normal(size=50)
    assert (tail_p_values(scores) > 1e-4).all()
    scores[7] = 30.0
    assert np.flatnonzero(tail_p_values(scores) < 1e-4).tolist() == [7]
