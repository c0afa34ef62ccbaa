"""The command line as a person uses it."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from adjax.app.cli import CANNOT_RUN, OK, SOME_FAILED, main
from adjax.app.run import TRAINING, Run
from adjax.data.audio import write_wav
from adjax.evaluation.dcase_files import read_scores
from adjax.store import hold


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One machine, one second a clip."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        (root / "pump" / split).mkdir(parents=True)
    for i in range(4):
        quiet, loud = (0.05 * rng.normal(size=(2, 16000))).astype(np.float32)
        write_wav(root / f"pump/train/normal_id_00_{i:08d}.wav", quiet, 16000)
        write_wav(root / f"pump/test/normal_id_00_{i:08d}.wav", loud, 16000)
        write_wav(root / f"pump/test/anomaly_id_00_{i:08d}.wav", 4 * loud, 16000)
    return root


def table(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text().splitlines()))


def arguments(tree: Path, out: Path, *more: str) -> list[str]:
    gmm = ["--model", "gmm", "--covariance-type", "diag", "--n-components", "2"]
    return ["run", "--data", str(tree), "--out", str(out), *gmm, *more]


def test_run_writes_the_submission_files_and_the_record(tree: Path, tmp_path: Path, capsys) -> None:
    assert main(arguments(tree, tmp_path, "--machine-type", "pump")) == OK
    scores = read_scores(tmp_path / "anomaly_score_pump_id_00.csv")
    assert len(scores) == 8
    rows = table(tmp_path / "result.csv")
    assert rows[:2] == [["pump"], ["id", "AUC", "pAUC"]]
    assert rows[2] == ["00", "1.0", "1.0"]
    settings = json.loads((tmp_path / "settings.json").read_text())
    assert settings["settings"]["gmm"]["n_components"] == 2
    assert settings["settings"]["seed"] == 0
    assert {"python", "jax", "adjax", "device"} <= set(settings["versions"])
    assert settings["data"]["train_clips"] == 4
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert names == {"pump_spectrograms.png", "pump_scores.png", "pump_roc.png"}
    printed = capsys.readouterr().out
    assert "pump" in printed
    assert "1.0000" in printed
    assert str(tmp_path / "figures" / "pump_roc.png") in printed


def test_options_of_the_autoencoder_reach_it(tree: Path, tmp_path: Path) -> None:
    options = ["--recipe", "2023", "--residual", "mahalanobis", "--predict", "middle", "--epochs", "1"]
    options += ["--compute-dtype", "bfloat16"]
    pooling = ["--score-pooling", "percentile", "--score-percentile", "90"]
    command = [
        "run",
        "--data",
        str(tree),
        "--model",
        "autoencoder",
        "--out",
        str(tmp_path),
        *options,
        *pooling,
    ]
    assert main(command) == OK
    settings = json.loads((tmp_path / "settings.json").read_text())["settings"]
    own = settings["autoencoder"]
    assert (own["batch_size"], own["constants"], own["predict"]) == (256, "torch", "middle")
    assert own["compute_dtype"] == "bfloat16"
    fits = json.loads((tmp_path / "report.json").read_text())["fits"]
    assert [len(fit["losses"]) for fit in fits] == [1] * len(fits)
    assert (tmp_path / "figures" / "pump_losses.png").stat().st_size > 1000
    assert (own["residual"], own["n_domains"], settings["score_percentile"]) == ("mahalanobis", 2, 90)


def test_a_recipes_floor_is_the_autoencoders_unless_another_is_given() -> None:
    floor = lambda model, **given: Run(**given).config(model).features.floor  # noqa: E731
    assert (floor("autoencoder"), floor("autoencoder", recipe="2023")) == ("add", "max")
    assert (floor("gmm", recipe="2023"), floor("auto", recipe="2023")) == ("add", "add")
    assert (floor("autoencoder", recipe="2023", floor="add"), floor("gmm", floor="max")) == ("add", "max")


def test_a_killed_run_resumes_to_the_same_files(tree: Path, tmp_path: Path, capsys) -> None:
    """kill -9 in the middle of training: the same command ends as if nothing had happened, and leaves no debris."""
    command = ["run", "--data", str(tree), "--model", "autoencoder", "--epochs", "60"]
    assert main([*command, "--out", str(tmp_path / "whole")]) == OK
    command += ["--out", str(tmp_path / "killed")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen([sys.executable, "-m", "adjax.app.cli", *command], env=environment)
    place = tmp_path / "killed" / TRAINING
    deadline = time.monotonic() + 300
    while not list(place.glob("pump_id_00/*/epoch_000010")):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline, "no checkpoint"
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(place.glob("pump_id_00/*/epoch_000060"))
    assert main([*command, "--seed", "1"]) == CANNOT_RUN
    assert "other settings, data or versions" in capsys.readouterr().err
    assert main([*command, "--model", "gmm", "--max-iter", "1"]) == OK
    assert list(place.glob("pump_id_00/*/epoch_*")), "another model's run deleted them"
    assert main(command) == OK
    assert "pump id_00: went on after epoch" in capsys.readouterr().out
    for file in ("anomaly_score_pump_id_00.csv", "result.csv", "settings.json"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "killed" / file).read_bytes()
    names = [{path.name for path in (tmp_path / run).iterdir()} for run in ("whole", "killed")]
    assert names[0] == names[1]
    assert TRAINING not in names[0]


def test_a_second_run_into_the_same_folder_is_refused(tree: Path, tmp_path: Path, capsys) -> None:
    with hold(tmp_path):
        assert main(arguments(tree, tmp_path)) == CANNOT_RUN
    assert "another run is writing here" in capsys.readouterr().err
    assert not (tmp_path / "settings.json").exists()


def test_auto_is_the_default_and_says_which_lane_spoke(tree: Path, tmp_path: Path) -> None:
    """Clips of one second, which are shorter than the window of the rhythm's view."""
    assert main(["run", "--data", str(tree), "--out", str(tmp_path)]) == OK
    assert json.loads((tmp_path / "settings.json").read_text())["settings"]["model"] == "auto"
    scores = read_scores(tmp_path / "anomaly_score_pump_id_00.csv")
    head, *rows = table(tmp_path / "lanes.csv")
    assert head[:5] == ["file", "machine_type", "machine_id", "score", "loudest"]
    assert len(rows) == len(scores) == 8
    for name, machine_type, machine_id, score, loudest, *z in rows:
        assert (machine_type, machine_id) == ("pump", "id_00")
        assert float(score) == pytest.approx(scores[name], abs=1e-4)
        assert (
            float(z[head[5:].index(loudest)]) == max(map(float, z)) == pytest.approx(float(score), abs=1e-3)
        )
    lanes = json.loads((tmp_path / "report.json").read_text())["lanes"]
    assert sum(lanes["clips it was the loudest of"].values()) == 8
    assert lanes["held-out normal clips"]["pump id_00"]["clips"] == 4
    assert table(tmp_path / "result.csv")[2] == ["00", "1.0", "1.0"]


def test_the_same_command_gives_the_same_files(tree: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert main(arguments(tree, tmp_path / name, "--seed", "3")) == OK
    for file in ("anomaly_score_pump_id_00.csv", "result.csv", "settings.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_bad_clip_is_listed_and_the_exit_code_says_so(tree: Path, tmp_path: Path, capsys) -> None:
    import shutil

    root = tmp_path / "data"
    shutil.copytree(tree, root)
    (root / "pump/test/normal_id_00_00000002.wav").write_bytes(b"not a wav")
    assert main(arguments(root, tmp_path / "out")) == SOME_FAILED
    assert len(read_scores(tmp_path / "out" / "anomaly_score_pump_id_00.csv")) == 7
    assert "normal_id_00_00000002.wav" in (tmp_path / "out" / "failures.csv").read_text()
    assert "normal_id_00_00000002.wav" in capsys.readouterr().out


def test_unlabelled_clips_are_scored_and_labels_can_be_given(tree: Path, tmp_path: Path) -> None:
    import shutil

    root = tmp_path / "data"
    shutil.copytree(tree, root)
    lines = []
    for i, path in enumerate(sorted((root / "pump/test").iterdir())):
        path.rename(path.with_name(f"id_00_{i:08d}.wav"))
        lines.append(f"id_00_{i:08d}.wav,{int(path.name.startswith('anomaly'))}\n")
    assert main(arguments(root, tmp_path / "blind")) == OK
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
        (["--n-components", "0"], "n_components"),
        (["--model", "auto", "--features", "mfcc"], "auto takes log-mels"),
        (["--model", "auto", "--standardize"], "auto takes log-mels"),
    ],
)
def test_what_cannot_run_says_why_and_exits_2(tree: Path, tmp_path: Path, capsys, more, message: str) -> None:
    assert main(arguments(tree, tmp_path, *more)) == CANNOT_RUN
    assert message in capsys.readouterr().err


def test_the_cache_is_used_shown_and_emptied(
    tree: Path, tmp_path: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    from adjax.data import cache

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
    assert "run" in printed
    assert "synth" in printed
    assert "cache" in printed


@pytest.mark.parametrize("machine_type", ["slider", "fan"])
def test_real_clips_go_through(shared: Path, tmp_path: Path, machine_type: str) -> None:
    """Real sound, four machines of each type; few clips, so no claim about the AUC."""
    data = ["--data", str(shared / "data" / "mimii_mini"), "--machine-type", machine_type]
    models = ["--model", "all", "--epochs", "2", "--covariance-type", "diag"]
    assert main(["run", *data, "--out", str(tmp_path), *models]) == OK
    assert [path.parent.name for path in tmp_path.glob("*/lanes.csv")] == ["auto"]
    for model in ("auto", "gmm", "autoencoder"):
        rows = table(tmp_path / model / "result.csv")
        assert [row[0] for row in rows[2:6]] == ["00", "02", "04", "06"]
        for number in ("00", "02", "04", "06"):
            assert len(read_scores(tmp_path / model / f"anomaly_score_{machine_type}_id_{number}.csv")) == 9


def test_channels_of_real_multichannel_clips(shared: Path) -> None:
    """Eight microphones: the recordings differ, and all channels can be read."""
    from adjax.data.audio import read_clip

    path = sorted((shared / "data" / "multichannel").rglob("*.wav"))[0]
    first, last, mean = (read_clip(path, channel=channel).samples for channel in (0, 7, "mean"))
    assert first.shape == last.shape == mean.shape
    assert not np.array_equal(first, last)


def test_a_sweep_writes_its_table_and_figure_and_goes_on(tree: Path, tmp_path: Path, capsys) -> None:
    options = ["--n-components", "1", "--covariance-type", "diag", "--gwrp-r", "0.2", "0.9", "--seeds", "2"]
    command = ["sweep", "--data", str(tree), "--out", str(tmp_path), "--n-mels", "16", *options]
    assert main(command) == OK
    with open(tmp_path / "lanes.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["features.gwrp_r"], row["seed"]) for row in rows] == [
        ("0.2", "0"),
        ("0.2", "1"),
        ("0.9", "0"),
        ("0.9", "1"),
    ]
    assert all(0 <= float(row["auc_low"]) <= float(row["auc"]) <= 1 for row in rows)
    assert (tmp_path / "figures" / "heat_map.png").stat().st_size > 1000
    assert main([*command, "--model", "gmm"]) == OK
    assert "4 of 4 lanes were there already" in capsys.readouterr().out
