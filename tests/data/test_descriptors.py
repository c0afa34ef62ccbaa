"""What is measured of a clip, against signals whose answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from adjax.data.audio import MAX_PEAK, read_clip
from adjax.data.descriptors import FLOOR_DB, N_BANDS, ChannelLevels, ClipInfo, describe_file, describe_sound

SR = 16000


def noise(n: int = 2 * SR, *, level: float = 0.05, seed: int = 0) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(n)).astype(np.float32)


def info_of(folder: Path, samples: np.ndarray, sr: int = SR, **how: object) -> ClipInfo:
    soundfile.write(folder / "x.wav", samples, sr, **{"subtype": "FLOAT"} | how)
    return read_clip(folder / "x.wav").info


@pytest.mark.parametrize("n", [1, 100, 511, 512, 513, 4800, 32000])
def test_level_and_spectrum_agree(n: int) -> None:
    samples = np.full(n, 0.3, np.float32) + noise(n, level=0.01)
    sound = describe_sound(samples)
    assert sound.dc == pytest.approx(0.3, abs=0.02)
    assert len(sound.spectrum_db) == N_BANDS
    if n > 500:
        assert sound.rms_db == pytest.approx(-40, abs=0.5)
        assert 10 * np.log10(np.sum(10 ** (np.array(sound.spectrum_db) / 10))) == pytest.approx(-40, abs=1)


def test_a_tone_is_in_its_band() -> None:
    tone = (0.5 * np.sin(2 * np.pi * 1100 * np.arange(SR) / SR)).astype(np.float32)
    sound = describe_sound(tone)
    assert np.argmax(sound.spectrum_db) == 4  # 1,000 to 1,250 Hz
    assert sound.spectrum_db[4] == pytest.approx(-9.03, abs=0.2)
    assert sound.rms_db == pytest.approx(-9.03, abs=0.01)
    assert sound.silent == 0


def test_the_largest_floats_have_finite_numbers(tmp_path: Path) -> None:
    largest = noise() / np.abs(noise()).max() * MAX_PEAK
    info = info_of(tmp_path, np.stack([largest] * 2, 1))
    numbers = [*info.spectrum_db, info.rms_db, info.dc, info.channel_db, info.channel_corr, info.peak]
    assert np.isfinite(numbers).all()
    assert info.rms_db > 150


def test_silence() -> None:
    for samples in (np.zeros(SR, np.float32), np.full(SR, 0.25, np.float32)):
        sound = describe_sound(samples)
        assert sound.silent == 1
        assert sound.rms_db <= -120
    assert describe_sound(np.zeros(SR, np.float32)).rms_db == FLOOR_DB
    half = noise()
    half[SR:] = 0
    assert describe_sound(half).silent == pytest.approx(0.5, abs=0.07)
    assert describe_sound(noise(level=1e-4)).silent == 0  # -80 dBFS is a quiet microphone


@pytest.mark.parametrize("side", ["both", "high", "low"])
def test_clipping(side: str) -> None:
    clean = noise()
    assert describe_file(clean, SR).clipped == 0
    low, high = (-0.1 if side != "high" else -9.0), (0.1 if side != "low" else 9.0)
    cut = np.clip(clean, low, high)
    expected = np.mean((cut == np.float32(low)) | (cut == np.float32(high)))
    assert describe_file(cut, SR).clipped == pytest.approx(expected, rel=1e-6)
    assert expected > 0.02


@pytest.mark.parametrize("amplitude", [3, 20, 13000])
def test_crests_of_a_tone_and_few_levels_are_no_clipping(amplitude: int) -> None:
    tone = np.round(amplitude * np.sin(2 * np.pi * 50 * np.arange(2 * SR) / SR)) / 32768
    assert describe_file(tone.astype(np.float32), SR).clipped == 0
    faint = np.round(amplitude / 3 * np.random.default_rng(0).standard_normal(2 * SR)) / 32768
    assert describe_file(faint.astype(np.float32), SR).clipped == 0


def test_repetition() -> None:
    piece = noise(8000)
    assert describe_file(np.tile(piece, 4), SR).period == 8000
    assert describe_file(np.tile(piece, 4)[:-3000], SR).period == 8000
    assert describe_file(noise(), SR).period == 0
    nearly = np.tile(piece, 4)
    nearly[9000] += 1e-4
    assert describe_file(nearly, SR).period == 0
    tone = np.sin(2 * np.pi * 1000 * np.arange(SR) / SR).astype(np.float32)
    assert describe_file(tone, SR).period == 0
    assert describe_file(np.zeros(SR, np.float32), SR).period == 0


def test_the_fingerprint_is_of_the_sound_not_of_the_file(tmp_path: Path) -> None:
    pcm = np.round(noise() * 32768).astype(np.int16)
    prints = set()
    for name in ("a.wav", "b.flac", "c.aiff"):
        soundfile.write(tmp_path / name, pcm, SR)
        prints.add(read_clip(tmp_path / name).info.fingerprint)
    assert len(prints) == 1
    others = {
        describe_file(samples, SR).fingerprint for samples in (noise(seed=1), noise()[:-1], 2 * noise())
    }
    assert len(others | prints) == 4


@pytest.mark.parametrize(
    ("sr_file", "bandwidth"), [(4000, 2000), (8000, 4000), (11025, 5512), (16000, 8000), (48000, 8000)]
)
def test_bandwidth(tmp_path: Path, sr_file: int, bandwidth: float) -> None:
    info = info_of(tmp_path, noise(3 * sr_file), sr_file)
    assert info.bandwidth_hz == pytest.approx(bandwidth, abs=400)
    again = info_of(tmp_path, read_clip(tmp_path / "x.wav").samples, SR, subtype="PCM_16")
    assert again.bandwidth_hz == pytest.approx(bandwidth, abs=400)  # through a file at the wanted rate


def test_a_falling_spectrum_is_no_cliff(tmp_path: Path) -> None:
    spectrum = np.fft.rfft(noise(10 * SR)) * 10 ** (-60 / 20 * np.linspace(0, 1, 5 * SR + 1))
    info = info_of(tmp_path, np.fft.irfft(spectrum))
    assert info.spectrum_db[0] - info.spectrum_db[-1] > 50
    assert info.bandwidth_hz == 8000


def test_channels(tmp_path: Path) -> None:
    a, b = noise(), noise(seed=1)
    cases = [
        ([a], 0, 0.0, 1.0),
        ([a, a], 0, 0.0, 1.0),
        ([a, -a], 0, 0.0, -1.0),
        ([a, b], 0, 0.0, 0.0),
        ([0.1 * a, b], 0, -20.0, 0.0),
        ([a, 0.1 * b], 0, 20.0, 0.0),
        ([0.3 + 0 * a, b], 0, -93.0, 0.0),  # an offset is no sound
        ([a, -a], "mean", -120.0, -1.0),
        ([a, a], "mean", 0.0, 1.0),
    ]
    for channels, channel, level, correlation in cases:
        soundfile.write(tmp_path / "x.wav", np.stack(channels, 1), SR, subtype="FLOAT")
        info = read_clip(tmp_path / "x.wav", channel=channel).info
        assert info.n_channels == len(channels)
        if level < -50:
            assert info.channel_db < -80
        else:
            assert info.channel_db == pytest.approx(level, abs=0.3)
        assert info.channel_corr == pytest.approx(correlation, abs=0.05)


def test_channels_of_many_blocks() -> None:
    samples = np.stack([noise(), 0.5 * noise(seed=1), noise(seed=2)], 1)
    levels = ChannelLevels(3)
    for start in range(0, len(samples), 1000):
        levels.add(samples[start : start + 1000])
    assert levels.result(1)[0] == pytest.approx(-6, abs=0.3)


def test_all_channels_silent(tmp_path: Path) -> None:
    info = info_of(tmp_path, np.zeros((SR, 2)))
    assert (info.channel_db, info.channel_corr, info.is_silent) == (0.0, 0.0, True)


@pytest.mark.parametrize(
    ("kind", "codec", "lossy"),
    [
        (("FLAC", "PCM_16"), "PCM_16", False),
        (("WAV", "DOUBLE"), "DOUBLE", False),
        (("OGG", "VORBIS"), "VORBIS", True),
        (("MP3", "MPEG_LAYER_III"), "MPEG_LAYER_III", True),
        (("WAV", "ULAW"), "ULAW", True),
        (("WAV", "PCM_U8"), "PCM_U8", True),
    ],
)
def test_codec(tmp_path: Path, kind: tuple[str, str], codec: str, lossy: bool) -> None:
    if kind[0] not in soundfile.available_formats():
        pytest.skip(f"libsndfile here writes no {kind[0]}")
    info = info_of(tmp_path, noise(), format=kind[0], subtype=kind[1])
    assert (info.codec, info.lossy, info.recovered) == (codec, lossy, 0)


def test_facts_of_the_header(tmp_path: Path) -> None:
    info = info_of(tmp_path, 3 * noise(12_000), 8000)
    assert (info.sr_file, info.sr, info.n_samples, info.n_channels) == (8000, SR, 12_000, 1)
    assert info.duration == 1.5
    assert info.peak == pytest.approx(3 * np.abs(noise(12_000)).max())
