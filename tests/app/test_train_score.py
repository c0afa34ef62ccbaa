"""`adjax train`, `score` and `info` on recordings of any name: a model that is kept scores as in memory."""

from __future__ import annotations

import csv
import os
import re
import shutil
from pathlib import Path

import pytest
from numpy.testing import assert_array_equal

import adjax.app.score
import adjax.app.train
from adjax.app.cli import ANOMALY, CANNOT_RUN, OK, SOME_FAILED, main
from adjax.app.train import Train
from adjax.data.index import index_folder
from adjax.data.recordings import group_clips
from adjax.model.fit import fit_model
from adjax.model.inputs import extract_for
from adjax.model.keep import load_model, save_model
from adjax.model.model import Model
from adjax.report.folder import COLUMNS
from adjax.store import hold
from adjax.types import MachineId
from tests.app.recordings import NAMES, OPTIONS, SETTINGS


@pytest.fixture(scope="module")
def two(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two machines."""
    folder = tmp_path_factory.mktemp("kept") / "two"
    assert main(["train", "--data", str(home / "zwei"), "--out", str(folder), *OPTIONS]) == OK
    return folder


def in_memory(data: Path) -> Model:
    """What `adjax train` fits, never on disk."""
    (spec,) = Train(model="gmm", n_mels=16, clip_pooling="mean", set=SETTINGS).specs(["gmm"]).values()
    clips = index_folder(data)
    features = extract_for(spec, clips)
    return fit_model(spec, features, group=group_clips(clips.clips).group)


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def test_a_kept_model_scores_as_in_memory_to_the_bit(home: Path, model: Path, tmp_path: Path) -> None:
    files = [home / "neu" / name for name in ("mittags.wav", "laut!.wav", "heute früh.wav")]
    out = tmp_path / "scores.csv"
    assert main(["score", str(model), *map(str, files), "--out", str(out)]) == OK
    rows = rows_of(out)
    assert tuple(rows[0]) == COLUMNS
    assert [row["file"] for row in rows] == [str(path) for path in files]  # as given, in the order given
    fitted = in_memory(home / "normal gut")
    kept = load_model(model)
    assert (kept.spec, kept.machines) == (fitted.spec, fitted.machines)
    assert_array_equal(kept.record.held_out[0].scores, fitted.record.held_out[0].scores)
    result = fitted.score(files)
    for i, row in enumerate(rows):
        assert (float(row["score"]), float(row["p_value"])) == (result.scores[i], result.p_values[i])
        assert (row["decision"], row["part"]) == (result.verdicts[i], "gmm")
        assert (row["machine_type"], row["machine_id"]) == ("normal gut", "")
    assert [row["decision"] for row in rows] == ["normal", "anomalous", "normal"]
    assert rows[1]["flags"].endswith("extrapolated: the p-value lies beyond all held-out clips")
    save_model(fitted, tmp_path / "again")
    names = {path.name for path in model.iterdir()}
    assert names == {"README.md", "SHA256SUMS", "memory.safetensors", "model.safetensors", "settings.json"}
    assert (tmp_path / "again/model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()


def test_training_again_gives_the_same_model_and_leaves_nothing_beside(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    command = ["train", "--data", str(home / "normal gut"), "--out", str(folder), *OPTIONS]
    assert main(command) == OK
    first = (folder / "model.safetensors").read_bytes()
    assert main(command) == OK
    assert (folder / "model.safetensors").read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_training_tells_what_it_understood_and_what_comes_next(
    home: Path, two: Path, tmp_path: Path, capsys
) -> None:
    folder = tmp_path / "model"
    assert main(["train", "--data", str(home / "zwei"), "--out", str(folder), *OPTIONS]) == OK
    printed = capsys.readouterr().out
    assert "taken for normal" in printed.replace("\n", " ")
    assert "The model of 2 machines is in" in printed
    assert "Thresholds by false-alarm rate" in printed
    assert f"adjax score {folder}" in printed.replace("\n", "")
    assert load_model(two).machines == (MachineId("zwei", "Säge 1"), MachineId("zwei", "Säge 2"))
    assert "each clip stands alone" in load_model(two).record.about["recordings"]


def test_exit_codes_are_those_of_the_worst_that_happened(home: Path, model: Path, tmp_path: Path) -> None:
    normal, loud = (str(home / "neu" / name) for name in ("mittags.wav", "laut!.wav"))
    bad = tmp_path / "kaputt.wav"
    bad.write_bytes(b"no sound")
    score = lambda *more: main(["score", str(model), *map(str, more)])
    assert score(normal, loud) == OK
    assert score(normal, loud, "--fail-on-anomaly") == ANOMALY
    assert score(normal, "--fail-on-anomaly") == OK
    assert score(normal, bad) == SOME_FAILED
    assert score(normal, bad, "--fail-on-anomaly") == SOME_FAILED
    assert score(loud, bad, "--fail-on-anomaly") == ANOMALY
    assert score(tmp_path / "nowhere.wav") == SOME_FAILED
    assert main(["score", str(tmp_path / "no model"), normal]) == CANNOT_RUN
    with pytest.raises(SystemExit) as stop:
        score(normal, "--colour")
    assert stop.value.code == 2


def test_a_bad_file_is_listed_and_the_others_are_scored(
    home: Path, model: Path, tmp_path: Path, capsys
) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    shutil.copy(home / "neu/mittags.wav", folder / "b.wav")
    (folder / "a.wav").write_bytes(b"no sound")
    (folder / "notes.txt").write_text("no recording")
    (tmp_path / "empty").mkdir()
    out = tmp_path / "deep/er/today.csv"
    assert main(["score", str(model), str(folder), str(tmp_path / "empty"), "--out", str(out)]) == SOME_FAILED
    assert [Path(row["file"]).name for row in rows_of(out)] == ["b.wav"]
    failures = rows_of(out.with_name("today_failures.csv"))
    assert {Path(row["file"]).name for row in failures} == {"a.wav", "empty"}
    printed = capsys.readouterr().out
    assert "a.wav" in printed
    assert "2 could not be scored" in printed
    assert main(["score", str(model), str(folder / "b.wav"), "--out", str(out)]) == OK
    assert not out.with_name("today_failures.csv").exists()


def test_a_name_that_is_no_utf8_is_scored(home: Path, model: Path, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    shutil.copy(home / "neu/mittags.wav", path)
    out = tmp_path / "scores.csv"
    assert main(["score", str(model), str(path), "--out", str(out)]) == OK
    assert [row["file"] for row in rows_of(out)] == [str(path)]


def test_machines_are_told_by_folders_names_or_by_the_user(
    home: Path, two: Path, tmp_path: Path, capsys
) -> None:
    of_two, of_nobody = home / "neu/Säge 2/heute.wav", home / "neu/mittags.wav"
    named = tmp_path / "Säge 1 - mittags.wav"
    shutil.copy(of_nobody, named)
    out = tmp_path / "scores.csv"
    assert main(["score", str(two), str(of_two), str(named), "--out", str(out)]) == OK
    rows = rows_of(out)
    assert [row["machine_id"] for row in rows] == ["Säge 2", "Säge 1"]
    assert [row["decision"] for row in rows] == ["normal", "normal"]
    assert main(["score", str(two), str(of_nobody), str(of_two), "--out", str(out)]) == SOME_FAILED
    (failure,) = rows_of(tmp_path / "scores_failures.csv")
    assert failure["file"] == str(of_nobody)
    assert "--machine NAME, one of: zwei Säge 1, zwei Säge 2" in failure["reason"]
    for name, decision in (("Säge 1", "normal"), ("zwei Säge 2", "anomalous")):
        assert main(["score", str(two), str(of_nobody), "--machine", name, "--out", str(out)]) == OK
        (row,) = rows_of(out)
        assert (row["machine_id"], row["decision"]) == (name[-6:], decision)
    capsys.readouterr()
    assert main(["score", str(two), str(of_nobody), "--machine", "Säge 9"]) == CANNOT_RUN
    assert "no machines of that name; there are zwei Säge 1, zwei Säge 2" in capsys.readouterr().err


def test_scores_stream_in_chunks(
    home: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """Memory does not grow with the number of files; neither the numbers nor the table of the worst change."""
    command = ["score", str(model), str(home / "normal gut"), str(home / "neu"), "--out"]
    assert main([*command, str(tmp_path / "whole.csv")]) == OK
    whole = capsys.readouterr().out
    calls = []
    score = Model.score

    def spy(model, files, **more):
        calls.append(len(files))
        return score(model, files, **more)

    monkeypatch.setattr(adjax.app.score, "AT_ONCE", 3)
    monkeypatch.setattr(Model, "score", spy)
    assert main([*command, str(tmp_path / "parts.csv")]) == OK
    assert calls == [3, 3, 3, 1]
    assert len(rows_of(tmp_path / "whole.csv")) == 10
    assert (tmp_path / "parts.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    lines_of = lambda text: [line for line in text.splitlines() if line.startswith("│")]
    assert lines_of(capsys.readouterr().out) == lines_of(whole)
    monkeypatch.setattr(adjax.app.score, "_SHOWN", 2)
    assert main(command[:-1]) == OK
    printed = capsys.readouterr().out
    assert "laut!" in printed
    assert len(lines_of(printed)) == 2


def test_info_tells_and_changes_the_rate_of_false_alarms(
    home: Path, model: Path, tmp_path: Path, capsys
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    assert main(["info", str(folder)]) == OK
    printed = capsys.readouterr().out
    assert "normal gut" in printed
    assert "[.05]" in printed
    assert "reg_covar" in printed
    leaning = printed.split("Leans on")[1].split("Settings")[0]
    assert len(re.findall(r"\d Hz\W+\d+\.\d%", leaning)) == 5  # a cell may be broken over lines
    before = load_model(folder)
    assert main(["info", str(folder), "--false-alarm-rate", "0.5"]) == OK
    assert "[.5]" in capsys.readouterr().out
    after = load_model(folder)
    assert (before.false_alarm_rate, after.false_alarm_rate) == (0.05, 0.5)
    assert_array_equal(after.params.calibration.scores, before.params.calibration.scores)
    assert "decides at a rate of 0.5" in (folder / "README.md").read_text()
    out = tmp_path / "scores.csv"
    for more, rate in (((), 0.5), (("--false-alarm-rate", "0.99"), 0.99)):
        assert main(["score", str(folder), str(home / "normal gut"), "--out", str(out), *more]) == OK
        for row in rows_of(out):
            assert row["decision"] == ("anomalous" if float(row["p_value"]) <= rate else "normal")
    assert load_model(folder).false_alarm_rate == 0.5  # --false-alarm-rate of score is for this time
    for wrong in ("0", "1", "7"):
        assert main(["info", str(folder), "--false-alarm-rate", wrong]) == CANNOT_RUN
    assert load_model(folder).false_alarm_rate == 0.5


def test_a_model_without_calibration_scores_and_decides_nothing(home: Path, tmp_path: Path, capsys) -> None:
    folder, out = tmp_path / "model", tmp_path / "scores.csv"
    command = ["train", "--data", str(home / "normal gut"), "--out", str(folder), *OPTIONS]
    assert main([*command, "--calibration", "none"]) == OK
    assert (
        main(["score", str(folder), str(home / "neu/laut!.wav"), "--out", str(out), "--fail-on-anomaly"])
        == OK
    )
    (row,) = rows_of(out)
    assert (row["p_value"], row["decision"]) == ("", "undecided")
    assert "extrapolated" not in row["flags"]
    assert main(["info", str(folder)]) == OK
    capsys.readouterr()
    for command in (["info", str(folder)], ["score", str(folder), str(home / "neu/laut!.wav")]):
        assert main([*command, "--false-alarm-rate", "0.1"]) == CANNOT_RUN
        assert "calibration='none'" in capsys.readouterr().err


def test_one_training_at_a_time(home: Path, tmp_path: Path, capsys) -> None:
    """A second one is refused, and leaves the first one its lock."""
    command = ["train", "--data", str(home / "normal gut"), "--out", str(tmp_path / "model"), *OPTIONS]
    with hold(tmp_path / ".model.work"):
        for _ in range(2):
            assert main(command) == CANNOT_RUN
            assert "another run is writing here" in capsys.readouterr().err
    assert main(command) == OK


def test_a_training_that_was_stopped_goes_on(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """Its checkpoints lie beside the model until that is safe."""
    settings = [
        "--model",
        "autoencoder",
        "--n-mels",
        "16",
        "--set",
        "n_epochs=10",
        "hidden=8",
        "batch_size=64",
    ]
    command = ["train", "--data", str(home / "normal gut"), "--out", str(tmp_path / "model"), *settings]

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(adjax.app.train, "save_model", stop)
        with pytest.raises(KeyboardInterrupt):
            main(command)
    assert list((tmp_path / ".model.work").rglob("epoch_000010"))
    assert main(command) == OK
    assert "went on after epoch 10 of 10" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert len(load_model(tmp_path / "model").record.fits[0].losses) == 10


def test_a_folder_with_other_files_is_never_overwritten(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """It is refused before anything is read or trained."""
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter 1.txt").write_text("years of work")
    monkeypatch.setattr(adjax.app.train, "fit_with_progress", lambda *_, **more: pytest.fail("trained first"))
    command = ["train", "--data", str(home / "normal gut"), "--out", str(folder), *OPTIONS]
    assert main(command) == CANNOT_RUN
    message = capsys.readouterr().err
    assert "holds chapter 1.txt, which would be lost" in message
    assert "a folder of its own" in message
    assert [path.read_text() for path in folder.iterdir()] == ["years of work"]
    assert [path.name for path in tmp_path.iterdir()] == ["thesis"]


def test_what_cannot_be_trained_says_why(home: Path, tmp_path: Path, capsys) -> None:
    out = ["--out", str(tmp_path / "model")]
    (tmp_path / "two").mkdir()
    for name in NAMES[:2]:
        shutil.copy(home / "normal gut" / name, tmp_path / "two")
    for data, message in (
        ([], "which recordings?"),
        (["--data", str(tmp_path / "nowhere")], "nowhere"),
        (["--data", str(tmp_path / "two")], "has 2 training clips, a calibrated model needs at least 3"),
    ):
        assert main(["train", *data, *out, *OPTIONS]) == CANNOT_RUN
        assert message in capsys.readouterr().err.replace("\n", "")
    assert not (tmp_path / "model").exists()


def test_a_tree_with_test_clips_gives_its_training_clips_alone(
    tree: Path, home: Path, tmp_path: Path, capsys
) -> None:
    folder, out = tmp_path / "model", tmp_path / "scores.csv"
    assert main(["train", "--data", str(tree), "--out", str(folder), *OPTIONS]) == OK
    assert "8 test clips are left alone" in capsys.readouterr().out
    assert load_model(folder).record.n_clips == {"pump id_00": 4}
    assert main(["score", str(folder), str(tree / "pump/test"), "--out", str(out)]) == OK
    found = {(Path(row["file"]).name[:7], row["decision"]) for row in rows_of(out)}
    assert ("anomaly", "normal") not in found


NETWORK = (
    "--set", "n_samples=16000", "width=8", "kernels=64", "strides=16", "n_dense=1", "n_pairs=1", "n_epochs=1",
)  # fmt: skip


def test_a_network_beside_auto_is_trained_kept_and_scores(home: Path, tmp_path: Path, capsys) -> None:
    """Two front ends, one model; of its network one copy for both machines."""
    kept = tmp_path / "kept"
    options = ["--model", "auto+network", "--out", str(kept), *NETWORK]
    assert main(["train", "--data", str(home / "zwei"), *options]) == OK
    assert not list(tmp_path.rglob("checkpoints"))
    capsys.readouterr()
    assert main(["score", str(kept), str(home / "neu/Säge 2")]) == OK
    assert "heute.wav" in capsys.readouterr().out


def test_a_lone_machine_gets_no_network(home: Path, tmp_path: Path, capsys) -> None:
    options = ["--model", "network", "--out", str(tmp_path / "kept"), *NETWORK]
    assert main(["train", "--data", str(home / "normal gut"), *options]) == CANNOT_RUN
    assert "at least two machines" in " ".join(capsys.readouterr().err.split())
