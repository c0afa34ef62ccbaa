"""Vectors from elsewhere as features: tables, arrays, and columns in the order that a model knows them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from adjax.data.clips import Clip, ClipTable, first_of
from adjax.data.vector_files import is_table
from adjax.data.vectors import LONE, bad_rows, read_table
from adjax.model.extraction import ClipFeatures
from adjax.model.machines import machines_of
from adjax.model.spec import DetectorSpec, ModelSpec, VectorConfig
from adjax.types import ClipError, DataError, MachineId, SettingsError


def read_vectors(
    path: str | os.PathLike[str], *, machine_type: str | None = None, seed: int = 0
) -> ClipFeatures:
    """Read a table of vectors, CSV, NPZ or Parquet, for `adjax.fit`, `Model.score` and `run_sweep`.

    What is wrong with one row is in `ClipFeatures.failures`, and the row is left out.

    Args:
        path: of the table; see `adjax.data.vectors.read_table` for its columns.
        machine_type: keep this type only; None keeps all.
        seed: chooses the normal test rows where the table has labels and no split.

    Raises:
        DataError: the table cannot be used; the message names file, row and column.
    """
    table = read_table(path, machine_type=machine_type, seed=seed)
    return ClipFeatures(
        table.clips,
        table.values,
        np.arange(len(table.values) + 1),
        table.clips.rejected,
        columns=table.columns,
    )


def is_vectors(what: Any) -> bool:
    """Whether this can be nothing but vectors: a table, an array of numbers, or features without recordings."""
    if isinstance(what, ClipFeatures):
        return not what.infos
    return is_table(what) or (isinstance(what, np.ndarray) and what.dtype != object)


def paths_of(what: Any) -> list[Path] | None:
    """A path, or several; None of anything else."""
    if isinstance(what, str | os.PathLike):
        return [Path(what)]
    several = isinstance(what, Sequence) and len(what) > 0
    return (
        [Path(one) for one in what]
        if several and all(isinstance(one, str | os.PathLike) for one in what)
        else None
    )


def as_array(what: Any) -> Any:
    """A NumPy array of whatever is one of JAX, PyTorch, pandas and so on; anything else as it is."""
    return np.asarray(what) if hasattr(what, "__array__") else what


def as_features(what: Any, machine: Any, known: Sequence[MachineId] | None) -> ClipFeatures:
    """Features of vectors; a row that is not finite is among their failures.

    Args:
        what: a table's path, features, or (n_clips, n_features) numbers.
        machine: a name, or one for each row. None: what the rows say, else the only known machine.
        known: machines of a model that scores; None: the rows are to be trained on, and test rows are left out.

    Raises:
        SettingsError: what is no vectors, or a machine that the model does not know.
        DataError: a table that cannot be used.
    """
    if is_table(what):
        what = read_vectors(what)
    if not isinstance(what, ClipFeatures):
        return _of_array(_numbers_of(what), machine, known)
    if known is None and any(clip.split == "test" for clip in what.clips):
        train = what.where(lambda clip: clip.split != "test")
        what = replace(train, failures=what.failures, notes=what.notes)
    named = known is None or LONE in known or any(clip.machine != LONE for clip in what.clips)
    if machine is None and named:
        return what
    names = machines_of(machine, known, len(what.clips))
    clips = [
        replace(clip, machine_type=own.machine_type, machine_id=own.machine_id)
        for clip, own in zip(what.clips, names, strict=True)
    ]
    return replace(what, clips=replace(what.clips, clips=tuple(clips)))


def _numbers_of(what: Any) -> np.ndarray:
    """(n_clips, n_features) float64.

    Raises:
        SettingsError: it is something else.
    """
    wanted = "give (n_clips, n_features) numbers, one row for each clip"
    if paths_of(what) or not isinstance(what, Sequence | np.ndarray):
        raise SettingsError(
            f"this model takes vectors from elsewhere, no {type(what).__name__} nor recordings: {wanted}, or a table"
        )
    try:
        values = np.asarray(what)
    except (ValueError, TypeError) as error:
        widths = {i: len(row) if hasattr(row, "__len__") else 1 for i, row in enumerate(what)}
        odd = next((i for i, width in widths.items() if width != widths[0]), 0)
        raise SettingsError(
            f"vectors of different widths: row {odd} has {widths[odd]}, row 0 has {widths[0]}; {wanted}"
        ) from error
    if values.dtype.kind not in "fiub":
        raise SettingsError(f"vectors of {values.dtype.name}: {wanted}, all of them real")
    if values.ndim != 2 or not values.shape[1]:
        alone = "; a vector alone is vector[None]" if values.ndim == 1 and values.size else ""
        raise SettingsError(f"vectors of shape {values.shape}: {wanted}{alone}")
    return values.astype(np.float64)


def _of_array(values: np.ndarray, machine: Any, known: Sequence[MachineId] | None) -> ClipFeatures:
    bad = bad_rows(values)
    clips = [
        Clip(Path(f"vector {i}"), *own, key=f"vector {i}", row=i)
        for i, own in enumerate(machines_of(machine, known, len(values)))
    ]
    if known is None:
        clips = [replace(clip, split="train", label=0) for clip in clips]
    good = [i for i in range(len(values)) if i not in bad]
    failures = tuple(ClipError(clips[i].path, reason) for i, reason in bad.items())
    table = ClipTable(tuple(clips[i] for i in good))
    return ClipFeatures(table, values[good].astype(np.float32), np.arange(len(good) + 1), failures)


def config_of(features: ClipFeatures) -> VectorConfig:
    """What stands in place of a front end for a model of these vectors."""
    several = (np.diff(features.offsets) != 1).any()
    return VectorConfig(features.rows.shape[1], "none" if several else "vector", features.columns)


def takes_vectors(spec: ModelSpec) -> bool:
    """Whether a model takes vectors alone."""
    return all(isinstance(front_end, VectorConfig) for front_end in spec.front_ends)


def taking(spec: ModelSpec, config: VectorConfig) -> ModelSpec:
    """A model of vectors that takes these."""
    return replace(spec, detectors=tuple(replace(own, features=config) for own in spec.detectors))


def align(features: ClipFeatures, detector: DetectorSpec) -> ClipFeatures:
    """Features with the columns of a detector, in its order.

    Raises:
        DataError: columns are missing, or too many.
        SettingsError: rows of another width, or vectors where sound is wanted.
    """
    own = detector.features
    if not isinstance(own, VectorConfig) and any(clip.row is not None for clip in features.clips):
        raise SettingsError(f"the {detector.kind} takes recordings, not vectors from elsewhere")
    wanted = own.columns if isinstance(own, VectorConfig) else ()
    if wanted and features.columns and wanted != features.columns:
        places = {name: i for i, name in enumerate(features.columns)}
        missing = [repr(name) for name in wanted if name not in places]
        extra = [repr(name) for name in features.columns if name not in {*wanted}]
        if missing or extra:
            told = [
                f"{first_of(own)} {word}" for own, word in ((missing, "missing"), (extra, "too many")) if own
            ]
            raise DataError(
                f"these vectors have other columns than those of the model: {'; '.join(told)}; give those that "
                "it was trained on"
            )
        features = replace(features, rows=features.rows[:, [places[name] for name in wanted]], columns=wanted)
    if features.rows.shape[1] != own.n_features:
        raise SettingsError(
            f"the {detector.kind} takes rows of {own.n_features} numbers, these have {features.rows.shape[1]}: give "
            "what the model's own front_ends give"
        )
    return features


def check_splits(clips: ClipTable) -> None:
    """Refuse what cannot be trained on and tested.

    Raises:
        DataError: there are no training or no test clips.
    """
    for split in ("train", "test"):
        if not any(clip.split == split for clip in clips):
            raise DataError(f"there are no {split} clips; a data set needs normal train clips and test clips")


def split_vectors(features: ClipFeatures) -> tuple[ClipFeatures, ClipFeatures]:
    """The training and the test rows; failures stay with the training rows.

    Raises:
        DataError: there are none of them.
    """
    check_splits(features.clips)
    train = features.where(lambda clip: clip.split == "train")
    test = features.where(lambda clip: clip.split == "test")
    return replace(train, failures=features.failures, notes=features.notes), test
