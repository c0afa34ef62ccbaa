"""Whatever a person, a disk or a terminal does to a command: results come first, one line says what happened."""

from __future__ import annotations

import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from adjax.app.cli import CANNOT_RUN, OK, SOME_FAILED, main
from adjax.app.interrupts import MESSAGE
from adjax.app.startup import drop_damaged
from adjax.data.audio import write_wav
from adjax.files import TEMPORARY

ADJAX = [sys.executable, "-m", "adjax.app.cli"]
GMM = ["--model", "gmm", "--n-mels", "16", "--set", "covariance_type=diag", "n_components=1"]
NETWORK = ["--model", "autoencoder", "--n-mels", "16", "--set", "n_epochs=20", "hidden=64", "batch_size=64"]
NAMES = (
    "[red]",
    "[bold]x",
    ":bug:",
    r"$\bad$",
    "=1+1",
    "录音",
    "x" * 240,
    os.fsdecode(b"caf\xe9"),
    "a\x1b[2Jb\nc",
)


def environment(**more: str) -> dict[str, str]:
    """Compiled programs are read from the tests' cache, to which a process that is stopped should not write."""
    reads_only = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1e9"}
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **reads_only, **more}


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def half_written(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(TEMPORARY)]


def fill(place: Path, n_train: int = 4, n_test: int = 3) -> Path:
    """One machine; anomalies are louder."""
    rng = np.random.default_rng(0)
    for split, n in (("train", n_train), ("test", n_test)):
        (place / split).mkdir(parents=True)
        for i in range(n):
            y = (0.05 * rng.normal(size=8000)).astype(np.float32)
            write_wav(place / split / f"normal_id_00_{i:08d}.wav", y, 16000)
            if split == "test":
                write_wav(place / split / f"anomaly_id_00_{i:08d}.wav", 4 * y, 16000)
    return place


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine type of each odd name."""
    root = tmp_path_factory.mktemp("odd")
    for name in NAMES:
        fill(root / name)
    return root


# -- names


def test_a_run_and_a_sweep_take_any_name(odd: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "[/red]" / ":bug:"
    assert main(["run", "--data", str(odd), "--out", str(out), *GMM, "--clip-pooling", "mean"]) == OK
    printed = capsys.readouterr()
    assert "drawn" not in printed.out
    assert printed.err == ""
    for name in ("[red]", "[bold]x", ":bug:", r"$\bad$", "=1+1", r"caf\udce9", r"a\x1b[2Jb\nc"):
        assert f"{name} id_00" in printed.out
    assert "\x1b[2J" not in printed.out
    assert f"  {out}" in printed.out
    assert len(list((out / "figures").iterdir())) == 4 * len(NAMES)
    assert len(list(out.glob("anomaly_score_*.csv"))) == len(NAMES)
    with open(out / "scores.csv", newline="", encoding="utf-8") as file:
        types = {row["machine_type"] for row in csv.DictReader(file)}
    assert "'=1+1" in types
    assert not {name for name in types if name.startswith(("=", "+", "-", "@"))}
    swept = ["sweep", "--data", str(odd), "--out", str(tmp_path / "swept"), *GMM, "--gwrp-r", "0.5", "1"]
    assert main(swept) == OK
    assert (tmp_path / "swept/figures/heat_map.png").stat().st_size > 1000
    assert "drawn" not in capsys.readouterr().out


def test_a_model_is_trained_and_asked_under_any_name(odd: Path, tmp_path: Path, capsys) -> None:
    model, new = tmp_path / "[/red]", odd / NAMES[-2] / "test"
    assert main(["train", "--data", str(odd), "--out", str(model), *GMM, "--clip-pooling", "mean"]) == OK
    assert main(["score", str(model), str(new), "--out", str(tmp_path / "s.csv")]) == OK
    assert main(["info", str(model)]) == OK
    assert f"The model of 9 machines is in {model}." in capsys.readouterr().out
    with open(tmp_path / "s.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        assert {row["file"] for row in csv.DictReader(file)} == {str(path) for path in new.iterdir()}


# -- readers that leave, disks that are full, places that cannot be written


@pytest.mark.parametrize("stdout", ["head", "/dev/full", "closed"])
def test_results_are_written_whoever_reads_what_is_printed(tree: Path, tmp_path: Path, stdout: str) -> None:
    arguments = ["run", "--data", str(tree), "--out", str(tmp_path), *GMM]
    assert main(arguments) == OK  # compiled by now
    (tmp_path / "scores.csv").unlink()
    command = [*ADJAX, *arguments]
    if stdout == "head":
        process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.close()
        _, err = process.communicate()
    else:
        shell = f'"$@" {">&-" if stdout == "closed" else ">/dev/full"}'
        process = subprocess.Popen(
            ["sh", "-c", shell, "-", *command], env=environment(), stderr=subprocess.PIPE
        )
        _, err = process.communicate()
    assert (process.returncode, err) == (OK, b"")
    assert {"scores.csv", "settings.json", "figures/pump_roc.png"} <= files_in(tmp_path)


def with_a_limit(n_bytes: int, command: list[str]) -> subprocess.CompletedProcess[str]:
    """A command that can write no file larger than this: what a full disk does, without one."""
    limited = ["sh", "-c", f'ulimit -f {n_bytes // 512}; exec "$@"', "-", *ADJAX, *command]
    return subprocess.run(limited, env=environment(), capture_output=True, text=True, check=False)


def test_a_full_disk_leaves_the_earlier_results(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["run", "--data", str(tree), "--out", str(out), *GMM]
    assert main(command) == OK
    before = {name: (out / name).read_bytes() for name in files_in(out)}
    done = with_a_limit(1000, [*command, "--seed", "3"])
    assert done.returncode == CANNOT_RUN
    assert done.stderr.count("\n") == 1
    assert "cannot be written (File too large); what was there before is intact: make room" in done.stderr
    assert {name: (out / name).read_bytes() for name in files_in(out)} == before
    done = with_a_limit(8000, [*command, "--seed", "3"])  # tables fit, figures do not
    assert done.returncode == OK
    assert "could not be drawn" in done.stdout
    assert (done.stderr, half_written(tmp_path)) == ("", [])
    assert not list(out.glob("figures/*"))
    assert b'"seed": 3' in (out / "settings.json").read_bytes()


def test_a_full_disk_ends_a_long_training_in_one_line(tree: Path, tmp_path: Path) -> None:
    command = ["run", "--data", str(tree), *NETWORK, "--out"]
    assert main([*command, str(tmp_path / "before")]) == OK
    done = with_a_limit(20_000, [*command, str(tmp_path / "out")])
    assert done.returncode == CANNOT_RUN
    assert done.stderr.count("\n") == 1
    assert "cannot be written (File too large)" in done.stderr
    assert half_written(tmp_path) == []


@pytest.mark.parametrize("command", ["synth", "run", "sweep", "train", "score"])
def test_a_place_that_cannot_be_written_is_named(tree: Path, tmp_path: Path, capsys, command: str) -> None:
    (tmp_path / "file").write_text("no folder")
    out = ["--out", str(tmp_path / "file" / "x")]
    if command == "synth":
        arguments = ["synth", "--size", "small", *out]
    elif command == "score":
        assert main(["train", "--data", str(tree), "--out", str(tmp_path / "m"), *GMM]) == OK
        arguments = ["score", str(tmp_path / "m"), str(tree / "pump/test"), *out]
    else:
        arguments = [command, "--data", str(tree), *GMM, *out]
    assert main(arguments) == CANNOT_RUN
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{tmp_path}/file" in error
    assert (tmp_path / "file").read_text() == "no folder"


def test_scores_never_replace_a_recording(tree: Path, tmp_path: Path, capsys) -> None:
    assert main(["train", "--data", str(tree), "--out", str(tmp_path / "m"), *GMM]) == OK
    clip = tmp_path / "clip.wav"
    shutil.copy(tree / "pump/test/normal_id_00_00000000.wav", clip)
    before = clip.read_bytes()
    assert main(["score", str(tmp_path / "m"), str(clip), "--out", str(clip)]) == CANNOT_RUN
    assert "is not a table that adjax wrote, and would be lost" in capsys.readouterr().err
    assert clip.read_bytes() == before
    assert (
        main(["score", str(tmp_path / "m"), str(clip), "--out", str(tmp_path / "m" / "s.csv")]) == CANNOT_RUN
    )
    assert "lies in the folder of the model" in capsys.readouterr().err
    assert main(["score", str(tmp_path / "m"), str(clip), "--out", "."]) == CANNOT_RUN
    assert main(["score", str(tmp_path / "m"), str(clip)]) == OK


def test_programs_of_others_in_the_cache_stay(cache_folder: Path, tree: Path, capsys) -> None:
    place = cache_folder / "compiled"
    place.mkdir()
    (place / "browser-cache").write_text("notes")
    cut = place / f"jit_f-{'a' * 64}-cache"
    cut.write_bytes(b"cut short")
    drop_damaged(place)
    assert [path.name for path in place.iterdir() if path.name != ".checked"] == ["browser-cache"]


def test_a_simulation_never_replaces_recordings(tree: Path, tmp_path: Path, capsys) -> None:
    """Names that it would write, real ones; also where the folder, or one in it, is a link."""
    real = tmp_path / "real" / "slider"
    shutil.copytree(tree / "pump", real)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "slider").symlink_to(real)
    (tmp_path / "half" / "slider").mkdir(parents=True)
    (tmp_path / "half" / "slider" / "train").symlink_to(real / "train")
    before = {path: path.read_bytes() for path in real.rglob("*.wav")}
    for name in ("real", "linked", "half"):
        assert main(["synth", "--size", "small", "--out", str(tmp_path / name)]) == CANNOT_RUN
        assert f"{name}/slider: " in capsys.readouterr().err
    assert {path: path.read_bytes() for path in real.rglob("*") if path.is_file()} == before


# -- many bad clips


@pytest.mark.parametrize("command", ["run", "sweep"])
def test_every_bad_clip_is_listed_and_the_others_are_scored(tmp_path: Path, capsys, command: str) -> None:
    """46 of them, of which 10 are printed, in names and below a folder whose bytes are no UTF-8."""
    root = fill(tmp_path / os.fsdecode(b"caf\xe9") / "pump", n_test=4)
    for i in range(46):
        name = os.fsdecode(b"normal_id_00_%08d_\xe9.wav" % (100 + i))
        (root / "test" / name).write_bytes(b"no sound")
    more = ["--gwrp-r", "0.5"] if command == "sweep" else []
    arguments = [command, "--data", str(root.parent), "--out", str(tmp_path / "out"), *GMM, *more]
    assert main(arguments) == SOME_FAILED
    with open(tmp_path / "out/failures.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        found = [row["file"] for row in csv.DictReader(file)]
    assert len(found) == 46
    assert all(Path(path).exists() for path in found)
    assert "... and 36 more, all in failures.csv" in capsys.readouterr().out
    if command == "sweep":
        with open(tmp_path / "out" / "trials.csv", newline="", encoding="utf-8") as file:
            assert [row["auc"] for row in csv.DictReader(file)] == ["1.0"]
    else:
        assert "Average,1.0,1.0" in (tmp_path / "out" / "result.csv").read_text()


@pytest.mark.parametrize("command", ["run", "sweep"])
def test_samples_that_no_audio_has_cost_one_clip(tmp_path: Path, capsys, command: str) -> None:
    root = fill(tmp_path / "data" / "pump")
    loud = [root / split / "normal_id_00_00000001.wav" for split in ("train", "test")]
    for path, scale in zip(loud, (1e19, 1e30), strict=True):
        y = np.full(8000, scale, np.float32)
        soundfile.write(path, y, 16000, subtype="FLOAT")
    models = [
        "--model",
        "gmm",
        "autoencoder",
        "--set",
        "n_epochs=2",
        "n_components=1",
        "covariance_type=diag",
    ]
    models = models if command == "run" else GMM
    arguments = [command, "--data", str(root.parent), "--out", str(tmp_path / "out"), *models]
    assert main(arguments) == SOME_FAILED
    lists = list((tmp_path / "out").rglob("failures.csv"))
    assert len(lists) == (2 if command == "run" else 1)
    for path in lists:
        with open(path, newline="", encoding="utf-8") as file:
            assert {row["file"] for row in csv.DictReader(file)} == {str(one) for one in loud}
    for path in (tmp_path / "out").rglob("result.csv"):
        assert "pump" in path.read_text()
    if command == "sweep":
        with open(tmp_path / "out" / "trials.csv", newline="", encoding="utf-8") as file:
            assert {row["status"] for row in csv.DictReader(file)} == {"converged"}
    printed = capsys.readouterr().out
    assert "1e+30" in printed
    assert "1e+19" in printed


# -- the terminal


def test_numbers_are_whole_in_a_narrow_terminal(tree: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["run", "--data", str(tree), "--out", str(tmp_path), *GMM]) == OK
    printed = capsys.readouterr().out
    assert "AUC: 1.0000" in printed
    assert "1.…" not in printed
    monkeypatch.delenv("COLUMNS")
    assert main(["run", "--data", str(tree), "--out", str(tmp_path), *GMM]) == OK
    assert "│ 1.0000 │" in capsys.readouterr().out


def test_a_terminal_in_another_encoding_is_no_reason_to_stop(odd: Path, tmp_path: Path) -> None:
    command = ["train", "--data", str(odd), "--out", str(tmp_path / "m"), *GMM, "--clip-pooling", "mean"]
    assert main(command) == OK
    command = [*ADJAX, "info", str(tmp_path / "m")]
    done = subprocess.run(
        command, env=environment(PYTHONIOENCODING="ascii"), capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (OK, b"")
    assert done.stdout.isascii()


# -- Ctrl-C


def interrupted(command: list[str], after: float, number: int = signal.SIGINT) -> tuple[int, str]:
    process = subprocess.Popen(
        [*ADJAX, *command], env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    time.sleep(after)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)  # at once, but on a machine with more tests than cores
    return process.returncode, err


def test_ctrl_c_at_any_moment_ends_in_one_line_and_the_same_command_goes_on(
    tree: Path, tmp_path: Path
) -> None:
    """From the first import to the last compilation; the long way, over all commands: experiments/interrupts.py."""
    out = tmp_path / "out"
    command = ["run", "--data", str(tree), *NETWORK, "--out"]
    assert main([*command, str(tmp_path / "alone")]) == OK
    moments = random.Random(0)
    for number, code in ((signal.SIGINT, 130), (signal.SIGINT, 130), (signal.SIGTERM, 143)):
        found = interrupted([*command, str(out)], moments.uniform(0.3, 2.5), number)
        assert found == (code, f"{MESSAGE}\n")
        assert half_written(tmp_path) == []
    assert main([*command, str(out)]) == OK
    assert files_in(out) == files_in(tmp_path / "alone")
    assert (out / "scores.csv").read_bytes() == (tmp_path / "alone" / "scores.csv").read_bytes()
