from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from adjax.data import audio
from adjax.data.audio import read_clip, read_info, write_wav
from adjax.data.rates import resampled_length
from adjax.types import ClipError, SettingsError, StoreError


def tone(n_samples: int, sr: int, hertz: float = 440.0) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * hertz * np.arange(n_samples) / sr)).astype(np.float32)


def noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, shape).astype(np.float32)


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    write_wav(tmp_path / "x.wav", noise((16000,)), 16000)
    return tmp_path / "x.wav"


@pytest.mark.parametrize(
    ("name", "subtype", "step"),
    [
        ("x.wav", "PCM_16", 2**-15),
        ("x.wav", "PCM_24", 2**-23),
        ("x.wav", "PCM_32", 2**-24),  # float32 rounds what 32 bits hold
        ("x.wav", "FLOAT", 0.0),
        ("x.flac", "PCM_16", 2**-15),
        ("x.flac", "PCM_24", 2**-23),
    ],
)
@pytest.mark.parametrize("sr", [8000, 192000])
def test_formats(tmp_path: Path, name: str, subtype: str, step: float, sr: int) -> None:
    samples = noise((1000,))
    soundfile.write(tmp_path / name, samples, sr, subtype=subtype)
    clip = read_clip(tmp_path / name, sr=None)
    assert clip.samples.dtype == np.float32
    assert (clip.sr, clip.sr_file, clip.n_channels) == (sr, sr, 1)
    assert clip.peak == np.abs(clip.samples).max()
    np.testing.assert_allclose(clip.samples, samples, rtol=0, atol=step)
    plain = (name, subtype) == ("x.wav", "PCM_16")
    assert read_info(tmp_path / name) == audio.AudioInfo(sr, 1000, 1, plain)


@pytest.mark.parametrize("sr_file", [16000, 8000])
def test_into_a_given_array(tmp_path: Path, sr_file: int) -> None:
    soundfile.write(tmp_path / "x.wav", noise((1000,)), sr_file)
    expected = read_clip(tmp_path / "x.wav").samples
    batch = np.full((2, len(expected)), np.nan, np.float32)
    clip = read_clip(tmp_path / "x.wav", out=batch[1])
    assert np.shares_memory(clip.samples, batch)
    np.testing.assert_array_equal(batch[1], expected)
    assert np.isnan(batch[0]).all()
    with pytest.raises(ClipError, match="changed while it was read"):
        read_clip(tmp_path / "x.wav", out=batch[1, 1:])


@pytest.mark.parametrize("channel", [0, 1, "mean"])
def test_blocks_join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channel: audio.Channel) -> None:
    soundfile.write(tmp_path / "x.wav", noise((1000, 2)), 16000)
    expected = read_clip(tmp_path / "x.wav", channel=channel).samples
    monkeypatch.setattr(audio, "_BLOCK", 2 * 37)
    np.testing.assert_array_equal(read_clip(tmp_path / "x.wav", channel=channel).samples, expected)


def test_channels(tmp_path: Path) -> None:
    samples = noise((500, 3))
    soundfile.write(tmp_path / "x.wav", samples, 16000, subtype="FLOAT")
    np.testing.assert_array_equal(read_clip(tmp_path / "x.wav").samples, samples[:, 0])
    np.testing.assert_array_equal(read_clip(tmp_path / "x.wav", channel=2).samples, samples[:, 2])
    mean = read_clip(tmp_path / "x.wav", channel="mean")
    np.testing.assert_allclose(mean.samples, samples.mean(axis=1), rtol=1e-6)
    assert mean.n_channels == 3
    with pytest.raises(ClipError, match="has no channel 3, only 3 counted from 0"):
        read_clip(tmp_path / "x.wav", channel=3)


def test_real_clip_of_eight_channels(shared: Path) -> None:
    path = shared / "data" / "multichannel" / "slider_id_00_normal_8ch.wav"
    assert read_info(path) == audio.AudioInfo(16000, 160000, 8, plain=True)
    every, _ = soundfile.read(path, dtype="float32")
    np.testing.assert_array_equal(read_clip(path).samples, every[:, 0])
    np.testing.assert_array_equal(read_clip(path, channel=7).samples, every[:, 7])
    np.testing.assert_allclose(read_clip(path, channel="mean").samples, every.mean(axis=1), atol=1e-7)


def test_long_file_is_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "_BLOCK", 300)
    samples = noise((1000, 2))
    soundfile.write(tmp_path / "x.wav", samples, 16000, subtype="FLOAT")
    np.testing.assert_array_equal(read_clip(tmp_path / "x.wav", channel=1).samples, samples[:, 1])


@pytest.mark.parametrize("sr_file", [8000, 22050, 44100, 48000, 96000, 192000])
def test_resampled_tone_is_the_tone(tmp_path: Path, sr_file: int) -> None:
    soundfile.write(tmp_path / "x.wav", tone(sr_file, sr_file), sr_file, subtype="FLOAT")
    clip = read_clip(tmp_path / "x.wav", sr=16000)
    assert (clip.sr, clip.sr_file) == (16000, sr_file)
    expected = tone(16000, 16000)
    assert clip.samples.shape == expected.shape
    np.testing.assert_allclose(clip.samples[1000:-1000], expected[1000:-1000], atol=1e-4)


@settings(deadline=None)  # it writes to the disk
@given(n=st.integers(1, 3000), sr_file=st.sampled_from([8000, 11025, 44100, 48000, 192000]))
def test_resampled_length_is_the_ceiling(
    tmp_path_factory: pytest.TempPathFactory, n: int, sr_file: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "resampled_length.wav"
    soundfile.write(path, noise((n,)), sr_file)
    clip = read_clip(path, sr=16000)
    assert clip.samples.shape == (int(np.ceil(n * 16000 / sr_file)),)
    assert clip.samples.dtype == np.float32
    assert len(clip.samples) == resampled_length(n, sr_file, 16000)


@pytest.mark.parametrize("n_cut", [1, 2, 16000, 31990, 32000])
def test_truncated_wav(wav: Path, n_cut: int) -> None:
    wav.write_bytes(wav.read_bytes()[:-n_cut])
    for read in (read_info, read_clip):
        with pytest.raises(ClipError, match=rf"x\.wav: is truncated \(bytes missing: {n_cut}\); copy"):
            read(wav)


@pytest.mark.parametrize("n_kept", [0, 10, 30, 40])
def test_cut_header(wav: Path, n_kept: int) -> None:
    wav.write_bytes(wav.read_bytes()[:n_kept])
    with pytest.raises(ClipError, match=r"is no readable audio file .*; copy or download"):
        read_info(wav)


def test_truncated_rf64(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, noise((4000,)), 16000, format="RF64", subtype="PCM_16")
    assert read_info(path).n_samples == 4000
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ClipError, match="bytes missing: 100"):
        read_info(path)


@pytest.mark.parametrize("size", [0x7FFFF000, 0xFFFFFFFF])
def test_streamed_wav_without_a_length_is_not_truncated(wav: Path, size: int) -> None:
    data = bytearray(wav.read_bytes())
    data[40:44] = struct.pack("<I", size)
    wav.write_bytes(data)
    assert read_clip(wav).samples.shape == (16000,)


@pytest.mark.parametrize("n_cut", [1, 2, 5000, 20000])
def test_truncated_flac(tmp_path: Path, n_cut: int) -> None:
    path = tmp_path / "x.flac"
    soundfile.write(path, noise((16000,)), 16000)
    path.write_bytes(path.read_bytes()[:-n_cut])
    with pytest.raises(ClipError, match=r"is truncated.*; copy or download it again"):
        read_clip(path)


def test_truncated_real_clip(shared: Path, tmp_path: Path) -> None:
    real = sorted((shared / "data" / "mimii_mini" / "slider" / "train").glob("*.wav"))[0]
    (tmp_path / "cut.wav").write_bytes(real.read_bytes()[:200_000])
    with pytest.raises(ClipError, match="is truncated"):
        read_clip(tmp_path / "cut.wav")
    samples, sr = soundfile.read(real, dtype="float32")
    soundfile.write(tmp_path / "cut.flac", samples, sr)
    whole = (tmp_path / "cut.flac").read_bytes()
    np.testing.assert_array_equal(read_clip(tmp_path / "cut.flac").samples, samples)
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ClipError, match="is truncated"):
        read_clip(tmp_path / "cut.flac")


def test_damaged_flac(tmp_path: Path) -> None:
    path = tmp_path / "x.flac"
    soundfile.write(path, noise((16000,)), 16000)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ClipError, match="truncated or damaged"):
        read_clip(path)


@pytest.mark.parametrize(("n_samples", "message"), [(0, "gives no length"), (20000, "is truncated")])
def test_flac_header_that_lies(tmp_path: Path, n_samples: int, message: str) -> None:
    path = tmp_path / "x.flac"
    soundfile.write(path, noise((16000,)), 16000)
    data = bytearray(path.read_bytes())
    data[22:26] = struct.pack(">I", n_samples)  # the low 32 bits of STREAMINFO's number of samples
    path.write_bytes(data)
    with pytest.raises(ClipError, match=message):
        read_clip(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite(tmp_path: Path, bad: float) -> None:
    samples = noise((100,))
    samples[50] = bad
    soundfile.write(tmp_path / "x.wav", samples, 16000, subtype="FLOAT")
    with pytest.raises(ClipError, match=r"x\.wav: holds NaN or infinite samples"):
        read_clip(tmp_path / "x.wav")


@pytest.mark.parametrize("scale", [2.0**34, 1e19, 1e30])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
@pytest.mark.parametrize("channel", [0, 1, "mean"])
def test_what_no_audio_has(tmp_path: Path, scale: float, subtype: str, channel: audio.Channel) -> None:
    samples = noise((1000, 2)).astype(np.float64)
    samples[:, 1] *= scale
    soundfile.write(tmp_path / "x.wav", samples, 16000, subtype=subtype)
    with pytest.raises(
        ClipError, match=r"has samples of up to .*e\+.*, and no audio exceeds 4\.29e\+09.*export"
    ):
        read_clip(tmp_path / "x.wav", channel=channel)


@pytest.mark.parametrize("scale", [2.0**15, 2.0**31, audio.MAX_PEAK])
def test_integers_written_as_floats_are_kept(tmp_path: Path, scale: float) -> None:
    samples = (noise((1000,)) * 2 * np.float32(scale)).clip(-scale, scale)
    soundfile.write(tmp_path / "x.wav", samples, 16000, subtype="FLOAT")
    np.testing.assert_array_equal(read_clip(tmp_path / "x.wav").samples, samples)
    samples[3] = audio.MAX_PEAK
    soundfile.write(tmp_path / "x.wav", samples, 16000, subtype="FLOAT")
    assert read_clip(tmp_path / "x.wav").peak == audio.MAX_PEAK


def test_nan_that_signals_is_found_without_a_warning(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", noise((1000, 2)), 16000, subtype="FLOAT")
    data = (tmp_path / "x.wav").read_bytes()
    for channel in (0, 1):
        place = len(data) - 800 + 4 * channel
        (tmp_path / "x.wav").write_bytes(data[:place] + b"\x01\0\x80\x7f" + data[place + 4 :])
        with pytest.raises(ClipError, match="holds NaN"):
            read_clip(tmp_path / "x.wav")


def test_beyond_full_scale_is_kept(tmp_path: Path) -> None:
    samples = 3 * noise((100,))
    soundfile.write(tmp_path / "x.wav", samples, 16000, subtype="FLOAT")
    clip = read_clip(tmp_path / "x.wav")
    np.testing.assert_array_equal(clip.samples, samples)
    assert clip.peak == np.abs(samples).max() > 1


def test_empty(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.zeros(0), 16000)
    with pytest.raises(ClipError, match="is empty: 0 samples"):
        read_info(tmp_path / "x.wav")


@pytest.mark.parametrize("sr", [1, 999, 2_000_000])
def test_absurd_rate(tmp_path: Path, sr: int) -> None:
    soundfile.write(tmp_path / "x.wav", noise((10,)), sr)
    with pytest.raises(ClipError, match=f"its header says {sr} Hz"):
        read_info(tmp_path / "x.wav")


def test_missing_folder_text(tmp_path: Path) -> None:
    with pytest.raises(ClipError, match=r"nothing\.wav: no such file"):
        read_clip(tmp_path / "nothing.wav")
    (tmp_path / "x.wav").mkdir()
    with pytest.raises(ClipError, match="cannot be opened"):
        read_clip(tmp_path / "x.wav")
    (tmp_path / "text.wav").write_text("hello " * 100)
    with pytest.raises(ClipError, match="is no readable audio file"):
        read_clip(tmp_path / "text.wav")


@pytest.mark.parametrize("bad", [{"sr": 0}, {"sr": 2**21}, {"channel": -1}, {"channel": "left"}])
def test_settings(wav: Path, bad: dict) -> None:
    with pytest.raises(SettingsError):
        read_clip(wav, **bad)


@settings(deadline=None)  # it writes to the disk
@given(samples=hnp.arrays(np.int16, st.integers(1, 50)))
def test_sixteen_bit_samples_come_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, samples: np.ndarray
) -> None:
    path = tmp_path_factory.getbasetemp() / "sixteen_bit.wav"
    write_wav(path, samples / 32768, 16000)
    np.testing.assert_array_equal(read_clip(path).samples, (samples / 32768).astype(np.float32))


def test_write_clips_to_full_scale(tmp_path: Path) -> None:
    write_wav(tmp_path / "x.wav", np.array([2.0, -2.0, 1.0, -1.0, 0.25]), 8000)
    assert soundfile.info(tmp_path / "x.wav").subtype == "PCM_16"
    expected = np.array([1 - 2**-15, -1, 1 - 2**-15, -1, 0.25], np.float32)
    np.testing.assert_array_equal(read_clip(tmp_path / "x.wav", sr=None).samples, expected)


@pytest.mark.parametrize(
    ("samples", "sr", "message"),
    [
        (np.zeros((2, 3)), 16000, r"shape \(2, 3\)"),
        (np.zeros(0), 16000, r"shape \(0,\)"),
        (np.array([0.0, np.nan]), 16000, "NaN or infinite"),
        (np.zeros(3), 10, "cannot write at 10 Hz"),
    ],
)
def test_write_refuses(tmp_path: Path, samples: np.ndarray, sr: int, message: str) -> None:
    with pytest.raises(ClipError, match=message):
        write_wav(tmp_path / "x.wav", samples, sr)
    assert not os.listdir(tmp_path)


def test_write_without_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be written"):
        write_wav(tmp_path / "no" / "x.wav", np.zeros(3), 16000)


def test_interrupted_write_leaves_the_old_file(wav: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = wav.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(StoreError, match="disk full"):
        write_wav(wav, np.zeros(3), 16000)
    assert wav.read_bytes() == before
    assert os.listdir(wav.parent) == ["x.wav"]


@pytest.mark.parametrize("name", ["x.wav", "x.flac"])
@pytest.mark.parametrize("channel", [0, 1, "mean"])
def test_sixteen_bit_is_libsndfiles_own_conversion(tmp_path: Path, name: str, channel: audio.Channel) -> None:
    pcm = np.random.default_rng(0).integers(-32768, 32768, (5000, 2), dtype=np.int16)
    soundfile.write(tmp_path / name, pcm, 16000, subtype="PCM_16")
    every, _ = soundfile.read(tmp_path / name, dtype="float32")
    expected = every.mean(axis=1) if channel == "mean" else every[:, channel]
    np.testing.assert_array_equal(read_clip(tmp_path / name, channel=channel).samples, expected)


def test_channels_of_real_multichannel_clips(shared: Path) -> None:
    """Eight microphones: the recordings differ, and all channels can be read."""
    path = sorted((shared / "data" / "multichannel").rglob("*.wav"))[0]
    first, last, mean = (read_clip(path, channel=channel).samples for channel in (0, 7, "mean"))
    assert first.shape == last.shape == mean.shape
    assert not np.array_equal(first, last)
