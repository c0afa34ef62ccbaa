"""`adjax synth` with domains, and a run that judges them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from adjax import simulator
from adjax.app.cli import CANNOT_RUN, OK, main
from adjax.data.index import index_folder
from adjax.simulator import DomainCounts, write_domains

COUNTS = {"section_00": DomainCounts(16, 0, 9, 9), "section_02": DomainCounts(16, 0, 9, 9)}


def rows(file: Path) -> list[list[str]]:
    with open(file, newline="") as lines:
        return list(csv.reader(lines))


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], Path]:
    """A run of Gaussians that were trained on the source alone, at a shift: its folder."""
    root = tmp_path_factory.mktemp("judged")

    def run(shift: float) -> Path:
        out = root / f"run {shift}"
        if not out.exists():
            write_domains(root / f"data {shift}", counts=COUNTS, shift=shift, duration=4.0)
            options = ["--model", "gaussians", "--calibration", "none", "--no-cache"]
            assert main(["run", "--data", str(root / f"data {shift}"), "--out", str(out), *options]) == OK
        return out

    return run


def test_synth_writes_domains_and_runs_them_once(tmp_path: Path, capsys, monkeypatch) -> None:
    tiny = {"section_00": DomainCounts(2, 1, 1, 0)}
    monkeypatch.setattr(simulator, "SMALL_DOMAINS", tiny)
    monkeypatch.setattr(simulator, "write_domains", partial(write_domains, duration=1.0))
    command = ["synth", "--domains", "--shift", "0.5", "--size", "small", "--out", str(tmp_path)]
    assert main(command) == OK
    assert f"Next: adjax run --data {tmp_path}" in capsys.readouterr().out.replace("\n", "")
    table = index_folder(tmp_path)
    assert sorted({clip.domain for clip in table}) == ["source", "target"]
    assert {clip.attributes for clip in table if clip.domain == "target"} <= {
        one.attributes for one in simulator.make_conditions(0, "target", strength=0.5)
    }
    before = (tmp_path / "slider").stat().st_ino
    assert main(command) == OK
    assert (tmp_path / "slider").stat().st_ino == before


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--shift", "0.5"], "add --domains"), (["--domains", "--shift", "2"], "shift=2.0")],
)
def test_a_shift_that_cannot_be_is_refused(options: list[str], message: str, tmp_path: Path, capsys) -> None:
    assert main(["synth", *options, "--out", str(tmp_path / "out")]) == CANNOT_RUN
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_run_reports_by_domain(judged: Callable[[float], Path], capsys) -> None:
    capsys.readouterr()
    out = judged(1.0)
    table = rows(out / "result.csv")
    assert table[:2] == [["slider"], ["section", "AUC (source)", "AUC (target)", "pAUC"]]
    assert [row[0] for row in table[2:6]] == ["00", "02", "arithmetic mean", "harmonic mean"]
    assert table[-2][0] == "harmonic mean over all machine types, sections, and domains"
    metrics = json.loads((out / "report.json").read_text())["metrics"]["slider"]
    assert metrics["by_domain"]["section_00"]["target"]["auc"] == float(table[2][2])
    assert metrics["by_domain"]["harmonic mean"]["source"]["auc"] == float(table[5][1])
    assert 0.0 < metrics["official"] < 1.0
    printed = capsys.readouterr().out
    assert "AUC target" in printed
    assert f"{metrics['official']:.4f}" in printed


def test_a_model_of_the_source_hears_the_target_worse_the_farther_it_lies(
    judged: Callable[[float], Path],
) -> None:
    source, target = {}, {}
    for shift in (0.0, 1.0):
        mean = rows(judged(shift) / "result.csv")[4]
        source[shift], target[shift] = float(mean[1]), float(mean[2])
    assert abs(target[0.0] - source[0.0]) < 0.05
    assert source[1.0] > 0.9
    assert target[1.0] < min(source[1.0], target[0.0]) - 0.1
