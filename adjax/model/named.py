"""From a name and a few settings to the specification of a model: "auto", a kind, a recipe, several fused."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

from adjax.checks import shown
from adjax.detectors.kinds import AUTO_KINDS, KINDS, kind_of
from adjax.features.recipes import FeatureConfig
from adjax.model.spec import AUTO, Contrast, DetectorSpec, ModelSpec, VectorConfig
from adjax.types import Kind, SettingsError


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
