"""--contrast: which machines a model tells its own apart from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from adjax.app.cli import CANNOT_RUN, OK, main
from adjax.app.console import make_console
from adjax.app.run import Run, possible
from adjax.data.audio import write_wav
from adjax.data.index import index_folder
from adjax.model.keep import load_model
from tests.app.recordings import hum

OF_FANS = ["--machine-type", "fan", "--n-mels", "16", "--no-cache"]


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two fans and a pump, which hum at different pitches; the pump has a broken file."""
    root = tmp_path_factory.mktemp("plant")
    for number, (name, hz) in enumerate(
        (("fan/{}/{}_id_00", 500), ("fan/{}/{}_id_02", 900), ("pump/{}/{}_id_00", 2000))
    ):
        for split, label, n in (("train", "normal", 5), ("test", "normal", 3), ("test", "anomaly", 3)):
            for i in range(n):
                path = root / f"{name.format(split, label)}_{i:08d}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                seed = 1000 * number + 100 * len(split) + 10 * len(label) + i
                write_wav(path, hum(seed, hz=hz * (1.5 if label == "anomaly" else 1)), 16000)
    (root / "pump/train/normal_id_00_00000099.wav").write_bytes(b"RIFF")
    return root


def settings(folder: Path) -> dict[str, object]:
    return json.loads((folder / "settings.json").read_text())


@pytest.mark.parametrize(("contrast", "n_classes"), [("all", 3), ("type", 2)])
def test_run_reads_other_types_and_does_not_score_them(
    plant: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], contrast: str, n_classes: int
) -> None:
    command = ["--data", str(plant), *OF_FANS, "--model", "identity", "--contrast", contrast]
    assert main(["run", *command, "--out", str(tmp_path / "run")]) == OK
    said = capsys.readouterr().out
    assert ("6 training clips of pump are read, too" in said) == (contrast == "all")
    assert ("1 clip of other types" in said) == (contrast == "all")
    scores = (tmp_path / "run/scores.csv").read_text()
    assert "pump" not in scores
    assert scores.count("fan") >= 12
    assert main(["train", *command, "--out", str(tmp_path / "model")]) == OK
    model = load_model(tmp_path / "model")
    assert [name.machine_type for name in model.machines] == ["fan", "fan"]
    assert model.spec.detectors[0].config.contrast == contrast
    assert model.params.detectors[0].params.common.value[1].intercepts.shape == (1, n_classes)


def test_none_leaves_out_what_tells_machines_apart(
    plant: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--data", str(plant), *OF_FANS, "--contrast", "none", "--out", str(tmp_path / "model")]
    assert main(["train", *command, "--model", "gaussians+identity"]) == OK
    assert [own.kind for own in load_model(tmp_path / "model").spec.detectors] == ["gaussians"]
    assert main(["train", *command, "--model", "identity"]) == CANNOT_RUN
    assert "contrast='none'" in capsys.readouterr().err


def test_one_machine(plant: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Alone it cannot be told apart, with others it can; in a model of several detectors the others go on."""
    pumps = ["--data", str(plant), "--machine-type", "pump", "--n-mels", "16", "--no-cache"]
    run = ["run", *pumps, "--out", str(tmp_path / "run")]
    assert main([*run, "--model", "identity", "--contrast", "type"]) == CANNOT_RUN
    assert "at least two machines" in capsys.readouterr().err
    main([*run, "--model", "gaussians+identity", "--contrast", "type"])
    assert "left out of the model" in capsys.readouterr().out
    assert (tmp_path / "run/scores.csv").read_text().count("anomaly_id_00") == 3
    main([*run, "--model", "identity"])
    table = (tmp_path / "run/scores.csv").read_text().splitlines()
    assert len(table) == 7
    assert np.isfinite(float(table[1].split(",")[table[0].split(",").index("score")]))


def test_all_models_are_those_that_the_machines_are_enough_for(
    plant: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips, console = index_folder(plant, machine_type="pump"), make_console()
    specs = Run(model=("auto", "identity")).models()
    assert specs.keys() - possible(specs, clips, None, console).keys() == {"identity"}
    assert "identity is left out: there are too few machines to tell apart" in capsys.readouterr().out
    assert possible(specs, clips, index_folder(plant, machine_type="fan"), console) == specs
    for name in ("auto", "all"):
        kinds = {own.kind for own in Run(model=(name,), contrast="none").models()["auto"].detectors}
        assert "gaussians" in kinds
        assert not kinds & {"identity", "network"}


def test_a_table_of_vectors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The rows of other types are told apart from, too."""
    rng = np.random.default_rng(0)
    lines = ["file,machine_type,machine_id,split,label,a,b,c"]
    for number, (machine_type, machine_id) in enumerate((("fan", "00"), ("fan", "02"), ("pump", "00"))):
        for split, label, n in (("train", 0, 6), ("test", 0, 3), ("test", 1, 3)):
            for i in range(n):
                numbers = ",".join(f"{x:.4f}" for x in 3 * np.eye(3)[number] + rng.normal(size=3) + 2 * label)
                name = f"{machine_type}_{machine_id}_{split}_{label}_{i}.wav"
                lines.append(f"{name},{machine_type},{machine_id},{split},{label},{numbers}")
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    command = ["--vectors", str(tmp_path / "table.csv"), "--machine-type", "fan", "--model", "identity"]
    assert main(["run", *command, "--out", str(tmp_path / "run")]) == OK
    assert "6 training clips of pump are read, too" in capsys.readouterr().out
    assert "pump" not in (tmp_path / "run/scores.csv").read_text()
    assert main(["train", *command, "--out", str(tmp_path / "model")]) == OK
    model = load_model(tmp_path / "model")
    assert model.params.detectors[0].params.common.value[1].intercepts.shape == (1, 3)
    assert not model.spec.detectors[0].standardize
