"""`adjax run`, as a person uses it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from adjax.app.cli import CANNOT_RUN, OK, SOME_FAILED, main
from adjax.app.fitting import TRAINING
from adjax.app.run import Run
from adjax.data.audio import write_wav
from adjax.detectors.kinds import AUTO_KINDS, KINDS
from adjax.evaluation.dcase_files import read_scores
from adjax.model.spec_json import from_json
from adjax.report.folder import COLUMNS
from adjax.store import hold
from tests.app.lines import arguments


def table(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text().splitlines()))


def test_run_writes_the_submission_files_and_the_record(tree: Path, tmp_path: Path, capsys) -> None:
    assert main(arguments(tree, tmp_path, "--machine-type", "pump")) == OK
    scores = read_scores(tmp_path / "anomaly_score_pump_id_00.csv")
    assert len(scores) == 8
    rows = table(tmp_path / "result.csv")
    assert rows[:2] == [["pump"], ["id", "AUC", "pAUC"]]
    assert rows[2] == ["00", "1.0", "1.0"]
    settings = json.loads((tmp_path / "settings.json").read_text())
    spec = from_json(settings["model"])
    assert (
        spec == Run(model=("gmm",), n_mels=16, set=("covariance_type=diag", "n_components=2")).models()["gmm"]
    )
    assert (spec.detectors[0].config.n_components, spec.seed, settings["false_alarm_rate"]) == (2, 0, 0.05)
    assert {"python", "jax", "adjax", "device"} <= set(settings["versions"])
    assert settings["data"]["train_clips"] == 4
    head, *rows = table(tmp_path / "scores.csv")
    assert tuple(head) == COLUMNS
    assert [row[0] for row in rows] == list(scores)
    for name, machine_type, machine_id, score, p_value, decision, part, flags in rows:
        assert (machine_type, machine_id, part) == ("pump", "id_00", "gmm")
        assert ("extrapolated" in flags) == name.startswith("anomaly")
        assert float(score) == pytest.approx(scores[name])
        assert 0 < float(p_value) <= 1
        assert decision == ("anomalous" if float(p_value) <= 0.05 else "normal")
    assert not (tmp_path / "parts.csv").exists()
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert names == {"pump_leaning.png", "pump_spectrograms.png", "pump_scores.png", "pump_roc.png"}
    printed = capsys.readouterr().out
    assert "pump" in printed
    assert "1.0000" in printed
    assert str(tmp_path / "figures" / "pump_roc.png") in printed


def test_options_of_the_autoencoder_reach_it(tree: Path, tmp_path: Path) -> None:
    options = ["--set", "predict=middle", "n_epochs=1", "compute_dtype=bfloat16", "hidden=16,8", "noise=0.5"]
    pooling = ["--score-pooling", "percentile", "--score-percentile", "90"]
    model = ["--model", "autoencoder:2023-mahalanobis", "--n-mels", "16"]
    assert main(["run", "--data", str(tree), "--out", str(tmp_path), *model, *options, *pooling]) == OK
    spec = from_json(json.loads((tmp_path / "settings.json").read_text())["model"])
    (own,) = spec.detectors
    config = own.config
    assert (config.batch_size, config.constants, config.predict) == (256, "torch", "middle")
    assert (config.compute_dtype, config.hidden, own.hyper.noise) == ("bfloat16", (16, 8), 0.5)
    assert (config.residual, config.n_domains, own.percentile) == ("mahalanobis", 2, 90)
    assert spec.calibration == "split"
    fits = json.loads((tmp_path / "report.json").read_text())["fits"]
    assert [len(fit["losses"]) for fit in fits] == [1] * len(fits)
    assert (tmp_path / "figures" / "pump_losses.png").stat().st_size > 1000


def test_a_recipes_floor_is_the_autoencoders_unless_another_is_given() -> None:
    def floor(model: str, **given: object) -> str:
        return Run(model=(model,), **given).models()[model].detectors[0].features.floor

    assert (floor("autoencoder"), floor("autoencoder:2023")) == ("add", "max")
    assert (floor("gmm"), floor("auto")) == ("add", "add")
    assert (floor("autoencoder:2023", floor="add"), floor("gmm", floor="max")) == ("add", "max")


def test_a_setting_goes_to_the_models_that_have_it(tree: Path) -> None:
    specs = Run(model=("all",), set=("n_components=2", "n_epochs=3", "hidden=16")).models()
    assert list(specs) == ["auto", "gmm", "autoencoder"]
    assert specs["gmm"].detectors[0].config.n_components == 2
    assert specs["autoencoder"].detectors[0].config.n_epochs == 3


def test_a_killed_run_resumes_to_the_same_files(tree: Path, tmp_path: Path, capsys) -> None:
    """kill -9 in the middle of training: the same command ends as if nothing had happened, and leaves no debris."""
    settings = ["--n-mels", "16", "--set", "n_epochs=60", "hidden=32"]
    command = ["run", "--data", str(tree), "--model", "autoencoder", *settings]
    assert main([*command, "--out", str(tmp_path / "whole")]) == OK
    command += ["--out", str(tmp_path / "killed")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen([sys.executable, "-m", "adjax.app.cli", *command], env=environment)
    place = tmp_path / "killed" / TRAINING
    deadline = time.monotonic() + 300
    while not list(place.glob("autoencoder/pump_id_00*/*/epoch_*")):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline, "no checkpoint"
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(place.glob("autoencoder/pump_id_00*/*/epoch_000060"))
    assert main([*command, "--seed", "1"]) == CANNOT_RUN
    assert "other settings, data or versions" in capsys.readouterr().err
    other = [
        "--n-mels",
        "16",
        "--set",
        "max_iter=1",
        "--calibration",
        "none",
        "--out",
        str(tmp_path / "killed"),
    ]
    assert main(["run", "--data", str(tree), "--model", "gmm", *other]) == OK
    assert list(place.glob("autoencoder/pump_id_00*/*/epoch_*")), "another model's run deleted them"
    assert main(command) == OK
    assert "pump id_00: went on after epoch" in capsys.readouterr().out
    for file in ("anomaly_score_pump_id_00.csv", "scores.csv", "result.csv", "settings.json"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "killed" / file).read_bytes()
    names = [{path.name for path in (tmp_path / run).iterdir()} for run in ("whole", "killed")]
    assert names[0] == names[1]
    assert TRAINING not in names[0]


def test_a_second_run_into_the_same_folder_is_refused(tree: Path, tmp_path: Path, capsys) -> None:
    with hold(tmp_path):
        assert main(arguments(tree, tmp_path)) == CANNOT_RUN
    assert "another run is writing here" in capsys.readouterr().err
    assert not (tmp_path / "settings.json").exists()


def test_auto_is_the_default_and_says_which_part_spoke(tree: Path, tmp_path: Path) -> None:
    """Clips of one second, which are shorter than the window of the rhythm's view."""
    assert main(["run", "--data", str(tree), "--out", str(tmp_path)]) == OK
    spec = json.loads((tmp_path / "settings.json").read_text())["model"]
    kinds = [own["kind"] for own in spec["detectors"]]
    assert kinds == [kind for kind in AUTO_KINDS if KINDS[kind].least_machines == 1]  # there is one machine
    scores = read_scores(tmp_path / "anomaly_score_pump_id_00.csv")
    head, *rows = table(tmp_path / "parts.csv")
    assert head[:5] == ["file", "machine_type", "machine_id", "score", "loudest"]
    assert len(head) == 5 + 14 + len(kinds) - 1
    assert len(rows) == len(scores) == 8
    for name, machine_type, machine_id, score, loudest, *z in rows:
        assert (machine_type, machine_id) == ("pump", "id_00")
        assert float(score) == pytest.approx(scores[name], abs=1e-4)
        assert len(z) == len(head) - 5
        assert loudest in head[5:]
    assert [row[6] for row in table(tmp_path / "scores.csv")[1:]] == [row[4] for row in rows]
    report = json.loads((tmp_path / "report.json").read_text())
    assert sum(report["loudest part"].values()) == 8
    assert report["held_out"]["pump id_00"]["clips"] == 4
    assert table(tmp_path / "result.csv")[2] == ["00", "1.0", "1.0"]


def test_a_figure_never_costs_a_result(tree: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    from adjax.report import figures

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no font")

    monkeypatch.setattr(figures, "score_histograms", fail)
    assert main(arguments(tree, tmp_path)) == OK
    printed = capsys.readouterr().out
    assert "figures/pump_scores.png could not be drawn (no font); all results are written" in printed
    assert (tmp_path / "figures/pump_roc.png").exists()
    assert len(read_scores(tmp_path / "anomaly_score_pump_id_00.csv")) == 8
    assert (tmp_path / "result.csv").exists()


def test_the_same_command_gives_the_same_files(tree: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert main(arguments(tree, tmp_path / name, "--seed", "3")) == OK
    for file in ("anomaly_score_pump_id_00.csv", "scores.csv", "result.csv", "settings.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_bad_clip_is_listed_and_the_exit_code_says_so(tree: Path, tmp_path: Path, capsys) -> None:
    root = tmp_path / "data"
    shutil.copytree(tree, root)
    (root / "pump/test/normal_id_00_00000002.wav").write_bytes(b"not a wav")
    assert main(arguments(root, tmp_path / "out")) == SOME_FAILED
    assert len(read_scores(tmp_path / "out" / "anomaly_score_pump_id_00.csv")) == 7
    assert "normal_id_00_00000002.wav" in (tmp_path / "out" / "failures.csv").read_text()
    assert "normal_id_00_00000002.wav" in capsys.readouterr().out


def test_unlabelled_clips_are_scored_and_labels_can_be_given(tree: Path, tmp_path: Path, capsys) -> None:
    root = tmp_path / "data"
    shutil.copytree(tree, root)
    lines = []
    for i, path in enumerate(sorted((root / "pump/test").iterdir())):
        path.rename(path.with_name(f"id_00_{i:08d}.wav"))
        lines.append(f"id_00_{i:08d}.wav,{int(path.name.startswith('anomaly'))}\n")
    assert main(arguments(root, tmp_path / "blind")) == OK
    drawn = {path.name for path in (tmp_path / "blind" / "figures").iterdir()}
    assert drawn == {"pump_leaning.png", "pump_scores.png", "pump_spectrograms.png"}
    assert "No AUC and no ROC curve" in capsys.readouterr().out
    assert len(read_scores(tmp_path / "blind" / "anomaly_score_pump_id_00.csv")) == 8
    assert not (tmp_path / "blind" / "result.csv").exists()
    (tmp_path / "labels.csv").write_text("".join(lines))
    assert main(arguments(root, tmp_path / "seen", "--labels", str(tmp_path / "labels.csv"))) == OK
    assert (tmp_path / "seen" / "result.csv").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--machine-type", "valve"], "pump"),
        (["--data", "no/such/folder"], "no/such/folder"),
        (["--set", "n_components=0"], "n_components"),
        (["--set", "n_components"], "write NAME=VALUE"),
        (["--set", "n_components=two"], "n_components='two': give a whole number"),
        (["--set", "colour=2"], "there is no setting 'colour'; there are block_size"),
        (["--set", "covariance_type=round"], "give one of full, tied, diag, spherical"),
        (["--model", "auto"], "there is no setting 'covariance_type'"),
        (["--model", "auto+gmm", "--features", "mfcc"], "gaussians takes log-mels"),
        (["--model", "nearest"], "there is no"),
        (["--false-alarm-rate", "0"], "false_alarm_rate=0"),
        (["--group", "("], "no regular expression"),
        (
            ["--model", "autoencoder+gmm", "--clip-pooling", "mean", "--score-pooling", "std"],
            "deviation",
        ),
    ],
)
def test_what_cannot_run_says_why_and_exits_2(tree: Path, tmp_path: Path, capsys, more, message: str) -> None:
    assert main(arguments(tree, tmp_path, *more)) == CANNOT_RUN
    assert message in capsys.readouterr().err


def test_a_plain_folder_is_tested_on_a_fifth_of_it(tmp_path: Path, capsys) -> None:
    rng = np.random.default_rng(0)
    place = tmp_path / "Werk/Halle 1/Säge 3"
    place.mkdir(parents=True)
    for i in range(10):
        y = (0.05 * rng.normal(size=8000)).astype(np.float32)
        write_wav(place / f"Aufnahme Nr {i}.wav", y, 16000)
    assert main(arguments(tmp_path / "Werk", tmp_path / "out", "--clip-pooling", "mean")) == OK
    printed = capsys.readouterr().out
    assert "2 of the 10 normal clips are kept out of training and tested" in printed
    assert "No AUC and no ROC curve" in printed
    assert len(table(tmp_path / "out" / "scores.csv")) == 1 + 2
    assert len(read_scores(tmp_path / "out" / "anomaly_score_Werk_Halle 1%2FSäge 3.csv")) == 2
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert (settings["data"]["train_clips"], settings["data"]["test_clips"]) == (8, 2)
    assert not (tmp_path / "out" / "result.csv").exists()


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_holds_one_run(tree: Path, tmp_path: Path) -> None:
    """Not a file of the earlier run, which had another machine, other models, a bad clip and more figures."""
    other = tmp_path / "data"
    shutil.copytree(tree / "pump", other / "valve")
    (other / "valve/test/normal_id_00_00000002.wav").write_bytes(b"not a wav")
    out = tmp_path / "out"
    out.mkdir()
    (out / "log.txt").write_text("a person's")
    models = ["--model", "auto", "gmm", "--set", "n_components=1", "--out", str(out)]
    assert main(["run", "--data", str(other), *models]) == SOME_FAILED
    assert (out / "auto/parts.csv").exists()
    assert main(arguments(tree, tmp_path / "alone")) == OK
    assert main(arguments(tree, out)) == OK
    assert files_in(out) == files_in(tmp_path / "alone") | {"log.txt"}
    assert not list(out.glob("*/parts.csv"))


@pytest.mark.parametrize(
    "name", ["parts.csv", "settings.json", "failures.csv", "anomaly_score_pump_id_00.csv"]
)
def test_results_that_adjax_did_not_write_are_never_replaced(
    tree: Path, tmp_path: Path, capsys, name: str
) -> None:
    (tmp_path / name).write_text("of somebody else")
    assert main(arguments(tree, tmp_path)) == CANNOT_RUN
    assert f"{name}: was not written by adjax, and would be lost" in capsys.readouterr().err
    assert (tmp_path / name).read_text() == "of somebody else"
    assert not (tmp_path / "scores.csv").exists()


def test_real_clips_go_through(shared: Path, tmp_path: Path) -> None:
    """Real sound, four machines of each of two types; few clips, so no claim about the AUC."""
    data = ["--data", str(shared / "data" / "mimii_mini")]
    settings = ["n_epochs=1", "hidden=32", "covariance_type=diag", "n_components=2", "max_iter=10"]
    assert main(["run", *data, "--out", str(tmp_path), "--model", "all", "--set", *settings]) == OK
    assert [path.parent.name for path in tmp_path.glob("*/parts.csv")] == ["auto"]
    for model in ("auto", "gmm", "autoencoder"):
        rows = table(tmp_path / model / "result.csv")
        assert [row[0] for row in rows if row and row[0].isdigit()] == 2 * ["00", "02", "04", "06"]
        for machine_type in ("slider", "fan"):
            for number in ("00", "02", "04", "06"):
                file = f"anomaly_score_{machine_type}_id_{number}.csv"
                assert len(read_scores(tmp_path / model / file)) == 9
