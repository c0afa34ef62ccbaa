"""Libraries that talk: their lines do not reach the terminal, those of others do."""

from __future__ import annotations

import ctypes
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from adjax.data.audio import read_clip
from adjax.data.quiet import without_words_of_libraries
from adjax.types import ClipError


def test_a_damaged_mp3_is_quiet_and_others_are_heard(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 16_000)
    soundfile.write(tmp_path / "x.wav", noise, 16_000, format="MP3")
    data = bytearray((tmp_path / "x.wav").read_bytes())
    for place in range(600, 4000, 37):
        data[place] ^= 0xFF
    (tmp_path / "x.wav").write_bytes(data)
    with soundfile.SoundFile(tmp_path / "x.wav") as file:
        file.read()
    assert "libmpg123" in capfd.readouterr().err
    others = threading.Thread(target=lambda: [os.write(2, b"a line of ours\n") for _ in range(1000)])
    others.start()
    for _ in range(3):
        with pytest.raises(ClipError, match="is truncated"):
            read_clip(tmp_path / "x.wav")
    others.join()
    os.write(2, b"still here\n")
    assert capfd.readouterr().err == 1000 * "a line of ours\n" + "still here\n"


def test_both_outputs_come_back_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    libc = ctypes.CDLL(None)

    def talk() -> None:
        with without_words_of_libraries():
            libc.puts(b"alac_pakt_read_decode 855 : Ooops! count 5    bcount 24")
            libc.puts(b"not theirs")
            os.write(
                2, b"[src/libmpg123/layer3.c:1773] error: part2_3_length\nNote: Trying to resync...\nours\n"
            )
            raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        talk()
    libc.puts(b"after")
    libc.fflush(None)
    assert capfd.readouterr() == ("not theirs\nafter\n", "ours\n")


def test_without_a_standard_error_stream(tmp_path: Path) -> None:
    kept = os.dup(2)
    os.close(2)
    try:
        with without_words_of_libraries():
            pass
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(2)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
