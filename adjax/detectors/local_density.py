"""Distances to one machine's normal clips, measured by the space around each: what comes after any embedding.

Where references lie close together a small distance says more than where they are sparse. Two ways to say so from b_i,
the mean distance D of reference i to its K nearest ones, and one from the domains of the references:

- "ratio": the score is min_i D / b_i; of a reference alone D as it is. (Wilkinghoff et al. 2025, "Local
  density-based anomaly score normalization for domain generalization"; K = 4.)
- "variance": min_i D - alpha b_i, where alpha = Cov(d, b) / Var(b) over the references makes the scores of normal clips
  vary least: each reference is left out in turn, d is its distance to the nearest other one and b the latter's own,
  without it.
- "domain": min_i D / m of its domain, the median over the domain's references of the distance that each one left out
  would have to the others of the domain: the smaller one of the domains' scores, each in its own measure. Of one domain
  it ranks as "none" does. A domain of a lone reference takes the median of all references.

Vectors are placed first so that D is a plain distance: of `halved` vectors D = (1 - cos) / 2 is the squared one.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import Precision

from adjax.types import AnyArray

Metric = Literal["euclidean", "cosine"]
Rescale = Literal["none", "ratio", "variance", "domain"]

LEAST_SPACE = 0.01  # of the mean of all b_i, that one counts at least: copies of a clip leave it at 0


class References(NamedTuple):
    """One machine's normal clips, to be compared with.

    Attributes:
        clips: (n, d) float, placed vectors.
        weight: (n,) float, 1 for references, 0 for padding, whose vectors are 0.
        times: (n,) float, what the distance to each is multiplied by,
        minus: (n,) float, and what is then subtracted.
    """

    clips: AnyArray
    weight: AnyArray
    times: AnyArray
    minus: AnyArray


def make_references(
    clips: Array,
    present: Array,
    density: Array,
    *,
    metric: Metric,
    rescale: Rescale,
    n_neighbours: int = 1,
    n_local: int = 4,
    domain: Array | None = None,
) -> References:
    """Measure the space around each reference.

    Args:
        clips: (n, d) float, placed; padding may hold anything.
        present: (n,) bool, which are references.
        density: () float in [0, 1], how much of the space counts: D / b^density, or D - density * alpha * b.
        metric: see `distance`; static.
        rescale: "none", by "ratio", "variance" or "domain"; static.
        n_neighbours: whose mean the score will be; static.
        n_local: K; where there are fewer other references, all of them; static.
        domain: (n,) int, 1 for references of a target domain, else 0; None: all 0.
    """
    clips = jnp.where(present[:, None], clips, 0)
    times, minus = jnp.ones(len(clips), clips.dtype), jnp.zeros(len(clips), clips.dtype)
    if rescale == "domain":
        target = jnp.zeros_like(present) if domain is None else domain > 0
        times = _typical(clips, present, target, metric, n_neighbours) ** -density
    elif rescale != "none":
        near, who = _nearest(clips, _pairs(present), metric, max(n_local + 1, n_neighbours))
        there = jnp.isfinite(near)
        space = _mean(near[:, :n_local], there[:, :n_local])
        if rescale == "ratio":
            least = jnp.maximum(LEAST_SPACE * _mean(space, present), 1e-6)
            times = jnp.where(there.any(axis=1), jnp.maximum(space, least) ** -density, 1)
        else:
            alpha = _least_varying(near, who, there, n_neighbours, n_local)
            minus = jnp.where(present, density * alpha * space, 0)
    return References(clips, present.astype(clips.dtype), times, minus)


def nearness(references: References, clip: Array, *, metric: Metric, n_neighbours: int = 1) -> Array:
    """Mean of the smallest rescaled distances of one clip.

    Args:
        references: of its machine.
        clip: (d,) float, placed.
        metric: static.
        n_neighbours: how many; where there are fewer references, all of them. Static.

    Returns:
        () float, higher = farther; NaN where there is no reference.
    """
    apart = distance(jnp.sum((references.clips - clip[None, :]) ** 2, axis=1), metric)
    present = references.weight > 0
    values = jnp.where(present, apart * references.times - references.minus, jnp.inf)
    found, _ = jax.lax.top_k(-values, min(n_neighbours, len(values)))
    return jnp.where(present.any(), _mean(-found, found > -jnp.inf), jnp.nan)


def distance(squares: Array, metric: Metric) -> Array:
    """D of squared distances between placed vectors: their root, or for "cosine" themselves; with gradient 0 at 0."""
    if metric == "cosine":
        return squares
    return jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)


def halved(z: Array) -> Array:
    """(n, d) vectors of length 1/2 in the same directions; 0 stays 0."""
    squares = jnp.sum(z**2, axis=1, keepdims=True)
    return jnp.where(squares > 0, 0.5 * z / jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)


def _pairs(present: Array) -> Array:
    """(n, n) bool, which are two different references."""
    return present[:, None] & present[None, :] & ~jnp.eye(len(present), dtype=bool)


def _typical(clips: Array, present: Array, target: Array, metric: Metric, n_neighbours: int) -> Array:
    """(n,) of each reference's domain, the median of what its references, each left out in turn, score."""
    pairs = _pairs(present)

    def median(of: Array, pairs: Array) -> Array:
        near, _ = _nearest(clips, pairs, metric, n_neighbours)
        own, some = _mean(near, jnp.isfinite(near)), of & jnp.isfinite(near[:, 0])
        ordered, last = jnp.sort(jnp.where(some, own, jnp.inf)), some.sum() - 1
        found = (ordered[last // 2] + ordered[(last + 1) // 2]) / 2
        return jnp.where(last >= 0, found, 0)

    everyone = median(present, pairs)
    least = jnp.maximum(LEAST_SPACE * everyone, 1e-6)

    def of_domain(members: Array) -> Array:
        own = median(members, pairs & members[:, None] & members[None, :])
        return jnp.where(members.sum() > 1, jnp.maximum(own, least), jnp.where(everyone > 0, everyone, 1))

    return jnp.where(target, of_domain(present & target), of_domain(present & ~target))


def _nearest(clips: Array, pairs: Array, metric: Metric, wanted: int) -> tuple[Array, Array]:
    """(n, m) ascending distances of each clip to its nearest others, inf where there are fewer, and (n, m) which.

    Args:
        clips: (n, d) float, placed.
        pairs: (n, n) bool, which of the others each is compared with.
        metric: static.
        wanted: m, where there are as many clips; static.

    A product finds them; the distances are those of differences, which keep their digits where a clip is there almost
    twice.
    """
    squares = jnp.sum(clips**2, axis=1)
    product = jnp.matmul(clips, clips.T, precision=Precision.HIGHEST)
    apart = squares[:, None] + squares[None, :] - 2 * product
    found, who = jax.lax.top_k(jnp.where(pairs, -apart, -jnp.inf), min(wanted, len(clips)))
    exact = jax.lax.map(lambda chosen: jnp.sum((clips - clips[chosen]) ** 2, axis=1), who.T).T
    near = jnp.where(found > -jnp.inf, distance(exact, metric), jnp.inf)
    order = jnp.argsort(near, axis=1)
    return jnp.take_along_axis(near, order, axis=1), jnp.take_along_axis(who, order, axis=1)


def _least_varying(near: Array, who: Array, there: Array, n_neighbours: int, n_local: int) -> Array:
    """() alpha of the leave-one-out pairs; 0 where the spaces do not differ. Arrays (n, m) as `_nearest` gives them."""
    k = min(n_neighbours, near.shape[1])
    distance = _mean(near[:, :k], there[:, :k])

    def without(rank: Array) -> tuple[Array, Array]:
        """The spaces around the neighbours of that rank, as if the clip itself were not there."""
        neighbour = who[:, rank]
        others = (who[neighbour] != jnp.arange(len(who))[:, None]) & there[neighbour]
        others &= jnp.cumsum(others, axis=1) <= n_local
        return _mean(near[neighbour], others), others.any(axis=1) & there[:, rank]

    spaces, known = jax.lax.map(without, jnp.arange(k))
    space, pair = _mean(spaces.T, known.T), known.any(axis=0)
    middle = _mean(space, pair)
    deviation = jnp.where(pair, space - middle, 0)
    together = jnp.sum(jnp.where(pair, distance - _mean(distance, pair), 0) * deviation)
    variance = jnp.sum(deviation**2)
    # Spaces that differ by rounding alone say nothing.
    differ = variance > 1e-10 * jnp.sum(pair) * middle**2
    return jnp.where(differ, together / jnp.where(differ, variance, 1), 0)


def _mean(x: Array, present: Array) -> Array:
    """Mean over the last axis where present; 0 where nothing is."""
    count = jnp.sum(present, axis=-1)
    return jnp.sum(jnp.where(present, x, 0), axis=-1) / jnp.maximum(count, 1)
