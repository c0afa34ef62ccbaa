"""Each column of a machine's vectors made normal by a monotone map of its own: the first half of a nonparanormal.

A column may have any unit, tails as heavy as it likes, or no spread at all. It is first centred on the machine's mean
and divided by the machine's standard deviation, which is drawn towards that within all machines of the type. Then a
piecewise linear map takes it to normal scores: the normal quantile of its distribution function. That function is the
machine's own as far as it has clips, and beside them counts, as PRIOR clips, what the mates' columns look like and the
normal distribution: with eight clips the map bends little, with a thousand it is the machine's. (Liu, Lafferty and
Wasserman 2009, "The nonparanormal: semiparametric estimation of high dimensional undirected graphs".)

Beyond the outermost normal clip the map goes on with the slope of the outer tenth and levels off after about REACH
standard deviations: one wild column says "far", and not more than all others together.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import ndtr, ndtri

from adjax.batching import map_clips
from adjax.types import AnyArray

Shape = Literal["normal", "linear"]

N_KNOTS = 65  # quantiles of the machine's own clips
PRIOR = 8.0  # as many clips the mates and the normal distribution count beside them
REACH = 6.0  # standard deviations beyond the outermost clip
OUTER = 0.9  # quantile from which the slope beyond the last is taken
_AT_ONCE = 16  # machines, on an accelerator


class Marginals(NamedTuple):
    """What one machine's columns go through.

    Attributes:
        centre: (d,) float.
        factor: (d,) float >= 0; 0: a column that no machine moves, which is left out.
        knots: (N_KNOTS, d) ascending, centred and scaled; (0, d) where the map is linear.
        heights: the same shape, the normal scores there; linear in between.
        slopes: (2, d) > 0, below the first knot and above the last.
    """

    centre: AnyArray
    factor: AnyArray
    knots: AnyArray
    heights: AnyArray
    slopes: AnyArray


class Agreed(NamedTuple):
    """What each machine of a type says about their columns: one may be added, or have no say (`without`).

    Attributes:
        unit: (d,) > 0, in which deviations are squared, so that no square overflows.
        squares: (n_machines, d) sums of the squared deviations within each, in units.
        freedom: (n_machines, 1) degrees of freedom of those.
        knots: (n_machines, N_KNOTS, d) ascending, centred and scaled; +inf for a machine without a clip; (n_machines,
            0, d) where the maps are linear.
        clips: (n_machines, 1) how many it has.
    """

    unit: AnyArray
    squares: AnyArray
    freedom: AnyArray
    knots: AnyArray
    clips: AnyArray


def fit_marginals(
    rows: Array, present: Array, mates: Any, *, shape: Shape, known: Agreed | None = None
) -> tuple[Marginals, Agreed]:
    """Fit the maps of machines of one type.

    Args:
        rows: (n_machines, n, d) float, the normal clips of each machine, all of them of finite numbers.
        present: (n_machines, n) bool, which are there; the others are padding.
        mates: () float >= 0, as many clips the deviation within all machines counts in a machine's own.
        shape: "normal" as told above; "linear": centred and scaled alone. Static.
        known: of further machines of the type, which are not fitted again; None: there are none.

    Returns:
        The maps, every leaf with the leading axis n_machines; and what all machines agree on, the known ones included.
    """
    count = present.sum(axis=1).astype(rows.dtype)[:, None]
    here = present[:, :, None]
    # From a clip of the machine, so that a constant column is exactly 0 and a distant one keeps its digits.
    first = jnp.take_along_axis(rows, jnp.argmax(present, axis=1)[:, None, None], axis=1)
    shifted = jnp.where(here, rows - first, 0)
    mean = shifted.sum(axis=1) / jnp.maximum(count, 1)
    centre = first[:, 0] + mean
    residual = jnp.where(here, shifted - mean[:, None], 0)
    widest = jnp.max(jnp.abs(residual), axis=(0, 1))
    if known is not None:
        widest = jnp.maximum(widest, jnp.where(known.squares.any(axis=0), known.unit, 0))
    unit = jnp.where(widest > 0, widest, 1)  # no square of it overflows, whatever the column's unit
    squares, freedom = jnp.sum((residual / unit[None, None]) ** 2, axis=1), jnp.maximum(count - 1, 0)
    n_machines, _, d = rows.shape
    nothing = jnp.zeros((n_machines, 0, d), rows.dtype)
    agreed = Agreed(unit, squares, freedom, nothing, count)
    all_squares, all_freedom = squares.sum(axis=0), freedom.sum()
    if known is not None:
        known = known._replace(unit=unit, squares=known.squares * ((known.unit / unit) ** 2)[None])
        all_squares, all_freedom = (
            all_squares + known.squares.sum(axis=0),
            all_freedom + known.freedom.sum(),
        )
    pooled = all_squares / jnp.maximum(all_freedom, 1)
    deviation = jnp.sqrt((squares + mates * pooled[None]) / jnp.maximum(freedom + mates, 1)) * unit[None]
    # What rounding alone can make of a constant is no movement.
    moves = deviation > 4 * jnp.finfo(rows.dtype).eps * jnp.abs(centre)
    factor = jnp.where(moves, 1 / jnp.where(moves, deviation, 1), 0)
    if shape == "linear":
        marginals = Marginals(centre, factor, nothing, nothing, jnp.ones((n_machines, 2, d), rows.dtype))
        return marginals, _beside(known, agreed)

    def quantiles(own: tuple[Array, Array, Array]) -> Array:
        return _quantiles(own[0] * own[2][None], own[1])

    knots = map_clips(quantiles, (residual, present, factor), batch_size=_AT_ONCE)
    there = jnp.where((count > 0)[:, :, None], knots, jnp.inf)
    agreed = _beside(known, agreed._replace(knots=there))
    pool = jnp.sort(agreed.knots.reshape(-1, d), axis=0)
    n_pool, total = jnp.sum(jnp.isfinite(pool[:, 0])), agreed.clips.sum()

    def heights(own: tuple[Array, Array]) -> Array:
        at, n = own
        mates_below = _ranks(pool, at).astype(at.dtype) / n_pool
        before = (PRIOR * ndtr(at) + total * mates_below) / (PRIOR + total)
        place = jnp.asarray(np.linspace(0, 1, N_KNOTS), at.dtype)[:, None]
        below = (n * (place * (n - 1) + 0.5) / jnp.maximum(n, 1) + PRIOR * before) / (n + PRIOR)
        edge = 0.5 / (n + 1)
        return ndtri(jnp.clip(below, edge, 1 - edge))

    height = map_clips(heights, (knots, count[:, 0]), batch_size=_AT_ONCE)
    high, low = round(OUTER * (N_KNOTS - 1)), round((1 - OUTER) * (N_KNOTS - 1))

    def slope(outer: Array, inner: Array) -> Array:
        return (outer + 0.1) / (inner + 0.1)  # 0.1: where the outer tenth is one value

    slopes = jnp.stack(
        [
            slope(height[:, low] - height[:, 0], knots[:, low] - knots[:, 0]),
            slope(height[:, -1] - height[:, high], knots[:, -1] - knots[:, high]),
        ],
        axis=1,
    )
    return Marginals(centre, factor, knots, height, slopes), agreed


def without(agreed: Agreed, machine: Any) -> Agreed:
    """What the other machines say."""
    return agreed._replace(
        squares=agreed.squares.at[machine].set(0),
        freedom=agreed.freedom.at[machine].set(0),
        knots=agreed.knots.at[machine].set(jnp.inf),
        clips=agreed.clips.at[machine].set(0),
    )


def to_scores(marginals: Marginals, x: Array) -> Array:
    """(n, d) normal scores of one machine's clips, (n, d); 0 in columns that are left out."""
    z = (x - marginals.centre[None]) * marginals.factor[None]
    if not marginals.knots.shape[0]:
        return z
    knots, heights = marginals.knots, marginals.heights
    # A value that many clips have, such as 0, is the same value in a program that rounds it in another way.
    same = 1e-5 + 16 * jnp.finfo(z.dtype).eps * jnp.abs(marginals.centre) * marginals.factor

    def one(row: Array) -> Array:
        # Where several knots are one value, its score is the mean of theirs.
        passed, before = knots <= (row + same)[None], knots < (row - same)[None]
        inside = (
            _interpolate(row, knots, heights, passed, 1) + _interpolate(row, knots, heights, before, 0)
        ) / 2
        over, under = row - knots[-1], knots[0] - row
        above = heights[-1] + REACH * jnp.tanh(marginals.slopes[1] * jnp.maximum(over, 0) / REACH)
        below = heights[0] - REACH * jnp.tanh(marginals.slopes[0] * jnp.maximum(under, 0) / REACH)
        return jnp.where(over > same, above, jnp.where(under > same, below, inside))

    return jnp.where(marginals.factor[None] > 0, map_clips(one, z, batch_size=64), 0)


def _beside(known: Agreed | None, own: Agreed) -> Agreed:
    """What both say, in the same unit."""
    if known is None:
        return own
    return Agreed(own.unit, *(jnp.concatenate(pair) for pair in zip(known[1:], own[1:], strict=True)))


def _interpolate(row: Array, knots: Array, heights: Array, passed: Array, same: int) -> Array:
    """(d,) linear between the last knot that is `passed` and the next one; where both are one value, `same` of them."""
    last = jnp.clip(passed.sum(axis=0) - 1, 0, knots.shape[0] - 2)
    x0, x1, y0, y1 = (
        jnp.take_along_axis(values, (last + step)[None], axis=0)[0]
        for values in (knots, heights)
        for step in (0, 1)
    )
    width = x1 - x0
    share = jnp.clip((row - x0) / jnp.where(width > 0, width, 1), 0, 1)
    return y0 + jnp.where(width > 0, share, same) * (y1 - y0)


def _quantiles(z: Array, present: Array) -> Array:
    """(N_KNOTS, d) quantiles of the rows that are present, linear between the ordered ones; 0 where none is."""
    ordered = jnp.sort(jnp.where(present[:, None], z, jnp.inf), axis=0)
    last = jnp.maximum(present.sum() - 1, 0).astype(z.dtype)
    place = jnp.asarray(np.linspace(0, 1, N_KNOTS), z.dtype) * last
    below = jnp.floor(place).astype(jnp.int32)
    share = (place - below)[:, None]
    low, high = ordered[below], ordered[jnp.minimum(below + 1, last.astype(jnp.int32))]
    found = low + share * (high - low)
    return jnp.where(present.any(), jax.lax.cummax(found, axis=0), 0)


def _ranks(pool: Array, at: Array) -> Array:
    """(k, d) how many of each column's (m, d) ascending values lie below each of (k, d); ties count half."""

    def one(column: Array, values: Array) -> Array:
        low = jnp.searchsorted(column, values, side="left")
        return (low + jnp.searchsorted(column, values, side="right")) / 2

    return jax.vmap(one, in_axes=1, out_axes=1)(pool, at)
