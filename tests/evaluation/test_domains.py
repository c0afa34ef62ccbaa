"""AUC and pAUC by domain must come out of the baselines' published scores as published, to the last digit."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from adjax.evaluation.dcase_files import write_results
from adjax.evaluation.metrics import (
    DomainMetrics,
    Metrics,
    arithmetic_mean,
    domain_means,
    evaluate,
    evaluate_domains,
    harmonic_mean,
    official_score,
)
from adjax.types import SettingsError
from tests.evaluation.official import tables, told

DOMAINS = np.array(["source", "source", "target", "target", "source", "target"])
LABELS = np.array([0, 0, 0, 0, 1, 1])
SCORES = np.array([1.0, 2.0, 4.0, 6.0, 3.0, 5.0])


def test_a_domains_normal_clips_are_judged_against_all_anomalies() -> None:
    metrics = evaluate_domains(LABELS, DOMAINS, SCORES)
    assert metrics is not None
    assert (metrics.source.auc, metrics.target.auc, metrics.both.auc) == (1.0, 0.25, 0.625)
    assert metrics.source[2:] == metrics.target[2:] == (2, 2)
    assert metrics.both == evaluate(LABELS, SCORES)


def test_or_against_its_own() -> None:
    metrics = evaluate_domains(LABELS, DOMAINS, SCORES, anomalies="own")
    assert metrics is not None
    assert (metrics.source, metrics.target.auc) == (Metrics(1.0, 1.0, 2, 1), 0.5)
    assert metrics.both == evaluate(LABELS, SCORES)


def test_without_both_domains_there_are_no_metrics_by_domain() -> None:
    assert evaluate_domains(LABELS, np.full(6, "source"), SCORES) is None
    assert evaluate_domains(LABELS, np.full(6, ""), SCORES) is None
    assert evaluate_domains(LABELS * 0, DOMAINS, SCORES) is None
    only_source = np.where(LABELS == 1, "source", DOMAINS)
    assert evaluate_domains(LABELS, only_source, SCORES) is not None
    assert evaluate_domains(LABELS, only_source, SCORES, anomalies="own") is None


def test_bad_settings_are_refused() -> None:
    with pytest.raises(SettingsError, match="all, own"):
        evaluate_domains(LABELS, DOMAINS, SCORES, anomalies="some")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="domains"):
        evaluate_domains(LABELS, DOMAINS[:3], SCORES)
    with pytest.raises(SettingsError, match="nothing to average"):
        official_score([])


def test_the_official_score_is_the_harmonic_mean_of_all_three_numbers_of_all_sections() -> None:
    def of(source: float, target: float, pauc: float) -> DomainMetrics:
        return DomainMetrics(Metrics(source, 0.9, 1, 1), Metrics(target, 0.9, 1, 1), Metrics(0.9, pauc, 2, 2))

    sections = [of(0.8, 0.5, 0.6), of(1.0, 0.4, 0.5)]
    parts = [0.8, 1.0, 0.5, 0.4, 0.6, 0.5]
    assert official_score(sections) == pytest.approx(6 / sum(1 / part for part in parts))
    assert official_score([*sections, of(0.0, 0.5, 0.5)]) == 0.0
    assert domain_means(sections, arithmetic_mean).target == pytest.approx(Metrics(0.45, 0.9, 2, 2))


def test_the_table_of_2022_comes_out_of_its_scores(shared: Path, tmp_path: Path) -> None:
    """Every machine type and section, their means, and those over all; precision, recall and F1 score left out."""
    folder = shared / "reference" / "official" / "2022_dev_autoencoder"
    official = tables(folder / "result.csv")
    types = [name for name in official if name]
    found = {
        name: {
            f"section_0{i}": evaluate_domains(*told(folder / f"anomaly_score_{name}_section_0{i}_test.csv"))
            for i in range(3)
        }
        for name in types
    }
    both = {name: {key: m.both for key, m in by_id.items() if m} for name, by_id in found.items()}
    write_results(tmp_path / "result.csv", both, found)  # type: ignore[arg-type]
    ours = tables(tmp_path / "result.csv")
    assert len(types) == 7
    assert ours == {name: [row[:4] for row in rows] for name, rows in official.items()}


def test_the_table_of_2021_comes_out_of_its_scores(shared: Path) -> None:
    """There each domain is judged alone, and averages go over sections and domains."""
    folder = shared / "reference" / "official" / "2021_dev_autoencoder"
    everything = []
    for name, (_, *rows, mean, harmonic) in tables(folder / "result.csv").items():
        if not name:
            break
        metrics = []
        for number, domain, *values in rows:
            labels, _, scores = told(folder / f"anomaly_score_{name}_section_{number}_{domain}_test.csv")
            one = evaluate(labels, scores)
            assert one is not None
            assert [repr(one.auc), repr(one.pauc)] == values[:2]
            metrics.append(one)
        assert [*map(repr, arithmetic_mean(metrics)[:2])] == mean[2:4]
        assert [*map(repr, harmonic_mean(metrics)[:2])] == harmonic[2:4]
        everything += metrics
    assert len(everything) == 42
    _, mean, harmonic = tables(folder / "result.csv")[""]
    assert [*map(repr, arithmetic_mean(everything)[:2])] == mean[2:4]
    assert [*map(repr, harmonic_mean(everything)[:2])] == harmonic[2:4]


@pytest.mark.parametrize("score", ["MSE", "MAHALA"])
def test_the_tables_of_2023_come_out_of_their_scores(shared: Path, score: str) -> None:
    """There is a pAUC of each domain's own anomalies, too."""
    folder = shared / "reference" / "official" / "2023_dev_autoencoder" / f"baseline_{score}"
    files = sorted(folder.glob("anomaly_score_*_section_00_*"))
    assert len(files) == 7
    for file in files:
        machine_type = file.name.split("_")[2]
        (result,) = folder.glob(f"result_{machine_type}_*")
        with open(result, newline="") as lines:
            _, row, _, harmonic = list(csv.reader(lines))[:4]
        metrics, own = evaluate_domains(*told(file)), evaluate_domains(*told(file), anomalies="own")
        assert metrics is not None
        assert own is not None
        found = (metrics.source.auc, metrics.target.auc, metrics.both.pauc, own.source.pauc, own.target.pauc)
        assert [*map(repr, found)] == row[1:6]
        mean, own_mean = (domain_means([m], harmonic_mean) for m in (metrics, own))
        found = (mean.source.auc, mean.target.auc, mean.both.pauc, own_mean.source.pauc, own_mean.target.pauc)
        assert [*map(repr, found)] == harmonic[1:6]
