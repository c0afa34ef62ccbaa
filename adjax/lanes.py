"""Autoencoder lanes over real machines: from clips to one resumable, compiled training of all of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adjax.detectors.autoencoder import (
    AutoencoderConfig,
    AutoencoderHyper,
    AutoencoderParams,
    Lane,
    LaneProgram,
    Losses,
    Sizes,
    Span,
    Strategy,
    TrainState,
    Windows,
    make_lanes,
)
from adjax.detectors.autoencoder.lanes import OnEpoch
from adjax.pipeline import ClipFeatures, domain_of_rows, window_weights
from adjax.store import hold, latest_checkpoint, save_checkpoint
from adjax.types import FitError

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class LaneSpec:
    """One autoencoder of a study.

    Attributes:
        machine_type: whose clips it is trained on.
        machine_id: whose; "": those of all ids of the type.
        width: units of the bottleneck.
        seed: of its initial weights and of the order of its windows.
        learning_rate: of Adam.
        weight_decay: decoupled.
    """

    machine_type: str
    machine_id: str = ""
    width: int = 8
    seed: int = 0
    learning_rate: float = 1e-3
    weight_decay: float = 0.0

    @property
    def name(self) -> str:
        """For folders and figures."""
        machine = " ".join(part for part in (self.machine_type, self.machine_id) if part)
        return f"{machine} width {self.width} seed {self.seed}"


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
        remarks: what was wrong with checkpoints on the way.
    """

    params: AutoencoderParams
    state: TrainState
    losses: Losses
    remarks: tuple[str, ...]


def make_table(
    train: ClipFeatures,
    specs: Sequence[LaneSpec],
    config: AutoencoderConfig,
    *,
    validation: float = 0.1,
    split_seed: int = 0,
) -> LaneTable:
    """Lay the clips out machine after machine, so that a lane is a range of windows; nothing is cut or copied twice.

    Args:
        train: features of normal clips.
        specs: the lanes.
        config: static settings.
        validation: share of the clips of *every* machine that is kept for the validation loss, rounded up; 0: none.
        split_seed: which clips those are.

    Raises:
        FitError: a lane without any training window.
    """
    machines = sorted({(clip.machine_type, clip.machine_id) for clip in train.clips})
    rng = np.random.default_rng(split_seed)
    rows, weights, domains = [train.rows[:0]], [], []
    index: dict[str, list[np.ndarray]] = {"train": [], "validation": []}
    counts: dict[str, list[int]] = {"train": [], "validation": []}
    n_rows = 0
    for machine in machines:
        own = train.where(lambda clip: (clip.machine_type, clip.machine_id) == machine)  # noqa: B023
        starts = window_weights(own.offsets, config.n_context) > 0
        held_out = rng.permutation(len(own.clips))[: int(np.ceil(validation * len(own.clips)))]
        in_validation = np.repeat(np.isin(np.arange(len(own.clips)), held_out), np.diff(own.offsets))
        for name, chosen in (("train", ~in_validation), ("validation", in_validation)):
            index[name].append(n_rows + np.flatnonzero(starts & chosen))
            counts[name].append(len(index[name][-1]))
        rows.append(own.rows)
        weights.append(starts.astype(np.float32))
        domains.append(domain_of_rows(own))
        n_rows += len(own.rows)
    windows = Windows(
        jnp.asarray(np.concatenate(rows)),
        jnp.asarray(np.concatenate(weights)),
        *(jnp.asarray(np.concatenate(index[name]), jnp.int32) for name in ("train", "validation")),
    )
    spans = {name: [_span(spec, machines, counts[name]) for spec in specs] for name in counts}
    for spec, span in zip(specs, spans["train"], strict=True):
        if span[1] == 0:
            raise FitError(
                f"{spec.name} has no training window: give it normal clips of at least {config.n_context} frames, "
                "more than are kept for validation"
            )
    column = lambda name: jnp.array([getattr(spec, name) for spec in specs])  # noqa: E731
    ranges = lambda name: Span(*jnp.array(spans[name], jnp.int32).T)  # noqa: E731
    usual = AutoencoderHyper()
    hyper = AutoencoderHyper(
        column("learning_rate"),
        column("weight_decay"),
        column("width"),
        jnp.full(len(specs), usual.noise),
        jnp.full(len(specs), usual.ridge),
    )
    lanes = Lane(jax.vmap(jax.random.key)(column("seed")), ranges("train"), ranges("validation"), hyper)
    largest = {name: max(length for _, length in spans[name]) for name in spans}
    return LaneTable(windows, lanes, Sizes(**largest), jnp.asarray(np.concatenate(domains)))


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
        on_epoch: see `make_lanes`.

    Raises:
        StoreError: another run is writing into the folder, the folder belongs to other settings or data, or it cannot
            be written.
    """
    program = jit_program(make_lanes(config, table.sizes, lanes=lanes, on_epoch=on_epoch))
    windows, stack = table.windows, table.lanes
    domain = table.domain if config.n_domains > 1 else None
    if folder is None:
        state, losses = program.train(windows, stack, program.init(windows, stack), config.n_epochs)
        jax.block_until_ready(losses)
        return Trained(program.finish(windows, stack, state, domain), state, losses, ())
    with hold(folder):
        template = partial(_template, program, table)
        fingerprint = _fingerprint(table, config, settings or {})
        done = latest_checkpoint(folder / CHECKPOINTS, template, fingerprint)
        none = jnp.zeros((0, *stack.key.shape), windows.x.dtype)
        state, losses = done.state or (program.init(windows, stack), Losses(none, none))
        for start in range(done.epoch, config.n_epochs, epochs_a_checkpoint):
            n_epochs = min(epochs_a_checkpoint, config.n_epochs - start)
            state, news = program.train(windows, stack, state, n_epochs)
            losses = (
                news if losses is None else jax.tree.map(lambda *both: np.concatenate(both), losses, news)
            )
            save_checkpoint(folder / CHECKPOINTS, start + n_epochs, (state, losses), fingerprint)
    return Trained(program.finish(windows, stack, state, domain), state, losses, done.remarks)


def jit_program(program: LaneProgram) -> LaneProgram:
    """Compile each of its functions."""
    init, train, finish, score = program
    return LaneProgram(jax.jit(init), jax.jit(train, static_argnums=3), jax.jit(finish), jax.jit(score))


def score_lanes(
    program: LaneProgram, params: AutoencoderParams, specs: Sequence[LaneSpec], test: ClipFeatures
) -> list[tuple[ClipFeatures, np.ndarray]]:
    """For each lane its machine's test clips, and (n_rows,) the scores of the windows that start at their rows.

    Machines are scored one after another with all of their lanes at once, padded to the rows of the largest: one
    compile for those that have as many lanes.
    """
    found: dict[int, tuple[ClipFeatures, np.ndarray]] = {}
    groups = sorted({(spec.machine_type, spec.machine_id) for spec in specs})
    own = {group: test.where(partial(_is_of, group)) for group in groups}
    longest = max(len(part.rows) for part in own.values())
    for group, part in own.items():
        chosen = np.array(
            [i for i, spec in enumerate(specs) if (spec.machine_type, spec.machine_id) == group]
        )
        rows = jnp.pad(part.rows, ((0, longest - len(part.rows)), (0, 0)))
        scores = np.asarray(program.score(jax.tree.map(lambda leaf: leaf[chosen], params), rows))  # noqa: B023
        found |= {int(i): (part, scores[k, : len(part.rows)]) for k, i in enumerate(chosen)}
    return [found[i] for i in range(len(specs))]


def _is_of(group: tuple[str, str], clip: Any) -> bool:
    return clip.machine_type == group[0] and group[1] in ("", clip.machine_id)


def _span(spec: LaneSpec, machines: list[tuple[str, str]], counts: list[int]) -> tuple[int, int]:
    """First and length of the windows of a lane's machine, or of all of its type (which lie together)."""
    edges = np.concatenate([[0], np.cumsum(counts)]).tolist()
    own = [
        pair
        for machine, pair in zip(machines, pairwise(edges), strict=True)
        if machine[0] == spec.machine_type and spec.machine_id in ("", machine[1])
    ]
    return (own[0][0], own[-1][1] - own[0][0]) if own else (0, 0)


def _template(program: LaneProgram, table: LaneTable, epoch: int) -> tuple[Any, Any]:
    """Shapes and dtypes of a checkpoint after so many epochs."""
    state = jax.eval_shape(program.init, table.windows, table.lanes)
    losses: Any = jax.ShapeDtypeStruct((epoch, *table.lanes.key.shape), table.windows.x.dtype)
    return state, Losses(losses, losses)


def _fingerprint(table: LaneTable, config: AutoencoderConfig, settings: Mapping[str, Any]) -> str:
    """SHA-256 of everything that decides the result."""
    digest = hashlib.sha256(json.dumps([repr(config), settings], sort_keys=True, default=str).encode())
    keyless = table.lanes._replace(key=jax.random.key_data(table.lanes.key))
    for leaf in jax.tree.leaves((table.windows, keyless)):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()
