"""Where a fault is heard: a mask over frames and mel bands, its summary; `ground_truth.csv`, `attributes_00.csv`."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adjax.features.mel import mel_spectrogram
from adjax.files import csv_table
from adjax.simulator.clips import SR
from adjax.simulator.conditions import Condition
from adjax.types import DataError

N_FFT, HOP_LENGTH, N_MELS = 1024, 512, 128  # the DCASE 2020 baseline's frames and bands
MASK_THRESHOLD_DB = -6.0
GROUND_TRUTH = "ground_truth.csv"
_COLUMNS = ("file", "fault", "severity", "seconds", "mel_bands")
_GAP_S = 0.1  # touched moments closer than this are one
_BAND_SHARE = 0.05  # a band counts as touched if it is in this share of the touched frames


@dataclass(frozen=True)
class FaultSpans:
    """Where a fault is heard, in short.

    Attributes:
        seconds: (start, end) pairs, in order.
        mel_bands: (first, last) pairs of 0-based bands, both included, of N_MELS bands.
    """

    seconds: tuple[tuple[float, float], ...]
    mel_bands: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class TruthRow:
    """One line of `ground_truth.csv`: the fault, its severity in [0, 1], and where it is heard."""

    fault: str
    severity: float
    spans: FaultSpans


def fault_mask(
    samples: Array, fault: Array, *, sr: int = SR, threshold_db: float = MASK_THRESHOLD_DB
) -> Array:
    """The time-frequency cells in which a fault is heard.

    Rule: the mel power of the fault's part reaches `threshold_db` relative to the mean power, over the clip,
    of the healthy clip in that band. At -6 dB the fault raises the band's mean level by 1 dB.

    Args:
        samples: (n_samples,) the clip.
        fault: (n_samples,) the fault's part of it.
        sr: sample rate in Hz (static).
        threshold_db: see the rule.

    Returns:
        (n_frames, N_MELS) bool; nothing for a healthy clip, whose part is exactly zero.
    """
    mel = partial(mel_spectrogram, sr=sr, n_fft=N_FFT, hop_length=HOP_LENGTH, n_mels=N_MELS, power=2.0)
    # One after the other: two large transforms at once can block (see `adjax.simulator.sound_synthesis`).
    healthy_power, power = jax.lax.map(mel, jnp.stack([samples - fault, fault]))
    healthy = jnp.mean(healthy_power, axis=0)
    return (power >= 10.0 ** (threshold_db / 10.0) * healthy[None, :]) & (power > 0.0)


def fault_spans(mask: np.ndarray, *, sr: int = SR) -> FaultSpans:
    """Sum a mask up: when, and in which bands.

    A frame counts as touched if any of its cells is; moments less than 0.1 s apart are joined. A band counts
    if it is in at least 5 % of the touched frames.

    Args:
        mask: (n_frames, n_mels) bool; frame t is centred on sample t * HOP_LENGTH.
        sr: sample rate in Hz.
    """
    frames = np.flatnonzero(mask.any(axis=1))
    if frames.size == 0:
        return FaultSpans((), ())
    hop = HOP_LENGTH / sr
    seconds = tuple(
        (round(max(first - 0.5, 0.0) * hop, 3), round(min(last + 0.5, mask.shape[0] - 1) * hop, 3))
        for first, last in _runs(frames, max_step=1 + int(_GAP_S / hop))
    )
    bands = np.flatnonzero(mask[frames].mean(axis=0) >= _BAND_SHARE)
    return FaultSpans(seconds, tuple(_runs(bands, max_step=1)))


def _runs(values: np.ndarray, *, max_step: int) -> list[tuple[int, int]]:
    """First and last of each run of ascending integers whose steps are at most `max_step`."""
    if values.size == 0:
        return []
    parts = np.split(values, np.flatnonzero(np.diff(values) > max_step) + 1)
    return [(int(part[0]), int(part[-1])) for part in parts]


def write_ground_truth(path: str | os.PathLike[str], rows: Iterable[tuple[str, TruthRow]]) -> None:
    """Write `ground_truth.csv`, one line a (file name, truth), whole or not at all.

    Columns: `file`, `fault`, `severity`, `seconds` ("0.32-0.64;1.2-1.44") and `mel_bands` ("60-127", 0-based,
    both ends included, of N_MELS Slaney bands).
    """
    with csv_table(Path(path), _COLUMNS) as write:
        for name, row in rows:
            seconds = ";".join(f"{start:g}-{end:g}" for start, end in row.spans.seconds)
            bands = ";".join(f"{first}-{last}" for first, last in row.spans.mel_bands)
            write([name, row.fault, f"{row.severity:g}", seconds, bands])


def write_attributes(path: str | os.PathLike[str], rows: Iterable[tuple[str, Condition]]) -> None:
    """Write `attributes_00.csv` as DCASE has it, one line a (file, condition): `file_name,d1p,d1v,d2p,d2v,...`.

    d1p is the name of the condition's first number, d1v its value, and so on.
    """
    header = [f"d{i}{what}" for i in range(1, len(Condition._fields) + 1) for what in "pv"]
    with csv_table(Path(path), ["file_name", *header]) as write:
        for name, condition in rows:
            pairs = zip(Condition._fields, condition, strict=True)
            write([name, *(cell for field, value in pairs for cell in (field, f"{value:g}"))])


def read_ground_truth(path: str | os.PathLike[str]) -> dict[str, TruthRow]:
    """Read `ground_truth.csv`: what `write_tree` says of each anomalous file, by file name.

    Raises:
        DataError: the file is missing or not of this form.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines = csv.DictReader(file)
            if tuple(lines.fieldnames or ()) != _COLUMNS:
                raise ValueError(f"columns {lines.fieldnames}, not {list(_COLUMNS)}")
            return {
                row["file"]: TruthRow(
                    row["fault"],
                    float(row["severity"]),
                    FaultSpans(
                        tuple((float(a), float(b)) for a, b in _pairs(row["seconds"])),
                        tuple((int(a), int(b)) for a, b in _pairs(row["mel_bands"])),
                    ),
                )
                for row in lines
            }
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); write the tree with write_tree"
        ) from error
    except (ValueError, AttributeError) as error:
        raise DataError(f"{path}: is no ground truth of adjax ({error}); write the tree again") from error


def _pairs(text: str) -> list[list[str]]:
    return [part.split("-") for part in text.split(";") if part]
