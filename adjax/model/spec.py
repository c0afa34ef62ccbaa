"""What a model does, as static settings: hashable, comparable, written down as JSON and read back."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from adjax.checks import check_fields, check_number, check_seed, shown
from adjax.data.audio import MAX_SR, MIN_SR, Channel
from adjax.detectors.kinds import AUTO_KINDS, KINDS, kind_of
from adjax.features.recipes import FeatureConfig
from adjax.types import Detector, Kind, RowDetector, SettingsError

ScorePooling = Literal["mean", "std", "max", "percentile"]
Per = Literal["machine", "type"]
Fusion = Literal["max", "mean", "fisher"]
Calibrating = Literal["folds", "split", "none"]
Contrast = Literal["all", "type", "none"]
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
        channel: of multi-channel clips: a number or "mean".
        seed: of everything random.
    """

    detectors: tuple[DetectorSpec, ...]
    fusion: Fusion = "fisher"
    calibration: Calibrating = "folds"
    n_folds: int = 10
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


def names() -> tuple[str, ...]:
    """What `make_spec` knows: "auto", every kind, and the published recipes of a kind as "kind:recipe"."""
    recipes = [f"{kind.name}:{recipe}" for kind in KINDS.values() for recipe in kind.recipes]
    return (AUTO, *KINDS, *recipes)


def everything(contrast: Contrast = "all") -> tuple[str, ...]:
    """Names of models that together have every kind: all kinds but those that train on waves, which takes long."""
    others = [name for name, kind in KINDS.items() if name not in AUTO_KINDS and kind.rows != "samples"]
    return (AUTO, *(name for name in others if contrast != "none" or not _tells_apart(KINDS[name])))


def kinds_of(name: str, *, vectors: bool = False) -> tuple[str, ...]:
    """Kinds and recipes that a name stands for, each once: those joined by "+", and what "auto" fuses.

    Args:
        name: see `make_spec`.
        vectors: of numbers from elsewhere, which have no views: what looks at views is not in "auto" then.
    """
    found: list[str] = []
    for one in name.split("+"):
        auto = [kind for kind in AUTO_KINDS if not (vectors and KINDS[kind].rows == "views")]
        found += auto if one == AUTO else [one]
    return tuple(dict.fromkeys(found))


def make_spec(
    name: str = AUTO,
    *,
    settings: Mapping[str, Any] | None = None,
    features: FeatureConfig | VectorConfig | Mapping[str, Any] | None = None,
    contrast: Contrast = "all",
    **others: Any,
) -> ModelSpec:
    """The settings of a model by its name.

    Args:
        name: one of `names()`; several joined by "+" are fused.
        settings: fields of the kinds' configs and hypers, by name.
        features: the front end, or the fields to change in the kind's or recipe's own.
        contrast: for kinds that tell machines apart: "all" machines in the data, or those of one "type"; "none" leaves
            such kinds out. A setting of that name goes before "all" and "type".
        **others: fields of `ModelSpec` and `DetectorSpec`. Vectors are standardized unless `standardize` is False,
            or the kind scales them itself.

    Raises:
        SettingsError: an unknown name or field, or settings that contradict each other.
    """
    wanted = dict(settings or {})
    used: set[str] = set()
    of_detector = {f.name for f in dataclasses.fields(DetectorSpec)} & others.keys()
    own = {key: others.pop(key) for key in of_detector}
    vectors = isinstance(features, VectorConfig)
    detectors = tuple(_detector(one, wanted, used, features, own) for one in kinds_of(name, vectors=vectors))
    if own.get("standardize") and not any(detector.standardize for detector in detectors):
        raise SettingsError(f"{name} scales its numbers itself: leave standardize out")
    if unknown := wanted.keys() - used:
        fields = sorted({f for d in detectors for f in _fields(kind_of(d.kind))})
        raise SettingsError(f"{name} has no setting {', '.join(sorted(unknown))}; it has {', '.join(fields)}")
    detectors = _contrasted(name, detectors, contrast, "contrast" in wanted)
    kinds = [kind_of(detector.kind) for detector in detectors]
    if "calibration" not in others:
        others["calibration"] = "split" if any(kind.calibrate == "split" for kind in kinds) else "folds"
    # A mixture of frames takes as long as a few hundred of pooled clips.
    frames = any(d.features.pooling == "none" for d in detectors)
    others.setdefault("n_folds", 5 if frames else 10)
    unknown_field = others.keys() - {f.name for f in dataclasses.fields(ModelSpec)}
    if unknown_field:
        raise SettingsError(f"a model has no setting {', '.join(sorted(unknown_field))}")
    return ModelSpec(detectors, **others).check()


def _tells_apart(kind: Kind) -> bool:
    return kind.least_machines > 1


def _contrasted(
    name: str, detectors: tuple[DetectorSpec, ...], contrast: Contrast, is_set: bool
) -> tuple[DetectorSpec, ...]:
    """The detectors of a model with the contrast that was asked for, see `make_spec`."""
    if contrast not in get_args(Contrast):
        raise SettingsError(f"contrast={shown(contrast)}: give one of {', '.join(get_args(Contrast))}")
    if contrast == "none":
        left = tuple(own for own in detectors if not _tells_apart(kind_of(own.kind)))
        if not left:
            raise SettingsError(
                f"{name} tells machines apart, which contrast='none' leaves out: take another model"
            )
        return left
    if contrast == "all" or is_set:
        return detectors
    found = []
    for own in detectors:
        kind = kind_of(own.kind)
        if "contrast" in {f.name for f in dataclasses.fields(kind.config)}:
            own = replace(own, config=replace(own.config, contrast=contrast))
        elif kind.scope_of(own.config) == "all":
            raise SettingsError(
                f"{own.kind} tells all machines in the data apart: contrast='type' it cannot do"
            )
        found.append(own)
    return tuple(dict.fromkeys(found))


def _detector(
    name: str,
    wanted: Mapping[str, Any],
    used: set[str],
    features: FeatureConfig | VectorConfig | Mapping[str, Any] | None,
    own: Mapping[str, Any],
) -> DetectorSpec:
    kind_name, _, recipe = name.partition(":")
    if kind_name not in KINDS or (recipe and recipe not in KINDS[kind_name].recipes):
        raise SettingsError(f"there is no model {name!r}; there are {', '.join(names())}")
    kind = KINDS[kind_name]
    config, hints = kind.recipes[recipe] if recipe else (kind.config(), {})
    if features is None or isinstance(features, Mapping):
        features = {**hints, **(features or {})}
        fields = [f.name for f in dataclasses.fields(FeatureConfig)]
        if unknown := features.keys() - set(fields):
            raise SettingsError(
                f"features have no setting {', '.join(sorted(unknown))}; they have {', '.join(fields)}"
            )
        features = FeatureConfig(**features)
    if not isinstance(features, FeatureConfig | VectorConfig):
        raise SettingsError(f"features={shown(features)}: give a FeatureConfig, a VectorConfig, or a mapping")
    if kind.rows == "views" and isinstance(features, FeatureConfig):
        if (features.kind, features.pooling) not in (("log-mel", "none"), ("log-mel", "views")):
            raise SettingsError(
                f"{name} takes log-mels as they are: leave features and clip pooling at their defaults"
            )
        features = replace(features, pooling="views")
    if kind.rows == "pooled" and isinstance(features, FeatureConfig) and features.pooling == "none":
        features = replace(features, pooling="views" if features.kind == "log-mel" else "moments")
    if kind.rows == "samples":
        features = _samples(name, features)
    if features.pooling != "none":
        config = kind.for_clips(config)
    if isinstance(features, VectorConfig):
        config = kind.for_vectors(config)
        own = {"standardize": True, **own}  # numbers from elsewhere have any scale
    if kind.scales:
        own = {**own, "standardize": False}
    hyper = kind.hyper()
    for key, value in wanted.items():
        if key in {f.name for f in dataclasses.fields(kind.config)}:
            config, found = replace(config, **{key: value}), True
        elif key in hyper._fields:
            hyper, found = hyper._replace(**{key: value}), True
        else:
            found = False
        if found:
            used.add(key)
    return DetectorSpec(kind.name, config, hyper, features, **own)


def _samples(name: str, features: FeatureConfig | VectorConfig) -> FeatureConfig:
    """The front end of a kind that takes waves, with the rate and the block that were asked for."""
    if not isinstance(features, FeatureConfig):
        raise SettingsError(f"{name} listens to recordings: it takes no vectors from elsewhere")
    if features.kind not in ("log-mel", "samples") or features.pooling not in ("none", "views"):
        raise SettingsError(
            f"{name} takes waves as they are: leave features and clip pooling at their defaults"
        )
    return replace(features, kind="samples", pooling="none")


def _fields(kind: Kind) -> list[str]:
    return [f.name for f in dataclasses.fields(kind.config)] + list(kind.hyper()._fields)


def to_json(spec: ModelSpec) -> dict[str, Any]:
    """A mapping that JSON can hold and `from_json` reads back."""
    found = dataclasses.asdict(spec)
    found["detectors"] = [
        {
            **{
                f.name: getattr(d, f.name) for f in dataclasses.fields(d) if f.name not in ("config", "hyper")
            },
            "config": dataclasses.asdict(d.config),
            "hyper": {
                key: value if value is None or isinstance(value, int) else float(value)
                for key, value in d.hyper._asdict().items()
            },
            "features": {"from": type(d.features).__name__, **dataclasses.asdict(d.features)},
        }
        for d in spec.detectors
    ]
    return found


def from_json(found: Mapping[str, Any]) -> ModelSpec:
    """What `to_json` wrote.

    Raises:
        SettingsError: unknown or missing fields (a newer version?), or settings out of range.
    """
    try:
        detectors = tuple(_detector_from(one) for one in found["detectors"])
        return _build(ModelSpec, {**found, "detectors": detectors}).check()
    except (KeyError, TypeError, AttributeError) as error:
        raise SettingsError(f"these are no settings of a model that this version knows ({error})") from error


def _detector_from(found: Mapping[str, Any]) -> DetectorSpec:
    kind = kind_of(found["kind"])
    features = dict(found["features"])
    front_end = {"FeatureConfig": FeatureConfig, "VectorConfig": VectorConfig}[features.pop("from")]
    own = {
        **found,
        "config": _build(kind.config, found["config"]),
        "hyper": kind.hyper(**{name: _whole(kind, name, value) for name, value in found["hyper"].items()}),
        "features": _build(front_end, features),
    }
    return _build(DetectorSpec, own)


def _whole(kind: Kind, name: str, value: Any) -> Any:
    """A traced setting that counts, as the int that it is: earlier versions wrote all of them as floats."""
    hint = typing.get_type_hints(kind.hyper).get(name)
    counts = isinstance(getattr(kind.hyper(), name, None), int) or {int, float} & {*get_args(hint)} == {int}
    return int(value) if counts and isinstance(value, float) and value.is_integer() else value


def _build(owner: Any, found: Mapping[str, Any]) -> Any:
    """A frozen dataclass from a mapping; JSON's lists become tuples again."""
    return owner(**{key: _tuples(value) for key, value in found.items()})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
