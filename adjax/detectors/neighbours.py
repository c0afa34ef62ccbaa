"""Nearest neighbours: how far a clip is from the normal clips of its machine, one vector for each clip.

Columns in any units are first scaled by what the normal clips of the type say (`adjax.detectors.robust`): each is
centred on its machine's median and divided by a robust deviation, the machine's own, drawn towards that within all
machines of the type, which few clips need. Deviations beyond `knee` go on as a logarithm, so that one column with
heavy tails does not outweigh all others. Then a clip is compared with every clip of its machine, the references, and
the space around each of those counts, too (`adjax.detectors.local_density`).

Where the defaults come from: `mates` from normal clips alone, as empirical Bayes has it: the logarithm of a robust
scale differs between machines of a type with a variance of .23 to .32 (real slide rails and fans), and that of 8 clips
errs by .29 to .32, so that 7 to 10 clips weigh as much as the mates. `knee` is where a normal distribution all but
ends. The ratio and its K are published; the labels of three tables of real vectors were looked at twice, with all
metrics and rescalings beside each other. There the ratio gained most pAUC, and the two metrics differed little.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from adjax.batching import map_clips
from adjax.checks import check_fields, check_number, unit_weights
from adjax.detectors.local_density import Metric, References, Rescale, halved, make_references, nearness
from adjax.detectors.robust import median, scale
from adjax.types import CONVERGED, NOT_FINITE, AnyArray, Detector, FitInfo, Kind, Training

MACHINES_AT_ONCE = 16  # on an accelerator, whose distances between references exist together


@dataclass(frozen=True)
class NeighboursConfig:
    """Static settings: each value is one compile.

    Attributes:
        metric: D, of two scaled clips: "euclidean", the root mean square of their differences over the columns, or
            "cosine", (1 - cos) / 2 of the angle that they have seen from the centre of the type.
        rescale: how D is measured by the space around each reference: "none", by "ratio" or by "variance".
        n_neighbours: the score is the mean of that many smallest (rescaled) distances.
        n_local: K, of the space around a reference; where there are fewer references, all of them.
    """

    metric: Metric = "euclidean"
    rescale: Rescale = "ratio"
    n_neighbours: int = 1
    n_local: int = 4


class NeighboursHyper(NamedTuple):
    """Traced settings.

    Attributes:
        density: in [0, 1], how much of the space around a reference counts: D / b^density, or D - density * alpha * b;
            0 is rescale "none".
        mates: >= 0, as many clips the scale within all machines of the type counts in a machine's own; 0: not at all.
        knee: > 0, robust standard deviations of a column beyond which deviations count as their logarithm.
    """

    density: Any = 1.0
    mates: Any = 8.0
    knee: Any = 3.0


class Bank(NamedTuple):
    """One machine's references, and what a clip goes through before it is compared with them.

    Attributes:
        centre: (d,) float, median of the machine's clips.
        factor: (d,) float >= 0, what deviations are multiplied by; 0: a constant column.
        origin: (d,) float, where the machine's centre lies, scaled, as seen from the type's; 0 for "euclidean".
        knee: () float.
        references: the machine's clips, scaled; room for as many as the largest machine has.
    """

    centre: AnyArray
    factor: AnyArray
    origin: AnyArray
    knee: AnyArray
    references: References


def make_neighbours(
    config: NeighboursConfig = NeighboursConfig(),
    hyper: NeighboursHyper = NeighboursHyper(),
) -> Detector:
    """Build the detector.

    It takes one row for each clip, of any numbers. A fit must see all machines of a type. A machine with fewer
    references than `least_clips`, or whose columns are all constant, has the status NOT_FINITE; so have all machines of
    the type if a row or a traced setting is not finite or out of its range. Parameters are a `Bank`, leaves
    (n_machines, ...).

    Raises:
        SettingsError: a setting out of its range.
    """
    check_fields(config)
    for name in ("n_neighbours", "n_local"):
        check_number(name, getattr(config, name), low=1, whole=True)
    check_number("density", hyper.density, low=0, high=1)
    check_number("mates", hyper.mates, low=0)
    check_number("knee", hyper.knee, above=0)
    space: Any = {"rescale": config.rescale, "n_local": config.n_local}
    score_by: Any = {"metric": config.metric, "n_neighbours": config.n_neighbours}

    def fit(key: Array, training: Training, hyper: NeighboursHyper = hyper) -> tuple[Bank, FitInfo]:
        rows, present = _by_machine(training)
        usable = jnp.all(jnp.isfinite(rows)) & _in_range(hyper)
        centre = map_clips(lambda own: median(*own), (rows, present), batch_size=MACHINES_AT_ONCE)
        residual = jnp.where(present[:, :, None], rows - centre[:, None, :], 0)
        factor = _factors(residual, present, centre, jnp.asarray(hyper.mates, rows.dtype))
        origin = jnp.zeros_like(centre)
        if config.metric == "cosine":
            some = present.any(axis=1)
            middle = jnp.sum(jnp.where(some[:, None], centre / jnp.maximum(some.sum(), 1), 0), axis=0)
            origin = (centre - middle[None, :]) * factor
        knee = jnp.full(len(rows), jnp.asarray(hyper.knee, rows.dtype))
        clips = jax.vmap(functools.partial(_place, config))(residual, factor, origin, knee)
        density = jnp.asarray(hyper.density, rows.dtype)

        def measured(own: tuple[Array, Array]) -> References:
            return make_references(own[0], own[1], density, **score_by, **space)

        references = map_clips(measured, (clips, present), batch_size=MACHINES_AT_ONCE)
        bank = Bank(centre, factor, origin, knee, references)
        good = usable & (present.sum(axis=1) >= least_clips(config)) & (factor > 0).any(axis=1)
        for leaf in jax.tree.leaves(bank):
            good &= jnp.isfinite(leaf).reshape(len(rows), -1).all(axis=1)
        status = jnp.where(good, CONVERGED, NOT_FINITE).astype(jnp.int32)
        nothing = jnp.full(len(rows), jnp.nan, rows.dtype)  # no objective: nothing is searched
        return bank, FitInfo(nothing, jnp.ones(len(rows), jnp.int32), status)

    def score(params: Bank, machine: Array, rows: Array, weight: Array) -> Array:
        own = jax.tree.map(lambda leaf: leaf[machine], params)
        clip = _place(config, rows[:1] - own.centre[None, :], own.factor, own.origin, own.knee)
        value = nearness(own.references, clip[0], **score_by)
        return jnp.where(weight[0] > 0, value, jnp.nan)[None]

    return Detector(fit, score, (KIND.name,), hyper)


def least_clips(config: NeighboursConfig) -> int:
    """References that a machine needs: those that are averaged, and a second one that says how far apart they lie."""
    return max(2, config.n_neighbours)


def _in_range(hyper: NeighboursHyper) -> Array:
    density, mates, knee = map(jnp.asarray, hyper)
    finite = jnp.isfinite(mates) & jnp.isfinite(knee)
    return (density >= 0) & (density <= 1) & (mates >= 0) & (knee > 0) & finite


def _by_machine(training: Training) -> tuple[Array, Array]:
    """(n_machines, n, d) rows, 0 where there is none, and (n_machines, n) bool where there is one."""
    n_machines, n_rows = training.seed.shape[0], training.rows.shape[0]
    members = training.members
    if members is None:
        members = jnp.broadcast_to(jnp.arange(n_rows), (n_machines, n_rows))
    weight = unit_weights(training.weight).at[members].get(mode="fill", fill_value=0)
    owner = training.machine[training.clip].at[members].get(mode="fill", fill_value=-1)
    present = (weight > 0) & (owner == jnp.arange(n_machines)[:, None])
    rows = training.rows.at[members].get(mode="fill", fill_value=0)
    return jnp.where(present[:, :, None], rows, 0), present


def _factors(residual: Array, present: Array, centre: Array, mates: Array) -> Array:
    """(n_machines, d) what deviations are multiplied by.

    A column that moves in no machine is left out, by a factor of 0: no unit says how far from its only value is far.
    """
    own = map_clips(lambda one: scale(*one), (residual, present, centre), batch_size=MACHINES_AT_ONCE)
    count = present.sum(axis=1).astype(own.dtype)[:, None]
    size = jnp.max(jnp.where(count > 0, jnp.abs(centre), 0), axis=0)
    pooled = scale(residual.reshape(-1, residual.shape[2]), present.reshape(-1), size)
    share = mates / jnp.maximum(count + mates, 1)
    found = (1 - share) * own + share * pooled[None, :]
    moves = found > 0
    return jnp.where(moves, 1 / jnp.where(moves, found, 1), 0)


def _place(config: NeighboursConfig, residual: Array, factor: Array, origin: Array, knee: Array) -> Array:
    """(n, d) deviations from the machine's centre -> (n, d) vectors whose distances are those of the metric."""
    z = knee * jnp.arcsinh(residual * factor[None, :] / knee)
    if config.metric == "euclidean":
        return z / jnp.sqrt(jnp.maximum(jnp.sum(factor > 0), 1).astype(z.dtype))
    return halved(z + origin[None, :])


KIND = Kind(
    name="neighbours",
    summary="distance to the nearest normal clips of the machine, measured by how far those lie apart",
    config=NeighboursConfig,
    hyper=NeighboursHyper,
    make=make_neighbours,
    rows="pooled",
    scope="type",
    least=least_clips,
)
