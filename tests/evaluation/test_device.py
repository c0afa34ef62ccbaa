"""Areas and intervals on the device must be scikit-learn's and SciPy's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import roc_auc_score

from adjax.evaluation.device import Areas, bootstrap_counts, bootstrap_intervals, roc_areas
from adjax.evaluation.metrics import auc_interval

N_LANES, N_CLIPS = 200, 150
areas_of_lanes = jax.jit(jax.vmap(roc_areas))
intervals = jax.jit(bootstrap_intervals)
draw = jax.jit(bootstrap_counts, static_argnums=3)


def make_lanes(dtype: type, levels: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of many lanes (rounded to so many levels), labels, and weights of which a fifth are 0."""
    rng = np.random.default_rng(levels)
    labels = (rng.random((N_LANES, N_CLIPS)) < rng.uniform(0.05, 0.95, (N_LANES, 1))).astype(int)
    labels[:, :2] = [0, 1]
    labels[:, -5:] = -1
    scores = rng.normal(size=labels.shape) + rng.uniform(-1, 4, (N_LANES, 1)) * labels
    if levels:
        scores = np.round(scores * levels / 8)
    weight = (rng.random(labels.shape) < 0.8).astype(dtype)
    weight[:, :2] = 1
    return scores.astype(dtype), labels, weight


def scikit_learn(scores: np.ndarray, labels: np.ndarray, weight: np.ndarray) -> np.ndarray:
    rows = []
    for s, y, w in zip(scores.astype(np.float64), labels, weight, strict=True):
        used = (w > 0) & (y >= 0)
        rows.append(
            [
                roc_auc_score(y[used], s[used], sample_weight=w[used], max_fpr=max_fpr)
                for max_fpr in (None, 0.1)
            ]
        )
    return np.array(rows).T


@pytest.mark.parametrize("levels", [None, 40, 6, 1])
def test_areas_are_those_of_scikit_learn_in_float32(levels: int | None) -> None:
    lanes = make_lanes(np.float32, levels)
    assert_allclose(areas_of_lanes(*lanes), scikit_learn(*lanes), rtol=0, atol=1e-6)


@pytest.mark.parametrize("levels", [None, 6])
@pytest.mark.usefixtures("x64")
def test_areas_are_those_of_scikit_learn_in_float64_with_weights(levels: int | None) -> None:
    scores, labels, weight = make_lanes(np.float64, levels)
    weight *= np.random.default_rng(0).uniform(0.1, 3, weight.shape)
    areas = areas_of_lanes(scores, labels, weight)
    assert_allclose(areas, scikit_learn(scores, labels, weight), rtol=0, atol=1e-12)


def test_what_has_no_weight_changes_nothing() -> None:
    scores, labels, weight = make_lanes(np.float32, 40)
    changed = np.where((weight > 0) & (labels >= 0), scores, 99).astype(np.float32)
    changed[:, -1] = np.nan
    assert_array_equal(areas_of_lanes(scores, labels, weight), areas_of_lanes(changed, labels, weight))


def test_one_class_or_a_score_that_is_not_finite_gives_nan() -> None:
    scores, ones = jnp.arange(4.0), jnp.ones(4)
    assert np.isnan(roc_areas(scores, jnp.zeros(4, int), ones)).all()
    labels = jnp.array([0, 0, 1, 1])
    assert np.isnan(roc_areas(scores.at[1].set(jnp.nan), labels, ones)).all()
    assert roc_areas(scores, labels, ones) == Areas(1.0, 1.0)


def test_bootstrap_draws_each_class_apart_and_evenly() -> None:
    labels = jnp.array([1, 0, 0, -1, 1, 0, 1, 0])
    weight = jnp.array([1, 1, 1, 1, 1, 1, 0, 1.0])
    counts = np.asarray(draw(jax.random.key(0), labels, weight, 20_000))
    assert_array_equal(counts[:, labels == 0].sum(axis=1), 4)
    assert_array_equal(counts[:, [0, 4]].sum(axis=1), 2)
    assert not counts[:, [3, 6]].any()
    assert_allclose(counts[:, [0, 1, 2, 4, 5, 7]].mean(axis=0), 1, atol=0.03)
    assert_allclose(counts[:, 1].var(), 4 * 0.25 * 0.75, atol=0.03)  # binomial


@pytest.mark.parametrize("shift", [0.3, 1.2, 2.5])
def test_interval_is_that_of_scipy(shift: float) -> None:
    rng = np.random.default_rng(int(10 * shift))
    labels = np.repeat([0, 1], [60, 90])
    scores = (np.round(4 * (rng.normal(size=150) + shift * labels)) / 4).astype(np.float32)
    counts = draw(jax.random.key(1), jnp.asarray(labels), jnp.ones(150), 4000)
    low, high = intervals(scores, labels, counts)
    expected = auc_interval(labels, scores, seed=0, n_resamples=4000)
    assert_allclose((low.auc, high.auc), expected, atol=0.006)  # three errors of such a percentile


def test_intervals_are_percentiles_of_resampled_scikit_learn() -> None:
    scores, labels, _ = make_lanes(np.float32, 40)
    scores, labels = scores[0], labels[0]
    counts = draw(jax.random.key(2), jnp.asarray(labels), jnp.ones(N_CLIPS), 200)
    low, high = intervals(scores, labels, counts)
    lanes = (np.broadcast_to(scores, counts.shape), np.broadcast_to(labels, counts.shape), np.asarray(counts))
    expected = np.quantile(scikit_learn(*lanes), [0.025, 0.975], axis=1)
    assert_allclose((low, high), expected, atol=1e-6)


def test_perfect_separation_leaves_no_width() -> None:
    labels = jnp.repeat(jnp.array([0, 1]), 20)
    counts = draw(jax.random.key(3), labels, jnp.ones(40), 100)
    low, high = intervals(jnp.arange(40.0), labels, counts)
    assert_allclose((*low, *high), 1, atol=1e-6)
