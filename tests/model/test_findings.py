"""What is said of training clips, and when they are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from adjax.data.audio import read_clip
from adjax.data.descriptors import ClipInfo
from adjax.model.findings import TrainingFindings, check_training

SR = 16_000


def noise(seed: int, sr: int = SR, seconds: float = 2) -> np.ndarray:
    return (0.05 * np.random.default_rng(seed).standard_normal(round(sr * seconds))).astype(np.float32)


def info(folder: Path, samples: np.ndarray, sr: int = SR, **how: object) -> ClipInfo:
    soundfile.write(folder / "x.wav", samples, sr, **how)
    return read_clip(folder / "x.wav").info


@pytest.fixture
def clips(tmp_path: Path) -> list[ClipInfo]:
    return [info(tmp_path, noise(seed)) for seed in range(6)]


def check(infos: list[ClipInfo]) -> TrainingFindings:
    return check_training([f"{i}.wav" for i in range(len(infos))], infos, machine="slider id_00")


def test_ordinary_clips(clips: list[ClipInfo]) -> None:
    assert check(clips) == TrainingFindings((), ())


def test_real_clips(shared: Path) -> None:
    for kind in ("slider", "fan"):
        for number in ("00", "02", "04", "06"):
            paths = sorted((shared / "data" / "mimii_mini" / kind / "train").glob(f"*id_{number}*"))
            found = check_training([path.name for path in paths], [read_clip(path).info for path in paths])
            assert found == TrainingFindings((), ())


def test_each_kind_is_listed_with_its_clips(clips: list[ClipInfo], tmp_path: Path) -> None:
    odd = {
        "silence": info(tmp_path, np.zeros(2 * SR)),
        "rate": info(tmp_path, noise(10, 48_000), 48_000),
        "bandwidth": info(tmp_path, read_clip_at_8k(tmp_path)),
        "channels": info(tmp_path, np.stack([noise(12)] * 2, 1)),
        "level": info(tmp_path, 0.1 * noise(13)),
        "clipping": info(tmp_path, np.clip(noise(14), -0.1, 0.1)),
        "full-scale": info(tmp_path, 30 * noise(15), subtype="FLOAT"),
        "dc": info(tmp_path, noise(16) + 0.2),
        "codec": info(tmp_path, noise(17), subtype="ULAW"),
        "repeated": info(tmp_path, np.tile(noise(18, seconds=0.5), 4)),
    }
    found = check([*clips, *odd.values()])
    assert found.refuse == ()
    places = {name: f"{6 + i}.wav" for i, name in enumerate(odd)}
    for name, place in places.items():
        finding = next(finding for finding in found.findings if finding.name == name)
        assert place in finding.clips, finding
        assert len(finding.clips) <= 2
        assert place in str(finding)
        assert any(char.isdigit() for char in finding.evidence)


def read_clip_at_8k(folder: Path) -> np.ndarray:
    """A clip at 16 kHz that has been at 8 kHz."""
    soundfile.write(folder / "narrow.wav", noise(11, 8000), 8000)
    return read_clip(folder / "narrow.wav").samples


def test_recovered_headers_are_listed(clips: list[ClipInfo]) -> None:
    (finding,) = check([*clips, clips[0]._replace(recovered=2, fingerprint=1)]).findings
    assert (finding.name, finding.clips) == ("header", ("6.wav",))
    assert "0 bytes" in finding.evidence


def test_identical_clips_are_listed(clips: list[ClipInfo]) -> None:
    found = check([*clips, clips[0], clips[0], clips[1]])
    assert [finding.clips for finding in found.findings] == [("0.wav", "6.wav", "7.wav"), ("1.wav", "8.wav")]
    assert found.refuse == ()


def test_one_clip_twelve_times_is_refused(clips: list[ClipInfo]) -> None:
    assert check(clips[:1] * 12).refuse == (
        "12 training clips of slider id_00 are the same recording: give different recordings",
    )


def test_silence_is_refused(clips: list[ClipInfo], tmp_path: Path) -> None:
    silent = info(tmp_path, np.zeros(2 * SR))
    (reason,) = check([silent] * 12).refuse
    assert reason.startswith("all 12 training clips of slider id_00 are silent: check the recorder")
    (reason,) = check([silent] * 10 + clips[:2]).refuse
    assert reason.startswith("only 2 of 12 training clips of slider id_00 are not silent")
    assert check([silent] * 10 + clips[:3]).refuse == ()


def test_too_few_are_refused(clips: list[ClipInfo]) -> None:
    assert "has no training clip" in check([]).refuse[0]
    assert "has one training clip" in check(clips[:1]).refuse[0]
    assert check(clips[:2]).refuse == ()
