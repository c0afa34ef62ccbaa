"""What a model does, as static settings: hashable, comparable, written down as JSON and read back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from adjax.checks import check_fields, check_number, check_seed, shown
from adjax.data.audio import MAX_SR, MIN_SR, Channel
from adjax.detectors.kinds import kind_of
from adjax.features.recipes import FeatureConfig
from adjax.types import Detector, RowDetector, SettingsError

ScorePooling = Literal["mean", "std", "max", "percentile"]
Per = Literal["machine", "type"]
Fusion = Literal["max", "mean", "fisher"]
Calibrating = Literal["folds", "split", "none"]
Contrast = Literal["all", "type", "none"]
Domains = Literal["apart", "together"]
AUTO = "auto"


@dataclass(frozen=True)
class VectorConfig:
    """In place of a front end: each clip comes as rows of numbers from elsewhere (embeddings, openSMILE, ...).

    Attributes:
        n_features: columns.
        pooling: "none" where a clip may have several rows, else "vector": one row for each clip.
        columns: their names, by which those of later tables are put in order; (): they have none.
    """

    n_features: int
    pooling: Literal["none", "vector"] = "vector"
    columns: tuple[str, ...] = ()

    def __str__(self) -> str:
        names = self.columns
        names = names if len(names) <= 6 else (*names[:3], "...", names[-1])
        return f"{self.n_features} columns of vectors" + (f": {', '.join(names)}" if names else "")

    def check(self) -> VectorConfig:
        """Itself.

        Raises:
            SettingsError: a setting out of its range.
        """
        check_fields(self)
        check_number("n_features", self.n_features, low=1, whole=True)
        if self.columns and not len(self.columns) == len({*self.columns}) == self.n_features:
            raise SettingsError(
                f"columns={shown(self.columns)}: give {self.n_features} different names, or none"
            )
        return self


@dataclass(frozen=True)
class DetectorSpec:
    """One detector and what it looks at.

    Attributes:
        kind: name of its kind, see `adjax.detectors.kinds`.
        config: the kind's static settings.
        hyper: the kind's traced settings, as plain numbers.
        features: the front end.
        standardize: whether features get zero mean and unit variance on the training clips of each model; kinds that
            bring columns to one scale themselves do without.
        per: one model for each "machine", or one for all ids of a "type", as the DCASE baselines do.
        pooling: how the scores of a clip's rows become the clip's, for a detector of rows: their mean, standard
            deviation, maximum or a percentile.
        percentile: which one, in [0, 100].
    """

    kind: str
    config: Any
    hyper: Any
    features: FeatureConfig | VectorConfig = field(default_factory=FeatureConfig)
    standardize: bool = False
    per: Per = "machine"
    pooling: ScorePooling = "mean"
    percentile: float = 95.0

    def make(self) -> RowDetector | Detector:
        """The kind's detector with these settings, checked against each other.

        Raises:
            SettingsError: settings out of range, or that contradict each other.
        """
        check_number("percentile", self.percentile, low=0, high=100)
        check_fields(self)
        kind = kind_of(self.kind)
        for settings, owner in ((self.config, kind.config), (self.hyper, kind.hyper)):
            if not isinstance(settings, owner):
                raise SettingsError(f"{shown(settings)}: the {self.kind} takes a {owner.__name__}")
        check_fields(self.config)
        if not isinstance(self.features, FeatureConfig | VectorConfig):
            raise SettingsError(f"features={shown(self.features)}: give a FeatureConfig or a VectorConfig")
        made = kind.make(self.config, self.hyper)
        check_fields(self.hyper)  # for a kind that looks at none; its own check knows the range, too
        pooled = self.features.pooling != "none"
        if kind.rows in ("pooled", "views") and not pooled:
            raise SettingsError(f"{self.kind} takes one row for each clip: give features with a pooling")
        if kind.scales and self.standardize:
            raise SettingsError(f"{self.kind} scales its columns itself: leave standardize=True out")
        if not isinstance(made, RowDetector) and self.pooling != "mean":
            raise SettingsError(f"{self.kind} scores whole clips: leave the pooling of scores at its default")
        if isinstance(made, RowDetector):
            if self.pooling == "std" and pooled:
                raise SettingsError(
                    "pooled features give one score per clip, which has no standard deviation"
                )
            if made.n_context > 1 and pooled:
                raise SettingsError(
                    f"pooled features have one row per clip: set n_context of the {self.kind} to 1"
                )
        return made


@dataclass(frozen=True)
class ModelSpec:
    """Everything that decides a model, apart from the clips it is fitted to.

    Attributes:
        detectors: whose parts are calibrated and fused; one detector with one part is the simplest case.
        fusion: "fisher": a detector speaks by its loudest calibrated part, and the evidence of several, -log p of each,
            is added up (see `adjax.model.evidence`); "max": the loudest part of all; "mean": of all parts.
        calibration: how normal clips get scores that no fit has seen: in "folds" (the model itself is fitted to all
            clips), by a "split" (a fifth of the clips is kept out of the model, trained once), or "none": the
            parts stay raw, there are no p-values and no decisions.
        n_folds: at most; a machine with fewer clips leaves out one at a time.
        domains: of a machine that has training clips of a source and of a target domain: judged "apart", where all
            detectors can be adapted and none knows domains itself, see `adjax.model.domains`; or "together", as if
            there were one.
        channel: of multi-channel clips: a number or "mean".
        seed: of everything random.
    """

    detectors: tuple[DetectorSpec, ...]
    fusion: Fusion = "fisher"
    calibration: Calibrating = "folds"
    n_folds: int = 10
    domains: Domains = "apart"
    channel: Channel = 0
    seed: int = 0

    def check(self) -> ModelSpec:
        """Itself.

        Raises:
            SettingsError: settings out of range, or that contradict each other.
        """
        if not self.detectors:
            raise SettingsError("a model needs a detector")
        check_fields(self)
        check_number("n_folds", self.n_folds, low=2, whole=True)
        check_seed(self.seed)
        if self.channel != "mean":
            check_number("channel", self.channel, low=0, whole=True)
        for detector in self.detectors:
            detector.make()
            if isinstance(detector.features, FeatureConfig):
                check_number("sr", detector.features.sr, low=MIN_SR, high=MAX_SR, whole=True)
            detector.features.check()
        if self.fusion == "fisher" and self.calibration == "none" and len(self.detectors) > 1:
            raise SettingsError(
                "fusion='fisher' adds up p-values, which only a calibrated model has; calibrate it, or take 'max'"
            )
        return self

    @property
    def front_ends(self) -> tuple[FeatureConfig | VectorConfig, ...]:
        """What clips go through, for each detector."""
        return tuple(detector.features for detector in self.detectors)


def check_rate(false_alarm_rate: float) -> None:
    """Refuse what is no share of normal clips that may be called anomalous.

    Raises:
        SettingsError: it is none; less than one in a million no data can tell, nor float32 from all or nothing.
    """
    check_number("false_alarm_rate", false_alarm_rate, low=1e-6, high=1 - 1e-6)
