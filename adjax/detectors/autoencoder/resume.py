"""Training of autoencoders that survives: in pieces, with a checkpoint after each, resumed to the same bits."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adjax.batching import strategy_here
from adjax.detectors.autoencoder.config import AutoencoderConfig
from adjax.detectors.autoencoder.lanes import LaneProgram, OnEpoch, Strategy, make_lanes
from adjax.detectors.autoencoder.residuals import AutoencoderParams
from adjax.detectors.autoencoder.training import Lane, Losses, Sizes, TrainState
from adjax.detectors.autoencoder.windows import Windows
from adjax.store import CHECKPOINTS, hold, latest_checkpoint, save_checkpoint


class LaneTable(NamedTuple):
    """What a study trains on.

    Attributes:
        windows: of all machines.
        lanes: stacked, one a spec.
        sizes: of the largest.
        domain: (n_rows,) int32, 1 for the rows of target-domain clips, else 0.
    """

    windows: Windows
    lanes: Lane
    sizes: Sizes
    domain: Array


class Trained(NamedTuple):
    """A study's end.

    Attributes:
        params: of every lane, stacked.
        state: at the last epoch: `state.status` says which lanes stopped, `state.n_epochs` after which epoch.
        losses: (n_epochs, n_lanes) each.
        remarks: after which epoch it went on, and what was wrong with checkpoints on the way.
    """

    params: AutoencoderParams
    state: TrainState
    losses: Losses
    remarks: tuple[str, ...]


def train_lanes(
    table: LaneTable,
    config: AutoencoderConfig,
    *,
    lanes: Strategy = "auto",
    folder: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    epochs_a_checkpoint: int = 10,
    on_epoch: OnEpoch | None = None,
) -> Trained:
    """Train all lanes, in pieces with a checkpoint after each; go on where an earlier call stopped.

    The same call after a stop at any point gives the same bits on the same machine.

    Args:
        table: what to train on.
        config: static settings.
        lanes: see `make_lanes`.
        folder: for checkpoints; None: none are written.
        settings: whatever else makes this run another one than its neighbour.
        epochs_a_checkpoint: between two checkpoints.
        on_epoch: see `make_lanes`; it also hears of the epochs that an earlier call made.

    Raises:
        StoreError: another run is writing into the folder, the folder belongs to other settings, data or versions,
            or it cannot be written.
    """
    program = _compiled(config, table.sizes, lanes, on_epoch)
    windows, stack = table.windows, table.lanes
    domain = table.domain if config.n_domains > 1 else None
    if folder is None:
        state, losses = program.train(windows, stack, program.init(windows, stack), config.n_epochs)
        jax.block_until_ready(losses)
        return Trained(program.finish(windows, stack, state, domain), state, losses, ())
    with hold(folder):
        template = functools.partial(_template, program, table)
        fingerprint = _fingerprint(table, config, settings or {})
        done = latest_checkpoint(folder / CHECKPOINTS, template, fingerprint)
        none = jnp.zeros((0, *stack.key.shape), windows.x.dtype)
        state, losses = done.state or (program.init(windows, stack), Losses(none, none))
        _repeat(losses, on_epoch)
        for start in range(done.epoch, config.n_epochs, epochs_a_checkpoint):
            n_epochs = min(epochs_a_checkpoint, config.n_epochs - start)
            state, news = program.train(windows, stack, state, n_epochs)
            losses = jax.tree.map(lambda *both: np.concatenate(both), losses, news)
            save_checkpoint(folder / CHECKPOINTS, start + n_epochs, (state, losses), fingerprint)
    went_on = (f"went on after epoch {done.epoch} of {config.n_epochs}",) if done.epoch else ()
    params = program.finish(windows, stack, state, domain)
    return Trained(params, state, losses, (*went_on, *done.remarks))


def jit_program(program: LaneProgram) -> LaneProgram:
    """Compile each of its functions."""
    init, train, finish, score = program
    return LaneProgram(jax.jit(init), jax.jit(train, static_argnums=3), jax.jit(finish), jax.jit(score))


@functools.lru_cache(maxsize=8)
def _compiled(
    config: AutoencoderConfig, sizes: Sizes, lanes: Strategy, on_epoch: OnEpoch | None
) -> LaneProgram:
    """The same program for machines of like size: compiled once."""
    return jit_program(make_lanes(config, sizes, lanes=strategy_here(lanes), on_epoch=on_epoch))


def _repeat(losses: Losses, on_epoch: OnEpoch | None) -> None:
    """Report the epochs that were made before."""
    if on_epoch is None:
        return
    n_epochs = np.cumsum(np.isfinite(losses.train), axis=0, dtype=np.int32)
    for made, *values in zip(n_epochs, losses.train, losses.validation, strict=True):
        on_epoch(made, *values)


def _template(program: LaneProgram, table: LaneTable, epoch: int) -> tuple[Any, Any]:
    """Shapes and dtypes of a checkpoint after so many epochs."""
    state = jax.eval_shape(program.init, table.windows, table.lanes)
    losses: Any = jax.ShapeDtypeStruct((epoch, *table.lanes.key.shape), table.windows.x.dtype)
    return state, Losses(losses, losses)


def _fingerprint(table: LaneTable, config: AutoencoderConfig, settings: Mapping[str, Any]) -> str:
    """SHA-256 of what decides the result: data, settings, versions, device; not of the code itself."""
    versions = [metadata.version(name) for name in ("adjax", "jax", "jaxlib", "flax", "optax")]
    about = [repr(config), settings, versions, jax.devices()[0].device_kind]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode())
    keyless = table.lanes._replace(key=jax.random.key_data(table.lanes.key))
    for leaf in jax.tree.leaves((table.windows, keyless)):
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()
