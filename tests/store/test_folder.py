"""Folders have one writer, and only what adjax wrote there is replaced or removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from adjax.files import sha256
from adjax.store import (
    hold,
    load_model,
    own_folder,
    save_model,
    write_folder,
)
from adjax.store.folder import HASHES, write_hashes
from adjax.types import StoreError
from tests.store.made import make_params, template


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    refused = pytest.raises(StoreError, match="another run is writing here")
    with hold(tmp_path / "run"), refused, hold(tmp_path / "run"):
        pass
    with hold(tmp_path / "run"):
        pass


def test_a_list_of_hashes_never_leads_out_of_its_folder(tmp_path: Path) -> None:
    save_model(tmp_path / "m", make_params(), {})
    write_hashes(tmp_path / "m", "model", {"../outside": "0" * 64})
    with pytest.raises(StoreError, match="names files outside of its folder"):
        load_model(tmp_path / "m", template())


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file: cannot be written"):
        write_folder(tmp_path / "file" / "m", "model", lambda place: None)
    with pytest.raises(StoreError, match=r"file/run: cannot be written"), hold(tmp_path / "file" / "run"):
        pass


def test_a_lock_sweeps_up_after_a_killed_process(tmp_path: Path) -> None:
    (tmp_path / ".adjax-1-2.tmp").write_text("half")
    (tmp_path / ".adjax-staged.tmp" / "figures").mkdir(parents=True)
    with hold(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [".adjax.lock"]


def listed(folder: Path) -> dict[str, bytes]:
    """A folder with a list of its files' hashes, as anybody makes it: `sha256sum * > SHA256SUMS`."""
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"of another tool")
    (folder / "chapter.txt").write_text("years of work")
    lines = [f"{sha256(path)}  {path.name}\n" for path in sorted(folder.iterdir())]
    (folder / HASHES).write_text("".join(lines))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_list_of_hashes_makes_no_folder_ours(tmp_path: Path) -> None:
    before = listed(tmp_path / "m")
    with pytest.raises(StoreError, match="would be lost"):
        save_model(tmp_path / "m", make_params(), {})
    with pytest.raises(StoreError, match="would be lost"), own_folder(tmp_path / "m"):
        pass
    assert {path.name: path.read_bytes() for path in (tmp_path / "m").glob("[!.]*")} == before


def test_a_folder_of_one_kind_never_replaces_another(tmp_path: Path) -> None:
    save_model(tmp_path / "m", make_params(), {})
    with pytest.raises(StoreError, match="SHA256SUMS: was not written by adjax"), own_folder(tmp_path / "m"):
        pass
    load_model(tmp_path / "m", template())
    with pytest.raises(StoreError, match="would be lost"):
        write_folder(tmp_path / "m", "simulation", lambda place: None)
    with own_folder(tmp_path / "r") as results:
        results.replace(lambda place: (place / "settings.json").write_text("{}"))
    with pytest.raises(StoreError, match="would be lost"):
        save_model(tmp_path / "r", make_params(), {})


def test_two_writers_of_a_folder(tmp_path: Path) -> None:
    def fill(place: Path) -> None:
        (place / "a").write_text("1")
        with pytest.raises(StoreError, match="another run is writing here"):
            write_folder(tmp_path / "m", "model", lambda place: None)

    write_folder(tmp_path / "m", "model", fill)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    assert (tmp_path / "m" / "a").read_text() == "1"


def test_what_a_person_puts_there_meanwhile_stays(tmp_path: Path) -> None:
    def fill(place: Path) -> None:
        (place / "a").write_text("1")
        (tmp_path / "m" / "thesis.txt").write_text("years of work")

    (tmp_path / "m").mkdir()
    with pytest.raises(StoreError, match=r"holds thesis\.txt"):
        write_folder(tmp_path / "m", "model", fill)
    assert [path.name for path in tmp_path.rglob("*")] == ["m", "thesis.txt"]


def test_whatever_lies_in_a_folder_is_somebodys(tmp_path: Path) -> None:
    """Also an empty folder, and a pipe."""
    for name, make in (("a", lambda path: path.mkdir()), ("b", os.mkfifo)):
        save_model(tmp_path / name, make_params(), {})
        make(tmp_path / name / "mine")
        with pytest.raises(StoreError, match="holds mine, which would be lost"):
            save_model(tmp_path / name, make_params(1), {})
        assert (tmp_path / name / "mine").exists()


def test_a_folder_is_not_replaced_from_within(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for place in (Path(), Path("/")):
        with pytest.raises(StoreError, match=r"from within|would be lost"):
            save_model(place, make_params(), {})
