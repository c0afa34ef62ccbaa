"""Files that are no recordings, though they bear a clip's name: refused before libsndfile sees them."""

from __future__ import annotations

import io
import os
import stat

from adjax.types import ClipError

CONVERT = "convert it to WAV or FLAC first"
RENEW = "copy or download it again"
_UNREAD = f"which cannot be read; {CONVERT}"
# libsndfile reads these, but a truncated file looks like a shorter one: nobody could tell.
_UNSURE = f"of which nobody can tell whether it is whole; {CONVERT}"

# First bytes of files that often bear a clip's name: where, what, and the words for it.
_STRANGERS = (
    (0, b"version https://git-lfs", "is a Git LFS pointer, not the audio itself; run `git lfs pull`"),
    (4, b"ftyp", f"looks like AAC/MP4 (M4A), {_UNREAD}"),
    (0, b"\xff\xf1", f"looks like AAC (ADTS), {_UNREAD}"),
    (0, b"\xff\xf9", f"looks like AAC (ADTS), {_UNREAD}"),
    (0, b"0&\xb2u\x8ef\xcf\x11", f"looks like WMA, {_UNREAD}"),
    (0, b"\x1aE\xdf\xa3", f"looks like WebM or Matroska, {_UNREAD}"),
    (0, b"#!AMR", f"looks like AMR, {_UNREAD}"),
    (0, b"BW64", f"looks like BW64, {_UNREAD}"),
    (0, b"Creative Voice File", f"looks like VOC, {_UNSURE}"),
    (0, b"NIST_1A", f"looks like NIST Sphere, {_UNSURE}"),
    (0, b"\x64\xa3", f"looks like IRCAM, {_UNSURE}"),
    (2, b"\xa3\x64", f"looks like IRCAM, {_UNSURE}"),
    (0, b"PVF1", f"looks like PVF, {_UNSURE}"),
    (0, b" paf", f"looks like PARIS, {_UNSURE}"),
    (0, b"fap ", f"looks like PARIS, {_UNSURE}"),
    (0, b"2BIT", f"looks like AVR, {_UNSURE}"),
    (0, b"ALawSoundFile", f"looks like Psion WVE, {_UNSURE}"),
    (0, b"Extended Instrument:", f"looks like XI, {_UNSURE}"),
    (0, b"MATLAB 5.0 MAT-file", f"looks like a file of Matlab, {_UNSURE}"),
    (0, b"\xf0\x7e", f"looks like a MIDI sample dump, {_UNSURE}"),
    (8, b"8SVX", f"looks like Amiga IFF, {_UNSURE}"),
    (8, b"16SV", f"looks like Amiga IFF, {_UNSURE}"),
    (0, b"PK\x03\x04", "is a zip archive, not audio; unpack it"),
    (0, b"\x1f\x8b", "is a gzip archive, not audio; unpack it"),
    (0, b"<!DOCTYPE", "is a web page, not audio; download the file itself"),
    (0, b"<html", "is a web page, not audio; download the file itself"),
)


def open_regular(path: str | os.PathLike[str]) -> io.FileIO:
    """Open a file for reading; a FIFO or a device, which would block or never end, is refused.

    It is looked at before, because opening alone may set a device to work, and after, because it may have been
    exchanged in between; the opening itself waits for nobody.

    Raises:
        ClipError: missing, not to be opened, or no regular file.
    """
    try:
        _check_regular(path, os.stat(path).st_mode)
        file = io.FileIO(path, opener=_open_at_once)
    except FileNotFoundError as error:
        raise ClipError(path, "no such file; check the path") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise ClipError(path, f"cannot be opened ({getattr(error, 'strerror', error)})") from error
    try:
        _check_regular(path, os.fstat(file.fileno()).st_mode)
    except ClipError:
        file.close()
        raise
    return file


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # Windows has no such pipes


def _check_regular(path: str | os.PathLike[str], mode: int) -> None:
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"
        raise ClipError(path, f"cannot be opened (it is {what}, not a file); give the recording itself")


def what_it_is(head: bytes) -> str | None:
    """What a file that is not read is, by its first 64 bytes, and what to do about it; None if nobody knows."""
    for place, mark, words in _STRANGERS:
        if head[place : place + len(mark)].lower() == mark.lower():
            return words
    return None
