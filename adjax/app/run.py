"""`adjax run`: a data set to a model, scores, tables and figures."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape

from adjax.app.console import print_failures, print_flags, print_notes, print_understood
from adjax.app.fitting import TRAINING, drop_checkpoints, fit_with_progress, grouping_of
from adjax.app.options import ModelOptions
from adjax.app.progress import make_progress
from adjax.data.cache import default_folder
from adjax.data.clips import ClipTable, read_labels
from adjax.data.index import index_folder
from adjax.model.extraction import ClipFeatures
from adjax.model.folds import held_out_split
from adjax.model.inputs import extract_splits
from adjax.model.model import Model
from adjax.model.result import Result
from adjax.model.spec import ModelSpec, everything
from adjax.report.folder import FAILURES, write_figures, write_run
from adjax.report.tables import decisions_table, fits_table, results_table, summarise
from adjax.store import hold
from adjax.types import readable


@dataclass(frozen=True)
class Run(ModelOptions):
    """Train on the normal clips of a data set, score its test clips, and write the results into a folder.

    Without --data it makes a small synthetic slide rail and runs on that. Stopped at any point, the same command goes
    on at the last checkpoint of a long training (every 10 epochs, in OUT until the end) and ends with the same scores.
    """

    out: Path = Path("runs/run")
    """Folder for scores, results, settings and figures."""
    data: Path | None = None
    """A tree of recordings: any DCASE or MIMII layout, folders of normal and abnormal clips, or any folder of normal
    ones. Default: a synthetic slide rail, made in OUT."""
    machine_type: str | None = None
    """Only this type, such as slider or fan. Default: all that are there."""
    model: tuple[str, ...] = ("auto",)
    """auto: many small detectors, calibrated on held-out normal clips and fused without labels; a kind of detector
    (gmm, autoencoder, ...), a published recipe of one (autoencoder:2023), several fused (auto+gmm), or all. Several
    models get a folder each."""
    labels: Path | None = None
    """CSV of labels for unlabelled test clips (rows file,label, or the DCASE 2020 evaluation list)."""
    snr_db: float = -6.0
    """Synthetic data only: machine over background noise, in dB."""

    def models(self) -> dict[str, ModelSpec]:
        """The settings of each model by its name."""
        return self.specs(everything() if self.model == ("all",) else self.model)


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
    with hold(command.out):
        return _run(command, console)


def _run(command: Run, console: Console) -> bool:
    clock = Clock()
    specs = command.models()
    root = command.data
    source: dict[str, Any] = {"kind": "folder", "root": readable(str(root))}
    if root is None:
        root = _synthetic_data(command, console, clock)
        source = {"kind": "synthetic", "size": "small", "snr_db": command.snr_db, "seed": command.seed}
    clips = index_folder(root, machine_type=command.machine_type, seed=command.seed)
    if command.labels is not None:
        clips = clips.with_labels(read_labels(command.labels))
    if not len(clips.select(split="test")) and len(clips.select(split="train")):
        clips = hold_out_test(clips, command.group)
    print_understood(console, clips)
    counts = {f"{split}_clips": len(clips.select(split=split)) for split in ("train", "test")}
    features = _features(command, specs, clips, console, clock)
    found: dict[Path, tuple[Model, Result]] = {}
    for name, spec in specs.items():
        out = command.out / name.replace(":", "_") if len(specs) > 1 else command.out
        with clock.step(f"fit and score {name}"), make_progress(console) as progress:
            train, test = features[name]
            model = fit_with_progress(
                progress,
                name,
                spec,
                train,
                false_alarm_rate=command.false_alarm_rate,
                group=command.group,
                checkpoints=command.out / TRAINING / name.replace(":", "_"),
            )
            found[out] = model, model.score_features(test)
    pictures: list[Path] = []
    for (out, (model, result)), name in zip(found.items(), specs, strict=True):
        summaries = summarise(result, seed=command.seed)
        write_run(
            out, model=model, result=result, summaries=summaries, data=source | counts, seconds=clock.seconds
        )
        if any(fit.losses for fit in model.record.fits):
            drop_checkpoints(command.out / TRAINING, name.replace(":", "_"), clips)
        console.print(fits_table(f"{name}: fits", model.record.fits))
        for machine_type, summary in summaries.items():
            console.print(results_table(f"{machine_type}: {name}, one model for each {command.per}", summary))
        if model.calibrated:
            rate = f"{model.false_alarm_rate:g}"
            console.print(decisions_table(f"{name}: decisions at a false-alarm rate of {rate}", result))
        if not summaries:
            console.print(
                "No AUC and no ROC curve: the test clips have no labels of both kinds (give them with --labels FILE, "
                "or put anomalous clips into test/ or abnormal/)."
            )
        try:  # after everything is safe: a figure never costs a result
            pictures += write_figures(out, model=model, result=result, summaries=summaries)
        except Exception as error:
            console.print(
                f"Note: figures could not be drawn ({escape(str(error))}); all results are written."
            )
    notes = [note for model, result in found.values() for note in (*model.record.notes, *result.notes)]
    several = len(specs) > 1
    for name, (model, _) in zip(specs, found.values(), strict=True):
        notes += [f"{name}: {model.caution}" if several else model.caution] if model.caution else []
    print_flags(console, next(iter(found.values()))[1])  # of the recordings, whatever judges them
    print_notes(console, notes, (own for model, _ in found.values() for own in model.record.held_out))
    failures = [
        str(e) for model, result in found.values() for e in (*model.record.failures, *result.failures)
    ]
    print_failures(console, failures, FAILURES)
    console.print("Scores, results, settings and report are in")
    for path in (*found, *pictures):
        console.print(f"  {path}", highlight=False, soft_wrap=True, markup=False)
    return not failures


def _features(
    command: Run, specs: Mapping[str, ModelSpec], clips: ClipTable, console: Console, clock: Clock
) -> dict[str, tuple[tuple[ClipFeatures, ...], tuple[ClipFeatures, ...]]]:
    """Of the training and the test clips, for each model; models with the same front ends share them."""
    front_ends = {spec.front_ends: spec for spec in specs.values()}
    with clock.step("read and extract features"), make_progress(console) as progress:
        task = progress.add_task("Reading clips, computing features", total=len(clips) * len(front_ends))
        shared = {
            key: extract_splits(
                clips,
                spec,
                cache=default_folder() if command.cache else None,
                on_clips=lambda n: progress.update(task, advance=n),
            )
            for key, spec in front_ends.items()
        }
    return {name: shared[spec.front_ends] for name, spec in specs.items()}


def _synthetic_data(command: Run, console: Console, clock: Clock) -> Path:
    console.print(
        "No --data given: running on a [bold]synthetic slide rail[/], made by adjax's simulator. "
        "It shows that everything works; it says nothing about your machines.",
        soft_wrap=True,
    )
    from adjax import simulator
    from adjax.app.simulate import write_tree

    root = command.out / "synthetic"
    with clock.step("make synthetic clips"):
        write_tree(root, simulator.SMALL, command.snr_db, command.seed, console)
    return root


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
