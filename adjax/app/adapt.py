"""`adjax adapt`: a kept model for another machine, from a few normal recordings of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from adjax.app.console import print_failures, print_notes, print_table, print_understood, say
from adjax.app.fitting import check_group, grouping_of
from adjax.app.options import check_source
from adjax.app.progress import make_progress
from adjax.data.cache import default_folder
from adjax.data.clips import ClipTable, count
from adjax.data.index import index_folder
from adjax.model.adapt import adapt_model, check_adaptable
from adjax.model.extraction import ClipFeatures
from adjax.model.inputs import extract_for
from adjax.model.keep import CARD, load_model, save_model
from adjax.model.machines import machine_of
from adjax.model.model import ANY, Model
from adjax.model.vectors import as_features, read_vectors, takes_vectors
from adjax.report.tables import fits_table, thresholds_table
from adjax.store import check_ours
from adjax.types import DataError, MachineId, SettingsError, readable


@dataclass(frozen=True)
class Adapt:
    """Adapt a model to a machine that it has not heard, or that has changed: one clip may do, the more the better.

    The model goes on to judge its own machines exactly as before. The new machine borrows from those of its type as far
    as it has few clips. Then `adjax score` judges recordings of all of them.
    """

    model: tyro.conf.Positional[Path]
    """Folder of a model, from `adjax train`."""
    data: Path = Path()
    """Folder of normal recordings of the new machine (sub-folders are machines), or a tree in a DCASE or MIMII layout,
    of which the training clips are taken."""
    vectors: Path | None = None
    """In place of --data: a table of vectors (see `adjax train --vectors`), of which the training rows are taken."""
    out: Path = Path("adapted")
    """Folder for the adapted model; that of the model itself replaces it."""
    machine: str | None = None
    """Whose recordings these are, such as pump/left: of which type, and which machine. Default: by folders and
    names."""
    group: str | None = None
    """Which clips come from one recording or session, as in `adjax train`."""
    cache: bool = True
    """Keep features on disk and reuse them (see `adjax cache`)."""


def adapt(command: Adapt, console: Console) -> bool:
    """Adapt; returns whether every clip and machine was fine."""
    check_group(command.group)
    check_source(command)
    source = command.data if command.vectors is None else command.vectors
    if source == Path():
        raise DataError(
            "which recordings? give a folder of normal ones: adjax adapt MODEL --data FOLDER --out MODEL2 (or "
            "--vectors TABLE)"
        )
    check_ours(command.out, "model")
    model = load_model(command.model)
    check_adaptable(model)
    check_machine(command.machine, model)
    if takes_vectors(model.spec) != (command.vectors is not None):
        wanted = (
            "a table of vectors: --vectors TABLE"
            if takes_vectors(model.spec)
            else "recordings: --data FOLDER"
        )
        raise SettingsError(f"{command.model}: this model takes {wanted}")
    vectors = None if command.vectors is None else read_vectors(command.vectors)
    everything = index_folder(source) if vectors is None else vectors.clips
    clips = everything.select(split="train")
    if not len(clips):
        raise DataError(f"{source}: there are no normal training clips; put normal recordings there")
    print_understood(console, replace(clips, notes=everything.notes))
    features: tuple[ClipFeatures, ...]
    with make_progress(console) as progress:
        if vectors is not None:
            features = (_named(as_features(vectors, None, None), command.machine),) * len(
                model.spec.detectors
            )
        else:
            task = progress.add_task("Reading clips, computing features", total=len(clips))
            found = extract_for(
                model.spec,
                _table(clips, command.machine),
                cache=default_folder() if command.cache else None,
                on_clips=lambda n: progress.update(task, advance=n),
            )
            features = found
        progress.add_task("Adapting", total=None)
        group = grouping_of(features[0].clips, command.group).group
        adapted = adapt_model(model, features, group=group)
    adapted = adapted.with_about(adapted=[*model.record.about.get("adapted", []), readable(str(source))])
    save_model(adapted, command.out)
    fits = [fit for fit in adapted.record.fits if fit not in model.record.fits]
    new = {MachineId(fit.machine_type, fit.machine_id) for fit in fits}
    print_table(console, fits_table("Adapted", tuple(fits)))
    if adapted.calibrated:
        print_table(console, thresholds_table(adapted))
    fresh = [note for note in adapted.record.notes if note not in model.record.notes]
    held_out = [own for own in adapted.record.held_out if own.machine in new]
    print_notes(console, [*fresh, *([adapted.caution] if adapted.caution else [])], held_out)
    known = set(map(str, model.record.failures))
    failures = [
        text for text in map(str, (*everything.rejected, *adapted.record.failures)) if text not in known
    ]
    print_failures(console, list(dict.fromkeys(failures)), f"all in {command.out / CARD}")
    say(console, f"The model of {count(len(adapted.names), 'machine')} is in {command.out}.")
    files = "FILES-OR-FOLDERS" if vectors is None else "--vectors TABLE"
    say(console, f"Next: adjax score {command.out} {files}, adjax info {command.out}", style="green")
    return not failures


def check_machine(machine: str | None, model: Model) -> None:
    """Refuse a name that means something else, or of a type that the model does not know.

    Raises:
        SettingsError: it is one.
    """
    if machine is None:
        return
    if machine == ANY:
        raise SettingsError(f"machine {ANY!r} means that nobody knows which (adjax score); give a name")
    types = sorted({name.machine_type for name in model.machines})
    if "/" in machine and machine_of(machine).machine_type not in types:
        raise SettingsError(
            f"machine {machine!r}: the model knows the types {', '.join(types)}, not that one"
        )


def _named(features: ClipFeatures, machine: str | None) -> ClipFeatures:
    return replace(features, clips=_table(features.clips, machine))


def _table(clips: ClipTable, machine: str | None) -> ClipTable:
    """The clips as those of one machine; as they are where nobody says which."""
    if machine is None:
        return clips
    name = machine_of(machine)
    renamed: Any = name._asdict()
    return replace(clips, clips=tuple(replace(clip, **renamed) for clip in clips))
