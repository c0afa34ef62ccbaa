"""Identity: learn what tells machines apart; a clip that looks in this unlike its own machine is anomalous.

Machines of one make differ by what is theirs alone, and a fault moves a clip in just that, where a density looks at
everything that varies. So all machines in the data are classes, also those of other types, of a multinomial logistic
regression on one vector for each clip (`adjax.detectors.multinomial`). Its logits, one for each class, are a few
directions that matter, and in these the machine's clips have a mean, its prototype, and a covariance that is drawn
towards the one within all machines: the score is the distance from it. (The log odds against the own machine hear only
what moves a clip towards another one: on simulated slide rails .47 and .65 AUC, at -12 and -6 dB, where the distance
has .96 and .97.) A new machine needs no class: its prototype is the mean of its clips' logits by the machines that were
told apart (Snell, Swersky and Zemel 2017, "Prototypical networks for few-shot learning").

Columns may be in any units: they are centred on the mean of the machines' means, divided by the spread within machines,
and squashed, so that no column with heavy tails outweighs the others.

Where the constants come from: they were chosen on real vectors of two types (88 columns, 8 machines), whose labels were
looked at for it; so were those of simulated slide rails when the distance took the place of the log odds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from adjax.checks import check_fields, check_number
from adjax.detectors.multinomial import Multinomial, fit_multinomial, logits
from adjax.detectors.products import times, whitening_of
from adjax.types import (
    CONVERGED,
    NOT_FINITE,
    AnyArray,
    Detector,
    FitInfo,
    Kind,
    Shared,
    Training,
    shared,
)

Contrast = Literal["all", "type"]

KNEE = 2.0  # spreads within a machine beyond which deviations count as their logarithm
LEAST_SPREAD = 1e-3  # within machines, as a share of that over all clips
RIDGE = 1e-2  # of the mean variance of the logits, added to each: they are fewer than they seem, for they sum to 0


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
        mates: >= 0, as many clips the covariance of the logits within all machines counts beside a machine's own.
    """

    C: Any = 1.0
    mates: Any = 64.0


class Columns(NamedTuple):
    """What makes columns of any units alike.

    Attributes:
        centre: (d,) float.
        factor: (d,) float >= 0; 0 of a column that is constant.
    """

    centre: AnyArray
    factor: AnyArray


class Common(NamedTuple):
    """What tells machines apart, the same for all of them.

    Attributes:
        columns: what rows go through.
        regression: what makes logits of them.
        covariance: (n_classes, n_classes) float, of the logits within machines.
    """

    columns: Columns
    regression: Multinomial
    covariance: AnyArray


class Identity(NamedTuple):
    """What a fit leaves behind.

    Attributes:
        common: a `Common`.
        own: (n_machines,) int32, the class of each machine; -1 of one that came later and is none.
        prototype: (n_machines, n_classes) float, mean logits of each machine.
        whitening: (n_machines, n_classes, n_classes) float, lower triangle: inverse Cholesky factor of their
            covariance.
    """

    common: Shared
    own: AnyArray
    prototype: AnyArray
    whitening: AnyArray


def make_identity(
    config: IdentityConfig = IdentityConfig(),
    hyper: IdentityHyper = IdentityHyper(),
) -> Detector:
    """Build the detector.

    It takes one row for each clip, of any numbers; a score is the log of the mean squared whitened deviation of the
    clip's logits from the machine's prototype, 0 where there is no other machine to tell it from. A machine without a
    row of weight > 0 is no class, and has no score (NaN). The objective of a fit is that of its regression, one for all
    its machines.

    Raises:
        SettingsError: a setting out of its range.
    """
    check_fields(config)
    check_number("max_iter", config.max_iter, low=1, whole=True)
    check_number("C", hyper.C, above=0)
    check_number("mates", hyper.mates, low=0)

    def fit(key: Array, training: Training, hyper: IdentityHyper = hyper) -> tuple[Identity, FitInfo]:
        n_machines = training.seed.shape[0]
        owner, weight = training.machine[training.clip], training.weight
        columns = fit_columns(training.rows, owner, weight, n_machines)
        x = squash(columns, training.rows)
        c = jnp.where(jnp.asarray(hyper.C) > 0, hyper.C, jnp.nan).astype(x.dtype)
        found, info = fit_multinomial(x, owner, weight, c, n_classes=n_machines, max_iter=config.max_iter)
        prototype, scatter, count = _clouds(logits(found, x), owner, weight, n_machines)
        covariance = scatter.sum(axis=0) / jnp.maximum(jnp.maximum(count - 1, 0).sum(), 1)
        whitening = _whitenings(covariance, found.present, scatter, count, hyper.mates)
        info = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (n_machines,)), info)
        common, own = shared(Common(columns, found, covariance), n_machines), jnp.arange(n_machines)
        return Identity(common, own.astype(jnp.int32), prototype, whitening), info

    def score(params: Identity, machine: Array, rows: Array, weight: Array) -> Array:
        common = params.common.of(machine)
        found = logits(common.regression, squash(common.columns, rows[:1]))
        deviation = found - params.prototype[machine][None]
        n_classes = common.regression.present.sum()
        squares = jnp.sum(times(params.whitening[machine], deviation.T) ** 2)
        mean = squares / jnp.maximum(n_classes, 1)
        value = jnp.where(n_classes > 1, jnp.log(jnp.maximum(mean, 1e-12)), 0 * mean)
        return jnp.where(weight[0] > 0, value, jnp.nan)[None]

    return Detector(fit, score, (KIND.name,), hyper)


def adapt_identity(
    config: IdentityConfig,
    hyper: IdentityHyper,
    key: Array,
    params: Identity,
    memory: Training,
    new: Training,
) -> tuple[Identity, FitInfo]:
    """The prototype of one new machine, in the logits of those that were told apart; see `Kind.adapt`."""
    common = params.common.of(0)
    # A mate of which nothing is remembered, because it plays the new machine, is no class either.
    remembered = jnp.zeros(len(params.own)).at[memory.machine[memory.clip]].max(memory.weight) > 0
    dropped = jnp.where(remembered | (params.own < 0), len(common.regression.present), params.own)
    regression = common.regression
    regression = regression._replace(present=regression.present.at[dropped].set(False, mode="drop"))
    x = squash(common.columns, new.rows)
    prototype, scatter, count = _clouds(logits(regression, x), jnp.zeros_like(new.clip), new.weight, 1)
    kept = regression.present[:, None] & regression.present[None, :]
    covariance = jnp.where(kept, common.covariance, 0)
    whitening = _whitenings(covariance, regression.present, scatter, count, hyper.mates)
    value = jax.tree.map(lambda leaf: leaf[None], common._replace(regression=regression))
    own = Identity(Shared(value, jnp.zeros(1, jnp.int32)), -jnp.ones(1, jnp.int32), prototype, whitening)
    good = jnp.isfinite(whitening).all() & jnp.isfinite(prototype).all()
    status = jnp.where(good, CONVERGED, NOT_FINITE).astype(jnp.int32)[None]
    return own, FitInfo(jnp.full(1, jnp.nan, x.dtype), jnp.ones(1, jnp.int32), status)


def _clouds(found: Array, owner: Array, weight: Array, n_machines: int) -> tuple[Array, Array, Array]:
    """Of logits (n, c): each machine's mean (n_machines, c), NaN without a clip, scatter (n_machines, c, c), count."""
    here = weight > 0
    found = jnp.where(here[:, None], found, 0)
    own = jnp.where(here[:, None], jax.nn.one_hot(owner, n_machines, dtype=found.dtype), 0)
    count = own.sum(axis=0)
    mean = times(own.T, found) / jnp.where(count > 0, count, jnp.nan)[:, None]
    deviation = jnp.where(here[:, None], found - mean[owner], 0)

    def scatter(member: Array) -> Array:
        mine = deviation * member[:, None]
        return times(mine.T, mine)

    return mean, jax.lax.map(scatter, own.T), count


def _whitenings(covariance: Array, present: Array, scatter: Array, count: Array, mates: Any) -> Array:
    """(n_machines, c, c) inverse Cholesky factors: the machine's own scatter, and `mates` clips of the common one."""
    mates = jnp.asarray(mates, covariance.dtype)
    mates = jnp.where(mates >= 0, mates, jnp.nan)
    eye = jnp.eye(len(covariance), dtype=covariance.dtype)

    def one(own: tuple[Array, Array]) -> Array:
        freedom = jnp.maximum(own[1] - 1, 0)
        total = (own[0] + mates * covariance) / jnp.maximum(freedom + mates, 1)
        ridge = RIDGE * jnp.trace(total) / jnp.maximum(present.sum(), 1) + 1e-6
        return whitening_of(total + ridge * eye)

    return jax.lax.map(one, (scatter, count))


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


KIND = Kind(
    name="identity",
    summary="what tells machines apart, by a regression on one vector for each clip; the score is how far a clip's "
    "logits are from those of its machine",
    config=IdentityConfig,
    hyper=IdentityHyper,
    make=make_identity,
    rows="pooled",
    scope=lambda config: config.contrast,
    least_machines=2,
    scales=True,
    adapt=adapt_identity,
)
