"""A model that cannot be trusted says why, and scores nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from adjax.app.cli import CANNOT_RUN, main
from adjax.files import sha256
from adjax.model.keep import FORMAT
from adjax.store import save_model as save_arrays
from adjax.store.folder import HASHES, files_in, write_hashes


def resign(folder: Path) -> None:
    """New hashes for changed files."""
    write_hashes(
        folder, "model", {name: sha256(folder / name) for name in files_in(folder) if name != HASHES}
    )


def change_settings(folder: Path, **fields: object) -> None:
    settings = json.loads((folder / "settings.json").read_text())
    (folder / "settings.json").write_text(json.dumps({**settings, **fields}))
    resign(folder)


def damage(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-3] ^= 1
    (folder / "model.safetensors").write_bytes(content)


def rename_setting(folder: Path) -> None:
    settings = json.loads((folder / "settings.json").read_text())
    settings["spec"]["detectors"][0]["config"]["of_the_future"] = 3
    change_settings(folder, spec=settings["spec"])


def other_shapes(folder: Path) -> None:
    settings = json.loads((folder / "settings.json").read_text())
    change_settings(folder, shapes={**settings["shapes"], "n_held_out": 99})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (damage, "model.safetensors: damaged"),
        (lambda folder: (folder / "settings.json").unlink(), "are not those of SHA256SUMS"),
        (lambda folder: (folder / "more.pkl").touch(), "are not those of SHA256SUMS"),
        (lambda folder: (folder / "SHA256SUMS").unlink(), "not written by adjax, or is damaged"),
        (
            lambda folder: change_settings(folder, format=FORMAT + 1),
            f"in format {FORMAT + 1}, this version reads up to {FORMAT}; update adjax",
        ),
        (lambda folder: change_settings(folder, format="x"), "is no model of adjax"),
        (lambda folder: change_settings(folder, machines=[]), "the settings ask for"),
        (rename_setting, "these are no settings of a model that this version knows"),
        (other_shapes, "the settings ask for"),
        (shutil.rmtree, "no such model; make one with adjax train"),
    ],
)
def test_a_model_that_cannot_be_trusted_is_refused(
    home: Path, model: Path, tmp_path: Path, capsys, spoil, message: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    spoil(folder)
    for command in (["score", str(folder), str(home / "neu/mittags.wav")], ["info", str(folder)]):
        assert main(command) == CANNOT_RUN
        assert message in capsys.readouterr().err.replace("\n", "")


def test_folders_that_are_no_model_are_refused(home: Path, tmp_path: Path, capsys) -> None:
    save_arrays(tmp_path / "foreign", {"a": np.ones(3)}, {"who": "somebody else"})
    for folder, message in ((tmp_path / "foreign", "is no model of adjax"), (home, "not written by adjax")):
        assert main(["info", str(folder)]) == CANNOT_RUN
        assert message in capsys.readouterr().err.replace("\n", "")
