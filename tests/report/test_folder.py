"""The files of a run."""

from __future__ import annotations

import pytest

from adjax.report.folder import describe_summary, score_files
from adjax.report.tables import summarise
from adjax.types import MachineId
from tests.report.test_tables import made_result, with_domains


def test_no_two_machines_share_a_file_of_scores() -> None:
    machines = [MachineId("a", "b"), MachineId("a_b"), MachineId("a", "b_c"), MachineId("a_b", "c")]
    files = score_files(machines)
    assert files[machines[0]] == "anomaly_score_a_b.csv"
    assert len(set(files.values())) == len(machines)
    assert score_files(machines) == files


def test_a_report_has_domains_only_where_the_clips_have_them() -> None:
    plain = describe_summary(summarise(made_result(), seed=0)["slider"])
    assert list(plain) == ["by_id", "intervals", "mean", "harmonic", "pooled"]
    found = describe_summary(summarise(with_domains(made_result()), seed=0)["slider"])
    assert {name: found[name] for name in plain} == plain
    assert list(found["by_domain"]) == ["id_00", "id_02", "arithmetic mean", "harmonic mean"]
    assert found["by_domain"]["arithmetic mean"]["target"]["auc"] == pytest.approx(0.725)
