"""Identity: learn which machine a normal clip is of; a clip that its own machine would not be told by is anomalous.

Machines of one make differ by what is theirs alone, and a fault moves a clip away from just that, where a density looks
at everything that varies. So all machines in the data are classes, also those of other types, of a multinomial
logistic regression on one vector for each clip (`adjax.detectors.multinomial`), and the score is the log odds against
the clip's own machine. Columns may be in any units: they are centred on the mean of the machines' means, divided by
the spread within machines, and squashed, so that no column with heavy tails outweighs the others.

Where the constants come from: they were chosen on real vectors of two types (88 columns, 8 machines), whose labels were
looked at for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from adjax.checks import check_fields, check_number
from adjax.detectors.multinomial import Multinomial, fit_multinomial, logits
from adjax.detectors.products import times
from adjax.types import AnyArray, Detector, FitInfo, Kind, Shared, Training, shared

Contrast = Literal["all", "type"]

KNEE = 2.0  # spreads within a machine beyond which deviations count as their logarithm
LEAST_SPREAD = 1e-3  # within machines, as a share of that over all clips


@dataclass(frozen=True)
class IdentityConfig:
    """Static settings: each value is one compile.

    Attributes:
        contrast: the machines that one is told apart from: "all" in the data, or those of its "type".
        max_iter: Newton steps at most.
    """

    contrast: Contrast = "all"
    max_iter: int = 50


class IdentityHyper(NamedTuple):
    """Traced settings.

    Attributes:
        C: > 0, weight of the clips against the penalty on coefficients, as scikit-learn's.
    """

    C: Any = 1.0


class Columns(NamedTuple):
    """What makes columns of any units alike.

    Attributes:
        centre: (d,) float.
        factor: (d,) float >= 0; 0 of a column that is constant.
    """

    centre: AnyArray
    factor: AnyArray


class Identity(NamedTuple):
    """What a fit leaves behind.

    Attributes:
        common: of all machines, (`Columns`, `Multinomial`).
        own: (n_machines,) int32, the class of each.
    """

    common: Shared
    own: AnyArray


def make_identity(
    config: IdentityConfig = IdentityConfig(),
    hyper: IdentityHyper = IdentityHyper(),
) -> Detector:
    """Build the detector.

    It takes one row for each clip, of any numbers; a score is the log odds against the clip's own machine, 0 where
    there is no other to tell it from. A machine without a row of weight > 0 is no class, and has no score (NaN). The
    objective of a fit is that of its regression, one for all its machines.

    Raises:
        SettingsError: a setting out of its range.
    """
    check_fields(config)
    check_number("max_iter", config.max_iter, low=1, whole=True)
    check_number("C", hyper.C, above=0)

    def fit(key: Array, training: Training, hyper: IdentityHyper = hyper) -> tuple[Identity, FitInfo]:
        n_machines = training.seed.shape[0]
        owner, weight = training.machine[training.clip], training.weight
        columns = fit_columns(training.rows, owner, weight, n_machines)
        found, info = fit_multinomial(
            squash(columns, training.rows),
            owner,
            weight,
            jnp.where(jnp.asarray(hyper.C) > 0, hyper.C, jnp.nan).astype(training.rows.dtype),
            n_classes=n_machines,
            max_iter=config.max_iter,
        )
        own = jnp.arange(n_machines, dtype=jnp.int32)
        info = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (n_machines,)), info)
        return Identity(shared((columns, found), n_machines), own), info

    def score(params: Identity, machine: Array, rows: Array, weight: Array) -> Array:
        columns, found = params.common.of(machine)
        value = log_odds(found, squash(columns, rows[:1])[0], params.own[machine])
        return jnp.where(weight[0] > 0, value, jnp.nan)[None]

    return Detector(fit, score, (KIND.name,), hyper)


def fit_columns(rows: Array, owner: Array, weight: Array, n_machines: int) -> Columns:
    """Centre and scale of each column.

    Args:
        rows: (n, d) float.
        owner: (n,) int in [0, n_machines), whose each row is.
        weight: (n,) float >= 0; what a row of weight 0 holds changes nothing.
        n_machines: static; each one with a row counts the same.
    """
    counts = (weight > 0)[:, None]
    low = jnp.min(jnp.where(counts, rows, jnp.inf), axis=0)
    extent = jnp.max(jnp.where(counts, rows, -jnp.inf), axis=0) - low
    moves = extent > 0
    # In [0, 1], whatever the units: no square is too large, and what is constant is so exactly.
    x = jnp.where(counts, (rows - low[None, :]) / jnp.where(moves, extent, 1)[None, :], 0)
    own = jax.nn.one_hot(owner, n_machines, dtype=rows.dtype)
    total = times(weight[None, :], own)[0]
    present = total > 0
    share = (weight / jnp.where(present, total, 1)[owner])[:, None] * own  # of its machine, (n, n_machines)
    means = times(share.T, x)
    within = times(share.T, (x - times(own, means)) ** 2)
    each = jnp.where(present, 1, 0) / jnp.maximum(present.sum(), 1)
    part = (weight / jnp.maximum(weight.sum(), jnp.finfo(weight.dtype).tiny))[None, :]
    overall = times(part, (x - times(part, x)) ** 2)[0]
    spread = jnp.sqrt(times(each[None, :], within)[0]) + LEAST_SPREAD * jnp.sqrt(overall)
    centre = low + times(each[None, :], means)[0] * extent
    moves &= spread > 0
    factor = jnp.where(moves, 1 / jnp.where(moves, spread * extent, 1), extent * 0)  # NaN stays
    return Columns(centre, factor)


def squash(columns: Columns, rows: Array) -> Array:
    """(n, d) rows of one scale; beyond `KNEE` they grow as a logarithm does."""
    deviation = (rows - columns.centre[None, :]) * columns.factor[None, :]
    return KNEE * jnp.arcsinh(deviation / KNEE)


def log_odds(found: Multinomial, x: Array, own: Array) -> Array:
    """() log odds against class `own` of a squashed row (d,); 0 where there is no other, NaN where that is none."""
    each = logits(found, x)
    others = found.present & (jnp.arange(len(each)) != own)
    some = others.any()
    against = jax.nn.logsumexp(jnp.where(others | ~some, each, -jnp.inf)) - each[own]
    return jnp.where(found.present[own], jnp.where(some, against, 0), jnp.nan)


KIND = Kind(
    name="identity",
    summary="which machine a normal clip is of, by a regression on one vector for each clip; the score is the log odds "
    "against its own",
    config=IdentityConfig,
    hyper=IdentityHyper,
    make=make_identity,
    rows="pooled",
    scope=lambda config: config.contrast,
    least_machines=2,
    scales=True,
)
