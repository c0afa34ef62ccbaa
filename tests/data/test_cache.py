from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from adjax.data import cache, cache_usage
from adjax.data.cache import ClipCache, Content
from adjax.data.descriptors import N_BANDS, ClipInfo

SPECTRUM = tuple(-40.0 - i / 4 for i in range(N_BANDS))
HEADER = (48000, 2, 480_000, "MPEG_LAYER_III", 1)
INFO = ClipInfo(*HEADER, 0.5, 0.25, 1600, 2**64 - 1, -38.5, 0.125, 0.0625, -3.0, -1.0, SPECTRUM, 16000)
N_HEADER = 257
N_BYTES = N_HEADER + 24  # three rows of two numbers


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are trusted at once, not only after two seconds."""
    monkeypatch.setattr(cache, "SETTLE_NS", 0)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "x.wav"
    path.write_bytes(b"sound")
    return path


def rows(n: int = 3) -> np.ndarray:
    return np.arange(2.0 * n, dtype=np.float32).reshape(n, 2)


def store(folder: Path, settings: str = "a") -> ClipCache:
    return ClipCache(folder / "cache", settings, 2)


def look(held: ClipCache, path: Path) -> Content:
    (content,) = held.contents([path])
    assert content is not None
    return content


def entry(folder: Path) -> Path:
    (path,) = (p for p in (folder / "cache").rglob("*") if p.is_file() and len(p.name) == 64)
    return path


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("n", [0, 1, 3])
def test_what_is_stored_comes_back(tmp_path: Path, clip: Path, n: int) -> None:
    held = store(tmp_path)
    content = look(held, clip)
    assert held.n_rows(content) is None
    assert held.write(content, rows(n), INFO)
    held.close()
    again = store(tmp_path)
    content = look(again, clip)
    assert again.n_rows(content) == n
    out = np.full((n, 2), np.nan, np.float32)
    assert again.read(content, out) == INFO
    np.testing.assert_array_equal(out, rows(n))
    assert again.read_all({7: (content, out)}) == {7: INFO}


@pytest.mark.usefixtures("settled")
def test_an_entry_of_an_older_version_is_dropped(tmp_path: Path, clip: Path) -> None:
    """Version 1 had a header of 36 bytes."""
    held = store(tmp_path)
    content = look(held, clip)
    held.write(content, rows(), INFO)
    entry(tmp_path).write_bytes(b"adjax-1\n" + bytes(28) + rows().tobytes())
    assert held.n_rows(content) is None


@pytest.mark.usefixtures("settled")
def test_another_setting_has_nothing(tmp_path: Path, clip: Path) -> None:
    held = store(tmp_path)
    held.write(look(held, clip), rows(), INFO)
    other = store(tmp_path, "b")
    assert other.n_rows(look(other, clip)) is None


@pytest.mark.usefixtures("settled")
def test_equal_content_under_another_name_is_found(tmp_path: Path, clip: Path) -> None:
    held = store(tmp_path)
    held.write(look(held, clip), rows(), INFO)
    moved = clip.rename(tmp_path / "y.wav")
    assert held.n_rows(look(held, moved)) == 3


@pytest.mark.usefixtures("settled")
def test_a_changed_file_of_equal_size_and_time_is_seen(tmp_path: Path, clip: Path) -> None:
    """Its time of modification can be set back; the time of change cannot."""
    held = store(tmp_path)
    content = look(held, clip)
    held.write(content, rows(), INFO)
    before = clip.stat()
    clip.write_bytes(b"SOUND")
    os.utime(clip, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert clip.stat().st_mtime_ns == before.st_mtime_ns
    changed = look(held, clip)
    assert changed.digest != content.digest
    assert held.n_rows(changed) is None


@pytest.mark.usefixtures("settled")
def test_an_unchanged_file_is_not_read_again(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = look(store(tmp_path), clip)
    monkeypatch.delattr(cache.hashlib, "file_digest")
    assert look(store(tmp_path), clip) == first


def test_a_file_just_written_is_not_trusted(tmp_path: Path, clip: Path) -> None:
    held = store(tmp_path)
    content = look(held, clip)
    assert not content.settled
    assert not held.write(content, rows(), INFO)
    assert not (tmp_path / "cache").exists()


@pytest.mark.usefixtures("settled")
def test_a_file_that_changed_since_it_was_looked_at_is_not_stored(tmp_path: Path, clip: Path) -> None:
    held = store(tmp_path)
    content = look(held, clip)
    clip.write_bytes(b"other")
    assert not held.write(content, rows(), INFO)
    assert held.n_rows(content) is None


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("place", [0, 8, 12, 20, 30, 100, N_HEADER - 1, N_HEADER, N_BYTES - 1])
def test_a_damaged_entry_is_dropped(tmp_path: Path, clip: Path, place: int) -> None:
    held = store(tmp_path)
    content = look(held, clip)
    held.write(content, rows(), INFO)
    data = bytearray(entry(tmp_path).read_bytes())
    assert len(data) == N_BYTES
    data[place] ^= 1
    entry(tmp_path).write_bytes(data)
    assert held.read(content, np.zeros((3, 2), np.float32)) is None
    assert held.n_rows(content) is None


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("n_kept", [0, 10, N_HEADER - 1, N_HEADER, N_BYTES - 10, N_BYTES - 1])
def test_a_cut_entry_is_dropped(tmp_path: Path, clip: Path, n_kept: int) -> None:
    held = store(tmp_path)
    content = look(held, clip)
    held.write(content, rows(), INFO)
    entry(tmp_path).write_bytes(entry(tmp_path).read_bytes()[:n_kept])
    n = held.n_rows(content)
    assert n is None or held.read(content, np.zeros((n, 2), np.float32)) is None


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}'])
def test_a_damaged_index_is_forgotten(tmp_path: Path, clip: Path, text: str) -> None:
    content = look(store(tmp_path), clip)
    (tmp_path / "cache" / "contents.json").write_text(text)
    assert look(store(tmp_path), clip) == content


def test_missing_files_have_no_content(tmp_path: Path) -> None:
    assert store(tmp_path).contents([tmp_path / "no.wav", tmp_path]) == [None, None]


@pytest.mark.usefixtures("settled")
def test_a_cache_that_cannot_be_written_stores_nothing(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    held = store(tmp_path)
    assert not held.write(look(held, clip), rows(), INFO)
    held.close()


@pytest.mark.usefixtures("settled")
def test_show_empty_and_bound(tmp_path: Path, clip: Path) -> None:
    folder = tmp_path / "cache"
    assert cache_usage.show(folder) == []
    for i, name in enumerate(("first", "second", "third")):
        held = store(tmp_path, name)
        held.write(look(held, clip), rows(1000), INFO)
        held.close()
        for words in folder.glob("*/settings.txt"):
            if words.read_text() == name:
                os.utime(words, (i, i))
    assert [(u.settings, u.n_clips) for u in cache_usage.show(folder)] == [
        ("third", 1),
        ("second", 1),
        ("first", 1),
    ]
    held = store(tmp_path, "fourth")
    held.write(look(held, clip), rows(1000), INFO)
    held.close(max_bytes=17_000)  # room for two
    assert {u.settings for u in cache_usage.show(folder)} == {"third", "fourth"}
    (folder / "mine.txt").write_text("not the cache's")
    assert cache_usage.empty(folder) == pytest.approx(2 * (8000 + N_HEADER), abs=200)
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


@pytest.mark.usefixtures("settled")
def test_a_damaged_note_of_the_settings_stops_nobody(tmp_path: Path, clip: Path) -> None:
    folder = tmp_path / "cache"
    for name in ("first", "second"):
        held = store(tmp_path, name)
        held.write(look(held, clip), rows(10), INFO)
        held.close()
    for words, content in zip(sorted(folder.glob("*/settings.txt")), (b"\xff\xfe\0", None), strict=True):
        words.unlink()
        words.mkdir() if content is None else words.write_bytes(content)
    held = store(tmp_path, "third")  # another setting's run, which looks at all of them
    assert held.write(look(held, clip), rows(10), INFO)
    held.close()
    assert {usage.settings for usage in cache_usage.show(folder)} == {
        "third",
        r"\xff\xfe" + "\0",
        "(being written)",
    }
    cache_usage.empty(folder)
    assert not list(folder.rglob("*-cache"))
    assert [path.name for path in folder.rglob("*") if path.is_file()] == []


def test_emptying_deletes_entries_only(tmp_path: Path) -> None:
    """Also in folders whose name has 64 digits, or that look just like the cache's own."""
    digest = "ab" * 32
    theirs = [
        tmp_path / ("x" * 64) / "thesis.txt",
        tmp_path / ("0" * 64) / "thesis.txt",
        tmp_path / ("1" * 64) / "cd" / digest,
        tmp_path / ("1" * 64) / "sub" / "settings.txt",
        tmp_path / "elsewhere" / "settings.txt",
    ]
    ours = [tmp_path / ("1" * 64) / "ab" / digest, tmp_path / ("1" * 64) / "settings.txt"]
    for path in (*theirs, *ours):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (tmp_path / ("2" * 64)).symlink_to(tmp_path / "elsewhere")
    assert [usage.n_bytes for usage in cache_usage.show(tmp_path)] == [2]
    assert cache_usage.empty(tmp_path) == 2
    assert all(path.exists() for path in theirs)
    assert not any(path.exists() for path in ours)


@pytest.mark.usefixtures("settled")
def test_contents_that_lead_out_of_the_folder_are_not_believed(tmp_path: Path, clip: Path) -> None:
    held = store(tmp_path, "a")
    held.write(look(held, clip), rows(10), INFO)
    contents = tmp_path / "cache" / "contents.json"
    known = json.loads(contents.read_bytes())
    for wrong in ("../../x", 3, None, ["a"]):
        contents.write_text(json.dumps({path: [*entry[:-1], wrong] for path, entry in known.items()}))
        assert look(held, clip).digest == known[str(clip)][-1]
    for text in ("[" * 99_999, "[]", "{", ""):
        contents.write_text(text)
        assert look(held, clip).digest == known[str(clip)][-1]


def test_default_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADJAX_CACHE", "/a")
    assert cache.default_folder() == Path("/a")
    monkeypatch.delenv("ADJAX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache.default_folder() == Path("/b/adjax")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.default_folder() == Path.home() / ".cache" / "adjax"


WRITER = """
import sys, numpy as np
from pathlib import Path
from adjax.data import cache, cache_usage
cache.SETTLE_NS = 0
info = cache.ClipInfo(1, 1, 1, "PCM_16", *[0] * 10, (0.0,) * cache.N_BANDS, 1)
root = Path(sys.argv[1])
paths = sorted(root.glob("*.wav"))
for turn in range(3):
    held = cache.ClipCache(root / "cache", "a", 2)
    for i, content in enumerate(held.contents(paths)):
        out = np.zeros((50, 2), np.float32)
        if held.n_rows(content) is None:
            held.write(content, np.full((50, 2), i, np.float32), info._replace(peak=i))
        else:
            assert held.read(content, out) == info._replace(peak=i) and (out == i).all(), (turn, i)
    held.close()
"""


def test_two_processes_share_one_cache(tmp_path: Path) -> None:
    for i in range(40):
        (tmp_path / f"{i:02}.wav").write_bytes(bytes([i]))
    processes = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)]) for _ in range(2)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    (usage,) = cache_usage.show(tmp_path / "cache")
    assert usage.n_clips == 40
    assert not list((tmp_path / "cache").rglob("*.tmp"))
