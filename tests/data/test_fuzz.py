"""Some damaged files; the study reads a hundred thousand, in processes of their own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from experiments.fuzz_audio import damaged, judged, seeds_of_all_formats


def test_a_damaged_file_is_a_clip_or_a_clip_error(tmp_path: Path) -> None:
    files, outcomes = seeds_of_all_formats(), Counter[str]()
    for seed in range(1000):
        name, data = damaged(files, seed)
        (tmp_path / "x.wav").write_bytes(data)
        outcome, finding = judged(tmp_path / "x.wav")
        assert finding is None, (seed, name)
        outcomes[outcome] += 1
    assert outcomes["clip"] > 100
    assert outcomes["is truncated"] > 100


def test_damage_is_a_function_of_the_seed() -> None:
    files = {"a": bytes(200), "b": bytes(range(200))}
    assert [damaged(files, seed) for seed in range(50)] == [damaged(files, seed) for seed in range(50)]
    assert len({damaged(files, seed)[1] for seed in range(50)}) > 40
