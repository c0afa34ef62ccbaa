"""Headers that lie, and files that are no audio at all: looked at before libsndfile, which is forgiving or silent."""

from __future__ import annotations

import io
import os
import stat
import struct
from typing import BinaryIO, NamedTuple

from adjax.data.descriptors import AS_WRITTEN, LENGTH_SHORT, LENGTH_ZERO, NO_LENGTH
from adjax.types import ClipError

# What writes into a pipe cannot know the length: ffmpeg writes 0xFFFFFFFF, sox 0x7FFFF000, arecord 0x80000000,
# others something just below 2^31. No file is as long as this without being cut.
_UNKNOWN_LENGTH = 0x7FFF0000
_PADDING = 4096  # bytes after the last chunk that are no sign of lost audio

# First bytes of files that often bear a clip's name: where, what, and the words for it.
_ANOTHER_FORMAT = "convert it to WAV or FLAC first"
_STRANGERS = (
    (0, b"version https://git-lfs", "is a Git LFS pointer, not the audio itself; run `git lfs pull`"),
    (4, b"ftyp", f"looks like AAC/MP4 (M4A), which cannot be read; {_ANOTHER_FORMAT}"),
    (0, b"\xff\xf1", f"looks like AAC (ADTS), which cannot be read; {_ANOTHER_FORMAT}"),
    (0, b"\xff\xf9", f"looks like AAC (ADTS), which cannot be read; {_ANOTHER_FORMAT}"),
    (0, b"0&\xb2u\x8ef\xcf\x11", f"looks like WMA, which cannot be read; {_ANOTHER_FORMAT}"),
    (0, b"\x1aE\xdf\xa3", f"looks like WebM or Matroska, which cannot be read; {_ANOTHER_FORMAT}"),
    (0, b"#!AMR", f"looks like AMR, which cannot be read; {_ANOTHER_FORMAT}"),
    (0, b"PK\x03\x04", "is a zip archive, not audio; unpack it"),
    (0, b"\x1f\x8b", "is a gzip archive, not audio; unpack it"),
    (0, b"<!DOCTYPE", "is a web page, not audio; download the file itself"),
    (0, b"<html", "is a web page, not audio; download the file itself"),
)


class Length(NamedTuple):
    """What the header of a RIFF file says of the length of its audio, against the file itself.

    Attributes:
        n_missing: bytes that it promises beyond the file's end.
        recovered: whether the length was wrong and can be told from the file's (see `ClipInfo.recovered`).
        start: where the audio begins.
    """

    n_missing: int = 0
    recovered: int = AS_WRITTEN
    start: int = 0


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading; a FIFO or a device, which would block or never end, is refused unopened.

    Raises:
        ClipError: missing, not to be opened, or no regular file.
    """
    try:
        if not stat.S_ISREG(mode := os.stat(path).st_mode):
            what = "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"
            raise ClipError(path, f"cannot be opened (it is {what}, not a file); give the recording itself")
        return open(path, "rb")
    except FileNotFoundError as error:
        raise ClipError(path, "no such file; check the path") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise ClipError(path, f"cannot be opened ({getattr(error, 'strerror', error)})") from error


def read_length(raw: BinaryIO) -> Length:
    """Compare the data chunk of a RIFF, RIFX or RF64 file with the file's size; other formats pass."""
    head = raw.read(12)
    if head[:4] not in (b"RIFF", b"RIFX", b"RF64") or head[8:] != b"WAVE":
        return Length()
    order = ">" if head[:4] == b"RIFX" else "<"
    size, position, long_length = os.fstat(raw.fileno()).st_size, 12, None
    while position + 8 <= size:
        raw.seek(position)
        name, length = struct.unpack(order + "4sI", raw.read(8))
        if name == b"ds64":  # RF64 keeps lengths of 64 bits here: of the file, then of the data
            long_length = int.from_bytes(raw.read(16)[8:], "little")
        if name == b"data":
            return _compare(raw, position + 8, length, long_length, order)
        if not _is_name(name):  # no chunk: zeros, of which a large file would have many
            return Length()
        position += 8 + length + length % 2  # chunks start at even positions
    return Length()


def _compare(raw: BinaryIO, start: int, length: int, long_length: int | None, order: str) -> Length:
    """The data chunk's length, or that of RF64's own chunk if there is one, against the bytes that follow."""
    size = os.fstat(raw.fileno()).st_size
    if long_length is None and length >= _UNKNOWN_LENGTH and start + length > size:
        return Length(0, NO_LENGTH, start)
    if long_length is not None and length in (0, 0xFFFFFFFF):
        length = long_length
    if length == 0 and size > start and not _only_chunks(raw, start, size, order):
        return Length(0, LENGTH_ZERO, start)
    end = start + length + length % 2
    if size > end + _PADDING and not _only_chunks(raw, end, size, order):
        return Length(0, LENGTH_SHORT, start)
    return Length(max(0, start + length - size), AS_WRITTEN, start)


def mended(raw: BinaryIO, length: Length) -> io.BytesIO:
    """A copy in memory of a RIFF file whose audio reaches from `length.start` to the end, and says so."""
    raw.seek(0)
    data = bytearray(raw.read())
    order = ">" if data[:4] == b"RIFX" else "<"
    if data[:4] == b"RF64":  # as RIFF: the lengths of 64 bits are the wrong ones
        data[:4] = b"RIFF"
        data[12:16] = b"JUNK"
    data[4:8] = struct.pack(order + "I", min(len(data) - 8, 0xFFFFFFFF))
    data[length.start - 4 : length.start] = struct.pack(
        order + "I", min(len(data) - length.start, 0xFFFFFFFF)
    )
    return io.BytesIO(data)


def what_it_is(path: str | os.PathLike[str]) -> str | None:
    """What an unreadable file is, by its first bytes, and what to do about it; None if nobody knows."""
    with open_regular(path) as raw:
        head = raw.read(64)
    for place, mark, words in _STRANGERS:
        if head[place : place + len(mark)].lower() == mark.lower():
            return words
    return None


def _only_chunks(raw: BinaryIO, position: int, size: int, order: str) -> bool:
    """Whether the rest of the file is chunks, each with a printable name, up to its very end."""
    while position + 8 <= size:
        raw.seek(position)
        name, length = struct.unpack(order + "4sI", raw.read(8))
        if not _is_name(name):
            return False
        position += 8 + length + length % 2
    return position in (size, size + 1)


def _is_name(name: bytes) -> bool:
    return all(32 <= byte < 127 for byte in name)
