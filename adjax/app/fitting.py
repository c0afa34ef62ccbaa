"""What the commands that fit a model share: grouping of recordings, progress, checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from adjax.app.console import say
from adjax.data.clips import ClipTable, count, first_of
from adjax.data.index import index_folder
from adjax.data.recordings import Grouping, compile_pattern, group_clips, read_groups
from adjax.model.extraction import ClipFeatures
from adjax.model.fit import checkpoint_folders, fit_model
from adjax.model.fit_detector import Watch
from adjax.model.folds import held_out_split
from adjax.model.model import Model
from adjax.model.scopes import looks_beyond
from adjax.model.spec import ModelSpec
from adjax.model.usable import look_at
from adjax.model.vectors import read_vectors
from adjax.store import drop_checkpoints as drop
from adjax.types import DataError

TRAINING = "training"  # folder of an unfinished fit


def fit_with_progress(
    progress: Progress,
    name: str,
    spec: ModelSpec,
    train: tuple[ClipFeatures, ...],
    *,
    contrast: Sequence[ClipFeatures | None] | None = None,
    false_alarm_rate: float,
    group: str | None,
    checkpoints: Path | None,
) -> Model:
    """Fit, with a bar that counts machines and tells of epochs.

    Args:
        progress: where the bar goes.
        name: of the model.
        spec: what to fit.
        train: features of normal clips, one for each detector.
        contrast: of machines to tell these apart from, see `fit_model`.
        false_alarm_rate: of decisions.
        group: what groups recordings, see `grouping_of`; the record of the model keeps by what they were grouped.
        checkpoints: see `fit_model`.
    """
    clips = train[0].clips
    for machine, found in look_at(train[0]).items():  # before the time is spent
        for finding in found.findings:
            say(progress.console, f"Note: {machine.label}: {finding}")
    grouping = grouping_of(clips, group)
    n = sum(len(clips.machines if d.per == "machine" else clips.machine_types) for d in spec.detectors)
    task = progress.add_task(f"{name}: fitting", total=n)
    epochs = 0

    def on_step(n_lanes: int, loss: float) -> None:
        nonlocal epochs
        epochs += 1
        progress.update(task, description=f"{name}: fitting, step {epochs}, loss {loss:.3g}")

    watch = Watch(lambda machine: progress.advance(task), on_step)
    model = fit_model(
        spec,
        train,
        contrast=contrast,
        group=grouping.group,
        false_alarm_rate=false_alarm_rate,
        checkpoints=checkpoints,
        watch=watch,
    )
    progress.update(task, completed=n)
    return model.with_about(recordings=grouping.rule)


def other_types(
    command: Any, specs: Iterable[ModelSpec], clips: ClipTable, console: Console
) -> ClipTable | ClipFeatures | None:
    """Training clips of the types that --machine-type leaves out, where a model tells its machines apart from those.

    Args:
        command: with `data`, `vectors`, `machine_type` and `seed`.
        specs: of all models.
        clips: of the type that was asked for.
        console: hears of it.
    """
    beyond = any(looks_beyond(own) for spec in specs for own in spec.detectors)
    if command.machine_type is None or not beyond or (command.data is None and command.vectors is None):
        return None
    every: ClipTable | ClipFeatures
    try:
        if command.vectors is not None:
            every = read_vectors(command.vectors, seed=command.seed)
        else:
            every = index_folder(command.data, seed=command.seed)
    except DataError as error:  # the type that was asked for can be used all the same
        say(console, f"Note: machines are told apart from none of another type: {error}")
        return None
    own = set(clips.machine_types)
    chosen = [
        i for i, clip in enumerate(every.clips) if clip.split != "test" and clip.machine_type not in own
    ]
    if not chosen:
        return None
    table = ClipTable(tuple(every.clips[i] for i in chosen))
    types = first_of(list(table.machine_types))
    say(
        console,
        f"{count(len(chosen), 'training clip')} of {types} are read, too: the model learns to tell its machines from "
        "theirs (not with --contrast type), and does not judge them.",
    )
    return every.at(chosen) if isinstance(every, ClipFeatures) else table


def grouping_of(clips: ClipTable, group: str | None) -> Grouping:
    """By a table ("FILE.csv:COLUMN"), a regular expression, or what names tell; see `ModelOptions.group`."""
    if group is not None and (table := _table_of(group)):
        return read_groups(table[0], clips.clips, column=table[1] or None)
    return group_clips(clips.clips, pattern=group)


def check_group(group: str | None) -> None:
    """Refuse what neither names a table nor is a regular expression, before anything is read.

    Raises:
        SettingsError: it is none of them.
    """
    if group is not None and not _table_of(group):
        compile_pattern(group)


def _table_of(group: str) -> tuple[str, str] | None:
    """File and column ("": the first) of "FILE.csv:COLUMN" or "FILE.csv"; None of a regular expression."""
    path, _, column = group.partition(".csv:")
    if column:
        return f"{path}.csv", column
    return (group, "") if group.lower().endswith(".csv") else None


def drop_checkpoints(folder: Path, name: str, clips: ClipTable) -> None:
    """Delete what a model's fit left for these clips' machines, once the results are safe; nothing else."""
    for machine in checkpoint_folders(clips):
        drop(folder / name / machine)
    for place in (folder / name, folder):
        with suppress(OSError):  # it is not there, or holds the checkpoints of others
            place.rmdir()


def hold_out_test(clips: ClipTable, group: str | None) -> ClipTable:
    """Of normal clips alone a fifth as test clips, whole recordings: they show what the model says of normal sound."""
    machines = {machine: i for i, machine in enumerate(clips.machines)}
    machine = np.array([machines[clip.machine] for clip in clips])
    test = held_out_split(machine, grouping_of(clips, group).group)
    chosen = [replace(clip, split="test") if own else clip for clip, own in zip(clips, test, strict=True)]
    note = (
        f"there are no test clips: {int(test.sum())} of the {len(clips)} normal clips are kept out of training and "
        "tested, which shows false alarms and nothing else; adjax train makes a model of all of them"
    )
    return replace(clips, clips=tuple(chosen), notes=(*clips.notes, note))
