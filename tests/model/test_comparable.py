"""Every kind of recording has its outcome, an error with a remedy, flags, nothing: the table of docs/recordings.md."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from adjax.data.audio import Channel, read_clip
from adjax.data.descriptors import ClipInfo
from adjax.data.rates import resample
from adjax.model.comparable import NAMES, Flag, Profile, comparable, compare, fit_profile
from adjax.types import ClipError, FitError, SettingsError

SR, SECONDS = 16_000, 4

# Of each odd clip: what the error says, or the flags and whether its score can mean anything.
ODD = {
    "01_pipe_ffffffff.wav": ({"header"}, True),
    "02_sox_7ffff000.wav": ({"header"}, True),
    "03_data_size_0.wav": ({"header"}, True),
    "05_truncated_half.wav": "is truncated .* copy or download it again",
    "06_ext_24bit.wav": (set(), True),
    "07_ambisonic_ext.wav": ({"channels"}, True),
    "08_rf64.wav": (set(), True),
    "09_mp3_named_wav.wav": ({"codec", "bandwidth"}, False),
    "11_aac_named_wav.wav": "AAC.* convert it to WAV or FLAC first",
    "13_float_over_1.wav": ({"full-scale", "level"}, False),
    "16_antiphase_stereo.wav": ({"channels"}, True),
    "17_48k.wav": ({"rate"}, False),
    "18_header_rate_lies.wav": ({"rate", "duration"}, False),
    "20_silence.wav": ({"silence"}, False),
    "28_lfs_pointer.wav": "is a Git LFS pointer.* run `git lfs pull`",
    "29_dc_offset.wav": ({"dc"}, False),
}


def infos_in(folder: Path, pattern: str = "*.wav") -> list[ClipInfo]:
    return [read_clip(path).info for path in sorted(folder.glob(pattern))]


def names(flags: tuple[Flag, ...]) -> set[str]:
    return {flag.name for flag in flags}


@pytest.fixture(scope="module")
def odd(shared: Path) -> tuple[Path, Profile]:
    folder = shared / "data" / "odd_clips"
    return folder, fit_profile(infos_in(folder / "slider" / "train"))


@pytest.mark.parametrize("name", ODD)
def test_odd_clips(odd: tuple[Path, Profile], name: str) -> None:
    (folder, profile), outcome = odd, ODD[name]
    if isinstance(outcome, str):
        with pytest.raises(ClipError, match=outcome):
            read_clip(folder / "odd" / name)
        return
    flags = compare(profile, read_clip(folder / "odd" / name).info)
    assert (names(flags), comparable(flags)) == outcome


def test_every_odd_clip_has_an_outcome(odd: tuple[Path, Profile]) -> None:
    assert {path.name for path in (odd[0] / "odd").iterdir()} == ODD.keys()


def test_antiphase_channels_cancel_in_their_mean(odd: tuple[Path, Profile]) -> None:
    folder, profile = odd
    flags = compare(profile, read_clip(folder / "odd" / "16_antiphase_stereo.wav", channel="mean").info)
    assert "dead-channel" in names(flags)
    assert not comparable(flags)


def test_ordinary_clips_of_the_odd_set_have_no_flag(odd: tuple[Path, Profile]) -> None:
    folder, profile = odd
    assert [compare(profile, info) for info in infos_in(folder / "slider" / "test")] == [()] * 8


@pytest.mark.parametrize("machine", [f"{kind}/{i:02}" for kind in ("slider", "fan") for i in (0, 2, 4, 6)])
def test_real_clips_are_comparable(shared: Path, machine: str) -> None:
    """After 6 training clips: no flag on a normal one, one faulty fan is "level" (2.6 dB above the loudest)."""
    kind, number = machine.split("/")
    folder = shared / "data" / "mimii_mini" / kind
    profile = fit_profile(infos_in(folder / "train", f"*id_{number}*"))
    assert profile.n_clips == 6
    assert [compare(profile, info) for info in infos_in(folder / "test", f"normal_id_{number}*")] == [()] * 4
    faulty = [compare(profile, info) for info in infos_in(folder / "test", f"anomaly_id_{number}*")]
    assert len(faulty) == 5
    flags = [flag for some in faulty for flag in some]
    assert [(flag.name, flag.comparable) for flag in flags] == [("level", True)] * (machine == "fan/00")


@pytest.mark.parametrize("machine", [f"{kind}/{i:02}" for kind in ("slider", "fan") for i in (0, 2, 4, 6)])
def test_real_clips_made_odd(shared: Path, tmp_path: Path, machine: str) -> None:
    kind, number = machine.split("/")
    folder = shared / "data" / "mimii_mini" / kind
    profile = fit_profile(infos_in(folder / "train", f"*id_{number}*"))
    samples = read_clip(sorted((folder / "test").glob(f"normal_id_{number}*"))[0]).samples
    low = resample(samples, SR, 8000)
    odd = {
        "at 8 kHz": (low, 8000, {"rate", "bandwidth"}),
        "from 8 kHz": (resample(low, 8000, SR), SR, {"bandwidth"}),
        "48 kHz by software": (resample(samples, SR, 48_000), 48_000, {"rate", "bandwidth"}),
        "44.1 kHz header": (samples, 44_100, {"rate", "duration"}),
        "3 s": (samples[: 3 * SR], SR, {"duration"}),
        "offset": (samples + 0.1, SR, {"dc"}),
        "dead channel 0": (np.stack([0 * samples, samples], 1), SR, {"dead-channel", "silence"}),
        "30 dB louder": (30 * samples, SR, {"level"}),
    }
    for name, (changed, sr, expected) in odd.items():
        flags = compare(profile, write_and_read(tmp_path, changed, sr))
        assert expected <= names(flags) <= expected | {"level", "clipping"}, (name, flags)
        assert not comparable(flags), (name, flags)


# --- Whole kinds, generated. -------------------------------------------------------------------------------------


def hum(seed: int, sr: int = SR, seconds: float = SECONDS) -> np.ndarray:
    """A hum in white noise of the same density at every rate, as a microphone hears it."""
    n = round(sr * seconds)
    noise = 0.02 * np.sqrt(sr / SR) * np.random.default_rng(seed).standard_normal(n)
    return (0.05 * np.sin(2 * np.pi * 440 * np.arange(n) / sr) + noise).astype(np.float32)


def write_and_read(
    folder: Path, samples: np.ndarray, sr: int = SR, channel: Channel = 0, **how: object
) -> ClipInfo:
    soundfile.write(folder / "x.wav", samples, sr, **{"format": "WAV", "subtype": "PCM_16"} | how)
    return read_clip(folder / "x.wav", channel=channel).info


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    folder = tmp_path_factory.mktemp("training")
    return fit_profile([write_and_read(folder, hum(seed)) for seed in range(6)])


def clip(channels: Callable[[], np.ndarray], sr: int = SR, **how: object) -> tuple:
    return channels, sr, how


NEW = hum(99)
GENERATED = {
    "itself": (clip(lambda: NEW), set(), True),
    # rates
    **{
        f"from {sr} Hz": (clip(lambda sr=sr: hum(99, sr), sr), {"rate"}, True)
        for sr in (17_600, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000, 192_000)
    },
    **{
        f"from {sr} Hz": (clip(lambda sr=sr: hum(99, sr), sr), {"rate", "bandwidth"}, False)
        for sr in (1000, 2000, 4000, 8000, 11_025, 12_000)
    },
    "48 kHz header on 16 kHz": (clip(lambda: NEW, 48_000), {"rate", "duration"}, False),
    "8 kHz header on 16 kHz": (clip(lambda: NEW, 8000), {"rate", "duration", "bandwidth"}, False),
    # lengths
    **{
        f"{s} s": (clip(lambda s=s: hum(99, SR, s)), {"duration"}, False)
        for s in (0.1, 0.3, 1, 1.9, 13, 60, 1200)
    },
    **{f"{s} s": (clip(lambda s=s: hum(99, SR, s)), {"duration"}, True) for s in (2, 3, 6, 12)},
    **{f"{s} s": (clip(lambda s=s: hum(99, SR, s)), set(), True) for s in (3.5, 4.5)},
    # levels
    "1 dB fainter": (clip(lambda: 0.89 * NEW), set(), True),
    "2.9 dB louder": (clip(lambda: 1.396 * NEW), {"level"}, True),
    "6 dB louder": (clip(lambda: 2 * NEW), {"level"}, True),
    "12 dB fainter": (clip(lambda: 0.25 * NEW), {"level"}, True),
    "40 dB fainter": (clip(lambda: 0.01 * NEW), {"level"}, False),
    "clipped": (clip(lambda: np.clip(NEW, -0.06, 0.06)), {"clipping"}, True),
    "offset": (clip(lambda: NEW + 0.3), {"dc"}, False),
    "small offset": (clip(lambda: NEW + 0.01), {"dc"}, True),
    "scaled as integers": (clip(lambda: NEW * 32768, subtype="FLOAT"), {"full-scale", "level"}, False),
    # silence and channels
    "silence": (clip(lambda: 0 * NEW), {"silence"}, False),
    "only an offset": (clip(lambda: 0 * NEW + 0.2), {"silence"}, False),
    "half silent": (clip(lambda: NEW * (np.arange(len(NEW)) > len(NEW) / 2)), {"silence", "level"}, False),
    "stereo": (clip(lambda: np.stack([NEW, hum(98)], 1)), {"channels"}, True),
    "8 channels": (clip(lambda: np.stack([NEW] * 8, 1)), {"channels"}, True),
    "antiphase": (clip(lambda: np.stack([NEW, -NEW], 1)), {"channels"}, True),
    "dead channel 0": (clip(lambda: np.stack([0 * NEW, NEW], 1)), {"dead-channel", "silence"}, False),
    "faint channel 0": (clip(lambda: np.stack([0.01 * NEW, NEW], 1)), {"dead-channel", "level"}, False),
    "dead channel 1": (clip(lambda: np.stack([NEW, 0 * NEW], 1)), {"channels"}, True),
    # formats
    "FLAC": (clip(lambda: NEW, format="FLAC"), set(), True),
    "24 bits": (clip(lambda: NEW, subtype="PCM_24"), set(), True),
    "float": (clip(lambda: NEW, subtype="FLOAT"), set(), True),
    "AIFF": (clip(lambda: NEW, format="AIFF"), set(), True),
    "Vorbis": (clip(lambda: NEW, format="OGG", subtype="VORBIS"), {"codec"}, False),
    "Opus": (clip(lambda: NEW, format="OGG", subtype="OPUS"), {"codec"}, False),
    "MP3": (clip(lambda: NEW, format="MP3", subtype="MPEG_LAYER_III"), {"codec", "bandwidth"}, False),
    "telephone": (clip(lambda: NEW, subtype="ULAW"), {"codec"}, True),
    "8 bits": (clip(lambda: NEW, subtype="PCM_U8"), {"codec"}, True),
    # repetition
    "a training clip": (clip(lambda: hum(3)), {"repeated"}, True),
    "a second, four times": (clip(lambda: np.tile(NEW[:SR], 4)), {"repeated"}, True),
}


@pytest.mark.parametrize("kind", GENERATED)
def test_kinds(profile: Profile, tmp_path: Path, kind: str) -> None:
    (samples, sr, how), expected, means_something = GENERATED[kind]
    if how.get("format", "WAV") not in soundfile.available_formats():
        pytest.skip(f"libsndfile here writes no {how['format']}")
    flags = compare(profile, write_and_read(tmp_path, samples(), sr, **how))
    extra = {"level"} if kind in ("Opus", "Vorbis") else set()  # as the encoder pleases
    assert names(flags) - extra == expected, flags
    assert comparable(flags) == means_something, flags
    assert names(flags) <= set(NAMES)
    assert all(any(char.isdigit() for char in flag.evidence) or flag.name == "repeated" for flag in flags)


def test_a_faulty_machine_is_comparable(profile: Profile, tmp_path: Path) -> None:
    """A howl, a hiss and a missing hum are anomalies, not other recordings."""
    t = np.arange(len(NEW)) / SR
    howl = NEW + 0.3 * np.sin(2 * np.pi * 3000 * t).astype(np.float32)
    hiss = NEW + 0.2 * np.diff(np.random.default_rng(0).standard_normal(len(NEW) + 1)).astype(np.float32)
    without = NEW - 0.05 * np.sin(2 * np.pi * 440 * t).astype(np.float32)
    for samples in (howl, hiss, without):
        flags = compare(profile, write_and_read(tmp_path, np.clip(samples, -0.99, 0.99)))
        assert names(flags) <= {"level"}
        assert comparable(flags)


def test_what_was_trained_on_is_no_flag(tmp_path: Path) -> None:
    """Stereo at 8 kHz as MP3, with an offset: like the training clips, if those were so."""

    def odd_clip(seed: int) -> ClipInfo:
        samples = np.stack([hum(seed, 8000), hum(seed + 50, 8000)], 1) + 0.2
        return write_and_read(tmp_path, samples, 8000, subtype="ULAW")

    profile = fit_profile([odd_clip(seed) for seed in range(6)])
    assert compare(profile, odd_clip(99)) == ()
    wider = compare(profile, write_and_read(tmp_path, NEW + 0.2))
    assert names(wider) == {"bandwidth", "rate", "channels"}
    assert not comparable(wider)


def test_silence_that_was_trained_on(tmp_path: Path) -> None:
    silent = write_and_read(tmp_path, 0 * NEW)
    heard = [write_and_read(tmp_path, hum(seed)) for seed in range(3)]
    assert names(compare(fit_profile([*heard, silent]), silent)) == {"silence"}
    assert fit_profile([*heard, silent]).level == fit_profile(heard).level
    assert compare(fit_profile([silent]), silent) == ()


def test_swapped_channels(tmp_path: Path) -> None:
    def pair(seed: int, order: int = 1) -> ClipInfo:
        return write_and_read(tmp_path, np.stack([hum(seed), 0.3 * hum(seed + 50)], 1)[:, ::order])

    profile = fit_profile([pair(seed) for seed in range(4)])
    assert compare(profile, pair(99)) == ()
    flags = compare(profile, pair(99, -1))
    assert names(flags) == {"channels", "level"}
    assert "swapped?" in flags[0].evidence


def test_a_profile_goes_through_json(profile: Profile) -> None:
    assert Profile.from_dict(json.loads(json.dumps(profile.to_dict()))) == profile
    with pytest.raises(TypeError):
        Profile.from_dict({"n_clips": 3})


def test_refusals(profile: Profile, tmp_path: Path) -> None:
    with pytest.raises(FitError, match="at least one"):
        fit_profile([])
    info = write_and_read(tmp_path, NEW)
    with pytest.raises(FitError, match="the same rate"):
        fit_profile([info, info._replace(sr=8000)])
    with pytest.raises(SettingsError, match="read both alike"):
        compare(profile, info._replace(sr=8000))
