"""How good each system is, with intervals: AUC and pAUC, and the best kind of each type, which labels name."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adjax.evaluation.device import bootstrap_areas, bootstrap_counts
from adjax.evaluation.metrics import evaluate
from experiments._fusions import KIND, Cell

N_RESAMPLES = 1000
MEAN = "mean of types"
Over = Literal["clips", "machines"]  # what is resampled


class Judged(NamedTuple):
    """AUC and pAUC (the last axis) of a type: first as they are, then of N_RESAMPLES resamples.

    Attributes:
        names: (n_systems,).
        values: (1 + N_RESAMPLES, n_systems, 2) mean over machines and draws.
        oracle: (1 + N_RESAMPLES, 2) of the kind that is best on average over the machines, chosen anew each time.
        each: (1 + N_RESAMPLES, 2) the same with the best kind of each machine, which is partly luck.
        n_train: mean number of training clips of a machine.
    """

    names: tuple[str, ...]
    values: np.ndarray
    oracle: np.ndarray
    each: np.ndarray
    n_train: float


Group = tuple[str, str, int]  # data, machine type (or MEAN), size


def judge(cells: Sequence[Cell], *, over: Over) -> dict[Group, Judged]:
    """Judge every data set, type and size.

    Args:
        cells: of all models.
        over: what is resampled: test clips (normal and anomalous ones apart; the same for all systems, sizes and draws)
            and draws; or machines, where each has few clips.
    """
    groups: dict[Group, list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.data, cell.machine_type, cell.size), []).append(cell)
    found = {group: _judge(own, over) for group, own in groups.items()}
    for data, size in dict.fromkeys((data, size) for data, _, size in found):
        some = [own for group, own in found.items() if group[::2] == (data, size)]
        if len(some) > 1:
            values, oracle, each = (np.mean(own, axis=0) for own in list(zip(*some, strict=True))[1:4])
            n_train = float(np.mean([own.n_train for own in some]))
            found[data, MEAN, size] = Judged(some[0].names, values, oracle, each, n_train)
    return found


def _judge(cells: Sequence[Cell], over: Over) -> Judged:
    names = tuple(cells[0].systems)
    machines = dict.fromkeys(cell.machine for cell in cells)
    areas = [[_areas(cell, over) for cell in cells if cell.machine == machine] for machine in machines]
    # Draws are those of one model, which judges all types; machines are each type's own.
    rng = np.random.default_rng(0 if over == "clips" else zlib.crc32(cells[0].machine_type.encode()))
    if over == "clips":
        n_draws = max(map(len, areas))
        drawn = rng.integers(n_draws, size=(N_RESAMPLES, n_draws))  # the same for machines of one model
        values = np.stack([_over_draws(np.stack(own, axis=1), drawn) for own in areas], axis=1)
    else:
        mean = np.concatenate([np.mean(own, axis=0) for own in areas])
        drawn = rng.integers(len(mean), size=(N_RESAMPLES, len(mean)))
        values = np.concatenate([mean[None], mean[drawn]])
    kinds = [i for i, name in enumerate(names) if name.startswith(KIND)]
    oracle = values.mean(axis=1)[:, kinds].max(axis=1)
    each = values[:, :, kinds].max(axis=2).mean(axis=1)
    n_train = float(np.mean([cell.n_train for cell in cells]))
    return Judged(names, values.mean(axis=1), oracle, each, n_train)


def _over_draws(areas: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """(1 + N_RESAMPLES, n_systems, 2) of (1 + N_RESAMPLES, n_draws, n_systems, 2)."""
    rows, drawn = np.arange(len(drawn))[:, None], drawn % areas.shape[1]  # a machine may have failed in some
    return np.concatenate([areas[:1].mean(axis=1), areas[1:][rows, drawn].mean(axis=1)])


def areas_of_clips(cell: Cell) -> np.ndarray:
    """(1 + N_RESAMPLES, n_systems, 2) AUC and pAUC of one machine, in resamples of its clips."""
    return _areas(cell, "clips")


def _areas(cell: Cell, over: Over) -> np.ndarray:
    """(1 + n_resamples, n_systems, 2) of one machine; without resamples where machines are resampled."""
    ranks = [
        np.unique(scores, return_inverse=True)[1] for scores in cell.systems.values()
    ]  # exact in float32
    n = N_RESAMPLES if over == "clips" else 0
    key = jax.random.key(
        zlib.crc32(f"{cell.machine_type} {cell.machine}".encode())
    )  # its own clips, in all cells
    return np.asarray(_all_areas(key, np.stack(ranks).astype(np.float32), cell.labels, n_resamples=n))


@partial(jax.jit, static_argnames="n_resamples")
def _all_areas(key: Array, scores: Array, labels: Array, *, n_resamples: int) -> Array:
    weight = jnp.asarray(labels >= 0, jnp.float32)
    counts = weight[None]
    if n_resamples:
        counts = jnp.concatenate([counts, bootstrap_counts(key, labels, weight, n_resamples)])
    areas = jax.lax.map(lambda own: jnp.stack(bootstrap_areas(own, labels, counts), axis=-1), scores)
    return jnp.swapaxes(areas, 0, 1)


def areas_of(cell: Cell, fault: str = "") -> dict[str, tuple[float, float]]:
    """AUC and pAUC of each system, of all anomalies or of those with one fault."""
    chosen = (cell.faults == fault) | (cell.labels == 0) if fault else np.ones(len(cell.labels), bool)
    found = {name: evaluate(cell.labels[chosen], own[chosen]) for name, own in cell.systems.items()}
    return {name: (own.auc, own.pauc) for name, own in found.items() if own}
