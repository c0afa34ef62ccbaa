"""`adjax run`: a data set to scores, tables and figures."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    Progress,
)

from adjax import simulator
from adjax.app.progress import make_progress
from adjax.app.simulate import write_tree
from adjax.data.cache import default_folder
from adjax.data.clips import ClipTable, read_labels
from adjax.data.index import index_folder
from adjax.detectors.autoencoder import RECIPES
from adjax.detectors.gmm import CovarianceType, GmmConfig, GmmHyper
from adjax.features.recipes import BASELINE_FLOORS, FeatureConfig, FeatureKind, Floor, Pooling
from adjax.pipeline import (
    MODELS,
    ClipFeatures,
    ModelName,
    Result,
    RunConfig,
    ScorePooling,
    drop_checkpoints,
    extract_splits,
    fit_and_score,
    n_models,
)
from adjax.report.folder import write_figures, write_run
from adjax.report.tables import fits_table, results_table, summarise
from adjax.store import hold

SEVERAL: Mapping[str, tuple[ModelName, ...]] = {"both": ("gmm", "autoencoder"), "all": MODELS}
TRAINING = "training"  # folder of an unfinished run
MAX_LISTED = 10  # failures printed; all of them are in failures.csv


@dataclass(frozen=True)
class Run:
    """Train on the normal clips of a data set, score its test clips, and write the results into a folder.

    Without --data it makes a small synthetic slide rail and runs on that. Stopped at any point, the same command goes
    on at the autoencoder's last checkpoint (every 10 epochs, in OUT until the end) and ends with the same scores.
    """

    out: Path = Path("runs/run")
    """Folder for scores, results, settings and figures."""
    data: Path | None = None
    """Root of a DCASE 2020, DCASE 2021+ or raw MIMII tree. Default: a synthetic slide rail, made in OUT."""
    machine_type: str | None = None
    """Only this type, such as slider or fan. Default: all that are there."""
    model: Literal["auto", "gmm", "autoencoder", "both", "all"] = "auto"
    """auto: many small detectors, calibrated on held-out normal clips and fused without labels; it has its own
    features and no settings. gmm: a Gaussian mixture (negative log-likelihood). autoencoder: its reconstruction error.
    both of these, or all three, each in a folder of its own."""
    features: FeatureKind = "log-mel"
    """Log-mel spectrogram in dB, MFCC, or magnitude spectrum."""
    floor: Floor | None = None
    """Of log-mel and MFCC in silence: add: log10(mel + eps), max: log10(max(mel, eps)). Default: that of --recipe for
    the autoencoder (2020: add, 2023: max), add for the other models."""
    clip_pooling: Pooling = "none"
    """Pool the frames of a clip into one vector before the mixture; none: a mixture of frames."""
    gwrp_r: float = 0.5
    """r of --clip-pooling gwrp: 1 is the mean, 0 the maximum."""
    standardize: bool = False
    """Give features zero mean and unit variance on the training clips."""
    per: Literal["machine", "type"] = "machine"
    """One model a machine id, or one for all ids of a type (as the DCASE baselines do)."""
    score_pooling: ScorePooling = "mean"
    """How the scores of a clip's vectors become the clip's score."""
    score_percentile: float = 95.0
    """Which, for --score-pooling percentile."""
    n_components: int = 4
    """Mixture: number of Gaussians."""
    covariance_type: CovarianceType = "full"
    """Mixture: shape of the covariances."""
    reg_covar: float = 1e-6
    """Mixture: added to the variances, in squared units of the features."""
    max_iter: int = 100
    """Mixture: EM iterations at most."""
    recipe: Literal["2020", "2023"] = "2020"
    """Autoencoder: of which DCASE baseline; they differ in batch size, initial weights, Adam's epsilon and --floor."""
    residual: Literal["mean_square", "mahalanobis"] = "mean_square"
    """Autoencoder: score of a window: its mean squared residual, or its Mahalanobis norm among the training
    residuals (of its domain, source or target, where the data have them: the smaller norm)."""
    predict: Literal["window", "middle"] = "window"
    """Autoencoder: reconstruct the window, or its middle frame from the others (IDNN)."""
    epochs: int = 100
    """Autoencoder: passes over the training windows."""
    bottleneck: int = 8
    """Autoencoder: width of the narrowest layer."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """Autoencoder: of its products and activations; bfloat16 is for accelerators."""
    sr: int = 16000
    """Sampling rate in Hz; clips of another rate are resampled, and the report says so."""
    channel: int | Literal["mean"] = 0
    """Of multi-channel clips: which one, or their mean."""
    labels: Path | None = None
    """CSV of labels for unlabelled test clips (rows file,label, or the DCASE 2020 evaluation list)."""
    snr_db: float = -6.0
    """Synthetic data only: machine over background noise, in dB."""
    cache: bool = True
    """Keep features on disk and reuse them while neither the clip nor a setting changes (see `adjax cache`)."""
    seed: int = 0
    """Of everything random; the same seed on the same machine gives the same table."""

    def config(self, model: ModelName) -> RunConfig:
        """The settings of one model's run."""
        pooled = self.clip_pooling != "none"
        usual = BASELINE_FLOORS[self.recipe if model == "autoencoder" else "2020"]
        return RunConfig(
            model=model,
            features=FeatureConfig(
                kind=self.features,
                sr=self.sr,
                floor=self.floor or usual,
                pooling=self.clip_pooling,
                gwrp_r=self.gwrp_r,
            ),
            standardize=self.standardize,
            per=self.per,
            score_pooling=self.score_pooling,
            score_percentile=self.score_percentile,
            gmm=GmmConfig(self.n_components, self.covariance_type, max_iter=self.max_iter),
            gmm_hyper=GmmHyper(reg_covar=self.reg_covar),
            autoencoder=replace(
                RECIPES[self.recipe],
                n_context=1 if pooled else 5,
                bottleneck=self.bottleneck,
                n_epochs=self.epochs,
                compute_dtype=self.compute_dtype,
                residual=self.residual,
                predict=self.predict,
                n_domains=2 if self.residual == "mahalanobis" else 1,
            ),
            channel=self.channel,
            seed=self.seed,
        )


@dataclass
class _Clock:
    """Seconds spent in named steps."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def run(command: Run, console: Console) -> bool:
    """Run it, as the only one that writes into its folder; returns whether every clip and model was fine."""
    with hold(command.out):
        return _run(command, console)


def _run(command: Run, console: Console) -> bool:
    clock = _Clock()
    models = SEVERAL.get(command.model) or (cast(ModelName, command.model),)
    configs = {model: command.config(model) for model in models}
    front_ends = {config.front_end: config for config in configs.values()}  # models share what they can
    if command.data is None:
        root = _synthetic_data(command, console, clock)
        source: dict[str, Any] = {
            "kind": "synthetic",
            "size": "small",
            "snr_db": command.snr_db,
            "seed": command.seed,
        }
    else:
        root = command.data
        source = {"kind": "folder", "root": str(command.data)}
    clips = index_folder(root, machine_type=command.machine_type, seed=command.seed)
    if command.labels is not None:
        clips = clips.with_labels(read_labels(command.labels))
    source |= {"train_clips": len(clips.select(split="train")), "test_clips": len(clips.select(split="test"))}
    console.print(_describe(clips))
    with clock.step("read and extract features"), make_progress(console) as progress:
        task = progress.add_task("Reading clips, computing features", total=len(clips) * len(front_ends))
        features = {
            front_end: extract_splits(
                clips,
                config,
                cache=default_folder() if command.cache else None,
                on_clips=lambda n: progress.update(task, advance=n),
            )
            for front_end, config in front_ends.items()
        }
    results: dict[Path, Result] = {}
    for model, config in configs.items():
        out = command.out / model if len(models) > 1 else command.out
        with clock.step(f"fit and score {model}"), make_progress(console) as progress:
            train, test = features[config.front_end]
            results[out] = _fit_with_progress(progress, train, test, config, out / TRAINING)
    pictures: list[Path] = []
    for (out, result), config in zip(results.items(), configs.values(), strict=True):
        _, test = features[config.front_end]
        summaries = summarise(result, seed=config.seed)
        with clock.step("draw figures"):
            pictures += write_figures(out, result=result, summaries=summaries, test=test, config=config)
        write_run(out, result=result, summaries=summaries, config=config, data=source, seconds=clock.seconds)
        if config.model == "autoencoder":  # another model's run leaves those of an interrupted one alone
            drop_checkpoints(out / TRAINING, test, config.per)
        console.print(fits_table(f"{config.model}: models", result.fits))
        for machine_type, summary in summaries.items():
            console.print(results_table(f"{machine_type}: {config.model}, one model a {config.per}", summary))
        if not summaries:
            console.print(
                "No AUC: the test clips have no labels of both kinds (give them with --labels FILE)."
            )
    _print_remarks(console, results)
    console.print("Scores, results, settings and report are in")
    for path in (*results, *pictures):
        console.print(f"  {path}", highlight=False, soft_wrap=True)
    return not any(result.failures for result in results.values())


def _synthetic_data(command: Run, console: Console, clock: _Clock) -> Path:
    console.print(
        "No --data given: running on a [bold]synthetic slide rail[/], made by adjax's simulator. "
        "It shows that everything works; it says nothing about your machines.",
        soft_wrap=True,
    )
    root = command.out / "synthetic"
    with clock.step("make synthetic clips"):
        write_tree(root, simulator.SMALL, command.snr_db, command.seed, console)
    return root


def _fit_with_progress(
    progress: Progress, train: ClipFeatures, test: ClipFeatures, config: RunConfig, checkpoints: Path
) -> Result:
    """Fit and score; the autoencoder's bar counts epochs, the others' machines."""
    total = n_models(test, config.per)
    if config.model != "autoencoder":
        name = "Gaussian mixture" if config.model == "gmm" else "Detectors of many views"
        task = progress.add_task(f"{name}: fitting machines", total=total)
        return fit_and_score(train, test, config, on_model=lambda name: progress.advance(task))
    task = progress.add_task("Autoencoder: training epochs", total=total * config.autoencoder.n_epochs)

    def on_epoch(loss: Any) -> None:
        progress.update(task, advance=1, description=f"Autoencoder: training epochs, loss {float(loss):.3g}")

    return fit_and_score(train, test, config, checkpoints=checkpoints, on_epoch=on_epoch)


def _print_remarks(console: Console, results: dict[Path, Result]) -> None:
    """Notes and failures; what the models of one run share comes once."""
    for note in dict.fromkeys(note for result in results.values() for note in result.notes):
        console.print(f"Note: {escape(note)}", soft_wrap=True)
    failures = list(dict.fromkeys(str(failure) for result in results.values() for failure in result.failures))
    for failure in failures[:MAX_LISTED]:
        console.print(f"[red]Failed:[/] {escape(failure)}", soft_wrap=True)
    if len(failures) > MAX_LISTED:
        console.print(f"[red]… and {len(failures) - MAX_LISTED} more, all in failures.csv[/]")


def _describe(clips: ClipTable) -> str:
    parts = []
    for machine_type in clips.machine_types:
        own = clips.select(machine_type=machine_type)
        counts = f"{len(own.select(split='train'))} training and {len(own.select(split='test'))} test clips"
        parts.append(f"{machine_type} ({', '.join(own.machine_ids)}): {counts}")
    return "\n".join(parts)
