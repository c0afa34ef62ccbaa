"""The files of a submission: written as the baseline writes them, read back without loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adjax.evaluation.dcase_files import read_scores, score_file_name, write_results, write_scores
from adjax.evaluation.metrics import DomainMetrics, Metrics
from adjax.types import DataError


def test_names() -> None:
    assert score_file_name("slider", "id_00") == "anomaly_score_slider_id_00.csv"
    assert score_file_name("fan", "section_02") == "anomaly_score_fan_section_02_test.csv"
    assert score_file_name("plant", "hall 3/pump 2") == "anomaly_score_plant_hall 3%2Fpump 2.csv"
    assert score_file_name("plant", "hall 3%2Fpump 2") == "anomaly_score_plant_hall 3%252Fpump 2.csv"


def test_scores_survive_the_file(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).normal(size=20).astype(np.float32)
    names = [f"normal_id_00_{i:08d}.wav" for i in range(20)]
    write_scores(tmp_path / "s.csv", names, scores)
    assert read_scores(tmp_path / "s.csv") == dict(zip(names, scores.astype(float), strict=True))
    assert (tmp_path / "s.csv").read_text().startswith("normal_id_00_00000000.wav,")
    assert [file.name for file in tmp_path.iterdir()] == ["s.csv"]


@pytest.mark.parametrize(
    "text", ["a.wav\n", "a.wav,high\n", "a.wav,nan\n", "a.wav,1\na.wav,2\n", "a.wav,1,2\n"]
)
def test_bad_rows_are_refused_with_file_and_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(DataError, match=r"s\.csv, line [12]"):
        read_scores(tmp_path / "s.csv")


def test_a_missing_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_scores(tmp_path / "none.csv")


def test_result_csv_is_the_baselines(tmp_path: Path) -> None:
    results = {"slider": {"id_02": Metrics(0.5, 0.5, 1, 1), "id_00": Metrics(1.0, 0.75, 1, 1)}}
    write_results(tmp_path / "result.csv", results)
    assert (tmp_path / "result.csv").read_text() == (
        "slider\nid,AUC,pAUC\n00,1.0,0.75\n02,0.5,0.5\nAverage,0.75,0.625\n\n"
    )


def test_types_with_domains_have_the_table_of_2022_and_others_keep_theirs(tmp_path: Path) -> None:
    fan = {"id_00": Metrics(1.0, 0.75, 1, 1)}
    pump = {"section_01": Metrics(0.75, 0.5, 2, 1)}
    domains = {
        "section_01": DomainMetrics(Metrics(1.0, 0.9, 1, 1), Metrics(0.5, 0.6, 1, 1), pump["section_01"])
    }
    write_results(tmp_path / "result.csv", {"fan": fan, "pump": pump}, {"pump": domains})
    assert (tmp_path / "result.csv").read_text() == (
        "fan\nid,AUC,pAUC\n00,1.0,0.75\nAverage,1.0,0.75\n\n"
        "pump\nsection,AUC (source),AUC (target),pAUC\n01,1.0,0.5,0.5\n"
        "arithmetic mean,1.0,0.5,0.5\nharmonic mean,1.0,0.5,0.5\n\n"
        ",AUC (source),AUC (target),pAUC\n"
        '"arithmetic mean over all machine types, sections, and domains",1.0,0.5,0.5\n'
        '"harmonic mean over all machine types, sections, and domains",1.0,0.5,0.5\n\n'
    )
