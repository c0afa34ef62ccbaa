"""The command line itself: help, versions, options that are given several times, the cache."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest

from adjax.app.cli import CANNOT_RUN, COMMANDS, OK, main
from adjax.data import cache
from tests.app.lines import arguments


def test_the_cache_is_used_shown_and_emptied(
    tree: Path, tmp_path: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(cache, "SETTLE_NS", 0)
    assert main(arguments(tree, tmp_path / "bare", "--no-cache")) == OK
    assert not list(cache_folder.iterdir())
    for name in ("first", "second"):
        assert main(arguments(tree, tmp_path / name)) == OK
        scores = [(tmp_path / run / "anomaly_score_pump_id_00.csv").read_bytes() for run in ("bare", name)]
        assert scores[0] == scores[1]
    assert "taken from the cache: 8 of 8 clips" in capsys.readouterr().out.replace("\n", " ")
    assert main(["cache"]) == OK
    printed = capsys.readouterr().out
    assert "12" in printed
    assert "log-mel" in printed
    assert main(["cache", "empty"]) == OK
    assert not list(cache_folder.iterdir())
    assert main(["cache", "show"]) == OK
    assert "0.0 MiB" in capsys.readouterr().out


def test_help_names_the_commands(capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in COMMANDS)
    assert main([]) == OK
    assert capsys.readouterr().out == printed
    assert main(["dance"]) == CANNOT_RUN
    assert "there is no command 'dance'" in capsys.readouterr().err


@pytest.mark.parametrize("command", list(COMMANDS))
def test_each_command_tells_its_settings(command: str, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"adjax {command}" in capsys.readouterr().out


def test_settings_that_are_given_one_by_one_all_count(tree: Path, tmp_path: Path) -> None:
    one_by_one = [
        "--set",
        "n_components=2",
        "--set=covariance_type=diag",
        "--n-mels",
        "16",
        "--set",
        "max_iter=7",
    ]
    assert main(["run", "--data", str(tree), "--out", str(tmp_path), "--model", "gmm", *one_by_one]) == OK
    config = json.loads((tmp_path / "settings.json").read_text())["model"]["detectors"][0]["config"]
    assert (config["n_components"], config["covariance_type"], config["max_iter"]) == (2, "diag", 7)


def test_the_version_is_told(capsys) -> None:
    assert main(["--version"]) == OK
    assert capsys.readouterr().out == f"adjax {metadata.version('adjax')}\n"
