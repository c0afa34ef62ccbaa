"""What a sweep tries, and which of its lanes share a compile."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_type_hints

import numpy as np

from adjax.detectors.autoencoder import AutoencoderConfig, AutoencoderHyper
from adjax.detectors.gmm import GmmConfig, GmmHyper
from adjax.pipeline import RunConfig, make_detector
from adjax.types import SettingsError


@dataclass(frozen=True)
class Sweep:
    """Settings to try on every machine: each is a run's settings with some fields changed.

    Attributes:
        base: what all lanes have in common.
        settings: for each lane the fields that it changes, by dotted name, such as
            `{"features.gwrp_r": 0.9, "gmm.n_components": 2, "gmm_hyper.reg_covar": 1e-3, "seed": 1}`.
    """

    base: RunConfig
    settings: tuple[Mapping[str, Any], ...]

    @property
    def configs(self) -> tuple[RunConfig, ...]:
        """The settings of each lane.

        Raises:
            SettingsError: an unknown field, or settings that a lane cannot have.
        """
        return tuple(_checked(change(self.base, settings)) for settings in self.settings)

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of all fields that some lane changes."""
        return tuple(dict.fromkeys(name for settings in self.settings for name in settings))


def grid(base: RunConfig, axes: Mapping[str, Sequence[Any]]) -> Sweep:
    """Every combination of some fields' values; the last axis runs fastest."""
    return Sweep(
        base,
        tuple(dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())),
    )


def sample(base: RunConfig, axes: Mapping[str, Sequence[Any]], n_lanes: int, *, seed: int) -> Sweep:
    """So many different points of a grid, drawn at random.

    Raises:
        SettingsError: the grid has fewer points.
    """
    shape = [len(values) for values in axes.values()]
    n_points = int(np.prod(shape))
    if n_lanes > n_points:
        raise SettingsError(f"{n_lanes} lanes were asked for, the grid has {n_points}: widen an axis")
    points = np.random.default_rng(seed).choice(n_points, n_lanes, replace=False)
    places = np.stack(np.unravel_index(points, shape), axis=1).tolist()
    chosen = [
        {name: values[i] for (name, values), i in zip(axes.items(), place, strict=True)} for place in places
    ]
    return Sweep(base, tuple(chosen))


def change(config: Any, settings: Mapping[str, Any]) -> Any:
    """Settings with some fields, by dotted name, replaced.

    Raises:
        SettingsError: there is no such field.
    """
    for name, value in settings.items():
        first, _, rest = name.partition(".")
        fields = [field for field in get_type_hints(type(config)) if hasattr(config, field)]
        if first not in fields:
            raise SettingsError(f"{type(config).__name__} has no field {first!r}; it has {', '.join(fields)}")
        new = {first: change(getattr(config, first), {rest: value}) if rest else value}
        config = config._replace(**new) if hasattr(config, "_replace") else replace(config, **new)
    return config


def static_part(config: RunConfig) -> RunConfig:
    """What decides the compiled program; lanes for which it is equal are chunks of one group.

    A mixture's number of components is rounded up to a power of two and masked down to the lane's: few compiles,
    and no lane pays for twice as many components as it has. An autoencoder's bottleneck is masked down from the
    widest (its cost hardly depends on it).
    """
    if config.model == "gmm":
        size = 1 << (config.gmm.n_components - 1).bit_length()
        features = replace(config.features, gwrp_r=0.0)
        gmm = replace(config.gmm, n_components=size)
        # The other model's settings play no part.
        return replace(
            config,
            features=features,
            gmm=gmm,
            gmm_hyper=GmmHyper(),
            autoencoder=AutoencoderConfig(),
            autoencoder_hyper=AutoencoderHyper(),
            seed=0,
        )
    return replace(
        config,
        gmm=GmmConfig(),
        gmm_hyper=GmmHyper(),
        autoencoder=replace(config.autoencoder, bottleneck=1),
        autoencoder_hyper=AutoencoderHyper(),
        seed=0,
    )


def _checked(config: RunConfig) -> RunConfig:
    hyper = config.autoencoder_hyper
    if config.per != "machine":
        raise SettingsError("a sweep fits one model a machine: leave per='machine'")
    if config.gmm.n_components < 1 or config.gmm_hyper.n_components is not None:
        raise SettingsError("set a lane's components, 1 or more, by gmm.n_components alone")
    if config.autoencoder.bottleneck < 1 or hyper != AutoencoderHyper(
        hyper.learning_rate, hyper.weight_decay
    ):
        raise SettingsError(
            "an autoencoder's lanes differ in autoencoder.bottleneck, autoencoder_hyper.learning_rate, "
            "autoencoder_hyper.weight_decay and seed; its other hyper-parameters stay at their defaults"
        )
    make_detector(config)
    if not 0 <= config.features.gwrp_r <= 1:
        raise SettingsError(f"features.gwrp_r={config.features.gwrp_r} must lie in [0, 1]")
    if config.score_pooling == "std" and config.features.pooling != "none":
        raise SettingsError("pooled features give one score a clip, which has no standard deviation")
    return config
