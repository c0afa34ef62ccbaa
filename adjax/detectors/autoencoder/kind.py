"""The autoencoder as a kind: its settings and recipes, what a sweep can share, and many trainings from the host."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adjax.detectors.autoencoder.adapt import adapt
from adjax.detectors.autoencoder.config import RECIPES, AutoencoderConfig, AutoencoderHyper, in_training
from adjax.detectors.autoencoder.detector import make_autoencoder
from adjax.detectors.autoencoder.lanes import OnEpoch
from adjax.detectors.autoencoder.resume import LaneTable, train_lanes
from adjax.detectors.autoencoder.training import Lane, Sizes
from adjax.detectors.autoencoder.windows import Span, Windows
from adjax.types import EngineOptions, FitInfo, Fitted, Kind, SettingsError


def fit_many(
    config: AutoencoderConfig,
    keys: Array,
    x: np.ndarray,
    weight: np.ndarray,
    hyper: AutoencoderHyper,
    data: np.ndarray,
    fold: np.ndarray,
    options: EngineOptions,
) -> Fitted:
    """All trainings as lanes of one program, with checkpoints where there is a folder; see `Kind.engine`."""
    n_lanes, (n_sets, n_rows, _) = len(data), x.shape
    used, own = np.unique(np.stack([data, fold]), axis=1, return_inverse=True)
    own = own.reshape(-1)
    # A part of n_rows for each: data of like size, whose rows were padded to one number, share a compile.
    starts, lengths = np.zeros((used.shape[1], n_rows), np.int32), np.zeros(used.shape[1], np.int32)
    for number, (which, left) in enumerate(used.T):
        index = n_rows * which + np.flatnonzero(weight[left] > 0)
        starts[number, : len(index)], lengths[number] = index, len(index)
    first = n_rows * np.arange(len(starts), dtype=np.int32)
    windows = Windows(
        jnp.asarray(x.reshape(n_sets * n_rows, -1)),
        # A window's weight is the same in every fold that has it at all.
        jnp.asarray(np.tile(weight.max(axis=0), n_sets)),
        jnp.asarray(starts.reshape(-1)),
        jnp.zeros(0, jnp.int32),
    )
    none = jnp.zeros(n_lanes, jnp.int32)
    hyper = jax.tree.map(lambda value: jnp.broadcast_to(jnp.asarray(value), (n_lanes,)), hyper)
    lanes = Lane(keys, Span(jnp.asarray(first[own]), jnp.asarray(lengths[own])), Span(none, none), hyper)
    domain = np.zeros(n_rows, np.int32) if options.domain is None else options.domain
    table = LaneTable(windows, lanes, Sizes(n_rows, 0), jnp.asarray(np.tile(domain, n_sets), jnp.int32))
    trained = train_lanes(table, config, folder=options.folder, on_epoch=_report(options.on_step))
    losses = np.asarray(trained.losses.train)
    info = FitInfo(losses[-1], np.asarray(trained.state.n_epochs), np.asarray(trained.state.status))
    return Fitted(trained.params, info, losses.T, trained.remarks)


@functools.lru_cache(maxsize=8)  # one function for one listener: the compiled program depends on it
def _report(on_step: Callable[[int, float], None] | None) -> OnEpoch | None:
    if on_step is None:
        return None

    def report(n_epochs: Any, train: Any, validation: Any) -> None:
        running = np.asarray(train)[np.isfinite(train)]
        on_step(len(train), float(running.mean()) if len(running) else float("nan"))

    return report


def _for_clips(config: AutoencoderConfig) -> AutoencoderConfig:
    return replace(config, n_context=1)


def _widen(configs: Sequence[AutoencoderConfig]) -> AutoencoderConfig:
    return replace(configs[0], bottleneck=max(config.bottleneck for config in configs))


def _narrow(config: AutoencoderConfig, hyper: AutoencoderHyper) -> AutoencoderHyper:
    if hyper.width is not None:
        raise SettingsError("set a lane's bottleneck by config.bottleneck alone")
    return hyper._replace(width=config.bottleneck)


def _n_floats(config: Any, d: int, n_train: int, n_test: int) -> int:
    return 2**20  # weights, Adam's moments, activations of a step


KIND = Kind(
    name="autoencoder",
    summary="the dense autoencoder of the DCASE baselines; the score is what it cannot reconstruct",
    config=AutoencoderConfig,
    hyper=AutoencoderHyper,
    make=make_autoencoder,
    axes={"hyper.learning_rate": (1e-3,), "config.bottleneck": (2, 4, 8, 16)},
    calibrate="split",
    # The 2023 baseline floors the logarithm otherwise: log10(max(mel, eps)).
    recipes={
        name: (config, {"floor": "max" if name.startswith("2023") else "add"})
        for name, config in RECIPES.items()
    },
    engine=fit_many,
    for_clips=_for_clips,
    widen=_widen,
    group=in_training,  # a bottleneck is masked down from the widest
    narrow=_narrow,
    adapt=adapt,
    n_floats=_n_floats,
    max_lanes=64,
    remedy="lower learning_rate, or standardize the features",
)
