"""Training from the host: batches are gathered there, so that no second copy of the waves exists; with checkpoints."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from contextlib import nullcontext
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adjax.detectors.network.config import NetworkConfig, NetworkHyper
from adjax.detectors.network.detector import Clips, NetworkParams, clips_of, finish, info_of, own_key
from adjax.detectors.network.network import Weights, embed
from adjax.detectors.network.training import (
    TrainState,
    batch_size_of,
    end_epoch,
    init_state,
    plan_epoch,
    plan_step,
    train_step,
)
from adjax.store import CHECKPOINTS, hold, latest_checkpoint, save_checkpoint
from adjax.types import NOT_FINITE, EngineOptions, FitError, FitInfo, Fitted, Training

_TOGETHER = 16  # clips whose vectors are computed in one call

_init = jax.jit(init_state, static_argnums=(0, 4))
_plan_epoch = jax.jit(plan_epoch, static_argnums=0)
_plan_step = jax.jit(plan_step, static_argnums=(0, 4))
_train_step = jax.jit(train_step, static_argnums=0)
_end_epoch = jax.jit(end_epoch)
_embed = jax.jit(embed, static_argnums=0)
finish_here = jax.jit(finish, static_argnums=(0, 1))


def fit_all(
    config: NetworkConfig,
    keys: Array,
    training: Training,
    weight: np.ndarray,
    hyper: NetworkHyper,
    options: EngineOptions,
) -> Fitted:
    """One training after another, each on the clips of its `weight` (n_lanes, n_rows); see `Kind.fit_all`.

    Raises:
        FitError: fewer than two machines, or a training without a clip.
        StoreError: see `adjax.store.latest_checkpoint`; or the folder cannot be written.
    """
    if len(training.seed) < 2:
        raise FitError(
            "the network learns to tell machines apart, and there is one only: it needs normal clips of at least two "
            "machines; take another model for a lone one"
        )
    found = []
    for lane, (key, own) in enumerate(zip(keys, weight, strict=True)):
        folder = options.folder / f"lane_{lane}" if options.folder and lane else options.folder
        found.append(_fit(config, key, training._replace(weight=own), hyper, options._replace(folder=folder)))
    params, info, losses, remarks = zip(*found, strict=True)
    params, info = (jax.tree.map(lambda *leaves: np.stack(leaves), *each) for each in (params, info))
    return Fitted(params, info, np.stack(losses), tuple(remark for one in remarks for remark in one))


def _fit(
    config: NetworkConfig, key: Array, training: Training, hyper: NetworkHyper, options: EngineOptions
) -> tuple[NetworkParams, FitInfo, np.ndarray, tuple[str, ...]]:
    """One training: parameters, how it ended, (n_epochs,) losses, remarks."""
    clips: Clips = jax.tree.map(
        np.asarray, clips_of(training._replace(rows=np.zeros((0, training.rows.shape[1]))))
    )
    taken = clips.length > 0
    if not taken.any():
        raise FitError("the network has no clip to train on: add normal clips")
    hyper = jax.tree.map(jnp.float32, hyper)
    key = own_key(key, jnp.asarray(training.seed))
    waves_of = functools.partial(waves_of_clips, config, training.rows, clips)
    state = _init(config, key, jnp.asarray(training.seed), hyper, jnp.dtype(jnp.float32))
    losses = np.zeros(0, np.float32)
    done = 0
    remarks: tuple[str, ...] = ()
    with hold(options.folder) if options.folder else nullcontext():
        place = options.folder / CHECKPOINTS if options.folder else None
        fingerprint = _fingerprint(config, key, training, hyper) if place else ""
        if place:
            found = latest_checkpoint(place, functools.partial(_template, state), fingerprint)
            done, remarks = found.epoch, found.remarks
            state, losses = found.state or (state, losses)
            _repeat(losses, options.on_step)
        for epoch in range(done, config.n_epochs):
            state, loss = train_epoch(config, key, state, hyper, clips, waves_of)
            losses = np.append(losses, np.float32(loss))
            if options.on_step:
                options.on_step(1, float(loss))
            if place:
                save_checkpoint(place, epoch + 1, (state, losses), fingerprint)
            if int(state.status) == NOT_FINITE:
                losses = np.pad(losses, (0, config.n_epochs - len(losses)), constant_values=np.nan)
                break
    vectors, most = vectors_of(config, state.weights, clips, waves_of), int(np.bincount(clips.machine).max())
    params = finish_here(config, most, state.weights, vectors, clips, jnp.asarray(training.seed))
    went_on = (f"went on after epoch {done} of {config.n_epochs}",) if done else ()
    return params, info_of(state, losses[-1], len(training.seed)), losses, (*went_on, *remarks)


def train_epoch(
    config: NetworkConfig,
    key: Array,
    state: TrainState,
    hyper: NetworkHyper,
    clips: Clips,
    waves_of: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> tuple[TrainState, Array]:
    """One epoch, and the mean loss of its clips; `waves_of` gives (n, n_samples) of clips, each from a start on."""
    plan = _plan_epoch(config, key, state.n_epochs, clips.length > 0)
    n_taken, size = int(plan.n_taken), batch_size_of(config, int(plan.n_taken))
    before, total = state, np.zeros((), np.float32)
    for number in range(int(plan.n_steps)):
        batch = _plan_step(config, plan, number, clips.length, size)
        clip = np.asarray(batch.clip)
        state, loss = _train_step(
            config, state, hyper, waves_of(clip, np.asarray(batch.start)), clips.machine[batch.clip], batch
        )
        total += (
            np.asarray(loss) * np.asarray(batch.mask).sum()
        )  # waits: one batch in memory, and Ctrl-C is heard
    return _end_epoch(before, state, total / n_taken)


def vectors_of(
    config: NetworkConfig,
    weights: Weights,
    clips: Clips,
    waves_of: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """(n_clips, 2 width) of the beginnings of all clips; 0 of those that are held out."""
    found = np.zeros((len(clips.length), 2 * config.width), np.float32)
    taken = np.flatnonzero(clips.length > 0)
    for start in range(0, len(taken), _TOGETHER):
        some = taken[start : start + _TOGETHER]
        padded = np.pad(some, (0, _TOGETHER - len(some)), mode="edge")
        vectors = _embed(config, weights, waves_of(padded, np.zeros_like(padded)))
        found[some] = np.asarray(vectors)[: len(some)]
    return found


def waves_of_clips(
    config: NetworkConfig, rows: np.ndarray, clips: Clips, clip: np.ndarray, start: np.ndarray
) -> np.ndarray:
    """(n, n_samples) float32 of clips, each from its start on, repeated where it is shorter."""
    found = np.empty((len(clip), config.n_samples), np.float32)
    for wave, i, begin in zip(found, clip.tolist(), start.tolist(), strict=True):
        own = rows[clips.first[i] : clips.first[i] + clips.length[i] // rows.shape[1]].reshape(-1)
        if begin + config.n_samples <= len(own):
            wave[:] = own[begin : begin + config.n_samples]
        else:
            np.take(own, begin + np.arange(config.n_samples), mode="wrap", out=wave)
    return found


def _repeat(losses: np.ndarray, on_step: Callable[[int, float], None] | None) -> None:
    """Report the epochs that were made before."""
    if on_step:
        for loss in losses.tolist():
            on_step(1, loss)


def _template(state: TrainState, epoch: int) -> tuple[Any, Any]:
    """Shapes and dtypes of a checkpoint after so many epochs."""
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
    return shapes, jax.ShapeDtypeStruct((epoch,), np.float32)


def _fingerprint(config: NetworkConfig, key: Array, training: Training, hyper: NetworkHyper) -> str:
    """SHA-256 of what decides the result: data, settings, versions, device; not of the code itself."""
    versions = [metadata.version(name) for name in ("adjax", "jax", "jaxlib", "flax", "optax")]
    about = [repr(config), versions, jax.devices()[0].device_kind]
    digest = hashlib.sha256(json.dumps(about).encode())
    for leaf in jax.tree.leaves((jax.random.key_data(key), hyper, training)):
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()
