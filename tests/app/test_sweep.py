"""`adjax sweep`: table, figure, going on, and what it refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from adjax.app.cli import CANNOT_RUN, OK, SOME_FAILED, main


def rows_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / "trials.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_sweep_writes_its_table_and_figure_and_goes_on(tree: Path, tmp_path: Path, capsys) -> None:
    options = ["--set", "n_components=1", "covariance_type=diag", "--gwrp-r", "0.2", "0.9", "--seeds", "2"]
    command = ["sweep", "--data", str(tree), "--out", str(tmp_path), "--n-mels", "16", *options]
    assert main(command) == OK
    rows = rows_of(tmp_path)
    assert [(row["features.gwrp_r"], row["seed"]) for row in rows] == [
        ("0.2", "0"),
        ("0.2", "1"),
        ("0.9", "0"),
        ("0.9", "1"),
    ]
    assert {row["config.n_components"] for row in rows} == {"1"}
    assert {row["hyper.reg_covar"] for row in rows} == {"0.001"}  # the kind's own
    assert all(0 <= float(row["auc_low"]) <= float(row["auc"]) <= 1 for row in rows)
    assert (tmp_path / "figures" / "heat_map.png").stat().st_size > 1000
    settings = json.loads((tmp_path / "settings.json").read_text())
    assert settings["base"]["detectors"][0]["kind"] == "gmm"
    assert {"adjax", "jax"} <= settings["versions"].keys()
    assert main([*command, "--model", "gmm"]) == OK
    assert "4 of 4 trials were there already" in capsys.readouterr().out


def test_a_trial_without_a_score_is_told_by_the_exit_code(tree: Path, tmp_path: Path) -> None:
    """Four clips are no mixture of eight."""
    options = ["--set", "n_components=1,8", "covariance_type=diag", "--gwrp-r", "0.9", "--n-mels", "16"]
    assert main(["sweep", "--data", str(tree), "--out", str(tmp_path), *options]) == SOME_FAILED
    statuses = [(row["config.n_components"], row["status"], row["auc"] == "") for row in rows_of(tmp_path)]
    assert statuses == [("1", "converged", False), ("8", "4 vectors, at least 8 are needed", True)]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--model", "auto"], "a sweep takes gmm, autoencoder, or a recipe of one"),
        (["--set", "n_components"], "write NAME=VALUE,VALUE"),
        (["--set", "colour=1,2"], "there is no setting 'colour'"),
        (["--set", "n_components=0"], "n_components"),
        (["--sample", "99"], "sample=99: give a whole number from 1 to 32"),
        (["--gwrp-r", "2"], "gwrp_r=2"),
        (["--data", "no/such/folder"], "no/such/folder"),
    ],
)
def test_what_cannot_be_swept_says_why_and_exits_2(
    tree: Path, tmp_path: Path, capsys, more: list[str], message: str
) -> None:
    assert main(["sweep", "--data", str(tree), "--out", str(tmp_path), *more]) == CANNOT_RUN
    assert message in capsys.readouterr().err
    assert not (tmp_path / "trials.csv").exists()
