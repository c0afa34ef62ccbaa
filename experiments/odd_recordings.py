"""What does a model say of recordings that are not like the training ones?

Run:     python -m experiments.odd_recordings --data ROOT --out DIR
         ROOT has slider/train, slider/test and odd/, a folder of odd files.
Lanes:   "auto", fitted on slider/train; each test clip, each odd file, and kinds made here: rates, lengths, levels,
         channels, formats. All kinds are a 440 Hz hum in white noise, as the clips of ROOT are.
Settings chosen on: nothing is chosen.
Result:  docs/recordings.md, "The odd clips, one by one" and "Whole kinds".
"""

from __future__ import annotations

import csv
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import tyro
from rich.console import Console
from rich.table import Table

import adjax
from adjax.app.console import make_console
from adjax.model.model import Model
from adjax.types import ClipError

SR, SECONDS = 16_000, 2.0
MACHINE = "slider/00"


@dataclass(frozen=True)
class Study:
    """Scores of odd recordings."""

    data: Path
    """Root with slider/train, slider/test and odd."""
    out: Path = Path("runs/odd_recordings")
    """Folder for the tables."""
    minutes: float = 20.0
    """Length of the longest clip."""


class Row(NamedTuple):
    """One recording: what came of it."""

    name: str
    score: float | None
    p_value: float | None
    verdict: str
    flags: str
    error: str = ""
    evidence: str = ""


class Kind(NamedTuple):
    """A recording to be written."""

    name: str
    samples: np.ndarray
    sr: int = SR
    format: str = "WAV"
    subtype: str = "PCM_16"


def hum(sr: int = SR, seconds: float = SECONDS, seed: int = 99) -> np.ndarray:
    """(n_samples,) a hum in white noise of the same density at every rate, as a microphone hears it."""
    n = round(sr * seconds)
    noise = 0.02 * np.sqrt(sr / SR) * np.random.default_rng(seed).standard_normal(n)
    return (0.05 * np.sin(2 * np.pi * 440 * np.arange(n) / sr) + noise).astype(np.float32)


def kinds(minutes: float) -> Iterator[Kind]:
    """Every kind of docs/recordings.md that has a score."""
    new = hum()
    yield Kind("itself", new)
    for sr in (22_050, 24_000, 32_000, 44_100, 48_000, 96_000, 192_000):
        yield Kind(f"recorded at {sr} Hz", hum(sr), sr)
    for sr in (1000, 2000, 4000, 8000, 11_025, 12_000):
        yield Kind(f"recorded at {sr} Hz", hum(sr), sr)
    for seconds in (0.1, 0.3, 0.5, 1.0, 1.6, 2.5, 4.0, 10.0, 60.0, 60 * minutes):
        yield Kind(f"{seconds:g} s", hum(seconds=seconds))
    for db in (-40.0, -12.0, -1.0, 2.9, 6.0, 12.0):
        yield Kind(f"{db:+g} dB", (new * 10 ** (db / 20)).astype(np.float32))
    yield Kind("silence", 0 * new)
    yield Kind("half silent", new * (np.arange(len(new)) > len(new) / 2))
    yield Kind("channel 0 dead", np.stack([0 * new, new], 1))
    yield Kind("stereo", np.stack([new, hum(seed=98)], 1))
    yield Kind("8 channels", np.stack([new] * 8, 1))
    yield Kind("antiphase", np.stack([new, -new], 1))
    yield Kind("FLAC", new, SR, "FLAC")
    yield Kind("AIFF", new, SR, "AIFF")
    yield Kind("24 bits", new, SR, "WAV", "PCM_24")
    yield Kind("float", new, SR, "WAV", "FLOAT")
    yield Kind("Ogg Vorbis", new, SR, "OGG", "VORBIS")
    yield Kind("MP3", new, SR, "MP3", "MPEG_LAYER_III")
    yield Kind("8 bits", new, SR, "WAV", "PCM_U8")
    yield Kind("µ-law", new, SR, "WAV", "ULAW")
    peak = float(np.abs(new).max())
    yield Kind("clipped at half the peak", np.clip(new, -peak / 2, peak / 2))
    yield Kind("offset .01", new + np.float32(0.01))
    yield Kind("offset .3", new + np.float32(0.3))
    yield Kind("first half twice", np.tile(new[: len(new) // 2], 2))


def judge(model: Model, path: Path, name: str) -> Row:
    """Score one file."""
    result = model.score([path], machine=MACHINE)
    if not len(result.scores):
        (error,) = result.failures
        return Row(
            name, None, None, "error", "", error.reason if isinstance(error, ClipError) else str(error)
        )
    flags = ", ".join(dict.fromkeys(flag.name for flag in result.flags[0]))
    evidence = "; ".join(str(flag) for flag in result.flags[0])
    score, p_value = float(result.scores[0]), float(result.p_values[0])
    return Row(name, score, p_value, result.verdicts[0], flags, evidence=evidence)


def judge_kinds(model: Model, minutes: float) -> list[Row]:
    """Write each kind and score it."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.wav"
        for kind in kinds(minutes):
            soundfile.write(path, kind.samples, kind.sr, format=kind.format, subtype=kind.subtype)
            rows.append(judge(model, path, kind.name))
    return rows


def report(study: Study, title: str, rows: list[Row], console: Console) -> None:
    """Table and CSV."""
    table = Table(title=title, title_justify="left")
    for name in ("clip", "score", "p", "verdict", "flags or error"):
        table.add_column(name, overflow="fold")
    for row in rows:
        score = "–" if row.score is None else f"{row.score:.3g}"
        p = "–" if row.p_value is None else f"{row.p_value:.2g}"
        table.add_row(row.name, score, p, row.verdict, row.flags or row.error)
    console.print(table)
    with open(study.out / f"{title}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows(rows)


def main() -> int:
    """The experiment; 0 when done."""
    study, console = tyro.cli(Study, description=__doc__), make_console()
    study.out.mkdir(parents=True, exist_ok=True)
    model = adjax.fit(sorted((study.data / "slider" / "train").glob("*.wav")), machine=MACHINE)
    for title, folder in (("test", study.data / "slider" / "test"), ("odd", study.data / "odd")):
        paths = sorted(path for path in folder.iterdir() if path.is_file())
        report(study, title, [judge(model, path, path.stem) for path in paths], console)
    report(study, "kinds", judge_kinds(model, study.minutes), console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
