"""Clips to decisions: features, one detector a machine (or a type), scores, metrics."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from threadpoolctl import threadpool_limits

from adjax.data.audio import Channel
from adjax.data.clips import Clip, ClipTable
from adjax.detectors.autoencoder import AutoencoderConfig, AutoencoderHyper, make_autoencoder
from adjax.detectors.gmm import GmmConfig, GmmHyper, fit_split, make_gmm
from adjax.extraction import ClipFeatures, extract
from adjax.features.normalize import fit_standardizer, standardize
from adjax.features.recipes import FeatureConfig
from adjax.results import Fit, Result, group_of
from adjax.resumable import Fitted, fit_alone
from adjax.selection import BANDS_MULTIPLE, select_and_score
from adjax.types import (
    NOT_FINITE,
    AdjaxError,
    ClipError,
    DataError,
    Detector,
    FitError,
    SettingsError,
)

ModelName = Literal["auto", "gmm", "autoencoder"]
ScorePooling = Literal["mean", "std", "max", "percentile"]
MODELS: tuple[ModelName, ...] = ("auto", "gmm", "autoencoder")


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a result, apart from the data.

    Attributes:
        model: which detector; "auto" fuses many without looking at a label (`adjax.selection`) and takes of these
            settings the log-mel's, `per`, `channel` and nothing else.
        features: the front end.
        standardize: whether features get zero mean and unit variance on the training clips.
        per: one model a "machine" (id), or one a machine "type" as the DCASE baselines do.
        score_pooling: how the scores of a clip's vectors become the clip's: their mean, standard deviation,
            maximum or a percentile.
        score_percentile: which one, in [0, 100].
        gmm: static settings of the mixture.
        gmm_hyper: its traced settings.
        autoencoder: static settings of the autoencoder.
        autoencoder_hyper: its traced settings.
        channel: of multi-channel clips: a number or "mean".
        seed: of everything random.
    """

    model: ModelName = "gmm"
    features: FeatureConfig = field(default_factory=FeatureConfig)
    standardize: bool = False
    per: Literal["machine", "type"] = "machine"
    score_pooling: ScorePooling = "mean"
    score_percentile: float = 95.0
    gmm: GmmConfig = field(default_factory=GmmConfig)
    gmm_hyper: GmmHyper = field(default_factory=GmmHyper)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    autoencoder_hyper: AutoencoderHyper = field(default_factory=AutoencoderHyper)
    channel: Channel = 0
    seed: int = 0

    @property
    def front_end(self) -> FeatureConfig:
        """The features that the model takes: those asked for, and for "auto" the views of a log-mel.

        Raises:
            SettingsError: "auto" was asked for other features, or to treat them or its scores otherwise.
        """
        if self.model != "auto":
            return self.features
        chosen = (self.features.kind, self.features.pooling, self.standardize, self.score_pooling)
        if chosen not in (("log-mel", pooling, False, "mean") for pooling in ("none", "views")):
            raise SettingsError(
                "the model auto takes log-mels as they are: leave features, pooling, standardisation and score "
                "pooling at their defaults, or name another model"
            )
        if self.features.n_mels % BANDS_MULTIPLE:
            raise SettingsError(
                f"n_mels={self.features.n_mels} is not a multiple of {BANDS_MULTIPLE}, which auto needs"
            )
        return replace(self.features, pooling="views")


def make_detector(config: RunConfig) -> Detector:
    """The detector that a run's settings ask for."""
    if config.model == "gmm":
        return make_gmm(config.gmm, config.gmm_hyper)
    if config.model == "autoencoder":
        if config.features.pooling != "none" and config.autoencoder.n_context > 1:
            raise SettingsError("pooled features have one row a clip: set the autoencoder's n_context to 1")
        return make_autoencoder(config.autoencoder, config.autoencoder_hyper)
    raise SettingsError(f"model={config.model!r} is not one of {MODELS}")


def fit_and_score(
    train: ClipFeatures,
    test: ClipFeatures,
    config: RunConfig,
    *,
    checkpoints: Path | None = None,
    on_epoch: Callable[[Any], None] | None = None,
    on_model: Callable[[str], None] | None = None,
) -> Result:
    """Fit one detector a machine (or type) on normal clips and score the test clips.

    A machine that cannot be fitted is reported in `Result.failures` and its clips get no score; the others go on.

    Args:
        train: features of normal clips.
        test: features of the clips to score.
        config: the run's settings.
        checkpoints: folder for the autoencoder's; the same call after a stop at any point goes on there, to the same
            bits. They stay until `drop_checkpoints`. None: none are written; the other models need none.
        on_epoch: called on the host with the mean loss of each of the autoencoder's epochs, also of those that an
            earlier call made.
        on_model: called with the name of each machine when its test clips are scored.

    Raises:
        SettingsError: settings out of range, or that contradict each other.
        StoreError: the checkpoints are those of a run with other settings, data or versions, another run is writing
            there, or they cannot be written.
    """
    if config.model == "auto":
        if train.rows.shape[1] != config.front_end.n_features:
            raise SettingsError("the model auto needs the features of its front_end; see extract_splits")
        return select_and_score(train, test, per=config.per, on_model=on_model)
    if not 0 <= config.score_percentile <= 100:
        raise SettingsError(f"score_percentile={config.score_percentile} must lie in [0, 100]")
    if config.score_pooling == "std" and config.features.pooling != "none":
        raise SettingsError("pooled features give one score a clip, which has no standard deviation")
    detector = make_detector(config)
    fit, score = _make_fit(config, on_epoch), jax.jit(detector.score)
    scores = np.full(len(test.clips), np.nan)
    fits: list[Fit] = []
    failures: list[AdjaxError] = [*train.failures, *test.failures]
    notes = [*train.notes, *test.notes]
    groups = _groups(test, config.per)
    for number, group in enumerate(groups):
        key = jax.random.fold_in(jax.random.key(config.seed), number)
        own_train, own_test = (part.where(partial(_is_of, group, config.per)) for part in (train, test))
        name = " ".join(part for part in group if part)
        try:
            to_group = partial(fit, _place(checkpoints, group))
            params, transform, fitted, remarks = _fit_group(to_group, detector, key, own_train, config, group)
        except FitError as error:
            failures.append(error)
            continue
        fits.append(fitted)
        notes += [f"{name}: {remark}" for remark in remarks]
        values = _score_group(score, detector, params, transform, own_test)
        pooled, too_short = pool_scores(
            values, own_test, detector.n_context, config.score_pooling, percentile=config.score_percentile
        )
        failures += too_short
        scores[[group_of(clip, config.per) == group for clip in test.clips]] = pooled
        if on_model:
            on_model(name)
    scored = np.isfinite(scores)
    clips = ClipTable(tuple(clip for clip, ok in zip(test.clips, scored, strict=True) if ok))
    return Result(clips, scores[scored], tuple(fits), tuple(failures), tuple(dict.fromkeys(notes)))


def drop_checkpoints(checkpoints: Path, test: ClipFeatures, per: str) -> None:
    """Delete what `fit_and_score` left for these test clips' machines, once the results are safe; nothing else."""
    for group in _groups(test, per):
        shutil.rmtree(checkpoints / _file_name(group), ignore_errors=True)
    with suppress(OSError):  # it is not there, or holds the checkpoints of other machines
        checkpoints.rmdir()


def extract_splits(
    clips: ClipTable,
    config: RunConfig,
    *,
    cache: Path | None = None,
    on_clips: Callable[[int], None] | None = None,
) -> tuple[ClipFeatures, ClipFeatures]:
    """Features of the training and of the test clips; see `extract`.

    Raises:
        DataError: there are no training or no test clips, or none of them can be read.
    """
    parts = {split: clips.select(split=split) for split in ("train", "test")}
    for split, part in parts.items():
        if not len(part):
            raise DataError(f"there are no {split} clips; a data set needs normal train clips and test clips")
    train, test = (
        extract(part, config.front_end, channel=config.channel, cache=cache, on_clips=on_clips)
        for part in parts.values()
    )
    return replace(train, failures=(*clips.rejected, *train.failures)), test


def window_weights(offsets: np.ndarray, n_context: int) -> np.ndarray:
    """1 for the rows where a window of `n_context` rows of one clip starts, 0 for the last rows of each clip.

    Args:
        offsets: (n_clips + 1,) int, where each clip's rows begin and end.
        n_context: rows in a window.

    Returns:
        (n_rows,) float32.
    """
    weights = np.ones(offsets[-1], np.float32)
    for start, end in pairwise(offsets):
        weights[max(start, end - n_context + 1) : end] = 0
    return weights


def domain_of_rows(features: ClipFeatures) -> np.ndarray:
    """(n_rows,) int32, 1 for the rows of target-domain clips, else 0."""
    target = np.array([clip.domain == "target" for clip in features.clips], np.int32)
    return np.repeat(target, np.diff(features.offsets))


def n_models(test: ClipFeatures, per: str) -> int:
    """How many models `fit_and_score` fits for these test clips."""
    return len(_groups(test, per))


def _groups(test: ClipFeatures, per: str) -> list[tuple[str, str]]:
    return sorted({group_of(clip, per) for clip in test.clips})


def _is_of(group: tuple[str, str], per: str, clip: Clip) -> bool:
    return group_of(clip, per) == group


def _place(checkpoints: Path | None, group: tuple[str, str]) -> Path | None:
    return checkpoints / _file_name(group) if checkpoints else None


def _file_name(group: tuple[str, str]) -> str:
    return "_".join(part for part in group if part) or "all"


def _make_fit(config: RunConfig, on_epoch: Callable[[Any], None] | None) -> Callable[..., Fitted]:
    """(folder, key, rows, weights, hyper, …) -> the model's fit, with checkpoints in the folder where it has any."""
    if config.model == "autoencoder":
        report = (lambda n_epochs, train, validation: on_epoch(train[0])) if on_epoch else None
        return lambda folder, *data: fit_alone(config.autoencoder, *data, folder=folder, on_epoch=report)
    return lambda folder, *data: Fitted(*fit_split(config.gmm, *data))


def _fit_group(
    fit: Callable[..., Fitted],
    detector: Detector,
    key: jax.Array,
    train: ClipFeatures,
    config: RunConfig,
    group: tuple[str, str],
) -> tuple[Any, Callable[[np.ndarray], Any], Fit, tuple[str, ...]]:
    """Fit the model of one group; raises FitError saying whose and what to do."""
    name = " ".join(part for part in group if part)
    weights = window_weights(train.offsets, detector.n_context)
    n_vectors = int(weights.sum())
    needed = config.gmm.n_components if config.model == "gmm" else 1
    if n_vectors < needed:
        raise FitError(
            f"{name} has {n_vectors} training vectors in {len(train.clips)} clips, the {config.model} needs at "
            f"least {needed}: add normal clips of this machine, or fit one model a type"
        )
    transform: Callable[[np.ndarray], Any] = np.asarray
    if config.standardize:
        standardizer = jax.jit(fit_standardizer)(train.rows)
        transform = partial(jax.jit(standardize), standardizer)
    rows, weights = pad_rows(np.asarray(transform(train.rows)), weights)
    more = []
    if config.model == "autoencoder" and config.autoencoder.n_domains > 1:
        domain = domain_of_rows(train)
        more = [np.pad(domain, (0, len(rows) - len(domain)))]
    with threadpool_limits(1, user_api="blas"):  # LAPACK's threads only wait for each other on a covariance
        model = jax.block_until_ready(fit(key, rows, weights, detector.hyper, *more))
    info = jax.tree.map(lambda leaf: leaf.item(), model.info)
    fitted = Fit(*group, len(train.clips), n_vectors, info.objective, info.n_steps, info.status, model.losses)
    if fitted.status == NOT_FINITE:
        raise FitError(
            f"the {config.model} of {name} did not stay finite: raise the regularisation (reg_covar), lower the "
            "learning rate, or standardise the features"
        )
    return model.params, transform, fitted, model.remarks


def _score_group(
    score: Callable[..., Any],
    detector: Detector,
    params: Any,
    transform: Callable[[np.ndarray], Any],
    test: ClipFeatures,
) -> np.ndarray:
    rows, _ = pad_rows(np.asarray(transform(test.rows)), np.zeros(len(test.rows), np.float32))
    return np.asarray(score(params, rows))[: len(test.rows)]


def pool_scores(
    values: np.ndarray, test: ClipFeatures, n_context: int, pooling: ScorePooling, *, percentile: float = 95.0
) -> tuple[np.ndarray, list[ClipError]]:
    """Scores of windows to scores of clips.

    Args:
        values: (n_rows,) scores of the windows that start at each row.
        test: whose rows.
        n_context: rows in a window.
        pooling: see `RunConfig`.
        percentile: of pooling "percentile".

    Returns:
        (n_clips,) float64 scores, NaN for clips without a window, and an error for each of those.
    """
    poolings: dict[str, Callable[[np.ndarray], float]] = {
        "mean": np.mean,
        "std": np.std,
        "max": np.max,
        "percentile": lambda own: float(np.percentile(own, percentile)),
    }
    pool = poolings[pooling]
    pooled = np.full(len(test.clips), np.nan)
    failures = []
    for i, clip in enumerate(test.clips):
        own = values[test.offsets[i] : test.offsets[i + 1] - n_context + 1].astype(np.float64)
        if not len(own):
            n_rows = test.offsets[i + 1] - test.offsets[i]
            reason = f"{n_rows} frames are too few for a window of {n_context}; give a longer clip"
            failures.append(ClipError(clip.path, reason))
        elif not np.all(np.isfinite(own)):
            failures.append(ClipError(clip.path, "its score is not finite; standardise the features"))
        else:
            pooled[i] = pool(own)
    return pooled, failures


def pad_rows(rows: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pad to a multiple of 2^(floor(log2 n) - 3), at most 12.5% more: machines of like size share a compile."""
    n_rows = len(rows)
    step = 1 << max(n_rows.bit_length() - 4, 0)
    extra = -n_rows % step
    return np.pad(rows, ((0, extra), (0, 0))), np.pad(weights, (0, extra))
