"""The files of a run."""

from __future__ import annotations

from adjax.report.folder import score_files
from adjax.types import MachineId


def test_no_two_machines_share_a_file_of_scores() -> None:
    machines = [MachineId("a", "b"), MachineId("a_b"), MachineId("a", "b_c"), MachineId("a_b", "c")]
    files = score_files(machines)
    assert files[machines[0]] == "anomaly_score_a_b.csv"
    assert len(set(files.values())) == len(machines)
    assert score_files(machines) == files
