"""Which columns of clips' vectors are worth looking at: weights from normal clips of several machines, without labels.

A column is a log-mel band of a view, or any number of a vector. Each criterion gives one weight >= 0 for each column, 0
for one that is constant, and knows nothing but whose each normal clip is, and their order. Columns may be in any unit:
they are first made alike (`alike`), as `adjax.detectors.identity` does. Weights that are learnt by gradient are in
`adjax.model.gates`, and what all of this is worth is in `experiments/feature_selection.py`.

Below, of one column, with every machine counting the same: `within` is the variance of a clip about the mean of its
block of consecutive clips, `drift` that of a machine's block means, less what chance gives them, and `between` that of
the machines' means.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adjax.checks import check_number
from adjax.detectors.identity import fit_columns, squash
from adjax.detectors.products import times
from adjax.types import SettingsError

MATES = 8.0  # as many clips the variance of all machines counts in a machine's own
FLOOR = 1e-4  # of variances, of columns that are alike: a column that one machine holds constant is worth no infinity


class Spreads(NamedTuple):
    """Variances of each column, all (d,) float >= 0; see the module."""

    within: Array
    drift: Array
    between: Array


def alike(rows: Array, machine: Array, *, n_machines: int) -> Array:
    """Columns of one scale: deviations in spreads within machines, and beyond 2 of them as logarithms.

    Args:
        rows: (n_clips, d) float, one row for each normal clip, in any units.
        machine: (n_clips,) int in [0, n_machines), whose each clip is; every machine has one.
        n_machines: static.

    Returns:
        (n_clips, d); 0 where a column is constant.
    """
    columns = fit_columns(rows, machine, jnp.ones(len(rows), rows.dtype), n_machines)
    return squash(columns, rows)


def spreads(rows: Array, machine: Array, *, n_machines: int, n_blocks: int = 5) -> Spreads:
    """What varies from clip to clip, from time to time and from machine to machine.

    Args:
        rows: see `alike`; the clips of a machine in the order in which they were recorded.
        machine: see `alike`.
        n_machines: static.
        n_blocks: of consecutive clips, as even as can be; at least 2. Static.

    Raises:
        SettingsError: fewer blocks.
    """
    check_number("n_blocks", n_blocks, low=2, whole=True)
    x = alike(rows, machine, n_machines=n_machines)
    own = jax.nn.one_hot(machine, n_machines, dtype=x.dtype)
    place = jnp.sum((jnp.cumsum(own, axis=0) - 1) * own, axis=1)
    block = jnp.floor(place * n_blocks / own.sum(axis=0)[machine]).astype(jnp.int32)
    member = jax.nn.one_hot(machine * n_blocks + block, n_machines * n_blocks, dtype=x.dtype)
    count = member.sum(axis=0)
    some = count > 0
    means = times(member.T, x) / jnp.maximum(count, 1)[:, None]
    residual = x - times(member, means)
    each = (n_machines, n_blocks, -1)
    freedom = jnp.maximum((count - some).reshape(n_machines, n_blocks).sum(axis=1), 1)
    within = times(member.T, residual**2).reshape(each).sum(axis=1) / freedom[:, None]
    held = some.reshape(n_machines, n_blocks, 1)
    n_held = held.sum(axis=1)
    centre = jnp.where(held, means.reshape(each), 0).sum(axis=1) / n_held
    moved = jnp.where(held, means.reshape(each) - centre[:, None], 0)
    chance = (held / jnp.maximum(count, 1).reshape(n_machines, n_blocks, 1)).sum(axis=1) / n_held
    drift = jnp.sum(moved**2, axis=1) / jnp.maximum(n_held - 1, 1) - within * chance
    between = jnp.var(centre, axis=0) * n_machines / max(n_machines - 1, 1)
    return Spreads(within.mean(axis=0), jnp.maximum(drift, 0).mean(axis=0), between)


def steadiness(found: Spreads) -> Array:
    """(d,) in [0, 1]: within / (within + drift), 1 for a column that does not drift; one machine will do."""
    return _share(found.within, found.drift)


def separation(found: Spreads) -> Array:
    """(d,) in [0, 1): between / (between + within + drift): Fisher's ratio F as F / (1 + F), drift being in the way."""
    return _share(found.between, found.within + found.drift)


def _share(one: Array, other: Array) -> Array:
    total = one + other
    return jnp.where(total > 0, one / jnp.where(total > 0, total, 1), 0)


def likelihood_gain(rows: Array, machine: Array, *, n_machines: int, n_folds: int = 5) -> Array:
    """How many nats held-out clips gain, in each column, by the Gaussian of their machine over that of all machines.

    Every n-th clip is a fold. The other folds give each machine a mean and a variance, in which that of all machines
    counts as `MATES` clips, and all of them together another Gaussian.

    Args:
        rows: see `alike`.
        machine: see `alike`.
        n_machines: static.
        n_folds: at least 2; static.

    Returns:
        (n_machines, d) mean log p_own - log p_all of held-out clips, of either sign. Its mean over machines, and 0
        where that is negative, is a weight.

    Raises:
        SettingsError: fewer folds.
    """
    own = jax.nn.one_hot(machine, n_machines, dtype=rows.dtype)
    logs = held_out_logs(rows, machine, n_machines=n_machines, n_folds=n_folds)
    gain = jnp.take_along_axis(logs[:, :-1], machine[:, None, None], axis=1)[:, 0] - logs[:, -1]
    return times(own.T, gain) / own.sum(axis=0)[:, None]


def held_out_logs(rows: Array, machine: Array, *, n_machines: int, n_folds: int = 5) -> Array:
    """(n_clips, n_machines + 1, d) log densities of held-out clips: by the Gaussian of each machine, and of all; nats.

    Arguments as of `likelihood_gain`.
    """
    check_number("n_folds", n_folds, low=2, whole=True)
    x = alike(rows, machine, n_machines=n_machines)
    own = jax.nn.one_hot(machine, n_machines, dtype=x.dtype)
    place = jnp.sum((jnp.cumsum(own, axis=0) - 1) * own, axis=1).astype(jnp.int32)
    fold = place % n_folds

    def judged(number: Array) -> Array:
        kept = own * (fold != number)[:, None]
        count = jnp.maximum(kept.sum(axis=0), 1)
        means = times(kept.T, x) / count[:, None]
        squares = times(kept.T, (x - means[machine]) ** 2)
        within = squares.sum(axis=0) / count.sum()
        variances = (squares + MATES * within[None]) / (count + MATES)[:, None]
        centre = times((kept / count[None]).sum(axis=1)[None], x)[0] / n_machines
        spread = jnp.mean(squares / count[:, None] + (means - centre[None]) ** 2, axis=0)
        means = jnp.concatenate([means, centre[None]])
        variances = jnp.concatenate([variances, spread[None]]) + FLOOR
        squares = (x[:, None, :] - means[None]) ** 2 / variances[None]
        return -0.5 * (squares + jnp.log(variances)[None] + math.log(2 * math.pi))

    def add(total: Array, number: Array) -> tuple[Array, None]:
        return jnp.where((fold == number)[:, None, None], judged(number), total), None

    start = jnp.zeros((len(x), n_machines + 1, x.shape[1]), x.dtype)
    return jax.lax.scan(add, start, jnp.arange(n_folds))[0]


def principal(rows: Array, machine: Array, *, n_machines: int, n_kept: int) -> Array:
    """(d,) in [0, 1]: how much of a column the first components of what varies within machines hold, as a reference.

    Args:
        rows: see `alike`.
        machine: see `alike`.
        n_machines: static.
        n_kept: components; static.
    """
    z = _residual(alike(rows, machine, n_machines=n_machines), machine, n_machines)
    scale = jnp.sqrt(jnp.sum(z**2, axis=0))
    z = z / jnp.where(scale > 0, scale, 1)[None]
    values, vectors = jnp.linalg.eigh(times(z.T, z))
    return jnp.sum(jnp.maximum(values, 0)[None, -n_kept:] * vectors[:, -n_kept:] ** 2, axis=1)


def variance(rows: Array, machine: Array, *, n_machines: int) -> Array:
    """(d,) that within machines, in the columns' own squared units, as a reference."""
    return jnp.mean(_residual(rows, machine, n_machines) ** 2, axis=0)


def _residual(x: Array, machine: Array, n_machines: int) -> Array:
    own = jax.nn.one_hot(machine, n_machines, dtype=x.dtype)
    means = times(own.T, x - x[:1]) / own.sum(axis=0)[:, None]
    return x - x[:1] - means[machine]


def over_groups(weights: np.ndarray, group: np.ndarray) -> np.ndarray:
    """(d,) the mean weight of each column's group, such as all views of a band.

    Args:
        weights: (d,) float.
        group: (d,) int >= 0.
    """
    total, count = np.bincount(group, weights), np.bincount(group)
    return (total / np.maximum(count, 1))[group]


def keep(weights: np.ndarray, share: float) -> np.ndarray:
    """(n_kept,) places of the columns with the largest weights, ascending; of equal ones the first.

    Args:
        weights: (d,) float >= 0.
        share: of the columns, in (0, 1]; at least one is kept, and none of weight 0.

    Raises:
        SettingsError: a share out of range, weights that are not finite, or not one above 0.
    """
    check_number("share", share, above=0, high=1)
    weights = np.asarray(weights)
    if not np.isfinite(weights).all():
        raise SettingsError("weights of columns are not finite: take columns and clips that are")
    n_some = int((weights > 0).sum())
    if not n_some:
        raise SettingsError("no column has a weight above 0: all of them are constant, or tell nothing")
    order = np.argsort(-weights, kind="stable")
    return np.sort(order[: min(max(1, round(share * len(weights))), n_some)])
