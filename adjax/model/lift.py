"""From a detector of rows to a detector of machines and clips: every kind then has the same two functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adjax.batching import map_clips
from adjax.detectors.kinds import kind_of
from adjax.features.pooling import max_pool, mean_pool, percentile_pool, std_pool
from adjax.model.spec import DetectorSpec, ScorePooling
from adjax.types import Detector, FitInfo, RowDetector, Shared, Training, is_shared


def make_detector(spec: DetectorSpec) -> Detector:
    """The detector of a specification, in machines and clips.

    Raises:
        SettingsError: settings out of range, or that contradict each other.
    """
    made = spec.make()
    if isinstance(made, Detector):
        return made
    return per_machine(made, kind_of(spec.kind).name, spec.pooling, spec.percentile)


def per_machine(
    rows: RowDetector, part: str, pooling: ScorePooling = "mean", percentile: float = 95.0
) -> Detector:
    """Lift a detector that knows one machine's rows.

    Each machine is fitted alone, by a key of its own name; a clip's score is the pooled score of its rows (or of the
    windows of `n_context` rows that lie wholly in it).

    Args:
        rows: the detector.
        part: name of its one part.
        pooling: of the rows' scores.
        percentile: of pooling "percentile", in [0, 100].
    """

    def fit(key: Array, training: Training, hyper: Any = rows.hyper) -> tuple[Any, FitInfo]:
        starts = window_starts(training.clip, training.weight, rows.n_context)
        owner = training.machine[training.clip]
        more = {"domain": training.domain[training.clip]} if rows.uses_domain else {}

        def one(machine: tuple[Array, Array]) -> tuple[Any, FitInfo]:
            number, seed = machine
            weight = jnp.where(owner == number, starts, 0)
            return rows.fit(jax.random.fold_in(key, seed), training.rows, weight, hyper, **more)

        return map_clips(one, (jnp.arange(training.seed.shape[0]), training.seed))

    def score(params: Any, machine: Array, x: Array, weight: Array) -> Array:
        values = rows.score(jax.tree.map(lambda leaf: leaf[machine], params), x)
        # A window counts if its last row does: the real rows of a clip come first.
        whole = jnp.pad(weight[rows.n_context - 1 :], (0, min(rows.n_context - 1, x.shape[0])))[: x.shape[0]]
        return pool_rows(values, whole, pooling, percentile)[None]

    return Detector(fit, score, (part,), rows.hyper)


def pool_rows(values: Array, weight: Array, pooling: ScorePooling, percentile: float) -> Array:
    """() the pooled value of a clip's rows (n_rows,) of weight > 0; NaN where there is none."""
    present = weight > 0
    column = jnp.where(present, values, 0)[:, None]
    weight = present.astype(column.dtype)
    if pooling == "percentile":
        pooled = percentile_pool(column, percentile, weight)
    else:
        pooled = {"mean": mean_pool, "std": std_pool, "max": max_pool}[pooling](column, weight)
    return jnp.where(present.any(), pooled[0], jnp.nan)


def window_starts(clip: Any, weight: Any, n_context: int) -> Any:
    """(n_rows,) the weights of the rows where a window of `n_context` rows of one clip, all of weight > 0, starts.

    Args:
        clip: (n_rows,) int, whose each row is; NumPy or JAX.
        weight: (n_rows,) float >= 0.
        n_context: rows in a window; static.
    """
    xp = np if isinstance(weight, np.ndarray) else jnp
    last = n_context - 1
    if last == 0:
        return weight
    if weight.shape[0] <= last:
        return xp.zeros_like(weight)
    # Rows of a clip lie together and are held out together: only the last one can differ.
    whole = (clip[last:] == clip[:-last]) & (weight[last:] > 0)
    return weight * xp.pad(whole, (0, last)).astype(weight.dtype)


def members_of(owner: np.ndarray, n_machines: int, most: int = 0) -> np.ndarray:
    """`Training.members`.

    Args:
        owner: (n_rows,) int, whose each row is; another number for padding.
        n_machines: how many there are.
        most: rows of a machine that there is room for, at least: so that fits of several types have one shape.
    """
    own = [np.flatnonzero(owner == number) for number in range(n_machines)]
    found = np.full((n_machines, max(most, *map(len, own))), len(owner), np.int32)
    for number, places in enumerate(own):
        found[number, : len(places)] = places
    return found


def join_fits(fits: Sequence[Any]) -> Any:
    """Parameters of several fits, on the host, as those of all their machines, one fit after the other.

    What has other sizes in each fit, such as that of a table of classes, ends in zeros.
    """

    def join(*leaves: Any) -> Any:
        if not is_shared(leaves[0]):
            return padded_together(*leaves)
        starts = np.cumsum([0, *(len(jax.tree.leaves(leaf.value)[0]) for leaf in leaves)])
        fit = np.concatenate([leaf.fit + start for leaf, start in zip(leaves, starts, strict=False)])
        return Shared(jax.tree.map(padded_together, *(leaf.value for leaf in leaves)), fit.astype(np.int32))

    return jax.tree.map(join, *fits, is_leaf=is_shared)


def padded_together(*leaves: Any) -> np.ndarray:
    """One after the other, each padded with zeros to the largest."""
    shape = np.max([np.shape(leaf)[1:] for leaf in leaves], axis=0).astype(int)
    return np.concatenate(
        [
            np.pad(leaf, ((0, 0), *((0, n - m) for n, m in zip(shape, np.shape(leaf)[1:], strict=True))))
            for leaf in leaves
        ]
    )
