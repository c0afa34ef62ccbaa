"""How long the audio of a file should be, by its own account, against the file: truncation that libsndfile hides.

| format | its account |
|---|---|
| WAV (RIFF, RIFX, RF64), AIFF, CAF, W64 | the length of the chunk that holds the audio |
| AU | the length in its header |
| Ogg (Vorbis, Opus, FLAC) | whole pages, the last of them marked as such (`adjax.data.frames`) |
| MP3, MP2 | whole frames, all of which are decoded, and the bytes of a Xing header (`adjax.data.frames`) |
| FLAC | the number of samples and a checksum for each frame: seen when it is decoded |

Whatever else libsndfile reads is refused: a truncated file would pass for a shorter one.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from adjax.data.descriptors import AS_WRITTEN, LENGTH_SHORT, LENGTH_ZERO, NO_LENGTH
from adjax.data.frames import MAX_AFTER, Frames, check_pages, is_mpeg, read_frames
from adjax.data.headers import RENEW, what_it_is
from adjax.types import ClipError

# What writes into a pipe cannot know the length: ffmpeg writes 0xFFFFFFFF, sox 0x7FFFF000, arecord 0x80000000,
# others something just below 2^31, and into 64 bits -1 or 2^63 - 1. No file is as long as this without being cut.
_UNKNOWN_LENGTH = {4: 0x7FFF0000, 8: 2**62}
_MOST_CHUNKS = 10_000  # a file of empty chunks only would keep us for minutes
_MPEG_TAGS = (0x50, 0x55)  # in the "fmt " chunk of WAV


class Length(NamedTuple):
    """What a file says of the length of its audio, against the file itself.

    Attributes:
        n_missing: bytes that it promises beyond the file's end.
        recovered: whether the length was wrong and can be told from the file's (see `ClipInfo.recovered`).
        patches: what the header should say instead: bytes, by their place in the file.
        frames: of MPEG audio.
        talks: whether a library may write to the terminal of what it finds in such a file.
    """

    n_missing: int = 0
    recovered: int = AS_WRITTEN
    patches: tuple[tuple[int, bytes], ...] = ()
    frames: Frames | None = None
    talks: bool = False


class _Layout(NamedTuple):
    """Chunks one after another: name, length, content.

    Attributes:
        first: where the first chunk is.
        audio: name of the chunk that holds the audio; all names are as long.
        length: of a chunk, as `struct` has it.
        counts_itself: whether the length includes name and length.
        align: chunks start at multiples of this.
    """

    first: int
    audio: bytes
    length: str
    counts_itself: bool = False
    align: int = 2

    @property
    def n_head(self) -> int:
        """Bytes of a chunk before its content."""
        return len(self.audio) + struct.calcsize(self.length)


class _Chunk(NamedTuple):
    name: bytes
    start: int
    length: int


_W64 = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_LAYOUTS = {
    (b"RIFF", b"WAVE"): _Layout(12, b"data", "<I"),
    (b"RIFX", b"WAVE"): _Layout(12, b"data", ">I"),
    (b"RF64", b"WAVE"): _Layout(12, b"data", "<I"),
    (b"FORM", b"AIFF"): _Layout(12, b"SSND", ">I"),
    (b"FORM", b"AIFC"): _Layout(12, b"SSND", ">I"),
    (b"caff", b"desc"): _Layout(8, b"data", ">Q", align=1),
    (b"riff", _W64[8:12]): _Layout(40, b"data" + bytes.fromhex("f3acd3118cd100c04f8edb8a"), "<Q", True, 8),
}


def read_length(path: str | os.PathLike[str], raw: io.FileIO) -> Length:
    """Compare what a file says of its audio's length with the file.

    Raises:
        ClipError: truncated or damaged without a doubt, or in no format of which that could be seen.
    """
    head = raw.read(64)
    size = os.fstat(raw.fileno()).st_size
    if layout := _LAYOUTS.get((head[:4], head[8:12])):
        found = _of_chunks(path, raw, layout, size)
        return found._replace(talks=found.frames is not None or head[28:32] == b"alac")
    if head[:4] in (b".snd", b"dns."):
        return _of_au(raw, head, size)
    if head[:4] == b"OggS":
        return Length(0, check_pages(path, raw, size))
    start = _after_id3(head)
    raw.seek(start)
    mark = raw.read(4)
    if mark == b"fLaC":
        return Length()
    words = what_it_is(head)
    if is_mpeg(mark) and not words:
        frames = read_frames(path, raw, start, size)
        return Length(frames.n_missing, frames=frames, talks=True)
    words = words or f"is no readable audio file (no WAV, FLAC, AIFF, AU, CAF, W64, Ogg or MP3); {RENEW}"
    raise ClipError(path, words)


def _after_id3(head: bytes) -> int:
    """Where the audio starts: after a title and the like, which may stand before MP3 and FLAC."""
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    return 10 + sum((byte & 127) << 7 * i for i, byte in enumerate(reversed(head[6:10])))


def _chunks(raw: io.FileIO, layout: _Layout, position: int, size: int) -> Iterator[_Chunk]:
    """The chunks from a position on, as long as they have printable names."""
    n_name = len(layout.audio)
    for _ in range(_MOST_CHUNKS):
        raw.seek(position)
        head = raw.read(layout.n_head)
        if len(head) < layout.n_head or not all(32 <= byte < 127 for byte in head[:4]):
            return
        (length,) = struct.unpack(layout.length, head[n_name:])
        start = position + layout.n_head
        if layout.counts_itself:
            length = max(0, length - layout.n_head)
        yield _Chunk(head[:n_name], start, length)
        position = start + length + -(start + length) % layout.align
        if position >= size:
            return


def _of_chunks(path: str | os.PathLike[str], raw: io.FileIO, layout: _Layout, size: int) -> Length:
    """The length of the chunk that holds the audio, against the bytes that follow."""
    mpeg, of_rf64 = False, None
    for chunk in _chunks(raw, layout, layout.first, size):
        if chunk.name == b"ds64":  # RF64 keeps lengths of 64 bits here: of the file, then of the data
            of_rf64 = chunk
        if chunk.name == b"fmt ":
            mpeg = struct.unpack(layout.length[0] + "H", raw.read(2).ljust(2, b"\0"))[0] in _MPEG_TAGS
        if chunk.name == layout.audio:
            break
    else:
        raise ClipError(path, f"is no readable audio file (its header leads to no audio); {RENEW}")
    length, n_field = chunk.length, struct.calcsize(layout.length)
    if of_rf64 and length in (0, 0xFFFFFFFF):
        raw.seek(of_rf64.start)
        length, n_field = int.from_bytes(raw.read(16)[8:], "little"), 8
    end = chunk.start + length
    frames = read_frames(path, raw, chunk.start, min(end, size)) if mpeg else None
    if length == 0 and size > chunk.start and not _only_chunks(raw, layout, chunk.start, size):
        recovered = LENGTH_ZERO
    elif length >= _UNKNOWN_LENGTH[n_field] and end > size:
        recovered = NO_LENGTH
    else:
        after = end + -end % layout.align
        more = size > after + MAX_AFTER and not _only_chunks(raw, layout, after, size)
        return Length(max(0, end - size), LENGTH_SHORT if more else AS_WRITTEN, frames=frames)
    return Length(0, recovered, _patches(layout, chunk, of_rf64, size), frames)


def _patches(
    layout: _Layout, chunk: _Chunk, of_rf64: _Chunk | None, size: int
) -> tuple[tuple[int, bytes], ...]:
    """A header that says that its audio reaches to the end of the file."""
    n_field, length = struct.calcsize(layout.length), size - chunk.start
    if layout.counts_itself:
        length += layout.n_head
    whole = struct.pack(layout.length, length) if length < 256**n_field - 1 else b"\xff" * n_field
    patches = [(chunk.start - n_field, whole)]
    if of_rf64:
        patches = [
            (chunk.start - n_field, b"\xff" * n_field),
            (of_rf64.start, struct.pack("<QQ", size - 8, length)),
        ]
    elif n_field == 4:
        patches.append((4, struct.pack(layout.length, min(size - 8, 0xFFFFFFFF))))
    return tuple(patches)


def _only_chunks(raw: io.FileIO, layout: _Layout, position: int, size: int) -> bool:
    """Whether the rest of the file is chunks up to its very end."""
    end = position
    for chunk in _chunks(raw, layout, position, size):
        end = chunk.start + chunk.length
    return end <= size <= end + layout.align - 1


def _of_au(raw: io.FileIO, head: bytes, size: int) -> Length:
    """AU has one length, of all that follows its header."""
    order = ">" if head[:4] == b".snd" else "<"
    start, length = struct.unpack(order + "II", head[4:12].ljust(8, b"\0"))
    to_the_end = ((8, b"\xff" * 4),)
    if length == 0 and size > start:
        return Length(0, LENGTH_ZERO, to_the_end)
    if length >= _UNKNOWN_LENGTH[4] and start + length > size:
        return Length(0, NO_LENGTH, to_the_end)
    more = size > start + length + MAX_AFTER
    return Length(max(0, start + length - size), LENGTH_SHORT if more else AS_WRITTEN)


class Mended(io.RawIOBase):
    """A file whose header reads as it should, without a copy of the rest."""

    def __init__(self, raw: io.FileIO, patches: tuple[tuple[int, bytes], ...]) -> None:
        self._raw, self._patches = raw, patches
        raw.seek(0)

    def readinto(self, buffer: Any) -> int:
        """Read the file's bytes, and where there is a patch, its bytes."""
        start, view = self._raw.tell(), memoryview(buffer).cast("B")
        n = self._raw.readinto(view)
        for place, patch in self._patches:
            low, high = max(start, place), min(start + n, place + len(patch))
            if low < high:
                view[low - start : high - start] = patch[low - place : high - place]
        return n

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place in the file."""
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        """The place in the file."""
        return self._raw.tell()

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True
