"""Evidence of several detectors: one currency, no harm from what knows nothing, nobody judges himself."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import roc_auc_score

from adjax.model.calibration import calibrate, judge
from adjax.model.evidence import N_KNOTS, evidence_of, fit_evidence

ALONE = np.array([[0, 1], [2, 3]])  # of two machines, which have no mates
TOGETHER = np.zeros((2, 2), int)
TWO = np.array([0, 1])


def normals(rng: np.random.Generator, *counts: int, n_parts: int = 2) -> list[np.ndarray]:
    return [rng.normal(size=(n, n_parts)) for n in counts]


@pytest.mark.parametrize("n", [8, 60, 1000])
def test_the_evidence_of_normal_clips_is_exponential(n: int) -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(20):
        evidence, _ = fit_evidence(normals(rng, n, n), TOGETHER, TWO)
        new = jnp.asarray(rng.normal(size=(200, 2)), jnp.float32)
        found.append(jax.vmap(lambda z, e=evidence: evidence_of(e, jnp.int32(0), z))(new))
    values = np.concatenate(found).ravel()
    assert abs(values.mean() - 1) < 0.25
    for level in (1.0, 2.0):
        assert abs(np.mean(values > level) - np.exp(-level)) < 0.06


def test_curves_rise_and_go_on_in_a_line() -> None:
    evidence, _ = fit_evidence(normals(np.random.default_rng(1), 30, 9), TOGETHER, TWO)
    assert evidence.at.shape == (2, 2, N_KNOTS)
    assert (np.diff(evidence.at) >= 0).all()
    assert (np.diff(evidence.value) >= -1e-6).all()
    far = [float(evidence_of(evidence, jnp.int32(0), jnp.array([z, 0.0]))[0]) for z in (10.0, 20.0, 30.0)]
    assert_allclose(far[2] - far[1], far[1] - far[0], rtol=1e-4)
    assert far[0] > np.log(31)
    assert np.isnan(evidence_of(evidence, jnp.int32(0), jnp.array([jnp.nan, 0.0]))[0])


@pytest.mark.parametrize("mates", [ALONE, TOGETHER])
def test_a_held_out_clip_is_judged_by_the_others(mates: np.ndarray) -> None:
    """Brute force: the curve of all other clips, read on the device."""
    parts = normals(np.random.default_rng(2), 7, 5)
    _, held_out = fit_evidence(parts, mates, TWO)
    for i in range(7):
        others, _ = fit_evidence([np.delete(parts[0], i, axis=0), parts[1]], mates, TWO)
        expected = evidence_of(others, jnp.int32(0), jnp.asarray(parts[0][i], jnp.float32))
        assert_allclose(held_out[0][i], expected, atol=1e-5)


def test_mates_count_with_few_clips_and_not_with_many() -> None:
    rng = np.random.default_rng(3)
    wide = 5 * rng.normal(size=(400, 2))
    lost = []
    for n in (8, 4000):
        own = rng.normal(size=(n, 2))
        told = [
            float(evidence_of(fit_evidence([own, wide], mates, TWO)[0], jnp.int32(0), jnp.full(2, 3.0))[0])
            for mates in (ALONE, TOGETHER)
        ]
        lost.append(1 - told[1] / told[0])  # the mates know such clips
    assert lost[0] > 0.3
    assert abs(lost[1]) < 0.1


@pytest.mark.parametrize("n", [8, 200])
def test_a_detector_that_knows_nothing_does_little_harm(n: int) -> None:
    rng = np.random.default_rng(4)
    aucs = []
    for _ in range(10):
        train = normals(rng, n, n, n_parts=3)
        test = rng.normal(size=(400, 3))
        test[200:, :2] += 3  # the first two detectors hear the fault, the third does not
        labels = np.repeat([0, 1], 200)
        row = []
        for used in ([0, 1], [0, 1, 2]):
            mates = np.zeros((2, len(used)), int)
            fitted, _ = calibrate(
                [own[:, used] for own in train], mates, "fisher", 0.05, np.arange(len(used))
            )
            scores = jax.vmap(lambda z, c=fitted: judge(c, "fisher", jnp.int32(0), z).score)(
                jnp.asarray(test[:, used], jnp.float32)
            )
            row.append(roc_auc_score(labels, scores))
        aucs.append(row)
    two, three = np.mean(aucs, axis=0)
    assert three > two - {8: 0.02, 200: 0.01}[n]


def test_one_detector_needs_no_evidence() -> None:
    parts = normals(np.random.default_rng(5), 20, n_parts=3)
    mates, clip = np.zeros((1, 3), int), jnp.array([0.3, -1.0, 2.5])
    fisher, _ = calibrate(parts, mates, "fisher", 0.05, np.zeros(3, int))
    loudest, _ = calibrate(parts, mates, "max", 0.05)
    assert fisher.evidence is None
    assert_array_equal(
        judge(fisher, "fisher", jnp.int32(0), clip).score, judge(loudest, "max", jnp.int32(0), clip).score
    )


def test_the_part_that_spoke_is_of_the_detector_with_most_evidence() -> None:
    """A value that is usual in one detector's heavy tail is none in another's."""
    rng = np.random.default_rng(7)
    own = np.stack([np.exp(2 * rng.normal(size=300)), rng.normal(size=300)], axis=1)
    fitted, _ = calibrate([own], np.zeros((1, 2), int), "fisher", 0.05, TWO)
    found = judge(fitted, "fisher", jnp.int32(0), jnp.array([90.0, 5.0]))
    assert found.parts[0] > found.parts[1] > 0
    assert int(found.loudest) == 1


def test_a_detector_speaks_by_its_loudest_part() -> None:
    parts = normals(np.random.default_rng(6), 40, n_parts=3)
    evidence, _ = fit_evidence(parts, np.zeros((1, 3), int), np.array([0, 0, 1]))
    first = evidence_of(evidence, jnp.int32(0), jnp.array([2.0, -1.0, 0.0]))
    assert_array_equal(first, evidence_of(evidence, jnp.int32(0), jnp.array([1.5, 2.0, 0.0])))


def test_new_clips_of_a_value_that_held_out_ones_have_get_their_evidence() -> None:
    """Such as the 0 of a detector that knows nothing, or that of copies of a clip."""
    values = np.repeat([0.0, 1.0], [30, 10])
    parts = [np.stack([np.zeros(40), values], axis=1)]
    evidence, held_out = fit_evidence(parts, np.zeros((1, 2), int), TWO)
    for i in (0, 39):
        others, _ = fit_evidence([np.delete(parts[0], i, axis=0)], np.zeros((1, 2), int), TWO)
        found = evidence_of(others, jnp.int32(0), jnp.asarray(parts[0][i], jnp.float32))
        assert_allclose(found, held_out[0][i], atol=1e-5)
    slopes = jax.grad(lambda z: evidence_of(evidence, jnp.int32(0), z).sum())(jnp.array([0.0, 0.5]))
    assert np.isfinite(slopes).all()


def test_one_clip_has_no_tail_that_makes_another_certain() -> None:
    parts = [np.array([[0.0, 0.0], [1.0, 1.0]])]
    _, held_out = fit_evidence(parts, np.zeros((1, 2), int), TWO)
    assert held_out[0].max() < 3
