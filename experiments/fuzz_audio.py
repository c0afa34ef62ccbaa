"""Does any damaged file crash the readers, hang them, fill the memory, or give a clip that is none?

Run:     python -m experiments.fuzz_audio --n 100000 --out DIR
         Files of every format that libsndfile writes here are damaged by seed and read by `read_info` and
         `read_clip`, in child processes. A finding is anything but a clip or a `ClipError`; its file is kept in
         DIR, and the exit status is 1. A word of a library on the terminal, and a child that dies, are findings.
Settings chosen on: nothing is chosen.
Result:  no finding in 100,000 damaged files of 183 kinds: 21,923 are clips, 41,488 are not audio any more, 23,772 are
         said to be truncated, 1,205 damaged, 1,366 hold NaN, 443 samples beyond 2^32, 9,364 are of a format that is
         not read, 439 have an absurd header. 473 s in two processes on two busy cores.
         Counts differ by a few from run to run: Ogg files bear a number that libsndfile draws.
"""

from __future__ import annotations

import os
import pickle
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import tyro

from adjax.data.audio import read_clip, read_info
from adjax.types import ClipError

SR, N_SAMPLES = 16_000, 1600
LIMIT_S = 5.0
LIMIT_BYTES = 300 * 2**20  # beyond what the process had before; a claim of 2^26 bytes is believed

# What is written into a header's place: the ends of every width, and what writers of streams put there.
_EXTREMES = [
    *(0, 1, 2, 3, 7, 8, 24, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFF0000, 0x7FFFF000),
    *(2**27, 2**29, 2**31 - 1, 2**31, 2**32 - 1, 2**35, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1),
]
_READ = (
    "WAV",
    "WAVEX",
    "RF64",
    "W64",
    "AIFF",
    "AU",
    "CAF",
    "FLAC",
    "OGG",
    "MP3",
)  # one of each other will do
_FILES = "files.pickle"  # the whole ones, the same for all children
_HEADER = 160  # bytes at the start that are hit more often than the others


@dataclass(frozen=True)
class Study:
    """Damaged files against the readers."""

    n: int = 10_000
    """How many files."""
    out: Path = Path("runs/fuzz_audio")
    """Where files that are a finding are kept."""
    first: int = 0
    """Seed of the first file; each has its own."""
    n_processes: int = 2
    """Children at a time."""
    n_each: int = 500
    """Files for each child."""


def seeds_of_all_formats() -> dict[str, bytes]:
    """A short whole file of every format, subtype and byte order that libsndfile writes, by name."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (N_SAMPLES, 2))
    files: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as folder:
        for format_ in sorted(set(soundfile.available_formats()) - {"RAW", "SD2"}):
            known = sorted(soundfile.available_subtypes(format_))
            for subtype in known if format_ in _READ else known[:1]:
                for n_channels in (1, 2):
                    path = Path(folder, f"{format_}-{subtype}-{n_channels}")
                    try:
                        soundfile.write(path, noise[:, :n_channels], SR, format=format_, subtype=subtype)
                    except (RuntimeError, ValueError):
                        continue  # not every format takes this rate or two channels
                    files[path.name] = path.read_bytes()
    for name in ("WAV-PCM_16-1", "WAV-FLOAT-2"):
        start = files[name].index(b"data")
        files[f"{name}-stream"] = files[name][: start + 4] + b"\xff" * 4 + files[name][start + 8 :]
    mp3 = files["MP3-MPEG_LAYER_III-1"]
    files["MP3-with-ID3"] = b"ID3\x03\0\0\0\0\0\x20" + bytes(32) + mp3
    head = (
        files["WAV-PCM_16-1"][:12]
        + b"fmt \x1e\0\0\0\x55\0\x01\0\x80\x3e\0\0\xa0\x0f\0\0\x01\0\0\0\x0c\0\x01\0\x02\0\0\0"
    )
    files["WAV-of-MP3"] = head + bytes(6) + b"data" + len(mp3).to_bytes(4, "little") + mp3
    return files


def damaged(files: dict[str, bytes], seed: int) -> tuple[str, bytes]:
    """A file of `files`, damaged in one to six ways; its name and what it holds now."""
    rng = random.Random(seed)
    name = rng.choice(sorted(files))
    data = bytearray(files[name])
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 6))):
        _damage(rng, data, files)
    return name, bytes(data)


def _damage(rng: random.Random, data: bytearray, files: dict[str, bytes]) -> None:
    def place() -> int:
        """Mostly in the header, and there mostly past the mark without which nobody reads on."""
        first = 12 if rng.random() < 0.9 else 0
        last = _HEADER if rng.random() < 0.7 else len(data)
        return min(len(data), rng.randrange(first, max(first + 1, last)))

    kind = rng.randrange(8)
    if kind == 0 and data:  # flip bits
        for _ in range(rng.choice((1, 2, 8, 64))):
            data[min(place(), len(data) - 1)] ^= 1 << rng.randrange(8)
    elif kind in (1, 2):  # an extreme number, of any width and byte order
        width, at = rng.choice((1, 2, 4, 4, 4, 8)), place()
        value = (rng.choice(_EXTREMES) + rng.randrange(-2, 3)) % 256**width
        data[at : at + width] = value.to_bytes(width, rng.choice(("little", "big")))
    elif kind == 3:  # truncate
        del data[rng.randrange(len(data) + 1) :]
    elif kind == 4:  # insert
        at = place()
        data[at:at] = rng.randbytes(rng.choice((1, 2, 3, 4, 8, 100, 5000)))
    elif kind == 5:  # delete
        at = place()
        del data[at : at + rng.choice((1, 2, 3, 4, 8, 100))]
    elif kind == 6:  # the end of another file
        other = files[rng.choice(sorted(files))]
        data[place() :] = other[rng.randrange(len(other)) :]
    else:  # a piece twice, or a piece elsewhere
        at, n = place(), rng.choice((4, 8, 16, 24, 40, 500))
        to = rng.choice((at, place()))
        data[to:to] = data[at : at + n]


def judged(path: Path) -> tuple[str, str | None]:
    """What became of a file: "clip" or the first words of its error; and why it is a finding, if it is one."""
    start = time.monotonic()
    outcome, finding = "clip", None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            info = read_info(path)
            clip = read_clip(path, sr=SR if info.sr <= 8 * SR else None)
            numbers = [*clip.info.spectrum_db, clip.info.rms_db, clip.info.channel_db, clip.info.channel_corr]
            if clip.info.n_samples != info.n_samples or not len(clip.samples):
                finding = "as many samples as nobody said"
            elif not np.isfinite(clip.samples).all() or not np.isfinite(numbers).all():
                finding = "numbers that are not finite"
        except ClipError as error:
            outcome = re.split(r"[(;,:\d]", error.reason)[0].strip()
        except Exception as error:  # that is what is looked for
            finding = repr(error)
    seconds = time.monotonic() - start
    if finding is None and seconds > LIMIT_S:
        finding = f"took {seconds:.0f} s"
    return outcome, finding


def child(first: int, n: int, folder: Path) -> None:
    """Judge some seeds; tell of each what became of it, so that the parent knows at which one the child died."""
    files: dict[str, bytes] = pickle.loads((folder / _FILES).read_bytes())
    path, words = folder / f"{first}.wav", folder / f"{first}.words"
    before = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (before + LIMIT_BYTES, before + LIMIT_BYTES))
    with open(folder / f"{first}.rows", "w", encoding="utf-8") as rows:
        for seed in range(first, first + n):
            name, data = damaged(files, seed)
            path.write_bytes(data)
            print(f"{seed}\t{name}", end="\t", file=rows, flush=True)
            n_words = words.stat().st_size
            outcome, finding = judged(path)
            if said := words.read_bytes()[n_words:]:  # a library's, on the terminal of whoever reads the file
                finding = finding or f"wrote {said[:200]!r}"
            print(f"{outcome}\t{finding or ''}", file=rows, flush=True)


def batch(first: int, n: int, folder: Path) -> list[list[str]]:
    """What a child says of some seeds; where one died or hung, a finding, and another child goes on after it."""
    rows: list[list[str]] = []
    while len(rows) < n:
        start, left = first + len(rows), n - len(rows)
        command = [sys.executable, "-m", "experiments.fuzz_audio", "--child", str(start), str(left)]
        with open(folder / f"{start}.words", "w+b") as words:
            process = subprocess.Popen([*command, str(folder)], stdout=words, stderr=words)
            try:
                status = process.wait(timeout=60 + left * LIMIT_S / 20)
                end = f"died with {status}" if status else ""
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                end = "hung"
            words.seek(0)
            end = end and f"{end}: {words.read()[-300:]!r}"
        text = (folder / f"{start}.rows").read_text(encoding="utf-8")
        lines = [line.split("\t") for line in text.splitlines()]
        if end:  # within its last file, or from what that left behind
            lines[-1] = [*lines[-1][:2], "", end]
        rows += lines
    return rows


def run(study: Study) -> int:
    """Judge all files; print the outcomes; keep the findings."""
    study.out.mkdir(parents=True, exist_ok=True)
    files, outcomes, findings, start = seeds_of_all_formats(), Counter[str](), [], time.monotonic()
    starts = range(study.first, study.first + study.n, study.n_each)
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder,
        ThreadPoolExecutor(study.n_processes) as pool,
    ):
        Path(folder, _FILES).write_bytes(pickle.dumps(files))
        sizes = [min(study.n_each, study.first + study.n - first) for first in starts]
        for rows in pool.map(batch, starts, sizes, [Path(folder)] * len(starts)):
            for seed, name, outcome, finding in rows:
                outcomes[outcome if not finding else "FINDING"] += 1
                if finding:
                    findings.append(finding)
                    kept = study.out / f"{seed}-{name}.wav"
                    kept.write_bytes(damaged(files, int(seed))[1])
                    print(f"{kept}: {finding}")
    for outcome, n in outcomes.most_common():
        print(f"{n:8,}  {outcome}")
    print(
        f"{len(files)} kinds of files, {sum(outcomes.values()):,} damaged ones, {time.monotonic() - start:.0f} s"
    )
    return int(bool(findings))


def main() -> int:
    """The command."""
    if sys.argv[1:2] == ["--child"]:
        first, n, folder = sys.argv[2:]
        child(int(first), int(n), Path(folder))
        return 0
    return run(tyro.cli(Study, description=__doc__))


if __name__ == "__main__":
    sys.exit(main())
