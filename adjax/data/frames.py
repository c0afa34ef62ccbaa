"""Formats that say nothing of their length, but consist of parts that do: pages of Ogg, frames of MPEG audio."""

from __future__ import annotations

import io
import os
import struct
from typing import NamedTuple

from adjax.data.descriptors import AS_WRITTEN, LENGTH_SHORT
from adjax.data.headers import CONVERT, RENEW
from adjax.types import ClipError

MAX_AFTER = 4096  # bytes after the audio that are no sign of more of it

_TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3")  # a title and the like, after the last frame
# Of MPEG audio, from the index in a frame's header on. Bits per second / 1000, by (version 1?, layer) ...
_BITRATES = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
# ... and samples per second, by version (0 is 2.5).
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_TRIMMED = 4096  # samples that a Xing header may take off both ends: an encoder's delay and padding


class Frames(NamedTuple):
    """The frames of a file of MPEG audio.

    Attributes:
        n_missing: bytes missing at the end, by the last frame or by a Xing header.
        n_samples: that all frames make.
        counted: whether a Xing header says how many frames there are; if not, libmpg123 guesses by the first.
    """

    n_missing: int
    n_samples: int
    counted: bool

    def length(self, path: str | os.PathLike[str], n_claimed: int) -> int:
        """Samples to decode, where libmpg123 claims `n_claimed`.

        Raises:
            ClipError: it would leave out some.
        """
        if self.n_samples > n_claimed + (_TRIMMED if self.counted else 0):
            raise ClipError(
                path,
                f"is MP3 of {self.n_samples:,} samples, but its header leads to {n_claimed:,}; {CONVERT}",
            )
        return n_claimed if self.counted else self.n_samples


class _Frame(NamedTuple):
    """What the header of a frame of MPEG audio says: lengths, its kind, where a Xing header would be in it."""

    n_bytes: int
    n_samples: int
    kind: tuple[int, int, int]
    xing: int


def check_pages(path: str | os.PathLike[str], raw: io.FileIO, size: int) -> int:
    """Whether an Ogg file has its last page; returns `ClipInfo.recovered`.

    Raises:
        ClipError: it has not, or something else lies between its pages.
    """
    position = 0
    while position < size:
        raw.seek(position)
        head = raw.read(27)
        if head[:4] != b"OggS"[: len(head)]:
            raise ClipError(path, f"is damaged (no Ogg page at byte {position:,}); {RENEW}")
        sizes = raw.read(head[26]) if len(head) == 27 else b""
        if len(head) < 27 or len(sizes) < head[26] or position + 27 + len(sizes) + sum(sizes) > size:
            raise ClipError(path, f"is truncated (within an Ogg page); {RENEW}")
        position += 27 + len(sizes) + sum(sizes)
        if head[5] & 4:  # the last page of its stream
            raw.seek(position)
            if size <= position + MAX_AFTER:
                return AS_WRITTEN
            if raw.read(4) == b"OggS":  # another recording, which libsndfile leaves out
                return LENGTH_SHORT
    raise ClipError(path, f"is truncated (its last Ogg page is not marked as the last); {RENEW}")


def is_mpeg(mark: bytes) -> bool:
    """Whether four bytes may be the header of a frame of MPEG audio."""
    return len(mark) == 4 and mark[0] == 0xFF and mark[1] >= 0xE0


def read_frames(path: str | os.PathLike[str], raw: io.FileIO, start: int, size: int) -> Frames:
    """Count the frames of MPEG audio (MP3, MP2) from `start` to `size`.

    Raises:
        ClipError: frames of a length that is not told, or something else between them.
    """
    raw.seek(start)
    promised = _promised(raw.read(256))
    n_samples, position, kind = 0, start, None
    while position + 4 <= size:
        raw.seek(position)
        mark = raw.read(4)
        if not is_mpeg(mark):
            break
        frame = _frame(mark)
        if frame is None or frame.kind != (kind or frame.kind):
            raise ClipError(path, f"is damaged, or MP3 of no known length (byte {position:,}); {CONVERT}")
        if position > start or promised is None:  # a Xing header takes a frame for itself
            n_samples += frame.n_samples
        position, kind = position + frame.n_bytes, frame.kind
    raw.seek(position)
    if size - position > MAX_AFTER and not raw.read(16).startswith(_TAGS):
        raise ClipError(path, f"is damaged (no MPEG frame at byte {position:,}); {RENEW}")
    n_missing = max(position - size, start + (promised or 0) - size, 0)
    return Frames(n_missing, n_samples, promised is not None)


def _frame(mark: bytes) -> _Frame | None:
    """None if the header makes no sense or does not tell the length."""
    version, layer = mark[1] >> 3 & 3, 4 - (mark[1] >> 1 & 3)
    bitrate, rate, padding = mark[2] >> 4, mark[2] >> 2 & 3, mark[2] >> 1 & 1
    if version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
        return None
    one, mono = version == 3, mark[3] >> 6 == 3
    n_samples = 384 if layer == 1 else 1152 if one or layer == 2 else 576
    n_slot = 4 if layer == 1 else 1
    bits = 1000 * _BITRATES[one, layer][bitrate - 1]
    n_bytes = n_slot * (n_samples // 8 // n_slot * bits // _RATES[version][rate] + padding)
    xing = 4 + ((17 if mono else 32) if one else (9 if mono else 17))
    return _Frame(n_bytes, n_samples, (version, layer, rate), xing)


def _promised(first: bytes) -> int | None:
    """Bytes from the first frame on, by a Xing header in it; None if it counts no frames."""
    frame = _frame(first[:4]) if is_mpeg(first[:4]) else None
    if frame is None or first[frame.xing : frame.xing + 4] not in (b"Xing", b"Info"):
        return None
    flags, _, n_bytes = struct.unpack(">III", first[frame.xing + 4 : frame.xing + 16].ljust(12, b"\0"))
    return None if not flags & 1 else n_bytes if flags & 2 else 0
