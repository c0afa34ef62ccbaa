"""The command `adjax sweep`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from adjax.app.console import draw_all, print_failures, print_notes, print_table, print_understood, say
from adjax.app.options import UNREAD, check_source
from adjax.checks import MAX_SEED, check_number, check_seed
from adjax.data.cache import default_folder
from adjax.data.clips import ClipTable, read_labels
from adjax.data.index import index_folder
from adjax.detectors.kinds import KINDS
from adjax.features.recipes import FeatureConfig, FeatureKind, Pooling
from adjax.model.extraction import ClipFeatures
from adjax.model.named import make_spec
from adjax.model.setting_text import parse_setting
from adjax.model.spec import ModelSpec, ScorePooling
from adjax.model.vectors import config_of, read_vectors, taking
from adjax.report.figures import save
from adjax.report.sweep_figures import heat_maps, short
from adjax.store import own_folder
from adjax.sweep import Progress as Done
from adjax.sweep import Sweep, SweepResult, TrialResult, grid, run_sweep, sample
from adjax.sweep.run import CHUNKS, FAILURES, TABLE
from adjax.sweep.settings import MAX_TRIALS, sweepable
from adjax.types import DataError, RowDetector, SettingsError


def _help() -> str:
    text = []
    for name in sweepable():
        kind = KINDS[name]
        grid = {**(kind.axes or {})}
        usual = "; ".join(
            f"{axis.partition('.')[2]}={','.join(map(str, values))}" for axis, values in grid.items()
        )
        text.append(f"{name} (by default {usual})")
    return (
        "NAME=VALUE,VALUE,...: the values that a setting of the model takes. Models and what they try: "
        + "; ".join(text)
    )


@dataclass(frozen=True)
class SweepCommand:
    """Try many settings on every machine: all combinations of the values given, one model for each.

    OUT gets trials.csv (one row for each trial and machine: settings, status, AUC, pAUC and intervals), chunks/ (every
    clip's score), settings.json, and a heat map where there are labels. The same command goes on where it was stopped.
    """

    data: Path | None = None
    """A tree of recordings with test clips: any DCASE or MIMII layout, or folders of normal and abnormal clips."""
    vectors: Path | None = None
    """In place of --data: a table of vectors (see `adjax run --vectors`); settings of recordings are refused."""
    set: Annotated[tuple[str, ...], tyro.conf.arg(help=_help(), metavar="NAME=VALUES")] = ()
    out: Path = Path("runs/sweep")
    """Folder for the results."""
    machine_type: str | None = None
    """Only this type. Default: all that are there."""
    model: str = sweepable()[0]
    """The kind of detector, or a recipe of it."""
    features: tuple[FeatureKind, ...] = ("log-mel",)
    """Front ends."""
    n_mels: tuple[int, ...] = (128,)
    """Numbers of mel bands."""
    clip_pooling: Pooling | None = None
    """How frames become one vector for each clip. Default: none where a detector takes windows of frames, else gwrp."""
    gwrp_r: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 1.0)
    """Values of r, where gwrp pools: 1 is the mean, 0 the maximum."""
    standardize: bool = False
    """Give features zero mean and unit variance on the training clips."""
    score_pooling: ScorePooling = "mean"
    """How the scores of a clip's rows become the clip's score."""
    seeds: int = 1
    """Models of each setting, from different starts; at least 1."""
    sample: int | None = None
    """Try only so many of the combinations, drawn at random; at least 1. Default: all."""
    labels: Path | None = None
    """CSV of labels for unlabelled test clips."""
    cache: bool = True
    """Keep features on disk and reuse them (see `adjax cache`)."""
    memory: float = 1.0
    """GiB for the models that are fitted at once, about."""
    seed: int = 0
    """Of --sample, and the first of the models' seeds."""

    def base(self) -> ModelSpec:
        """What all trials have in common."""
        if self.model.partition(":")[0] not in sweepable():
            raise SettingsError(
                f"--model {self.model}: a sweep takes {', '.join(sweepable())}, or a recipe of one"
            )
        kind = KINDS[self.model.partition(":")[0]]
        made = kind.make(kind.config(), kind.hyper())
        usual: Pooling = "none" if isinstance(made, RowDetector) and made.n_context > 1 else "gwrp"
        more: dict[str, Any] = {"standardize": True} if self.standardize else {}  # else what suits the kind
        return make_spec(
            self.model,
            features={"pooling": self.clip_pooling or usual} if self.vectors is None else UNREAD,
            **more,
            pooling=self.score_pooling,
            calibration="none",
        )

    def axes(self) -> dict[str, Sequence[Any]]:
        """Dotted name -> values."""
        own = self.base().detectors[0]
        kind = KINDS[own.kind]
        axes: dict[str, Sequence[Any]] = {}
        if self.vectors is None:
            axes |= {"features.kind": self.features, "features.n_mels": self.n_mels}
        for gwrp_r in self.gwrp_r:  # also where another pooling leaves it out
            FeatureConfig(gwrp_r=gwrp_r).check()
        if own.features.pooling == "gwrp":
            axes["features.gwrp_r"] = self.gwrp_r
        axes |= kind.axes or {}
        for text in self.set:
            name, equals, values = text.partition("=")
            if not equals:
                raise SettingsError(f"--set {text!r}: write NAME=VALUE,VALUE, such as n_components=1,2,4")
            where = "config" if name in {f.name for f in fields(kind.config)} else "hyper"
            axes[f"{where}.{name}"] = [parse_setting(name, value, [kind]) for value in values.split(",")]
        check_seed(self.seed)
        check_number("seeds", self.seeds, low=1, high=min(MAX_TRIALS, MAX_SEED - self.seed + 1), whole=True)
        axes["seed"] = range(self.seed, self.seed + self.seeds)
        return axes

    def trials(self) -> Sweep:
        """All combinations, or some of them.

        Raises:
            SettingsError: a setting out of its range, or that a trial cannot have.
        """
        check_source(self)
        check_number("memory", self.memory, above=0)
        axes, base = self.axes(), self.base()
        some = grid(base, axes) if self.sample is None else sample(base, axes, self.sample, seed=self.seed)
        return some.check()


def sweep(command: SweepCommand, console: Console) -> bool:
    """`adjax sweep`; returns whether every trial and clip went well."""
    trials = command.trials()  # checked before anything is read
    data: ClipTable | ClipFeatures
    if command.vectors is not None:
        data = read_vectors(command.vectors, machine_type=command.machine_type)
        trials = replace(trials, base=taking(trials.base, config_of(data)))
    elif command.data is not None:
        data = index_folder(command.data, machine_type=command.machine_type)
    else:
        raise DataError("which recordings? give --data FOLDER, or --vectors TABLE")
    clips = data.clips if isinstance(data, ClipFeatures) else data
    if command.labels is not None:
        clips = clips.with_labels(read_labels(command.labels))
        data = replace(data, clips=clips) if isinstance(data, ClipFeatures) else clips
    print_understood(console, clips)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        result = run_sweep(
            data,
            trials,
            command.out,
            cache=default_folder() if command.cache else None,
            memory=int(command.memory * 2**30),
            on_progress=show(progress),
        )
    files = [command.out / TABLE]
    if result.n_resumed:
        say(console, f"{result.n_resumed} of {len(result.trials)} trials were there already.")
    print_table(console, summary_table(result))
    varied = [name for name in _varied(result.trials) if name != "seed"]
    if any(np.isfinite(trial.auc) for trial in result.trials) and varied:
        across = "features.gwrp_r" if "features.gwrp_r" in varied else varied[0]
        down = next((name for name in reversed(varied) if name != across), "seed")
        heat_map = ("figures/heat_map.png", lambda path: save(heat_maps(result.trials, across, down), path))
        with own_folder(command.out, rebuilt_below=CHUNKS) as results:
            files += draw_all(console, results, [heat_map])
    print_notes(console, result.notes)
    print_failures(console, [str(failure) for failure in result.failures], f"all in {FAILURES}")
    for file in files:
        say(console, f"  {file}")
    return not result.failures and not any(trial.failed for trial in result.trials)


def show(progress: Progress) -> Callable[[Done], None]:
    """A bar of trials with the time that is left."""
    task = progress.add_task("Reading clips, compiling", total=None)

    def on_progress(done: Done) -> None:
        left = "" if done.seconds_left is None else f", about {done.seconds_left:.0f} s left"
        progress.update(task, completed=done.n_done, total=done.n_trials, description=f"Trials{left}")

    return on_progress


def summary_table(result: SweepResult) -> Table:
    """One row for each machine. The best trial is the oracle's, chosen on the labels of the test clips: no result."""
    table = Table(
        title="AUC over all trials (the best one was found with the test labels)", title_justify="left"
    )
    for heading in ("machine", "trials", "failed", "lowest", "median", "best", "pAUC of it", "its settings"):
        table.add_column(heading, justify="left" if heading in ("machine", "its settings") else "right")
    machines = list(dict.fromkeys((trial.machine_type, trial.machine_id) for trial in result.trials))
    varied = _varied(result.trials)
    for machine in machines:
        own = [trial for trial in result.trials if (trial.machine_type, trial.machine_id) == machine]
        judged = [trial for trial in own if np.isfinite(trial.auc)]
        cells = [" ".join(machine), f"{len(own):,}", f"{sum(trial.failed for trial in own):,}"]
        if judged:
            best = max(judged, key=lambda trial: trial.auc)
            aucs = [trial.auc for trial in judged]
            cells += [f"{value:.3f}" for value in (min(aucs), np.median(aucs), best.auc, best.pauc)]
            cells.append(", ".join(f"{short(name)} {best.settings[name]}" for name in varied))
        table.add_row(*cells)
    return table


def _varied(trials: Sequence[TrialResult]) -> list[str]:
    """Names of the settings that differ between trials."""
    names = list(trials[0].settings)
    return [name for name in names if len({trial.settings[name] for trial in trials}) > 1]
