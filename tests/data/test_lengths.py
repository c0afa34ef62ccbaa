"""Truncation is seen in every format that is read, and what cannot show it is not read."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from adjax.data.audio import read_clip, read_info
from adjax.data.descriptors import AS_WRITTEN, LENGTH_SHORT, LENGTH_ZERO, NO_LENGTH
from adjax.data.frames import read_frames
from adjax.data.headers import open_regular
from adjax.data.lengths import Mended
from adjax.types import ClipError

NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 16_000).astype(np.float32)

READ = [
    *[("WAV", s) for s in ("PCM_U8", "PCM_24", "FLOAT", "ULAW", "IMA_ADPCM", "MS_ADPCM", "GSM610")],
    *[("RF64", "PCM_16"), ("W64", "PCM_16"), ("W64", "GSM610"), ("AU", "PCM_16"), ("AU", "G721_32")],
    *[("AIFF", "PCM_16"), ("AIFF", "ULAW"), ("CAF", "PCM_16"), ("CAF", "ALAC_16"), ("FLAC", "PCM_16")],
    *[("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")],
]
# What libsndfile reads without a word when half of it is there.
REFUSED = [
    "AVR",
    "HTK",
    "SVX",
    "MAT4",
    "MAT5",
    "MPC2K",
    "PAF",
    "PVF",
    "SDS",
    "IRCAM",
    "VOC",
    "NIST",
    "WVE",
    "XI",
]


def written(path: Path, format_: str, subtype: str, **how: object) -> bytearray:
    soundfile.write(path, NOISE, how.pop("sr", 16_000), format=format_, subtype=subtype, **how)
    return bytearray(path.read_bytes())


def outcome(path: Path, data: bytes) -> tuple[int, int]:
    path.write_bytes(data)
    clip = read_clip(path)
    assert read_info(path).n_samples == clip.info.n_samples
    return clip.info.n_samples, clip.info.recovered


@pytest.mark.parametrize(("format_", "subtype"), READ)
def test_truncation_is_seen_in_every_format_that_is_read(tmp_path: Path, format_: str, subtype: str) -> None:
    path = tmp_path / "x.wav"  # by whatever name
    data = written(path, format_, subtype)
    n_samples, recovered = outcome(path, data)
    assert n_samples >= 16_000
    assert recovered == AS_WRITTEN
    last = data.rindex(b"OggS") if format_ == "OGG" else len(data) - 2
    for n_kept in (len(data) // 3, len(data) // 2, last):
        with pytest.raises(ClipError, match=r"is (truncated|damaged)"):
            outcome(path, data[:n_kept])


@pytest.mark.parametrize("format_", REFUSED)
def test_formats_that_cannot_show_truncation_are_refused(tmp_path: Path, format_: str) -> None:
    soundfile.write(tmp_path / "x.wav", NOISE[:1000], 8000 if format_ == "WVE" else 44_100, format=format_)
    with pytest.raises(
        ClipError, match=r"convert it to WAV or FLAC|is no readable audio file \(no WAV, FLAC"
    ):
        read_clip(tmp_path / "x.wav")


@pytest.mark.parametrize("riff", [0x80000024, 0xFFFFFFFF, 0, 36])
@pytest.mark.parametrize("how", [{"subtype": "PCM_16"}, {"subtype": "PCM_24"}, {"subtype": "PCM_U8"}])
def test_headers_of_arecord(tmp_path: Path, riff: int, how: dict[str, str]) -> None:
    data = written(tmp_path / "x.wav", "WAV", **how)
    place = data.index(b"data") + 4
    data[place : place + 4], data[4:8] = struct.pack("<I", 0x80000000), struct.pack("<I", riff)
    assert outcome(tmp_path / "x.wav", data) == (16_000, NO_LENGTH)
    n_bytes = {"PCM_16": 2, "PCM_24": 3, "PCM_U8": 1}[how["subtype"]]
    assert outcome(tmp_path / "x.wav", data[: place + 4 + 8000 * n_bytes]) == (8000, NO_LENGTH)
    assert outcome(tmp_path / "x.wav", data[: place + 5 + 8000 * n_bytes])[1] == NO_LENGTH


@pytest.mark.parametrize(
    ("format_", "mark", "place", "form", "unknown"),
    [
        ("AU", b".snd", 8, ">I", 0xFFFFFFFF),
        ("AU", b".snd", 8, ">I", 0x7FFFFFFF),
        ("AIFF", b"SSND", 4, ">I", 0xFFFFFFFF),
        ("CAF", b"data", 4, ">q", -1),
        ("W64", b"data", 16, "<q", 2**63 - 1),
        ("W64", b"data", 16, "<q", -1),
        ("RF64", b"ds64", 16, "<q", -1),
    ],
)
def test_lengths_that_nobody_knew_in_other_formats(
    tmp_path: Path, format_: str, mark: bytes, place: int, form: str, unknown: int
) -> None:
    path = tmp_path / "x.wav"
    data = written(path, format_, "PCM_16")
    at, n = data.index(mark) + place, struct.calcsize(form)
    for length, recovered in ((unknown, NO_LENGTH), (0, LENGTH_ZERO)):
        data[at : at + n] = struct.pack(form, length)
        n_samples, found = outcome(path, data)
        assert found == recovered
        assert 16_000 <= n_samples <= 16_004  # AIFF and CAF have a few bytes more before the samples
    data[at : at + n] = struct.pack(form, 2**30)
    with pytest.raises(ClipError, match="bytes missing"):
        outcome(path, data)


def test_what_follows_the_last_page_of_ogg(tmp_path: Path) -> None:
    data = bytes(written(tmp_path / "x.ogg", "OGG", "VORBIS"))
    assert outcome(tmp_path / "x.ogg", data + b"TAG" + bytes(125)) == (16_000, AS_WRITTEN)
    assert outcome(tmp_path / "x.ogg", data + data) == (16_000, LENGTH_SHORT)
    with pytest.raises(ClipError, match="is damaged"):
        outcome(tmp_path / "x.ogg", data + bytes(10_000))
    marked = bytearray(data)
    marked[marked.rindex(b"OggS") + 5] &= ~4
    with pytest.raises(ClipError, match="not marked as the last"):
        outcome(tmp_path / "x.ogg", marked)


def without_xing(path: Path, mode: str, sr: int) -> bytes:
    data = bytes(written(path, "MP3", "MPEG_LAYER_III", sr=sr, bitrate_mode=mode, compression_level=0.5))
    second = next(i for i in range(4, len(data)) if data[i : i + 2] == data[:2])
    return data[second:]


@pytest.mark.parametrize("sr", [16_000, 44_100])
def test_mp3_of_one_bit_rate_needs_no_header(tmp_path: Path, sr: int) -> None:
    data = without_xing(tmp_path / "x.mp3", "CONSTANT", sr)
    whole = outcome(tmp_path / "x.mp3", data)[0]
    assert whole % 576 == 0
    assert 16_000 < whole < 16_000 + 5 * 1152
    assert (
        outcome(tmp_path / "x.mp3", b"ID3\x03\0\0\0\0\0\x0a" + bytes(10) + data + b"TAG" + bytes(125))[0]
        == whole
    )
    with pytest.raises(ClipError, match="bytes missing"):
        outcome(tmp_path / "x.mp3", data[:-3])


def test_mp3_of_many_bit_rates_needs_one(tmp_path: Path) -> None:
    """Libmpg123 would guess a length from the first frame, and the rest of the recording would go unheard."""
    data = without_xing(tmp_path / "x.mp3", "VARIABLE", 16_000)
    with pytest.raises(
        ClipError, match=r"is MP3 of .* samples, but its header leads to .*; convert it to WAV"
    ):
        outcome(tmp_path / "x.mp3", data)


@pytest.mark.parametrize(
    ("mark", "n_bytes", "n_samples"),
    [
        (b"\xff\xfb\x90\x00", 417, 1152),  # MPEG 1, layer III, 128 kbit/s, 44.1 kHz
        (b"\xff\xfb\x92\x00", 418, 1152),  # the same, padded
        (b"\xff\xf3\x40\x00", 104, 576),  # MPEG 2, 32 kbit/s, 22.05 kHz
        (b"\xff\xe3\x48\x00", 288, 576),  # MPEG 2.5, 32 kbit/s, 8 kHz
        (b"\xff\xfd\x84\x00", 384, 1152),  # MPEG 1, layer II, 128 kbit/s, 48 kHz
        (b"\xff\xff\x92\x00", 316, 384),  # MPEG 1, layer I, 288 kbit/s, 44.1 kHz, padded
    ],
)
def test_lengths_of_frames(tmp_path: Path, mark: bytes, n_bytes: int, n_samples: int) -> None:
    (tmp_path / "x.mp3").write_bytes((mark + bytes(n_bytes - 4)) * 3)
    with open_regular(tmp_path / "x.mp3") as raw:
        assert read_frames("x.mp3", raw, 0, 3 * n_bytes) == (0, 3 * n_samples, False)
        assert read_frames("x.mp3", raw, 0, 3 * n_bytes - 5).n_missing == 5


def test_a_name_tells_nothing(tmp_path: Path) -> None:
    """By its name libsndfile would take any file for 8-bit samples at 8 kHz."""
    for name in ("x.au", "x.snd", "x.vox", "x.gsm", "x.raw"):
        (tmp_path / name).write_bytes(b"hello, " * 1000)
        with pytest.raises(ClipError, match="is no readable audio file"):
            read_clip(tmp_path / name)


def test_mended_files_read_as_a_file_does(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(range(100)))
    with open_regular(tmp_path / "x") as raw:
        mended = io.BufferedReader(Mended(raw, ((5, b"abcd"), (98, b"yz"))), 3)
        expected = bytes(range(5)) + b"abcd" + bytes(range(9, 98)) + b"yz"
        assert mended.read() == expected
        for place in range(100):
            mended.seek(place)
            assert mended.read(7) == expected[place : place + 7]


def test_chunks_without_end_are_not_followed(tmp_path: Path) -> None:
    data = written(tmp_path / "x.wav", "WAV", "PCM_16")
    (tmp_path / "x.wav").write_bytes(data[:36] + (b"junk" + bytes(4)) * 2**20 + data[36:])
    with pytest.raises(ClipError, match="its header leads to no audio"):
        read_info(tmp_path / "x.wav")
