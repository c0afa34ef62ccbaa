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


def test_one_row_for_each_set_size_draw_machine_and_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, machine_type in enumerate(("slider", "fan")):
        write_table(tmp_path / f"{machine_type}.csv", machine_type, seed)
    monkeypatch.setattr(real_vectors, "DATA", {"both": ("slider", "fan")})
    out = tmp_path / "out"
    command = f"study --vectors {tmp_path} --out {out} --sizes 6 0 --draws 2 --leave-out"
    monkeypatch.setattr(sys, "argv", command.split())
    assert real_vectors.main() == 0
    with open(out / "areas.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    systems = {row["system"] for row in rows}
    kinds = {name.removeprefix("kind: ") for name in systems if name.startswith("kind: ")}
    assert kinds
    assert {f"{start}{kind}" for kind in kinds for start in ("evidence: ", "auto without ")} <= systems
    cells = {(row["type"], row["machine"], row["size"], row["draw"]) for row in rows}
    models = {("6", "0"), ("6", "1"), ("all", "0")}  # all clips can be drawn in one way
    machines = {(name, number) for name in ("fan", "slider") for number in ("id_00", "id_02")}
    assert cells == {(*machine, *model) for machine in machines for model in models}
    assert len(rows) == len(cells) * len(systems)
    assert all(
        0 <= float(row["auc"]) <= 1 and float(row["auc"]) > 0.5 for row in rows if row["size"] == "all"
    )
    assert {path.name for path in out.glob("*.png")} == {"regret.png", "learning_curves.png"}
    settings = json.loads((out / "settings.json").read_text())
    assert settings["study"]["draws"] == 2
    assert "jax" in settings["versions"]
    said = capsys.readouterr().out
    assert "both, mean of types" in said
    assert "best kind of each machine" in said
