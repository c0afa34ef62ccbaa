"""Vectors from elsewhere (embeddings, openSMILE, ...): a table with a row for each clip, checked row by row.

What is wrong with one row is an error of that row, and the others go on. What makes it doubtful which row or column is
which refuses the table.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np

from adjax.data.clips import Clip, ClipTable, Split, count, first_of
from adjax.data.index import split_by_label
from adjax.data.vector_files import RawTable, read_raw
from adjax.types import ClipError, DataError, MachineId, readable

LONE = MachineId("machine")  # where nobody has named one
LARGEST = 1e30  # so that a sum over any number of clips, or a difference, stays within float32
COARSE = 0.1  # share of a column's spread that rounding may be before somebody should know
_LABEL_OF = {
    **dict.fromkeys(("0", "0.0", "normal"), 0),
    **dict.fromkeys(("1", "1.0", "anomaly", "anomalous", "abnormal"), 1),
    **dict.fromkeys(("", "nan", "none"), None),
}


class VectorTable(NamedTuple):
    """A table that is understood.

    Attributes:
        clips: of the usable rows, in the table's order; `ClipTable.rejected` lists the others.
        values: (n_clips, n_features) float32.
        columns: (n_features,) names of the numbers; () where nobody has named them.
    """

    clips: ClipTable
    values: np.ndarray
    columns: tuple[str, ...]


class _RowError(Exception):
    """Why a row cannot be used, and what to do."""


def read_table(
    path: str | os.PathLike[str], *, machine_type: str | None = None, seed: int = 0
) -> VectorTable:
    """Read a table of vectors: CSV (commas, semicolons or tabs), NPZ or Parquet, as docs/vectors.md describes them.

    Its columns: `file`, the name of the clip; `machine_type` and `machine_id` (without both it is one machine's);
    `split`, train or test, also as DCASE's source_test; `label`, 0, 1, normal, anomaly or empty; `domain`, source,
    target or empty; every other one is numbers. Only `file` and numbers must be there. Without `split` all rows are
    training rows and taken for normal; if some are labelled as anomalies, the rows are split as the clips of folders
    normal and abnormal are (see `index_folder`), and test rows are all that have no label.

    Args:
        path: of the table.
        machine_type: keep this type only; None keeps all.
        seed: see `index_folder`.

    Raises:
        DataError: it cannot be read; columns are missing, of one name, without name or without one number; rows of
            the same file, machine and split; not one usable row, or none of that machine type.
    """
    path = Path(path)
    raw = read_raw(path)
    reasons = {**bad_rows(raw.values, raw.columns, raw.texts), **raw.ragged}
    clips: list[Clip] = []
    places: list[int] = []
    rejected: list[ClipError] = []
    types: set[str] = set()
    for place, row in enumerate(raw.rows):
        words = {name: cells[place] for name, cells in raw.words.items()}
        types.add(words.get("machine_type") or LONE.machine_type)
        if machine_type not in (None, words.get("machine_type") or LONE.machine_type):
            continue
        try:
            if place in reasons:
                raise _RowError(reasons[place])
            clips.append(_clip(words, row))
            places.append(place)
        except _RowError as error:
            rejected.append(ClipError(words["file"] or path, f"row {row} of {path.name}: {error}"))
    if machine_type not in (None, *types):
        raise DataError(
            f"{path}: has no rows of machine type {machine_type}; it has {first_of(sorted(types))}"
        )
    _check_columns(path, raw)
    if not clips:
        raise DataError(
            f"{path}: not one of {count(len(rejected), 'row')} can be used; the first: {rejected[0]}"
        )
    _check_unlike(path, clips)
    notes: tuple[str, ...] = ()
    if "split" not in raw.words:
        clips = _without_split(clips, seed)
        notes = (_note(path, clips),)
    values = raw.values[places]
    kept = values.astype(np.float32)
    notes += _coarse(path, values, kept, raw.columns)
    return VectorTable(ClipTable(tuple(clips), tuple(rejected), notes), kept, raw.columns)


def _coarse(path: Path, values: np.ndarray, kept: np.ndarray, columns: Sequence[str]) -> tuple[str, ...]:
    """A note on columns that lie so far from 0 that float32 keeps little of what moves in them."""
    scale = np.maximum(
        np.abs(values).max(axis=0), np.finfo(np.float32).tiny
    )  # no square overflows or vanishes
    lost = np.sqrt(np.mean(((values - kept) / scale) ** 2, axis=0))
    found = np.flatnonzero((lost > COARSE * (values / scale).std(axis=0)) & (np.ptp(values, axis=0) > 0))
    if not len(found):
        return ()
    names = first_of([repr(columns[j]) if columns else str(j) for j in found.tolist()])
    return (
        f"{readable(path.name)}: numbers are kept to 7 digits (float32), which loses most of what moves in {names}: "
        "subtract a constant from such a column beforehand",
    )


def bad_rows(
    values: np.ndarray, columns: Sequence[str] = (), texts: Mapping[tuple[int, int], str] | None = None
) -> dict[int, str]:
    """Why rows cannot be used, by their place: numbers that are not finite, or too large.

    Args:
        values: (n, d) float64.
        columns: (d,) their names; (): nobody has named them.
        texts: what stands in a cell that is no number.
    """
    bad = ~(np.abs(values) <= LARGEST)
    found = {}
    for i in np.flatnonzero(bad.any(axis=1)).tolist():
        own = np.flatnonzero(bad[i]).tolist()
        name = f"column {columns[own[0]]!r}" if columns else f"column {own[0]}"
        more = f", and {count(len(own) - 1, 'more column')} such" if len(own) > 1 else ""
        text, value = (texts or {}).get((i, own[0])), float(values[i, own[0]])
        if np.isfinite(value):
            found[i] = f"{name} holds {value:g}, beyond {LARGEST:g}, too large to sum{more}: scale the column"
        else:
            cell = f"holds {text[:40]!r}" if text else "is empty" if text is not None else f"holds {value:g}"
            found[i] = f"{name} {cell}{more}: give a finite number, or leave the row out"
    return found


def _check_columns(path: Path, raw: RawTable) -> None:
    """Raise DataError for a column without one number: it is text, or was never filled."""
    whole = [i for i in range(len(raw.values)) if i not in raw.ragged]
    empty = np.flatnonzero(~np.isfinite(raw.values[whole]).any(axis=0)).tolist() if whole else []
    if empty:
        j = empty[0]
        name = repr(raw.columns[j]) if raw.columns else str(j)
        text = raw.texts.get((whole[0], j), f"{raw.values[whole[0], j]:g}")
        others = f", nor do {len(empty) - 1} more" if len(empty) > 1 else ""
        raise DataError(
            f"{path}: column {name} does not hold one number{others} (row {raw.rows[whole[0]]}: {text[:40]!r}); remove "
            "it, or write numbers with a decimal point"
        )


def _check_unlike(path: Path, clips: Sequence[Clip]) -> None:
    """Raise DataError for two rows of one clip: nobody knows which of them counts."""
    first: dict[tuple[MachineId, str, str], Clip] = {}
    again = [clip for clip in clips if first.setdefault((clip.machine, clip.split, clip.key), clip) != clip]
    if again:
        clip = again[0]
        other = first[clip.machine, clip.split, clip.key]
        raise DataError(
            f"{path}: rows {other.row} and {clip.row} have the same file, machine and split ({clip.key})"
            + (f", and so on: {len(again)} rows too many" if len(again) > 1 else "")
            + "; keep one row for each clip (pool the windows of a clip into one first)"
        )


def _clip(words: Mapping[str, str], row: int) -> Clip:
    """What a row says besides its numbers.

    Raises:
        _RowError: a word that is none of those known, or that contradicts another.
    """
    name, label = words["file"], words.get("label", "").lower()
    if not name:
        raise _RowError("column 'file' is empty: name the clip")
    domain, _, split = words.get("split", "").lower().rpartition("_")
    if "split" in words and (split not in ("train", "test") or domain not in ("", "source", "target")):
        raise _RowError(f"column 'split' holds {words['split']!r}: give train or test")
    said = words.get("domain", "").lower()
    if said not in ("", "source", "target") or (said and domain not in ("", said)):
        raise _RowError(f"column 'domain' holds {said!r}: give source, target, or nothing; as split has it")
    if label not in _LABEL_OF:
        raise _RowError(f"column 'label' holds {words['label']!r}: give 0 (normal), 1 (anomaly) or nothing")
    if split == "train" and _LABEL_OF[label] == 1:
        raise _RowError(
            "column 'label' calls it an anomaly, in split train: a model is trained on normal rows only; correct one"
        )
    return Clip(
        Path(name),
        readable(words.get("machine_type", "")) or LONE.machine_type,
        readable(words.get("machine_id", "")),
        said or domain,
        cast(Split, split),
        0 if split == "train" else _LABEL_OF[label],
        key=readable(name),
        row=row,
    )


def _without_split(clips: list[Clip], seed: int) -> list[Clip]:
    """All for training, or as folders of normal and abnormal clips; in the table's order."""
    if not any(clip.label == 1 for clip in clips):
        return [replace(clip, split="train", label=0) for clip in clips]
    said = split_by_label([clip for clip in clips if clip.label is not None], seed)
    unsaid = [replace(clip, split="test") for clip in clips if clip.label is None]
    return sorted([*said, *unsaid], key=lambda clip: clip.row or 0)


def _note(path: Path, clips: Sequence[Clip]) -> str:
    n = sum(clip.split == "test" for clip in clips)
    taken = "all rows are taken for normal training rows"
    if n:
        taken = (
            f"{count(n, 'row')} are tested (all anomalies, as many normal ones, and those without label), and the "
            "others are for training"
        )
    return f"{readable(path.name)}: has no column 'split', so {taken}"
