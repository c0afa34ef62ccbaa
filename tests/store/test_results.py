"""The folder of a run holds one run's results; what others put there stays, or is in the way and the run refuses."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from adjax.store import own_folder
from adjax.types import StoreError


def write(names: dict[str, str]):
    def fill(place: Path) -> None:
        for name, text in names.items():
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_text(text)

    return fill


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {
        ".adjax.lock"
    }


def test_results_replace_those_of_an_earlier_run_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("a person's")
    with own_folder(tmp_path, ["settings.json"]) as results:
        results.replace(write({"settings.json": "1", "a.csv": "1", "gmm/b.csv": "1"}))
        results.add("figures/a.png", lambda path: path.write_text("1"))
        results.add("figures/a.png", lambda path: path.write_text("2"))
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path, check=True)
    with own_folder(tmp_path, ["settings.json"]) as results:
        results.replace(write({"settings.json": "2", "c.csv": "2"}))
    assert names_in(tmp_path) == {"settings.json", "c.csv", "SHA256SUMS", "log.txt"}
    assert not (tmp_path / "gmm").exists()
    assert (tmp_path / "settings.json").read_text() == "2"


def test_results_to_keep_are_kept(tmp_path: Path) -> None:
    with own_folder(tmp_path, rebuilt_below="chunks") as results:
        for name in "ab":
            results.add(f"chunks/{name}", lambda path: path.write_text("1"))
        assert results.is_sound("chunks/a")
        results.replace(write({"t.csv": "1"}), keep=["chunks/a"])
    assert names_in(tmp_path) == {"t.csv", "chunks/a", "SHA256SUMS"}
    (tmp_path / "chunks/a").write_text("forged")
    with own_folder(tmp_path, rebuilt_below="chunks") as results:
        assert not results.is_sound("chunks/a")
        results.add("chunks/a", lambda path: path.write_text("2"))
        assert results.is_sound("chunks/a")
    (tmp_path / "chunks/a").write_text("forged")
    with pytest.raises(StoreError, match="changed since"), own_folder(tmp_path):
        pass


@pytest.mark.parametrize("kind", ["a stranger", "changed", "a link", "a folder"])
def test_what_others_wrote_is_never_replaced(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "settings.json"
    if kind == "changed":
        with own_folder(tmp_path) as results:
            results.replace(write({"settings.json": "ours"}))
    if kind == "a folder":
        target.mkdir()
    elif kind == "a link":
        (tmp_path / "elsewhere").write_text("theirs")
        target.symlink_to(tmp_path / "elsewhere")
    else:
        target.write_text("theirs")
    with (
        pytest.raises(StoreError, match=r"settings\.json: .* would be lost"),
        own_folder(tmp_path, ["settings.json"]),
    ):
        pass
    if kind != "changed":  # not asked for before, found in the end
        with own_folder(tmp_path) as results, pytest.raises(StoreError, match="would be lost"):
            results.replace(write({"settings.json": "ours"}))
        with own_folder(tmp_path) as results, pytest.raises(StoreError, match="would be lost"):
            results.add("settings.json", lambda path: path.write_text("ours"))
    assert kind == "a folder" or target.read_text() == "theirs"
    assert not list(tmp_path.glob(".adjax-*"))


def test_a_fill_that_fails_leaves_the_earlier_results(tmp_path: Path) -> None:
    def full(place: Path) -> None:
        (place / "a" if place.is_dir() else place).write_text("half")
        raise OSError(28, "No space left on device")

    with own_folder(tmp_path) as results:
        results.replace(write({"a": "1"}))
        with pytest.raises(StoreError, match="No space left on device"):
            results.replace(full)
        with pytest.raises(StoreError, match="No space left on device"):
            results.add("b", full)
    assert names_in(tmp_path) == {"a", "SHA256SUMS"}
    assert (tmp_path / "a").read_text() == "1"


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_kill_while_results_are_put_in_place_is_mended_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Once all are written they are as good as there, however many of the renames were made."""
    with own_folder(tmp_path) as results:
        results.replace(write({"a": "1", "b": "1", "old": "1"}))

    def killed(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) > after:
            raise OSError(5, "Input/output error")
        return replace(self, target)

    calls: list[Path] = []
    replace = Path.replace
    with monkeypatch.context() as patched, own_folder(tmp_path) as results:
        patched.setattr(Path, "replace", killed)
        with pytest.raises(StoreError, match="the next command into this folder puts them there"):
            results.replace(write({"a": "2", "b": "2", "c": "2"}))
    with own_folder(tmp_path) as results:
        assert results.hashes.keys() == {"a", "b", "c"}
    assert names_in(tmp_path) == {"a", "b", "c", "SHA256SUMS"}
    assert {(tmp_path / name).read_text() for name in "abc"} == {"2"}
