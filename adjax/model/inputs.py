"""Whatever a person has to features: files, folders, tables of clips, sounds in memory, vectors from elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from adjax.data.audio import check_peak
from adjax.data.clips import Clip, ClipTable, Split
from adjax.data.descriptors import ClipInfo, describe_file, describe_sound
from adjax.data.index import index_folder, list_audio
from adjax.data.rates import resample
from adjax.data.vector_files import is_table
from adjax.data.vectors import LONE
from adjax.features.recipes import FeatureConfig
from adjax.model.extraction import ClipFeatures, compiled_features, extract
from adjax.model.machines import clip_of, machines_of
from adjax.model.spec import ModelSpec
from adjax.model.vectors import as_array, as_features, check_splits, paths_of, takes_vectors
from adjax.types import AdjaxError, ClipBatch, ClipError, DataError, MachineId, SettingsError

Features = tuple[ClipFeatures, ...]


def gather(
    spec: ModelSpec,
    what: Any,
    *,
    machine: Any = None,
    known: Sequence[MachineId] | None = None,
    sr: int | None = None,
    cache: Path | None = None,
    on_clips: Callable[[int], None] | None = None,
) -> tuple[Features, tuple[AdjaxError, ...]]:
    """Features of clips for each detector of a specification, and the errors of clips that have none.

    Args:
        spec: of the model.
        what: see `Model.score` and `adjax.fit`.
        machine: whose clips these are: a name, or one for each clip. None: what files say, else the only known one.
        known: machines of a model that scores; None: the clips are to be trained on.
        sr: rate of arrays in Hz; None: that of the front end.
        cache: of features, for files.
        on_clips: see `extract`.

    Raises:
        SettingsError: input that the model does not take, or a machine that it does not know.
        DataError: a folder without recordings, or not one clip for training.
    """
    what = as_array(what)
    if isinstance(what, ClipFeatures) or takes_vectors(spec) or is_table(what):
        if is_table(what) and not takes_vectors(spec):
            raise SettingsError(f"{what}: is a table of vectors; this model takes recordings")
        return (as_features(what, machine, known),) * len(spec.detectors), ()
    if not isinstance(what, (str, os.PathLike, Sequence, np.ndarray, ClipTable)):
        raise SettingsError(
            f"a {type(what).__name__} is nothing to listen to: give a folder, files, a ClipTable, or arrays"
        )
    if any(
        isinstance(one, np.ndarray) and np.iscomplexobj(one)
        for one in (what if isinstance(what, list | tuple) else [what])
    ):
        raise SettingsError("complex numbers are no sound: give real ones")
    errors: list[AdjaxError] = []
    if paths := paths_of(what):
        table, errors = _table_of(paths, machine, known)
        what = ClipTable(tuple(table))
    elif isinstance(what, ClipTable) and known is None:
        what = replace(what, clips=tuple(clip for clip in what if clip.split != "test"))
    if isinstance(what, ClipTable):
        errors += what.rejected
        found = extract_for(spec, what, cache=cache, on_clips=on_clips, none_is_fine=known is not None)
        return found, tuple(errors)
    split: Split = "train" if known is None else ""
    sounds = list(what)
    return _of_sounds(spec, sounds, machines_of(machine, known, len(sounds)), sr, split), ()


def extract_for(
    spec: ModelSpec,
    clips: ClipTable,
    *,
    cache: Path | None = None,
    on_clips: Callable[[int], None] | None = None,
    none_is_fine: bool = False,
) -> Features:
    """Features of clips for each detector of a specification, each front end once; see `extract`.

    Raises:
        DataError: not one clip can be read.
        SettingsError: the model takes vectors, not sound.
    """
    found: dict[FeatureConfig, ClipFeatures] = {}
    for front_end in spec.front_ends:
        if not isinstance(front_end, FeatureConfig):
            raise SettingsError("this model takes vectors from elsewhere, not recordings")
        if front_end not in found:
            found[front_end] = extract(
                clips,
                front_end,
                channel=spec.channel,
                cache=cache,
                on_clips=on_clips if not found else None,  # a clip counts once
                none_is_fine=none_is_fine,
            )
    return tuple(found[front_end] for front_end in spec.front_ends if isinstance(front_end, FeatureConfig))


def extract_splits(
    clips: ClipTable,
    spec: ModelSpec,
    *,
    cache: Path | None = None,
    on_clips: Callable[[int], None] | None = None,
) -> tuple[Features, Features]:
    """Features of the training and of the test clips, for each detector.

    Raises:
        DataError: there are no training or no test clips, or none of them can be read.
    """
    check_splits(clips)
    parts = (clips.select(split="train"), clips.select(split="test"))
    train, test = (extract_for(spec, part, cache=cache, on_clips=on_clips) for part in parts)
    rejected = tuple(replace(own, failures=(*clips.rejected, *own.failures)) for own in train)
    return rejected, test


def _table_of(
    paths: Sequence[Path], machine: Any, known: Sequence[MachineId] | None
) -> tuple[list[Clip], list[AdjaxError]]:
    """Clips of files and folders; errors of those that belong to no machine."""
    errors: list[AdjaxError] = []
    if known is None and len(paths) == 1 and paths[0].is_dir() and machine is None:
        table = index_folder(paths[0])
        return list(table.select(split="train")), list(table.rejected)
    files = list(expand(paths, errors))
    named = None if machine is None else machines_of(machine, known, len(files))
    clips = []
    for i, path in enumerate(files):
        try:
            if known is None:
                clips.append(Clip(path, *(named[i] if named else LONE), split="train", label=0))
            else:
                clips.append(clip_of(known, path, named[i] if named else None))
        except ClipError as error:
            errors.append(error)
    if known is None and not clips:
        raise DataError("there are no recordings to train on; give a folder of normal ones, or files")
    return clips, errors


def expand(paths: Sequence[Path], errors: list[AdjaxError]) -> Iterator[Path]:
    """Files as given, and all recordings in folders, sorted; an error for a folder that holds none."""
    for path in paths:
        if os.path.isdir(path):
            inside = list_audio(path)
            if not inside:
                errors.append(ClipError(path, "holds no recordings; give a folder with some"))
            yield from inside
        else:
            yield path


def _of_sounds(
    spec: ModelSpec, sounds: list[Any], machines: list[MachineId], sr: int | None, split: Split
) -> Features:
    """Features of arrays of samples; each is computed by itself, at its own length."""
    clips, errors, good = [], [], []
    for i, (own, sound) in enumerate(zip(machines, sounds, strict=True)):
        sound, name = np.asarray(sound), f"clip {i}"
        if sound.ndim != 1 or not sound.size or not np.issubdtype(sound.dtype, np.floating):
            reason = f"is {sound.dtype}{list(sound.shape)}; give one channel of float samples, (n_samples,), in [-1, 1]"
            errors.append(ClipError(name, reason))
            continue
        try:
            check_peak(name, float(np.abs(sound).max()))
        except ClipError as error:
            errors.append(error)
            continue
        clips.append(Clip(Path(name), *own, split=split, label=0 if split else None, key=name))
        good.append(np.asarray(sound, np.float32))
    found: dict[Any, ClipFeatures] = {}
    _check_sounds(spec, good, sr)
    for front_end in spec.front_ends:
        if not isinstance(front_end, FeatureConfig):
            raise SettingsError("this model fuses sound and vectors; give features of each, see fit_model")
        if front_end not in found:
            compute, rows, infos = compiled_features(front_end), [], []
            for sound in good:
                own_sound = sound if sr in (None, front_end.sr) else resample(sound, sr, front_end.sr)
                batch = ClipBatch(own_sound[None], np.array([len(own_sound)], np.int32))
                rows.append(compute(batch)[0][: front_end.n_rows(len(own_sound))])
                infos.append(_describe(sound, own_sound, sr or front_end.sr, front_end.sr))
            offsets = np.concatenate([[0], np.cumsum([len(one) for one in rows])]).astype(np.int64)
            empty = np.zeros((0, front_end.n_features), np.float32)
            found[front_end] = ClipFeatures(
                ClipTable(tuple(clips)),
                np.concatenate([empty, *rows]),
                offsets,
                tuple(errors),
                infos=tuple(infos),
            )
    return tuple(found[front_end] for front_end in spec.front_ends)


def _check_sounds(spec: ModelSpec, sounds: Sequence[np.ndarray], sr: int | None) -> None:
    """Raise SettingsError for arrays that are shorter than a frame, all of them: they are vectors, not sounds."""
    longest = max(map(len, sounds), default=0)
    for own in spec.front_ends:
        if (
            isinstance(own, FeatureConfig)
            and len(sounds) > 1
            and longest * own.sr < own.n_fft * (sr or own.sr)
        ):
            raise SettingsError(
                f"not one of {len(sounds)} sounds is as long as a frame ({own.n_fft / own.sr:g} s): they have up to "
                f"{longest} samples; vectors are one array, (n_clips, n_features): numpy.array(...)"
            )


def _describe(sound: np.ndarray, at_rate: np.ndarray, sr_given: int, sr: int) -> ClipInfo:
    """What an array looks like, as a file of one channel."""
    of_file, of_sound = describe_file(sound, sr_given), describe_sound(at_rate)
    return ClipInfo(
        sr_file=sr_given,
        n_channels=1,
        n_samples=len(sound),
        codec="array",
        recovered=0,
        channel_db=0.0,
        channel_corr=1.0,
        sr=sr,
        **of_file._asdict(),
        **of_sound._asdict(),
    )
