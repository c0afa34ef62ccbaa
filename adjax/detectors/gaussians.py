"""Many small Gaussians for each machine, on several views of a clip at several resolutions: each looks at one thing.

Nobody knows beforehand in which view a fault will show, and picking one by a criterion on normal clips (their spread,
tails, other machines or simulated faults as stand-ins for anomalies) cost .05 to .17 AUC against the best. So none is
picked: every machine has the same 14 parts, five views of a clip (`adjax.features.views`), four of them also with
neighbouring mel bands averaged, each with a Gaussian that borrows from the other machines of the type
(`adjax.detectors.mahalanobis`), and the mean spectrum once more without correlations. Calibration and fusion are the
model's (`adjax.model`).

Where the constants come from: views, resolutions and priors were chosen on simulated machines of seven kinds (adjax's
slide rail is one), and tried on three made later, whose scores had a say in the cut to 14 parts. Real clips were
looked at eight times meanwhile: that real fans need the averages of 16 bands and the diagonal part was learnt there
(on simulated machines they make no difference).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adjax.batching import map_clips
from adjax.checks import check_fields, check_number, shown
from adjax.detectors.mahalanobis import Covariance, Gaussian, fit_gaussian, log_distance
from adjax.types import CONVERGED, NOT_FINITE, Detector, FitInfo, Kind, SettingsError, Training


@dataclass(frozen=True)
class GaussiansConfig:
    """Static settings: each value is one compile.

    Attributes:
        views: names of the views that a row holds, one after the other, as many numbers each.
        smooth: those whose neighbouring numbers are alike, so that they may be averaged. (Rhythm is not among them: its
            neighbours are different frequencies.)
        averaged: how many neighbours of the smooth views are averaged, one Gaussian for each; 1 is every view as it is.
        diagonal: views that get one more Gaussian, without correlations: it over-counts what all bands do together,
            which is a fault in the mean and mere noise in the other views.
    """

    views: tuple[str, ...] = ("mean", "spread", "loud", "peaks", "rhythm")
    smooth: tuple[str, ...] = ("mean", "spread", "loud", "peaks")
    averaged: tuple[int, ...] = (1, 4, 16)
    diagonal: tuple[str, ...] = ("mean",)


class GaussiansHyper(NamedTuple):
    """Traced settings: none yet."""


class Group(NamedTuple):
    """Parts that are fitted in one batch: some views, so many neighbours averaged, one kind of covariance."""

    views: tuple[str, ...]
    n_averaged: int
    covariance: Covariance


def groups_of(config: GaussiansConfig) -> tuple[Group, ...]:
    """The batches of a configuration, in the order of the parts."""
    full = [Group(config.views if n == 1 else config.smooth, n, "full") for n in config.averaged]
    return (*full, *([Group(config.diagonal, 1, "diag")] if config.diagonal else []))


def parts_of(config: GaussiansConfig) -> tuple[str, ...]:
    """Names of the parts, such as "mean", "mean /4" (four bands averaged) and "mean diagonal"."""
    return tuple(
        view
        + (f" /{group.n_averaged}" if group.n_averaged > 1 else "")
        + (" diagonal" if group.covariance == "diag" else "")
        for group in groups_of(config)
        for view in group.views
    )


def make_gaussians(
    config: GaussiansConfig = GaussiansConfig(),
    hyper: GaussiansHyper = GaussiansHyper(),
) -> Detector:
    """Build the detector.

    It takes one row for each clip, (n_views * d,) numbers; a score is the log of a mean squared whitened deviation,
    around 0 for the clips fitted on. A fit must see all machines of a type, and every machine needs a clip of weight
    1. Its parameters are a `Gaussian` for each group, leaves (n_machines, n_views, ...).

    Raises:
        SettingsError: a view named in `smooth` or `diagonal` that is not one of `views`, or an average of fewer than 1.
    """
    check_fields(config)
    for name in ("views", "averaged"):
        if not any(getattr(config, name)):
            raise SettingsError(f"{name}={shown(getattr(config, name))}: give at least one")
    for name, chosen in (("smooth", config.smooth), ("diagonal", config.diagonal)):
        if unknown := sorted(set(chosen) - set(config.views)):
            raise SettingsError(
                f"{name}={','.join(chosen)}: {unknown[0]!r} is not among views={','.join(config.views)}; leave it out, "
                "or add it there"
            )
    for number in config.averaged:
        check_number("averaged", number, low=1, whole=True)
    groups = groups_of(config)

    def fit(key: Array, training: Training, hyper: GaussiansHyper = hyper) -> tuple[Any, FitInfo]:
        n_machines = training.seed.shape[0]
        machine = training.machine[training.clip]
        views = split_views(config, training.rows)

        def one(own: Array) -> tuple[Gaussian, ...]:
            return fit_groups(config, views, training.weight, machine, own, n_machines=n_machines)

        params = map_clips(one, jnp.arange(n_machines))
        return params, _ended(params, n_machines, views.dtype)

    def score(params: tuple[Gaussian, ...], machine: Array, rows: Array, weight: Array) -> Array:
        own = jax.tree.map(lambda leaf: leaf[machine], params)
        parts = distances(config, own, split_views(config, rows[:1]))[0]
        return jnp.where(weight[0] > 0, parts, jnp.nan)

    assert len(parts_of(config)) == sum(len(group.views) for group in groups)
    return Detector(fit, score, parts_of(config), hyper)


def adapt_gaussians(
    config: GaussiansConfig, hyper: GaussiansHyper, key: Array, params: Any, memory: Training, new: Training
) -> tuple[Any, FitInfo]:
    """The Gaussians of one new machine, as the fit of all machines would have them; see `Kind.adapt`."""
    n_mates = memory.seed.shape[0]
    views = split_views(config, jnp.concatenate([memory.rows, new.rows]))
    weight = jnp.concatenate([memory.weight, new.weight])
    machine = jnp.concatenate([memory.machine[memory.clip], jnp.full(len(new.rows), n_mates, jnp.int32)])
    own = fit_groups(config, views, weight, machine, jnp.int32(n_mates), n_machines=n_mates + 1)
    own = jax.tree.map(lambda leaf: leaf[None], own)
    return own, _ended(own, 1, views.dtype)


def _ended(params: Any, n_machines: int, dtype: Any) -> FitInfo:
    finite = [jnp.isfinite(leaf).reshape(n_machines, -1).all(axis=1) for leaf in jax.tree.leaves(params)]
    status = jnp.where(jnp.stack(finite).all(axis=0), CONVERGED, NOT_FINITE).astype(jnp.int32)
    nothing = jnp.full(n_machines, jnp.nan, dtype)  # no objective: the formulae are closed
    return FitInfo(nothing, jnp.ones(n_machines, jnp.int32), status)


def split_views(config: GaussiansConfig, rows: Array) -> Array:
    """(n, n_views, d) of rows (n, n_views * d).

    Raises:
        SettingsError: rows that cannot be cut so, or averages that do not divide d.
    """
    n_views = len(config.views)
    d, left = divmod(rows.shape[1], n_views)
    if left or any(d % n for n in config.averaged):
        raise SettingsError(
            f"rows of {rows.shape[1]} numbers are not {n_views} views of a multiple of {max(config.averaged)}: take "
            f"log-mels of a multiple of {max(config.averaged)} bands (n_mels), pooled into views"
        )
    return rows.reshape(rows.shape[0], n_views, d)


def fit_groups(
    config: GaussiansConfig, views: Array, weight: Array, machine: Array, own: Array, *, n_machines: int
) -> tuple[Gaussian, ...]:
    """Fit all parts of one machine.

    Args:
        config: static settings.
        views: (n, n_views, d) float, of the normal clips of all machines of the type.
        weight: (n,) float, 1 for the clips to fit on, else 0.
        machine: (n,) int, whose each clip is.
        own: () int, the machine to fit.
        n_machines: static.

    Returns:
        A Gaussian for each group, stacked over its views.
    """

    def fit(x: Array, covariance: Covariance) -> Gaussian:
        return fit_gaussian(x, weight, machine, own, n_machines=n_machines, covariance=covariance)

    return tuple(
        jax.vmap(functools.partial(fit, covariance=group.covariance))(_vectors(config, views, group))
        for group in groups_of(config)
    )


def distances(config: GaussiansConfig, gaussians: tuple[Gaussian, ...], views: Array) -> Array:
    """(n_clips, n_parts) log distances of clips, (n_clips, n_views, d), from one machine."""
    parts = [
        jax.vmap(log_distance)(gaussian, _vectors(config, views, group))
        for gaussian, group in zip(gaussians, groups_of(config), strict=True)
    ]
    return jnp.concatenate(parts).T


def _vectors(config: GaussiansConfig, views: Array, group: Group) -> Array:
    """(n_views, n, d / n_averaged) vectors of a group's parts."""
    chosen = views[:, np.array([config.views.index(view) for view in group.views]), :]
    n, n_views, d = chosen.shape
    averaged = chosen.reshape(n, n_views, d // group.n_averaged, group.n_averaged).mean(axis=3)
    return averaged.transpose(1, 0, 2)


def _for_vectors(config: GaussiansConfig) -> GaussiansConfig:
    """A vector is one view, whose neighbouring numbers have nothing in common."""
    return GaussiansConfig(("vector",), (), (1,), ("vector",))


KIND = Kind(
    name="gaussians",
    summary="Gaussians on five views of a clip at three resolutions that borrow from the other machines of the type",
    config=GaussiansConfig,
    hyper=GaussiansHyper,
    make=make_gaussians,
    rows="views",
    scope="type",
    adapt=adapt_gaussians,
    for_vectors=_for_vectors,
)
