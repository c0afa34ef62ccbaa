"""The study of auto on vectors, with tiny tables."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import real_vectors


def write_table(path: Path, machine_type: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", "machine_type", "machine_id", "split", "label", "loud", "sharp"])
        for number, machine_id in enumerate(("id_00", "id_02")):
            for i in range(26):
                split, label = "train" if i < 10 else "test", int(i >= 18)
                values = rng.normal(size=2) + 3 * number + 2 * label
                writer.writerow([f"{machine_id}_{i}.wav", machine_type, machine_id, split, label, *values])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for seed, machine_type in enumerate(("slider", "fan")):
        write_table(tmp_path / f"{machine_type}.csv", machine_type, seed)
    monkeypatch.setattr(real_vectors, "DATA", {"both": ("slider", "fan"), "one": ("slider",)})
    return tmp_path


def test_every_set_is_fitted_at_every_size_tables_together(folder: Path) -> None:
    study = real_vectors.Study(folder, sizes=(6, 0), draws=2)
    found = {(task.data, task.size, task.draw): task for task in real_vectors.tasks(study)}
    # All clips can be drawn in one way only.
    assert list(found) == [(name, *own) for name in ("both", "one") for own in ((6, 0), (6, 1), (0, 0))]
    for (name, size, _), task in found.items():
        n_machines = 4 if name == "both" else 2
        assert len(task.train[0].clips) == n_machines * (size or 10)
        assert len(task.test[0].clips) == n_machines * 16
        assert {clip.split for clip in task.train[0].clips} == {"train"}
        assert task.train[0].columns == ("loud", "sharp")
    both, one = (found[name, 6, 1].train[0] for name in ("both", "one"))
    assert (
        both.where(lambda clip: clip.machine_type == "slider").clips == one.clips
    )  # so that they can be compared


def test_one_row_for_each_machine_and_system(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(real_vectors.DATA, "one")
    out = folder / "out"
    command = f"study --vectors {folder} --out {out} --sizes 0 --leave-out"
    monkeypatch.setattr(sys, "argv", command.split())
    assert real_vectors.main() == 0
    with open(out / "areas.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    systems = {row["system"] for row in rows}
    kinds = {name.removeprefix("kind: ") for name in systems if name.startswith("kind: ")}
    assert kinds
    assert {f"{start}{kind}" for kind in kinds for start in ("evidence: ", "auto without ")} <= systems
    cells = {(row["data"], row["type"], row["machine"], row["size"], row["draw"]) for row in rows}
    machines = {(name, number) for name in ("fan", "slider") for number in ("id_00", "id_02")}
    assert cells == {("both", *machine, "all", "0") for machine in machines}
    assert len(rows) == len(cells) * len(systems)
    assert all(0.5 < float(row["auc"]) <= 1 for row in rows if row["system"] == "auto (Fisher)")
    assert {path.name for path in out.glob("*.png")} == {"regret.png"}
    settings = json.loads((out / "settings.json").read_text())
    assert settings["study"]["sizes"] == [0]
    assert "jax" in settings["versions"]
    said = capsys.readouterr().out
    assert "both, mean of types" in said
    assert "best kind of each machine" in said
