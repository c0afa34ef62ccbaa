"""Nearest neighbours: how far a clip is from the normal clips of its machine, one vector for each clip.

Every column is made normal by a map of the machine's own (`adjax.detectors.marginals`), so that neither its unit nor
its tails matter. Then a clip is compared with every clip of its machine, the references, and the space around each of
those counts, too (`adjax.detectors.local_density`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adjax.batching import map_clips
from adjax.checks import check_fields, check_number
from adjax.detectors.local_density import Metric, References, Rescale, halved, make_references, nearness
from adjax.detectors.marginals import Marginals, Shape, fit_marginals, to_scores
from adjax.detectors.rows import by_machine
from adjax.types import CONVERGED, NOT_FINITE, AnyArray, Detector, FitInfo, Kind, Training

MACHINES_AT_ONCE = 16  # on an accelerator, whose distances between references exist together
LEAST = 1e-6  # distance, so that a copy of a normal clip has a logarithm


@dataclass(frozen=True)
class NeighboursConfig:
    """Static settings: each value is one compile.

    Attributes:
        metric: D, of two clips: "euclidean", the root mean square of their differences over the columns, or
            "cosine", (1 - cos) / 2 of the angle that they have seen from the centre of the type.
        rescale: how D is measured by the space around each reference: "none", by "ratio" or by "variance".
        n_neighbours: the score is the mean of that many smallest (rescaled) distances.
        n_local: K, of the space around a reference; where there are fewer references, all of them.
        marginals: columns are made "normal" first, or only centred and scaled: "linear".
    """

    metric: Metric = "euclidean"
    rescale: Rescale = "ratio"
    n_neighbours: int = 1
    n_local: int = 4
    marginals: Shape = "normal"


class NeighboursHyper(NamedTuple):
    """Traced settings.

    Attributes:
        density: in [0, 1], how much of the space around a reference counts: D / b^density, or D - density * alpha * b;
            0 is rescale "none".
        mates: >= 0, as many clips the deviation within all machines of the type counts in a machine's own.
    """

    density: Any = 1.0
    mates: Any = 8.0


class Bank(NamedTuple):
    """One machine's references, and what a clip goes through before it is compared with them.

    Attributes:
        marginals: what its columns go through.
        origin: (d,) float, where the machine's centre lies as seen from the type's; 0 for "euclidean".
        references: the machine's clips, placed; room for as many as the largest machine has.
    """

    marginals: Marginals
    origin: AnyArray
    references: References


def make_neighbours(
    config: NeighboursConfig = NeighboursConfig(),
    hyper: NeighboursHyper = NeighboursHyper(),
) -> Detector:
    """Build the detector.

    It takes one row for each clip, of any numbers; a score is the logarithm of the nearest distance (of rescale
    "variance" it is as it comes, for it may be negative). A fit must see all machines of a type. A machine with fewer
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

    def fit(key: Array, training: Training, hyper: NeighboursHyper = hyper) -> tuple[Bank, FitInfo]:
        rows, present = by_machine(training)
        mates = jnp.asarray(hyper.mates, rows.dtype)
        marginals, _ = fit_marginals(rows, present, mates, shape=config.marginals)
        middle = _middle(marginals.centre, present)
        return _banks(config, hyper, marginals, rows, present, middle, least_clips(config))

    def score(params: Bank, machine: Array, rows: Array, weight: Array) -> Array:
        own = jax.tree.map(lambda leaf: leaf[machine], params)
        clip = _placed(config, to_scores(own.marginals, rows[:1]), own.origin)
        value = nearness(own.references, clip[0], metric=config.metric, n_neighbours=config.n_neighbours)
        if config.rescale != "variance":
            value = jnp.log(jnp.maximum(value, LEAST))
        return jnp.where(weight[0] > 0, value, jnp.nan)[None]

    return Detector(fit, score, (KIND.name,), hyper)


def adapt_neighbours(
    config: NeighboursConfig,
    hyper: NeighboursHyper,
    key: Array,
    params: Bank,
    memory: Training,
    new: Training,
) -> tuple[Bank, FitInfo]:
    """The bank of one new machine, as the fit of all machines would have it; see `Kind.adapt`.

    Its own clips are the references; what their columns look like they learn from the mates' kept clips, too.
    """
    rows, present = by_machine(memory)
    mates = jnp.asarray(hyper.mates, rows.dtype)
    theirs, agreed = fit_marginals(rows, present, mates, shape=config.marginals)
    here, own = by_machine(new)
    marginals, _ = fit_marginals(here, own, mates, shape=config.marginals, known=agreed)
    centres = jnp.concatenate([theirs.centre, marginals.centre])
    middle = _middle(centres, jnp.concatenate([present.any(axis=1), own.any(axis=1)])[:, None])
    # One clip will do for a machine that has no more: the distance to it is then measured by nothing.
    return _banks(config, hyper, marginals, here, own, middle, config.n_neighbours)


def _middle(centre: Array, present: Array) -> Array:
    """(d,) mean of the machines' centres."""
    some = present.any(axis=1)[:, None]
    return jnp.sum(jnp.where(some, centre / jnp.maximum(some.sum(), 1), 0), axis=0)


def _banks(
    config: NeighboursConfig,
    hyper: NeighboursHyper,
    marginals: Marginals,
    rows: Array,
    present: Array,
    middle: Array,
    least: int,
) -> tuple[Bank, FitInfo]:
    """The machines' references, and how their fits ended."""
    origin = jnp.zeros_like(marginals.centre)
    if config.metric == "cosine":
        origin = (marginals.centre - middle[None, :]) * marginals.factor

    def place(own: tuple[Marginals, Array, Array]) -> Array:
        return _placed(config, to_scores(own[0], own[1]), own[2])

    clips = jax.lax.map(place, (marginals, rows, origin))
    density = jnp.asarray(hyper.density, rows.dtype)

    def measured(own: tuple[Array, Array]) -> References:
        return make_references(
            own[0],
            own[1],
            density,
            metric=config.metric,
            rescale=config.rescale,
            n_neighbours=config.n_neighbours,
            n_local=config.n_local,
        )

    references = map_clips(measured, (clips, present), batch_size=MACHINES_AT_ONCE)
    bank = Bank(marginals, origin, references)
    good = jnp.all(jnp.isfinite(rows)) & _in_range(hyper)
    good &= (present.sum(axis=1) >= least) & (marginals.factor > 0).any(axis=1)
    for leaf in jax.tree.leaves(bank):
        good &= jnp.isfinite(leaf).reshape(len(rows), -1).all(axis=1)
    status = jnp.where(good, CONVERGED, NOT_FINITE).astype(jnp.int32)
    nothing = jnp.full(len(rows), jnp.nan, rows.dtype)  # no objective: nothing is searched
    return bank, FitInfo(nothing, jnp.ones(len(rows), jnp.int32), status)


def least_clips(config: NeighboursConfig) -> int:
    """References that a machine needs: those that are averaged, and a second one that says how far apart they lie."""
    return max(2, config.n_neighbours)


def _in_range(hyper: NeighboursHyper) -> Array:
    density, mates = map(jnp.asarray, hyper)
    return (density >= 0) & (density <= 1) & (mates >= 0) & jnp.isfinite(mates)


def _placed(config: NeighboursConfig, z: Array, origin: Array) -> Array:
    """(n, d) normal scores -> (n, d) vectors whose distances are those of the metric."""
    if config.metric == "euclidean":
        return z / np.sqrt(z.shape[1])
    return halved(z + origin[None, :])


KIND = Kind(
    name="neighbours",
    summary="distance to the nearest normal clips of the machine, measured by how far those lie apart",
    config=NeighboursConfig,
    hyper=NeighboursHyper,
    make=make_neighbours,
    rows="pooled",
    scales=True,
    scope="type",
    least=least_clips,
    adapt=adapt_neighbours,
)
