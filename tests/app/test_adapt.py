"""`adjax adapt`: a kept model for a machine that it has not heard."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from adjax.app.cli import CANNOT_RUN, OK, SOME_FAILED, main
from adjax.model.keep import load_model

D = 6


def table(
    path: Path, machines: dict[str, int], *, seed: int = 0, fault: float = 0.0, bad: bool = False
) -> Path:
    """A table of vectors, as many rows as told of each machine."""
    rng = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "machine_type", "machine_id", *(f"c{i}" for i in range(D))])
        for name, n in machines.items():
            centre = 3 * np.random.default_rng([*name.encode()]).normal(size=D)
            for i in range(n):
                row = centre + rng.normal(size=D)
                row[0] += fault
                cells = [f"{value:.5f}" for value in row]
                writer.writerow(
                    [f"{name}_{i}.wav", "pump", name, *(["x", *cells[1:]] if bad and not i else cells)]
                )
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("adapt")
    source = table(home / "source.csv", {"a": 20, "b": 20, "c": 20})
    assert main(["train", "--vectors", str(source), "--model", "joint", "--out", str(home / "model")]) == OK
    return home / "model"


def adapt(model: Path, new: Path, out: Path, *more: str) -> int:
    return main(["adapt", str(model), "--vectors", str(new), "--out", str(out), *more])


def test_the_adapted_model_judges_the_new_machine(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = table(tmp_path / "new.csv", {"d": 5}, seed=1)
    assert adapt(model, new, tmp_path / "adapted") == OK
    told = " ".join(capsys.readouterr().out.split())
    assert (
        "pump d is adapted: 5 clips of its own, beside 3 machines of its type. Its false alarms rest on"
        in told
    )
    assert f"Next: adjax score {tmp_path / 'adapted'} --vectors TABLE" in told
    tomorrow = table(tmp_path / "tomorrow.csv", {"d": 20, "a": 4}, seed=2)
    faulty = table(tmp_path / "faulty.csv", {"d": 20}, seed=3, fault=9.0)
    rows = []
    for name in (tomorrow, faulty):
        out = tmp_path / f"{name.stem}_scores.csv"
        assert main(["score", str(tmp_path / "adapted"), "--vectors", str(name), "--out", str(out)]) == OK
        rows.append(list(csv.DictReader(out.read_text().splitlines())))
    normal, odd = ([float(row["score"]) for row in own if row["machine_id"] == "d"] for own in rows)
    assert np.mean(np.array(odd)[:, None] > np.array(normal)[None]) > 0.95
    assert load_model(tmp_path / "adapted").record.about["adapted"] == [str(new)]


def test_a_bad_row_is_listed_and_the_others_go_on(model: Path, tmp_path: Path) -> None:
    new = table(tmp_path / "new.csv", {"d": 5}, seed=1, bad=True)
    assert adapt(model, new, tmp_path / "adapted") == SOME_FAILED
    assert load_model(tmp_path / "adapted").record.n_clips["pump d"] == 4


def test_the_model_may_be_replaced_by_the_adapted_one(model: Path, tmp_path: Path) -> None:
    first = tmp_path / "model"
    load_model(model).save(first)
    for name in "de":
        assert adapt(first, table(tmp_path / f"{name}.csv", {name: 4}), first) == OK
    assert len(load_model(first).machines) == 5


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--data", "somewhere"], "recordings or a table, not both"),
        (["--machine", ""], "has no type"),
    ],
)
def test_contradictions(
    model: Path, tmp_path: Path, more: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    new = table(tmp_path / "new.csv", {"d": 5})
    assert adapt(model, new, tmp_path / "adapted", *more) == CANNOT_RUN
    assert told in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "adapted").exists()


def test_a_model_of_vectors_takes_no_recordings(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["adapt", str(model), "--data", str(tmp_path), "--out", str(tmp_path / "out")]) == CANNOT_RUN
    assert "takes a table of vectors: --vectors TABLE" in " ".join(capsys.readouterr().err.split())
    assert main(["adapt", str(model)]) == CANNOT_RUN
    assert "which recordings?" in capsys.readouterr().err


def test_another_type_needs_a_name(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a model of one type any machine is of that type; `--machine` says which it is."""
    new = table(tmp_path / "new.csv", {"d": 5})
    for name, told in (("fan/x", "the model knows the types pump"), ("any", "nobody knows which")):
        assert adapt(model, new, tmp_path / "first", "--machine", name) == CANNOT_RUN
        assert told in " ".join(capsys.readouterr().err.split())
    assert adapt(model, new, tmp_path / "first", "--machine", "x") == OK
    assert load_model(tmp_path / "first").machines[-1] == ("pump", "x")
    assert "x is taken for pump x: the model knows no other type than pump" in " ".join(
        capsys.readouterr().out.split()
    )


def test_a_known_machine_heard_anew_is_told(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert adapt(model, table(tmp_path / "new.csv", {"b": 4}, seed=5), tmp_path / "out") == OK
    told = " ".join(capsys.readouterr().out.split())
    assert "beside 2 machines of its type; they take the place of the 20 clips it was known from" in told
    assert "4 held-out clips of its own and 16 of theirs" in told
    assert "Adapted" in told
    assert "pump b" in told.split("Thresholds")[0]
