"""A model that is saved comes back, or is refused with a reason; what was there before survives every failure."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import adjax.store.arrays
from adjax.store import (
    check_ours,
    load_model,
    read_settings,
    save_model,
)
from adjax.store.folder import HASHES
from adjax.types import StoreError
from tests.store.made import make_params, no_space, tampered, template


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


def test_what_there_is_no_number_for_is_written_as_null(tmp_path: Path) -> None:
    save_model(
        tmp_path / "m",
        make_params(),
        {"a": float("nan"), "b": [np.float32(1.5), np.inf], "c": {1: np.int64(2)}},
    )
    assert read_settings(tmp_path / "m") == {"a": None, "b": [1.5, None], "c": {"1": 2}}


def test_a_model_of_before_the_kinds_is_replaced(tmp_path: Path) -> None:
    save_model(tmp_path / "m", make_params(), {}, {"README.md": "a card"})
    hashes = (tmp_path / "m" / HASHES).read_text().splitlines(keepends=True)
    assert hashes[0] == "# adjax: model\n"
    (tmp_path / "m" / HASHES).write_text("".join(hashes[1:]))
    jax.tree.map(assert_array_equal, load_model(tmp_path / "m", template()), make_params())
    save_model(tmp_path / "m", make_params(1), {})


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


@pytest.mark.parametrize("name", ["SHA256SUMS", "settings.json"])
def test_a_pipe_in_a_model_blocks_nobody(tmp_path: Path, name: str) -> None:
    save_model(tmp_path / "m", make_params(), {})
    (tmp_path / "m" / name).unlink()
    os.mkfifo(tmp_path / "m" / name)
    with pytest.raises(StoreError, match="SHA256SUMS"):
        read_settings(tmp_path / "m")
