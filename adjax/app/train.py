"""`adjax train`: normal recordings to a model that is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from adjax.app.console import print_failures, print_notes, print_table, print_understood, say
from adjax.app.fitting import TRAINING, drop_checkpoints, fit_with_progress, grouping_of, other_types
from adjax.app.options import ModelOptions
from adjax.app.progress import make_progress
from adjax.data.cache import default_folder
from adjax.data.clips import count
from adjax.data.index import index_folder
from adjax.model.contrast import extract_contrast
from adjax.model.inputs import extract_for
from adjax.model.keep import CARD, save_model
from adjax.model.vectors import as_features, config_of, read_vectors, taking
from adjax.report.tables import fits_table, thresholds_table
from adjax.store import LOCK, check_ours, hold
from adjax.types import DataError, readable


@dataclass(frozen=True)
class Train(ModelOptions):
    """Train a model on normal recordings and keep it: then `adjax score MODEL FILES` judges new ones."""

    data: Path = Path()
    """Any folder of normal recordings (sub-folders are machines), or a tree in a DCASE or MIMII layout, of which the
    training clips are taken."""
    out: Path = Path("model")
    """Folder for the model: it must not hold anything else."""
    machine_type: str | None = None
    """Only this type, such as slider or fan. Default: all that are there."""
    model: str = "auto"
    """auto, a kind of detector (gmm, autoencoder, ...), a recipe of one (autoencoder:2023), or several (auto+gmm)."""


def train(command: Train, console: Console) -> bool:
    """Train; returns whether every clip and machine was fine."""
    spec = command.specs([command.model])[command.model]
    source = command.data if command.vectors is None else command.vectors
    if source == Path():
        raise DataError(
            "which recordings? give a folder of normal ones: adjax train --data FOLDER --out MODEL (or --vectors TABLE)"
        )
    check_ours(command.out, "model")
    where: dict[str, Any] = {"machine_type": command.machine_type, "seed": command.seed}
    vectors = None if command.vectors is None else read_vectors(source, **where)
    everything = index_folder(source, **where) if vectors is None else vectors.clips
    clips = everything.select(split="train")
    if not len(clips):
        raise DataError(f"{source}: there are no normal training clips; put normal recordings there")
    grouping_of(clips, command.group)  # told before the time is spent
    print_understood(console, replace(clips, notes=everything.notes))
    if len(everything) > len(clips):
        say(
            console,
            f"{len(everything) - len(clips)} test clips are left alone: a model is trained on normal clips only.",
        )
    others = other_types(command, [spec], clips, console)
    with _work_folder(command.out) as work:
        with make_progress(console) as progress:
            if vectors is not None:
                spec = taking(spec, config_of(vectors))
                features = (as_features(vectors, None, None),) * len(spec.detectors)
            else:
                task = progress.add_task("Reading clips, computing features", total=len(clips))
                features = extract_for(
                    spec,
                    clips,
                    cache=default_folder() if command.cache else None,
                    on_clips=lambda n: progress.update(task, advance=n),
                )
            (contrast,) = extract_contrast([spec], others, cache=default_folder() if command.cache else None)
            model = fit_with_progress(
                progress,
                command.model,
                spec,
                features,
                contrast=contrast,
                false_alarm_rate=command.false_alarm_rate,
                group=command.group,
                checkpoints=work / TRAINING / "model",
            )
        model = model.with_about(data=readable(str(source)))
        save_model(model, command.out)
        drop_checkpoints(work / TRAINING, "model", clips)
    print_table(console, fits_table("Fits", model.record.fits))
    if model.calibrated:
        print_table(console, thresholds_table(model))
    notes = [*model.record.notes, *([model.caution] if model.caution else [])]
    print_notes(console, notes, model.record.held_out)
    failures = dict.fromkeys(map(str, (*everything.rejected, *model.record.failures)))
    print_failures(console, list(failures), f"all in {command.out / CARD}")
    say(console, f"The model of {count(len(model.names), 'machine')} is in {command.out}.")
    new = "FILES-OR-FOLDERS" if vectors is None else "--vectors TABLE"
    say(console, f"Next: adjax score {command.out} {new}, adjax info {command.out}", style="green")
    return not failures


@contextmanager
def _work_folder(out: Path) -> Iterator[Path]:
    """A folder beside the model for checkpoints, held by this command alone; it goes unless checkpoints stay in it."""
    work = out.with_name(f".{out.name}.work")
    with hold(work):
        try:
            yield work
        finally:
            if {path.name for path in work.iterdir()} <= {LOCK}:
                (work / LOCK).unlink(missing_ok=True)
                with suppress(OSError):  # another command has just begun
                    work.rmdir()
