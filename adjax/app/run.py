"""`adjax run`: a data set to a model, scores, tables and figures."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from adjax.app.console import (
    draw_all,
    print_failures,
    print_flags,
    print_notes,
    print_table,
    print_understood,
    say,
)
from adjax.app.fitting import TRAINING, drop_checkpoints, fit_with_progress, hold_out_test, other_types
from adjax.app.options import ModelOptions
from adjax.app.progress import make_progress
from adjax.data.cache import default_folder
from adjax.data.clips import ClipTable, read_labels
from adjax.data.index import index_folder
from adjax.model.contrast import extract_contrast
from adjax.model.extraction import ClipFeatures
from adjax.model.inputs import Features, extract_splits
from adjax.model.model import Model
from adjax.model.named import everything
from adjax.model.result import Result
from adjax.model.scopes import sees_enough
from adjax.model.spec import ModelSpec
from adjax.model.vectors import config_of, read_vectors, split_vectors, taking
from adjax.report.folder import FAILURES, FILES, draw_figures, score_files, write_run
from adjax.report.tables import Summary, decisions_table, fits_table, results_table, summarise
from adjax.store import ResultFolder, own_folder
from adjax.types import readable


@dataclass(frozen=True)
class Run(ModelOptions):
    """Train on the normal clips of a data set, score its test clips, and write the results into a folder.

    Without --data or --vectors it makes a small synthetic slide rail and runs on that. Stopped at any point, the same
    command goes on at the last checkpoint of a long training (every 10 epochs, in OUT until the end) and ends with the
    same scores.
    """

    out: Path = Path("runs/run")
    """Folder for scores, results, settings and figures."""
    data: Path | None = None
    """A tree of recordings: any DCASE or MIMII layout, folders of normal and abnormal clips, or any folder of normal
    ones. Default: a synthetic slide rail, made in OUT."""
    machine_type: str | None = None
    """Only this type, such as slider or fan. Default: all that are there."""
    model: tuple[str, ...] = ("auto",)
    """auto: several kinds of detectors, calibrated on held-out normal clips and fused without labels; one kind
    (gmm, autoencoder, ...), a published recipe of one (autoencoder:2023), several fused (auto+gmm), or all. Several
    models get a folder each."""
    labels: Path | None = None
    """CSV of labels for unlabelled test clips (rows file,label, or the DCASE 2020 evaluation list)."""
    snr_db: float = -6.0
    """Synthetic data only: machine over background noise, in dB."""

    def models(self) -> dict[str, ModelSpec]:
        """The settings of each model by its name."""
        return self.specs(everything(self.contrast) if self.model == ("all",) else self.model)


@dataclass
class Clock:
    """Seconds spent in named steps."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the time that the context takes."""
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def run(command: Run, console: Console) -> bool:
    """Run it, as the only one that writes into its folder; returns whether every clip and model was fine."""
    specs = command.models()
    places = {name: name.replace(":", "_") if len(specs) > 1 else "" for name in specs}
    reserved = [f"{place}/{file}".lstrip("/") for place in places.values() for file in FILES]
    with own_folder(command.out, reserved) as results:
        return _run(command, specs, places, results, console)


def _run(
    command: Run,
    specs: Mapping[str, ModelSpec],
    places: Mapping[str, str],
    results: ResultFolder,
    console: Console,
) -> bool:
    clock = Clock()
    data, source = _data(command, console, clock)
    clips = data.clips if isinstance(data, ClipFeatures) else data
    if command.labels is not None:
        clips = clips.with_labels(read_labels(command.labels))
    if not len(clips.select(split="test")) and len(clips.select(split="train")):
        clips = hold_out_test(clips, command.group)
    machines = clips.select(split="test").machines
    results.check(
        f"{place}/{file}".lstrip("/") for place in places.values() for file in score_files(machines).values()
    )
    print_understood(console, clips)
    counts = {f"{split}_clips": len(clips.select(split=split)) for split in ("train", "test")}
    if isinstance(data, ClipFeatures):
        specs = {name: taking(spec, config_of(data)) for name, spec in specs.items()}
        data = replace(data, clips=clips)
    else:
        data = clips
    others = other_types(command, specs.values(), clips, console)
    if others is not None:
        counts["contrast_clips"] = len(others.clips)
    if command.model == ("all",):
        specs = possible(specs, clips, others, console)
    features = _features(command, specs, data, others, console, clock)
    found: dict[str, tuple[Model, Result]] = {}
    for name, spec in specs.items():
        with clock.step(f"fit and score {name}"), make_progress(console) as progress:
            train, test, contrast = features[name]
            model = fit_with_progress(
                progress,
                name,
                spec,
                train,
                contrast=contrast,
                false_alarm_rate=command.false_alarm_rate,
                group=command.group,
                checkpoints=command.out / TRAINING / name.replace(":", "_"),
            )
            # A detector that was left out of the model has features all the same.
            found[name] = (
                model,
                model.score_features([test[spec.detectors.index(own)] for own in model.spec.detectors]),
            )
    summaries = {name: summarise(result, seed=command.seed) for name, (_, result) in found.items()}

    def fill(place: Path) -> None:
        for name, (model, result) in found.items():
            write_run(
                place / places[name],
                model=model,
                result=result,
                summaries=summaries[name],
                data=source | counts,
                seconds=clock.seconds,
            )

    results.replace(fill)
    pictures = []
    for name, (model, result) in found.items():
        if any(fit.losses for fit in model.record.fits):
            drop_checkpoints(command.out / TRAINING, name.replace(":", "_"), clips)
        print_result(console, name, command.per, model, result, summaries[name])
        figures = draw_figures(places[name], model=model, result=result, summaries=summaries[name])
        pictures += draw_all(console, results, figures)
    notes = [note for model, result in found.values() for note in (*model.record.notes, *result.notes)]
    for name, (model, _) in found.items():
        notes += [f"{name}: {model.caution}" if len(specs) > 1 else model.caution] if model.caution else []
    print_flags(console, next(iter(found.values()))[1])  # of the recordings, whatever judges them
    print_notes(console, notes, (own for model, _ in found.values() for own in model.record.held_out))
    failures = [
        str(e) for model, result in found.values() for e in (*model.record.failures, *result.failures)
    ]
    print_failures(console, failures, f"all in {FAILURES}")
    say(console, "Scores, results, settings and report are in")
    for path in (*(command.out / places[name] for name in found), *pictures):
        say(console, f"  {path}")
    return not failures


def print_result(
    console: Console, name: str, per: str, model: Model, result: Result, summaries: Mapping[str, Summary]
) -> None:
    """How the fits ended, how well the scores separate, and what was decided."""
    print_table(console, fits_table(f"{name}: fits", model.record.fits))
    for machine_type, summary in summaries.items():
        title = f"{machine_type}: {name}, one model for each {per}"
        print_table(console, results_table(title, summary))
    if model.calibrated:
        title = f"{name}: decisions at a false-alarm rate of {model.false_alarm_rate:g}"
        print_table(console, decisions_table(title, result))
    if not summaries:
        say(
            console,
            "No AUC and no ROC curve: the test clips have no labels of both kinds (give them with --labels FILE, "
            "or put anomalous clips into test/ or abnormal/).",
        )


def possible(
    specs: Mapping[str, ModelSpec],
    clips: ClipTable,
    others: ClipTable | ClipFeatures | None,
    console: Console,
) -> dict[str, ModelSpec]:
    """Of all models there are, those that the machines are enough for."""
    other = others.clips if isinstance(others, ClipFeatures) else others
    machines = (*clips.select(split="train").machines, *(other.machines if other is not None else ()))
    found = {
        name: spec
        for name, spec in specs.items()
        if any(sees_enough(own, machines) for own in spec.detectors)
    }
    for name in specs.keys() - found.keys():
        say(console, f"Note: {name} is left out: there are too few machines to tell apart.")
    return found


def _data(command: Run, console: Console, clock: Clock) -> tuple[ClipTable | ClipFeatures, dict[str, Any]]:
    """The clips, or the vectors of a table; and what to say of where they came from."""
    where: dict[str, Any] = {"machine_type": command.machine_type, "seed": command.seed}
    if command.vectors is not None:
        with clock.step("read the table"):
            vectors = read_vectors(command.vectors, **where)
        return vectors, {"kind": "vectors", "table": readable(str(command.vectors))}
    if command.data is not None:
        return index_folder(command.data, **where), {"kind": "folder", "root": readable(str(command.data))}
    root = _synthetic_data(command, console, clock)
    source = {"kind": "synthetic", "size": "small", "snr_db": command.snr_db, "seed": command.seed}
    return index_folder(root, **where), source


def _features(
    command: Run,
    specs: Mapping[str, ModelSpec],
    data: ClipTable | ClipFeatures,
    others: ClipTable | ClipFeatures | None,
    console: Console,
    clock: Clock,
) -> dict[str, tuple[Features, Features, tuple[ClipFeatures | None, ...]]]:
    """Of the training clips, the test clips and those of other types, for each model; the same front ends once."""
    cache = default_folder() if command.cache else None
    if isinstance(data, ClipFeatures):
        train, test = split_vectors(data)
        n = {name: len(spec.detectors) for name, spec in specs.items()}
        contrasts = extract_contrast(list(specs.values()), others)
        return {
            name: ((train,) * n[name], (test,) * n[name], contrast)
            for name, contrast in zip(specs, contrasts, strict=True)
        }
    front_ends = {spec.front_ends: spec for spec in specs.values()}
    with clock.step("read and extract features"), make_progress(console) as progress:
        task = progress.add_task("Reading clips, computing features", total=len(data) * len(front_ends))
        shared = {
            key: extract_splits(
                data,
                spec,
                cache=cache,
                on_clips=lambda n: progress.update(task, advance=n),
            )
            for key, spec in front_ends.items()
        }
        contrasts = extract_contrast(list(specs.values()), others, cache=cache)
    return {
        name: (*shared[spec.front_ends], contrast)
        for (name, spec), contrast in zip(specs.items(), contrasts, strict=True)
    }


def _synthetic_data(command: Run, console: Console, clock: Clock) -> Path:
    say(
        console,
        "No --data given: running on a synthetic slide rail, made by adjax's simulator. "
        "It shows that everything works; it says nothing about your machines.",
    )
    from adjax import simulator
    from adjax.app.simulate import write_tree

    root = command.out / "synthetic"
    with clock.step("make synthetic clips"):
        write_tree(root, simulator.SMALL, command.snr_db, command.seed, console)
    return root
