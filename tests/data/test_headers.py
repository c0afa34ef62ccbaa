"""Headers that lie, and files that are no audio."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from adjax.data import audio
from adjax.data.audio import read_clip, read_info
from adjax.data.cache import ClipCache
from adjax.data.clips import Clip
from adjax.data.descriptors import AS_WRITTEN, LENGTH_SHORT, LENGTH_ZERO, NO_LENGTH
from adjax.data.loader import scan
from adjax.types import ClipError

NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 16_000).astype(np.float32)


def written(path: Path, **how: object) -> bytearray:
    soundfile.write(path, NOISE, 16_000, **how)
    return bytearray(path.read_bytes())


def with_length(path: Path, length: int, **how: object) -> Path:
    """A WAV file whose data chunk says that it is so long."""
    data = written(path, **how)
    place = data.index(b"data") + 4
    data[place : place + 4] = struct.pack("<I", length)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize(
    ("length", "recovered"),
    [
        (0, LENGTH_ZERO),
        *[(n, NO_LENGTH) for n in (0x7FFF0000, 0x7FFFF000, 0x7FFFFFDB, 0x7FFFFFFF, 0x80000000)],
        *[(n, NO_LENGTH) for n in (0xFFFFFF00, 0xFFFFFFDB, 0xFFFFFFFF)],
    ],
)
def test_unknown_lengths_are_read_to_the_end(
    tmp_path: Path, subtype: str, length: int, recovered: int
) -> None:
    path = with_length(tmp_path / "x.wav", length, subtype=subtype)
    assert read_info(path).n_samples == 16_000
    clip = read_clip(path)
    assert clip.info.recovered == recovered
    np.testing.assert_allclose(clip.samples, NOISE, atol=2**-15)


def test_rf64_without_its_lengths(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    data = written(path, format="RF64", subtype="PCM_16")
    place = data.index(b"ds64")
    data[place + 8 : place + 32] = bytes(24)
    path.write_bytes(data)
    clip = read_clip(path)
    assert clip.info.recovered == LENGTH_ZERO
    np.testing.assert_allclose(clip.samples, NOISE, atol=2**-15)


def test_big_endian(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    data = written(path, subtype="PCM_16", endian="BIG")
    assert data[:4] == b"RIFX"
    assert read_clip(path).info.recovered == AS_WRITTEN
    path.write_bytes(data[:-100])
    with pytest.raises(ClipError, match="bytes missing: 100"):
        read_clip(path)


def test_an_empty_recording_with_words_after_it_stays_empty(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, np.zeros(0), 16_000)
    path.write_bytes(path.read_bytes() + b"LIST" + struct.pack("<I", 4) + b"INFO")
    with pytest.raises(ClipError, match="is empty: 0 samples"):
        read_info(path)


def test_audio_that_the_header_forgets_is_noted(tmp_path: Path) -> None:
    clip = read_clip(with_length(tmp_path / "x.wav", 12_000, subtype="PCM_16"))
    assert (clip.info.n_samples, clip.info.recovered) == (6000, LENGTH_SHORT)
    path = tmp_path / "y.wav"
    path.write_bytes(written(path) + b"LIST" + struct.pack("<I", 10_000) + bytes(10_000))
    assert read_clip(path).info.recovered == AS_WRITTEN


@pytest.mark.parametrize(
    ("head", "remedy"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 64044\n", "Git LFS.*git lfs pull"),
        (b"\0\0\0\x20ftypM4A \0\0\0\0" + bytes(50), "looks like AAC/MP4.*convert it to WAV or FLAC"),
        (b"\xff\xf1\x50\x80" + bytes(50), "looks like AAC.*convert it to WAV or FLAC"),
        (b"PK\x03\x04" + bytes(50), "zip archive.*unpack"),
        (b"<!doctype html><html>404</html>", "web page.*download"),
        (b"", "is no readable audio file.*copy or download it again"),
        (bytes(1000), "is no readable audio file.*copy or download it again"),
    ],
)
def test_strangers_are_named(tmp_path: Path, head: bytes, remedy: str) -> None:
    (tmp_path / "x.wav").write_bytes(head)
    with pytest.raises(ClipError, match=remedy):
        read_clip(tmp_path / "x.wav")


def test_pipes_sockets_and_devices_do_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.wav")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(tmp_path)  # a socket's path must be short
        try:
            server.bind("socket.wav")
        finally:
            os.chdir(here)
        (tmp_path / "zero.wav").symlink_to("/dev/zero")
        paths = [tmp_path / name for name in ("fifo.wav", "socket.wav", "zero.wav")]
        for path in paths:
            with pytest.raises(ClipError, match="a pipe, socket or device, not a file"):
                read_info(path)
        assert len(scan([Clip(path) for path in paths]).failures) == 3
        assert ClipCache(tmp_path / "cache", "a", 1).contents(paths) == [None] * 3


def test_a_link_to_a_pipe_and_a_pipe_put_in_a_files_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link.wav").symlink_to("fifo")
    written(tmp_path / "x.wav")
    regular = os.stat(tmp_path / "x.wav")
    for read in (read_info, read_clip):
        with pytest.raises(ClipError, match="a pipe, socket or device, not a file"):
            read(tmp_path / "link.wav")
    with monkeypatch.context() as at_the_look:  # between the look and the opening
        at_the_look.setattr(os, "stat", lambda *_, **__: regular)
        with pytest.raises(ClipError, match="a pipe, socket or device, not a file"):
            read_info(tmp_path / "fifo")


def test_nobody_who_reads_a_clip_opens_it_otherwise() -> None:
    """Libsndfile is given what `open_regular` opened, and no other module of the room opens clips."""
    room = Path(audio.__file__).parent
    opened = {path.name for path in room.glob("*.py") if "SoundFile(" in path.read_text(encoding="utf-8")}
    assert opened == {"audio.py"}
    assert "soundfile.SoundFile(path" not in Path(audio.__file__).read_text(encoding="utf-8")


def test_links_and_odd_names(tmp_path: Path) -> None:
    written(tmp_path / "x.wav")
    (tmp_path / "link.wav").symlink_to("x.wav")
    assert read_info(tmp_path / "link.wav").n_samples == 16_000
    (tmp_path / "gone.wav").symlink_to("nothing")
    with pytest.raises(ClipError, match="no such file"):
        read_info(tmp_path / "gone.wav")
    with pytest.raises(ClipError, match="cannot be opened"):
        read_info("a\0b.wav")


def test_a_flac_that_claims_too_much_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "x.flac"
    data = written(path)
    data[22:26] = struct.pack(">I", 2**29)  # the low 32 bits of STREAMINFO's number of samples
    path.write_bytes(data)
    for read in (read_info, read_clip):
        with pytest.raises(
            ClipError, match=r"claims 536,870,912 samples, more than a file of .* bytes can hold"
        ):
            read(path)


def claims(folder: Path) -> list[Path]:
    """Small files and sparse ones whose headers claim up to 2^63 samples or bytes."""
    paths = []

    def put(name: str, data: bytes, size: int = 0) -> None:
        (folder / name).write_bytes(data)
        paths.append(folder / name)
        if size:
            os.truncate(folder / name, size)

    def several(channels: int, sr: int, format_: str) -> bytearray:
        samples = np.stack([NOISE] * channels, axis=1)
        soundfile.write(folder / "x", samples, sr, format=format_, subtype="PCM_16")
        return bytearray((folder / "x").read_bytes())

    for n_channels, sr in ((1, 16_000), (8, 16_000), (8, 192_000)):
        for exponent in (24, 27, 28, 29, 35):
            data = several(n_channels, sr, "FLAC")
            data[21] = data[21] & 0xF0 | (2**exponent >> 32)
            data[22:26] = struct.pack(">I", 2**exponent & 0xFFFFFFFF)
            put(f"{exponent}_{n_channels}_{sr}.flac", data)
            put(f"{exponent}_{n_channels}_{sr}_sparse.flac", data, 2**33)
    for kind, mark, place, form in (
        ("RF64", b"ds64", 16, "<q"),
        ("AIFF", b"SSND", 4, ">I"),
        ("CAF", b"data", 4, ">q"),
        ("W64", b"data", 16, "<q"),
        ("AU", b".snd", 8, ">I"),
    ):
        data = several(1, 16_000, kind)
        at, n = data.index(mark) + place, struct.calcsize(form)
        for length in (2**40, 2**61) if n == 8 else (0x7FFE0000,):
            data[at : at + n] = struct.pack(form, length)
            put(f"{length}.{kind}", data)
            put(f"{length}_sparse.{kind}", data, min(length + 2**17, 2**43))
    put("zeros.mp3", an_mp3(folder), 2**33)
    return paths


def an_mp3(folder: Path) -> bytes:
    soundfile.write(folder / "x", NOISE, 16_000, format="MP3")
    return (folder / "x").read_bytes()


PEAK = """
import resource, sys
from pathlib import Path
from adjax.data.audio import read_clip
from adjax.data.clips import Clip
from adjax.data.loader import load_batches
from adjax.types import AdjaxError
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
"""
PEAK_OF_ONE = PEAK + "read_clip(sys.argv[1]); print(peak() - before)"
PEAK_OF_LIES = (
    PEAK
    + """
for path in sys.argv[1:]:
    for read in (read_clip, lambda path: sum(len(b.rows) for b in load_batches([Clip(Path(path))] * 6))):
        try:
            assert read(path) == 0, path
        except AdjaxError:
            pass
print(peak() - before)
"""
)


def test_what_a_header_claims_takes_no_memory(tmp_path: Path) -> None:
    """Peak of a child process over all claims, one by one and in batches: some 20 MB, not gigabytes."""
    command = [sys.executable, "-c", PEAK_OF_LIES, *map(str, claims(tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert int(done.stdout) < 200


def test_a_clip_without_a_length_takes_its_own_memory_only(tmp_path: Path) -> None:
    """A header that says 0 bytes, of a sparse file of 64 MiB: no copy of the file is made to mend it."""
    os.truncate(with_length(tmp_path / "x.wav", 0), 2**26)
    done = subprocess.run(
        [sys.executable, "-c", PEAK_OF_ONE, str(tmp_path / "x.wav")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 270  # MiB: 128 of samples, as much again to describe them


def test_an_hour_of_silence_in_flac_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "x.flac"
    with soundfile.SoundFile(path, "w", 8000, 1, "PCM_16") as file:
        for _ in range(60):
            file.write(np.zeros(60 * 8000, np.int16))
    assert path.stat().st_size < 200_000
    assert read_info(path).n_samples == 3600 * 8000


def test_a_clip_beyond_the_memory_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "x.wav")
    monkeypatch.setattr(audio, "MAX_BYTES", 4 * 16_000)
    assert scan([Clip(tmp_path / "x.wav")]).failures == ()
    for sr in (16_000, 48_000):
        monkeypatch.setattr(audio, "MAX_BYTES", 4 * sr - 1)
        with pytest.raises(ClipError, match=r"is too long: 0 minutes take .* cut it into shorter recordings"):
            read_clip(tmp_path / "x.wav", sr=sr)
        assert len(scan([Clip(tmp_path / "x.wav")], sr=sr).failures) == 1


@settings(deadline=None, max_examples=300)  # it writes to the disk
@given(
    changes=st.dictionaries(st.integers(0, 120), st.integers(0, 255), max_size=6), n_kept=st.integers(0, 4200)
)
@pytest.mark.parametrize("kind", ["WAV", "RF64", "WAVEX", "FLAC", "AIFF"])
def test_any_damage_is_a_clip_or_a_clip_error(
    tmp_path_factory: pytest.TempPathFactory, kind: str, changes: dict[int, int], n_kept: int
) -> None:
    path = tmp_path_factory.getbasetemp() / f"damaged.{kind}"
    soundfile.write(path, NOISE[:2000], 16_000, format=kind, subtype="PCM_16")
    data = bytearray(path.read_bytes())[: n_kept or None]
    for place, value in changes.items():
        if place < len(data):
            data[place] = value
    path.write_bytes(data)
    try:
        clip = read_clip(path)
    except ClipError:
        return
    assert len(clip.samples) > 0
    assert np.isfinite(clip.samples).all()
    assert np.isfinite([*clip.info.spectrum_db, clip.info.rms_db, clip.info.channel_db]).all()
