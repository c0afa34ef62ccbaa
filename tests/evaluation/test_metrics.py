"""AUC and pAUC must come out of published scores as published."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import hmean

from adjax.data.clips import read_labels
from adjax.evaluation.dcase_files import read_scores
from adjax.evaluation.metrics import Metrics, arithmetic_mean, auc_interval, evaluate, harmonic_mean
from adjax.types import SettingsError


def expected_metrics(shared: Path, beginning: str) -> dict[str, dict]:
    expected = json.loads((shared / "reference" / "expected_metrics.json").read_text())
    return next(value for name, value in expected.items() if name.startswith(beginning))


@pytest.mark.parametrize("machine_id", ["id_01", "id_03", "id_05"])
def test_submitted_scores_give_the_published_metrics(shared: Path, machine_id: str) -> None:
    reference = shared / "reference"
    labels = read_labels(reference / "dcase2020_slider_eval_labels.csv")
    scores = read_scores(
        reference / "submission_haunschmid_cpjku_1" / f"anomaly_score_slider_{machine_id}.csv"
    )
    metrics = evaluate(np.array([labels[name] for name in scores]), np.array(list(scores.values())))
    expected = expected_metrics(shared, "submission")[machine_id]
    assert metrics is not None
    assert (metrics.auc, metrics.pauc) == (expected["auc"], expected["pauc"])
    assert metrics.n_normal + metrics.n_anomalous == expected["n"]


@pytest.mark.parametrize("machine_id", ["id_00", "id_02", "id_04", "id_06"])
def test_autoencoder_scores_give_the_published_metrics(shared: Path, machine_id: str) -> None:
    file = shared / "reference" / "autoencoder_dev_scores" / f"anomaly_score_slider_{machine_id}.csv"
    scores = read_scores(file)
    labels = np.array([name.startswith("anomaly") for name in scores], int)
    metrics = evaluate(labels, np.array(list(scores.values())))
    expected = expected_metrics(shared, "autoencoder")[machine_id]
    assert metrics is not None
    assert (metrics.auc, metrics.pauc) == (expected["auc"], expected["pauc"])
    assert (metrics.n_normal + metrics.n_anomalous, metrics.n_anomalous) == (
        expected["n"],
        expected["anomalies"],
    )


def test_auc_is_the_share_of_pairs_in_order_with_ties_as_half() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 80), rng.integers(0, 10, 80).astype(float)
    anomalous, normal = scores[labels == 1][:, None], scores[labels == 0][None, :]
    pairs = np.mean((anomalous > normal) + 0.5 * (anomalous == normal))
    metrics = evaluate(labels, scores)
    assert metrics is not None
    assert_allclose(metrics.auc, pairs)


def test_unknown_labels_are_left_out_and_one_class_gives_nothing() -> None:
    metrics = evaluate(np.array([0, 1, -1]), np.array([1.0, 2.0, 9.0]))
    assert metrics == Metrics(1.0, 1.0, 1, 1)
    assert evaluate(np.array([0, 0, -1]), np.array([1.0, 2.0, 9.0])) is None


def test_a_score_that_is_not_finite_is_refused() -> None:
    with pytest.raises(SettingsError, match="1 of 2 scores"):
        evaluate(np.array([0, 1]), np.array([0.0, np.nan]))


def test_means() -> None:
    metrics = [Metrics(0.9, 0.8, 100, 10), Metrics(0.6, 0.5, 100, 20)]
    assert arithmetic_mean(metrics) == pytest.approx(Metrics(0.75, 0.65, 200, 30))
    assert harmonic_mean(metrics) == pytest.approx(Metrics(hmean([0.9, 0.6]), hmean([0.8, 0.5]), 200, 30))
    assert harmonic_mean([Metrics(0.0, 0.5, 1, 1)]).auc == 0.0


def test_interval_covers_the_true_auc_about_as_often_as_it_says() -> None:
    """Normal scores one standard deviation apart: AUC = Phi(1/sqrt 2) = .760."""
    rng = np.random.default_rng(1)
    labels = np.r_[np.zeros(100, int), np.ones(100, int)]
    hits = 0
    for repeat in range(60):
        low, high = auc_interval(labels, rng.normal(size=200) + labels, seed=repeat, n_resamples=300)
        hits += low <= 0.7602 <= high
    assert 51 <= hits <= 60


def test_interval_is_reproducible() -> None:
    labels, scores = np.repeat([0, 1], 20), np.random.default_rng(2).normal(size=40)
    assert auc_interval(labels, scores, seed=3) == auc_interval(labels, scores, seed=3)
