"""What a sweep tries, and which of its trials share a compile."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_type_hints

import numpy as np

from adjax.checks import check_number, check_seed
from adjax.detectors.kinds import KINDS, kind_of
from adjax.features.recipes import FeatureConfig
from adjax.model.spec import DetectorSpec, ModelSpec
from adjax.types import RowDetector, SettingsError

MAX_TRIALS = 10**6  # of a sweep


@dataclass(frozen=True)
class Sweep:
    """Settings to try on every machine: each trial is a model's settings with some fields changed.

    Attributes:
        base: what all trials have in common: a model of one detector that knows one machine, without calibration.
        settings: for each trial the fields that it changes, by dotted name, such as
            `{"features.gwrp_r": 0.9, "config.n_components": 2, "hyper.reg_covar": 1e-3, "seed": 1}`.
    """

    base: ModelSpec
    settings: tuple[Mapping[str, Any], ...]

    @functools.cached_property
    def specs(self) -> tuple[ModelSpec, ...]:
        """The settings of each trial.

        Raises:
            SettingsError: an unknown field, or settings that a trial cannot have.
        """
        return tuple(check_trial(change(self.base, settings)) for settings in self.settings)

    def check(self) -> Sweep:
        """Itself.

        Raises:
            SettingsError: see `specs`.
        """
        _ = self.specs
        return self

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of all fields that some trial changes."""
        return tuple(dict.fromkeys(name for settings in self.settings for name in settings))


def grid(base: ModelSpec, axes: Mapping[str, Sequence[Any]]) -> Sweep:
    """Every combination of some fields' values; the last axis runs fastest.

    Raises:
        SettingsError: an axis without values, or more than a million combinations.
    """
    n_points = math.prod(_shape(axes))
    if n_points > MAX_TRIALS:
        raise SettingsError(
            f"{n_points:,} combinations of {', '.join(axes)} are more than {MAX_TRIALS:,}: give fewer values, or "
            "draw some at random (sample)"
        )
    return Sweep(
        base,
        tuple(dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())),
    )


def sample(base: ModelSpec, axes: Mapping[str, Sequence[Any]], n_trials: int, *, seed: int) -> Sweep:
    """So many different points of a grid, drawn at random.

    Raises:
        SettingsError: an axis without values, no number of trials or seed, or the grid has fewer points.
    """
    shape = _shape(axes)
    n_points = math.prod(shape)
    check_number("sample", n_trials, low=1, high=min(n_points, MAX_TRIALS), whole=True)
    check_seed(seed)
    points = np.random.default_rng(seed).choice(n_points, n_trials, replace=False)
    places = np.stack(np.unravel_index(points, shape), axis=1).tolist()
    chosen = [
        {name: values[i] for (name, values), i in zip(axes.items(), place, strict=True)} for place in places
    ]
    return Sweep(base, tuple(chosen))


def _shape(axes: Mapping[str, Sequence[Any]]) -> list[int]:
    """How many values each axis has."""
    for name, values in axes.items():
        if not len(values):
            raise SettingsError(f"{name} has no values: give at least one")
    return [len(values) for values in axes.values()]


def change(spec: ModelSpec, settings: Mapping[str, Any]) -> ModelSpec:
    """A specification with some fields, by dotted name, replaced: its own ("seed") or its detector's.

    Raises:
        SettingsError: there is no such field.
    """
    for name, value in settings.items():
        if name in ("seed", "channel"):
            spec = replace(spec, **{name: value})
        else:
            spec = replace(spec, detectors=(_change(spec.detectors[0], name, value),))
    return spec


def _change(owner: Any, name: str, value: Any) -> Any:
    first, _, rest = name.partition(".")
    fields = [field for field in get_type_hints(type(owner)) if hasattr(owner, field)]
    if first not in fields:
        more = ", seed" if isinstance(owner, DetectorSpec) else ""
        raise SettingsError(
            f"{type(owner).__name__} has no field {first!r}; it has {', '.join(fields)}{more}"
        )
    new = {first: _change(getattr(owner, first), rest, value) if rest else value}
    return owner._replace(**new) if hasattr(owner, "_replace") else replace(owner, **new)


def static_part(spec: ModelSpec) -> ModelSpec:
    """What decides the compiled program; trials for which it is equal are chunks of one group.

    Traced settings, seeds and r of GWRP play no part, nor what a kind masks (see `Kind.group`).
    """
    own = spec.detectors[0]
    kind = kind_of(own.kind)
    features = own.features
    if isinstance(features, FeatureConfig):
        features = replace(features, gwrp_r=0.0)
    detector = replace(own, config=kind.group(own.config), hyper=kind.hyper(), features=features)
    return replace(spec, detectors=(detector,), seed=0)


def sweepable() -> tuple[str, ...]:
    """Names of the kinds that a sweep takes."""
    return tuple(name for name, kind in KINDS.items() if kind.axes)


def check_trial(spec: ModelSpec) -> ModelSpec:
    """Itself.

    Raises:
        SettingsError: settings out of range, or that a trial cannot have.
    """
    if len(spec.detectors) != 1:
        raise SettingsError("a sweep tries models of one detector")
    own = spec.detectors[0]
    kind = kind_of(own.kind)
    if not kind.axes:
        raise SettingsError(f"{own.kind} has nothing to sweep; these have: {', '.join(sweepable())}")
    spec.check()
    if own.per != "machine":
        raise SettingsError("a sweep fits one model for each machine: leave per='machine'")
    if not isinstance(own.make(), RowDetector):
        raise SettingsError(f"{own.kind} scores clips in several parts, which a sweep cannot compare")
    kind.narrow(own.config, own.hyper)
    return spec
