"""What is saved comes back, or is refused with a reason; what was there before survives every failure."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import adjax.store.arrays
from adjax.files import sha256
from adjax.store import (
    check_ours,
    drop_checkpoints,
    hold,
    latest_checkpoint,
    load_model,
    own_folder,
    read_settings,
    save_checkpoint,
    save_model,
    write_folder,
)
from adjax.store.folder import HASHES, read_hashes, write_hashes
from adjax.types import StoreError


class Params(NamedTuple):
    layers: dict[str, np.ndarray]
    count: np.ndarray


def make_params(seed: int = 0) -> Params:
    rng = np.random.default_rng(seed)
    return Params({"a": rng.normal(size=(3, 4)).astype(np.float32), "b": rng.normal(size=5)}, np.int32(seed))


def template(epoch: int = 0) -> Params:
    del epoch
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), make_params())


def no_space(*arguments, **options):
    raise OSError(28, "No space left on device")


def test_a_model_comes_back_with_its_settings(tmp_path: Path) -> None:
    save_model(tmp_path / "m", make_params(), {"width": 3, "path": Path("x")})
    jax.tree.map(assert_array_equal, load_model(tmp_path / "m", template()), make_params())
    assert read_settings(tmp_path / "m") == {"width": 3, "path": "x"}
    names = {path.name for path in tmp_path.rglob("*")}
    assert names == {"m", "model.safetensors", "settings.json", "SHA256SUMS"}
    digest = hashlib.sha256((tmp_path / "m/model.safetensors").read_bytes()).hexdigest()
    assert f"{digest}  model.safetensors\n" in (tmp_path / "m/SHA256SUMS").read_text()


@pytest.mark.parametrize("file", ["model.safetensors", "settings.json"])
def test_one_flipped_bit_is_found(tmp_path: Path, file: str) -> None:
    save_model(tmp_path / "m", make_params(), {"width": 3})
    content = bytearray((tmp_path / "m" / file).read_bytes())
    content[-3] ^= 1
    (tmp_path / "m" / file).write_bytes(content)
    with pytest.raises(StoreError, match=f"{file}: damaged"):
        load_model(tmp_path / "m", template())


def test_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not written by adjax"):
        load_model(tmp_path / "none", template())
    save_model(tmp_path / "m", make_params(), {})
    (tmp_path / "m" / "more.pkl").write_bytes(b"")
    with pytest.raises(StoreError, match="not those of SHA256SUMS"):
        load_model(tmp_path / "m", template())


def test_another_shape_dtype_or_structure_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "m", make_params(), {})
    wrong = template()
    with pytest.raises(StoreError, match=r"float32\[3, 4\], the settings ask for float32\[4, 3\]"):
        load_model(
            tmp_path / "m",
            wrong._replace(layers=wrong.layers | {"a": jax.ShapeDtypeStruct((4, 3), np.float32)}),
        )
    with pytest.raises(StoreError, match="settings ask for float64"):
        load_model(tmp_path / "m", wrong._replace(count=jax.ShapeDtypeStruct((), np.float64)))
    with pytest.raises(StoreError, match=r"differing: layers\.b"):
        load_model(tmp_path / "m", wrong._replace(layers={"a": wrong.layers["a"]}))


def test_texts_for_people_lie_beside_it_and_are_hashed(tmp_path: Path) -> None:
    texts = {"README.md": "Pumpe läuft"}
    save_model(tmp_path / "m", make_params(), {}, texts)
    assert (tmp_path / "m/README.md").read_text(encoding="utf-8") == "Pumpe läuft"
    assert "README.md" in (tmp_path / "m/SHA256SUMS").read_text()
    save_model(tmp_path / "m", make_params(1), {}, texts)  # its own text is no stranger
    (tmp_path / "m/README.md").write_text("changed")
    with pytest.raises(StoreError, match=r"README\.md: damaged"):
        load_model(tmp_path / "m", template())


def test_transposed_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    params = make_params()
    a = params.layers["a"]
    views = (np.asfortranarray(a), a[::-1].copy()[::-1], np.broadcast_to(a[:1], a.shape), a[:, ::-1])
    for i, view in enumerate(views):
        turned = params._replace(layers=params.layers | {"a": view})
        save_model(tmp_path / str(i), turned, {})
        jax.tree.map(assert_array_equal, load_model(tmp_path / str(i), template()), turned)


def test_a_model_never_replaces_what_is_none(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "link").symlink_to(tmp_path / "thesis")
    save_model(tmp_path / "edited", make_params(), {}, {"README.md": "ours"})
    (tmp_path / "edited" / "README.md").write_text("notes of a person")
    # A model of somebody else, whose files are called as ours are.
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "model.safetensors").write_bytes(b"theirs")
    for name, message in (("thesis", r"holds chapter\.txt, which would be lost"), ("file", "is no folder"),
                          ("link", "is no folder"), ("edited", r"holds README\.md"),
                          ("theirs", r"holds model\.safetensors")):  # fmt: skip
        for refused in (
            lambda place: check_ours(place, "model"),
            lambda place: save_model(place, make_params(), {}),
        ):
            with pytest.raises(StoreError, match=message):
                refused(tmp_path / name)
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "edited" / "README.md").read_text() == "notes of a person"
    assert (tmp_path / "theirs" / "model.safetensors").read_bytes() == b"theirs"
    check_ours(tmp_path / "new", "model")
    (tmp_path / "empty").mkdir()
    save_model(tmp_path / "empty", make_params(), {})
    check_ours(tmp_path / "empty", "model")


def test_a_full_disk_leaves_the_model_before(tmp_path: Path, monkeypatch) -> None:
    save_model(tmp_path / "m", make_params(1), {})
    monkeypatch.setattr(adjax.store.arrays, "save", no_space)
    with pytest.raises(StoreError, match=r"No space left on device.*intact.*make room"):
        save_model(tmp_path / "m", make_params(2), {})
    assert load_model(tmp_path / "m", template()).count == 1
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_the_newest_sound_checkpoint_is_found_and_two_are_kept(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path, template, "run") == (0, None, ())
    for epoch in (10, 20, 30):
        save_checkpoint(tmp_path, epoch, make_params(epoch), "run")
    found = latest_checkpoint(tmp_path, template, "run")
    assert (found.epoch, found.remarks) == (30, ())
    jax.tree.map(assert_array_equal, found.state, make_params(30))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch_000020", "epoch_000030"]
    with pytest.raises(StoreError, match="other settings, data or versions"):
        latest_checkpoint(tmp_path, template, "another run")


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    for epoch in (1, 2):
        save_checkpoint(tmp_path, epoch, make_params(epoch), "run")
    largest = max(
        (tmp_path / "epoch_000002").rglob("*"), key=lambda path: path.stat().st_size * path.is_file()
    )
    largest.write_bytes(largest.read_bytes()[:-1] + b"?")
    found = latest_checkpoint(tmp_path, template, "run")
    assert (found.epoch, int(found.state.count)) == (1, 1)
    assert "damaged" in found.remarks[0]
    save_checkpoint(tmp_path, 2, make_params(2), "run")  # made anew in its place
    assert latest_checkpoint(tmp_path, template, "run").epoch == 2


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    """A real limit on file size, in a process of its own: one line, no traceback, nothing left beside."""
    script = (
        "import resource, sys, numpy as np\n"
        "from adjax.store import save_checkpoint\n"
        "from adjax.types import StoreError\n"
        "from pathlib import Path\n"
        "save_checkpoint(Path(sys.argv[1]), 1, {'a': np.ones(9)}, 'run')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))\n"
        "try: save_checkpoint(Path(sys.argv[1]), 2, {'a': np.random.default_rng(0).normal(size=99_999)}, 'run')\n"
        "except StoreError as error: print('refused:', error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "refused:" in done.stdout
    assert done.stderr == ""
    assert "run the same command again" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["epoch_000001"]
    assert latest_checkpoint(tmp_path, lambda _: {"a": np.ones(9)}, "run").epoch == 1


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    refused = pytest.raises(StoreError, match="another run is writing here")
    with hold(tmp_path / "run"), refused, hold(tmp_path / "run"):
        pass
    with hold(tmp_path / "run"):
        pass


def tampered(folder: Path, name: str, content: bytes) -> None:
    """A file of another content, with a hash that fits."""
    (folder / name).write_bytes(content)
    hashes = {path.name: sha256(path) for path in folder.iterdir() if path.name != "SHA256SUMS"}
    write_hashes(folder, read_hashes(folder)[0], hashes)


@pytest.mark.parametrize(
    "content",
    [b"no JSON", b"[1, 2]", b'{"a": 1, "a": 2}', b'{"a": NaN}', b'{"a": 1e999}', b"\xff", b"", b"[" * 99_999],
)
def test_settings_that_are_no_strict_json_are_refused(tmp_path: Path, content: bytes) -> None:
    save_model(tmp_path / "m", make_params(), {})
    tampered(tmp_path / "m", "settings.json", content)
    with pytest.raises(StoreError, match=r"settings\.json: .*; take a sound copy"):
        read_settings(tmp_path / "m")


def test_arrays_of_a_type_that_numpy_has_not_are_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "m", make_params(), {})
    header = b'{"count":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}'
    tampered(tmp_path / "m", "model.safetensors", len(header).to_bytes(8, "little") + header + b"\0")
    with pytest.raises(StoreError, match=r"model\.safetensors: cannot be read"):
        load_model(tmp_path / "m", template())
    tampered(tmp_path / "m", "model.safetensors", b"\xff" * 100)
    with pytest.raises(StoreError, match=r"model\.safetensors: cannot be read"):
        load_model(tmp_path / "m", template())


def test_a_list_of_hashes_never_leads_out_of_its_folder(tmp_path: Path) -> None:
    save_model(tmp_path / "m", make_params(), {})
    write_hashes(tmp_path / "m", "model", {"../outside": "0" * 64})
    with pytest.raises(StoreError, match="names files outside of its folder"):
        load_model(tmp_path / "m", template())


def test_what_there_is_no_number_for_is_written_as_null(tmp_path: Path) -> None:
    save_model(
        tmp_path / "m",
        make_params(),
        {"a": float("nan"), "b": [np.float32(1.5), np.inf], "c": {1: np.int64(2)}},
    )
    assert read_settings(tmp_path / "m") == {"a": None, "b": [1.5, None], "c": {"1": 2}}


@pytest.mark.parametrize("content", [b"{}", b'{"epoch": 2}', b"no JSON"])
def test_a_checkpoint_that_does_not_say_whose_it_is_is_passed_over(tmp_path: Path, content: bytes) -> None:
    for epoch in (1, 2):
        save_checkpoint(tmp_path, epoch, make_params(epoch), "run")
    tampered(tmp_path / "epoch_000002", "about.json", content)
    found = latest_checkpoint(tmp_path, template, "run")
    assert (found.epoch, len(found.remarks)) == (1, 1)


def test_only_checkpoints_are_dropped(tmp_path: Path) -> None:
    place = tmp_path / "net" / "checkpoints"
    for epoch in (1, 2):
        save_checkpoint(place, epoch, make_params(epoch), "run")
    (place / "epoch_000001" / "mine.txt").write_text("a person's")
    drop_checkpoints(tmp_path / "net")
    assert [path.relative_to(place).as_posix() for path in sorted(place.rglob("*"))] == [
        "epoch_000001",
        "epoch_000001/mine.txt",
    ]
    (place / "epoch_000001" / "mine.txt").unlink()
    save_checkpoint(tmp_path / "other" / "checkpoints", 1, make_params(1), "run")
    drop_checkpoints(tmp_path / "other")
    assert not (tmp_path / "other").exists()


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


def test_a_model_of_before_the_kinds_is_replaced(tmp_path: Path) -> None:
    save_model(tmp_path / "m", make_params(), {}, {"README.md": "a card"})
    hashes = (tmp_path / "m" / HASHES).read_text().splitlines(keepends=True)
    assert hashes[0] == "# adjax: model\n"
    (tmp_path / "m" / HASHES).write_text("".join(hashes[1:]))
    jax.tree.map(assert_array_equal, load_model(tmp_path / "m", template()), make_params())
    save_model(tmp_path / "m", make_params(1), {})


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


def test_a_model_that_a_killed_process_had_put_aside_is_found(tmp_path: Path) -> None:
    save_model(tmp_path / "m", make_params(), {"width": 3})
    (tmp_path / "m").rename(tmp_path / ".adjax-m.old")
    assert read_settings(tmp_path / "m") == {"width": 3}
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize(
    "tree",
    [
        {"a": {"b": np.ones(2)}, "a.b": np.zeros(2)},
        {"a": np.array(["text"])},
        {"a": np.array([1 + 2j], np.clongdouble)},
        {"a": np.array([object()])},
        np.ones(2),
    ],
)
def test_arrays_that_would_not_come_back_are_refused(tmp_path: Path, tree: object) -> None:
    with pytest.raises(StoreError, match=r"one name|cannot hold these arrays"):
        save_model(tmp_path / "m", tree, {})
    assert not list(tmp_path.iterdir())


def test_texts_stay_in_the_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no name of a file"):
        save_model(tmp_path / "m", make_params(), {}, {"../escaped.txt": "x"})
    assert not list(tmp_path.iterdir())


def test_a_folder_is_not_replaced_from_within(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for place in (Path(), Path("/")):
        with pytest.raises(StoreError, match=r"from within|would be lost"):
            save_model(place, make_params(), {})


@pytest.mark.parametrize("name", ["SHA256SUMS", "settings.json"])
def test_a_pipe_in_a_model_blocks_nobody(tmp_path: Path, name: str) -> None:
    save_model(tmp_path / "m", make_params(), {})
    (tmp_path / "m" / name).unlink()
    os.mkfifo(tmp_path / "m" / name)
    with pytest.raises(StoreError, match="SHA256SUMS"):
        read_settings(tmp_path / "m")
