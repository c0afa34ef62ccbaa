"""The command `adjax sweep`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from adjax.data.cache import default_folder
from adjax.data.clips import read_labels
from adjax.data.index import index_folder
from adjax.detectors.autoencoder import RECIPES
from adjax.detectors.gmm import CovarianceType
from adjax.features.recipes import FeatureConfig, FeatureKind, Pooling
from adjax.pipeline import ModelName, RunConfig
from adjax.report.figures import save
from adjax.report.folder import versions, write_json
from adjax.report.sweep_figures import heat_maps, short
from adjax.sweep import LaneResult, SweepResult, grid, run_sweep, sample
from adjax.sweep import Progress as Done


@dataclass(frozen=True)
class SweepCommand:
    """Try many settings on every machine: all combinations of the values given, a model each.

    OUT gets lanes.csv (a row a lane and machine: settings, status, AUC, pAUC and intervals), chunks/ (every clip's
    score), settings.json, and a heat map where there are labels. The same command goes on where it was stopped.
    """

    data: Path
    """Root of a DCASE 2020, DCASE 2021+ or raw MIMII tree."""
    out: Path = Path("runs/sweep")
    """Folder for the results."""
    machine_type: str | None = None
    """Only this type. Default: all that are there."""
    model: ModelName = "gmm"
    """Gaussian mixture or autoencoder."""
    features: tuple[FeatureKind, ...] = ("log-mel",)
    """Front ends."""
    n_mels: tuple[int, ...] = (128,)
    """Numbers of mel bands."""
    clip_pooling: Pooling | None = None
    """How frames become one vector a clip. Default: gwrp for the mixture, none for the autoencoder."""
    gwrp_r: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 1.0)
    """Values of r, where gwrp pools: 1 is the mean, 0 the maximum."""
    standardize: bool = False
    """Give features zero mean and unit variance on the training clips."""
    n_components: tuple[int, ...] = (1, 2, 4, 8)
    """Mixture: numbers of Gaussians."""
    covariance_type: tuple[CovarianceType, ...] = ("full",)
    """Mixture: shapes of the covariances."""
    reg_covar: tuple[float, ...] = (1e-3,)
    """Mixture: values added to the variances."""
    bottleneck: tuple[int, ...] = (2, 4, 8, 16)
    """Autoencoder: widths of the narrowest layer."""
    learning_rate: tuple[float, ...] = (1e-3,)
    """Autoencoder: Adam's."""
    epochs: int = 100
    """Autoencoder: passes over the training windows."""
    seeds: int = 1
    """Models of each setting, from different starts."""
    sample: int | None = None
    """Try only so many of the combinations, drawn at random."""
    labels: Path | None = None
    """CSV of labels for unlabelled test clips."""
    cache: bool = True
    """Keep features on disk and reuse them (see `adjax cache`)."""
    memory: float = 1.0
    """GiB for the models that are fitted at once, about."""
    seed: int = 0
    """Of --sample, and the first of the models' seeds."""

    @property
    def pooling(self) -> Pooling:
        """Of the frames of a clip."""
        return self.clip_pooling or ("gwrp" if self.model == "gmm" else "none")

    def axes(self) -> dict[str, Sequence[Any]]:
        """Dotted name -> values, of the settings that the model has."""
        axes: dict[str, Sequence[Any]] = {"features.kind": self.features, "features.n_mels": self.n_mels}
        if self.pooling == "gwrp":
            axes["features.gwrp_r"] = self.gwrp_r
        if self.model == "gmm":
            axes["gmm.covariance_type"] = self.covariance_type
            axes["gmm_hyper.reg_covar"] = self.reg_covar
            axes["gmm.n_components"] = self.n_components
        else:
            axes["autoencoder_hyper.learning_rate"] = self.learning_rate
            axes["autoencoder.bottleneck"] = self.bottleneck
        axes["seed"] = range(self.seed, self.seed + self.seeds)
        return axes

    def base(self) -> RunConfig:
        """What all lanes have in common."""
        n_context = 5 if self.pooling == "none" else 1
        autoencoder = replace(RECIPES["2020"], n_epochs=self.epochs, n_context=n_context)
        features = FeatureConfig(pooling=self.pooling)
        return RunConfig(self.model, features, standardize=self.standardize, autoencoder=autoencoder)


def sweep(command: SweepCommand, console: Console) -> bool:
    """`adjax sweep`; returns whether every lane and clip went well."""
    clips = index_folder(command.data, machine_type=command.machine_type)
    if command.labels is not None:
        clips = clips.with_labels(read_labels(command.labels))
    axes, base = command.axes(), command.base()
    lanes = sample(base, axes, command.sample, seed=command.seed) if command.sample else grid(base, axes)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    ) as progress:  # fmt: skip
        result = run_sweep(
            clips,
            lanes,
            command.out,
            cache=default_folder() if command.cache else None,
            memory=int(command.memory * 2**30),
            on_progress=show(progress),
        )
    write_json(command.out / "settings.json", {"axes": axes, "base": base, "versions": versions()})
    if result.n_resumed:
        console.print(f"{result.n_resumed} of {len(result.lanes)} lanes were there already.")
    console.print(summary_table(result))
    for failure in result.failures[:10]:
        console.print(f"[red]Failed:[/] {escape(str(failure))}", soft_wrap=True)
    files = [command.out / "lanes.csv"]
    varied = [name for name in _varied(result.lanes) if name != "seed"]
    if any(np.isfinite(lane.auc) for lane in result.lanes) and varied:
        across = "features.gwrp_r" if "features.gwrp_r" in varied else varied[0]
        down = next((name for name in reversed(varied) if name != across), "seed")
        files.append(save(heat_maps(result.lanes, across, down), command.out / "figures" / "heat_map.png"))
    for file in files:
        console.print(f"  {file}", highlight=False, soft_wrap=True)
    return not result.failures and not any(lane.failed for lane in result.lanes)


def show(progress: Progress) -> Callable[[Done], None]:
    """A bar of lanes with the time that is left."""
    task = progress.add_task("Reading clips, compiling", total=None)

    def on_progress(done: Done) -> None:
        left = "" if done.seconds_left is None else f", about {done.seconds_left:.0f} s left"
        progress.update(task, completed=done.n_done, total=done.n_lanes, description=f"Lanes{left}")

    return on_progress


def summary_table(result: SweepResult) -> Table:
    """A row a machine. The best lane is the oracle's, chosen on the labels of the test clips: no result."""
    table = Table(
        title="AUC over all lanes (the best one was found with the test labels)", title_justify="left"
    )
    for heading in ("machine", "lanes", "failed", "lowest", "median", "best", "pAUC of it", "its settings"):
        table.add_column(heading, justify="left" if heading in ("machine", "its settings") else "right")
    machines = list(dict.fromkeys((lane.machine_type, lane.machine_id) for lane in result.lanes))
    varied = _varied(result.lanes)
    for machine in machines:
        own = [lane for lane in result.lanes if (lane.machine_type, lane.machine_id) == machine]
        judged = [lane for lane in own if np.isfinite(lane.auc)]
        cells = [" ".join(machine), f"{len(own):,}", f"{sum(lane.failed for lane in own):,}"]
        if judged:
            best = max(judged, key=lambda lane: lane.auc)
            aucs = [lane.auc for lane in judged]
            cells += [f"{value:.3f}" for value in (min(aucs), np.median(aucs), best.auc, best.pauc)]
            cells.append(", ".join(f"{short(name)} {best.settings[name]}" for name in varied))
        table.add_row(*cells)
    return table


def _varied(lanes: Sequence[LaneResult]) -> list[str]:
    """Names of the settings that differ between lanes."""
    names = list(lanes[0].settings)
    return [name for name in names if len({lane.settings[name] for lane in lanes}) > 1]
