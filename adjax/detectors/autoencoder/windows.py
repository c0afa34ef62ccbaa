"""Windows of rows: which ones a lane has, in which order an epoch takes them, and what the network sees of them.

A window is a run of consecutive rows. Windows are gathered from the rows inside the compiled step, so the matrix
of all windows (five times the features) never exists.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from adjax.detectors.autoencoder.config import AutoencoderConfig


class Windows(NamedTuple):
    """The windows of a study; all its lanes read them.

    Attributes:
        x: (n_rows, n_features) float, in time order, clip after clip.
        weight: (n_rows,) float >= 0 of the window that starts at each row.
        train: (n_train,) int32, the rows where training windows start; those of a machine lie together.
        validation: (n_validation,) int32, likewise of windows that are only looked at.
    """

    x: Array
    weight: Array
    train: Array
    validation: Array


class Span(NamedTuple):
    """A lane's part of an index.

    Attributes:
        first: () int32, where it begins.
        length: () int32, how long it is.
    """

    first: Array
    length: Array


def windows_at(starts: Array, span: Span, place: Array) -> tuple[Array, Array]:
    """Rows where the windows at `place` (n,) of a span of `starts` begin, and whether the span has such a place."""
    real = place < span.length
    return starts[span.first + jnp.where(real, place, 0)], real


def shuffle(key: Array, size: int, windows: Windows, span: Span) -> tuple[Array, Array, Array]:
    """Which windows an epoch takes, and in which order: those of weight > 0 of a span, by luck.

    A window's luck is the key's and its rank's among them. The order is thus the same whatever lies between (padding,
    windows that are held out), and for every `size` (for JAX draws the same first numbers however many there are).

    Returns:
        (size,) rows where they start, then padding, which repeats one of them, so that what lies in padded rows is
        never read; their number; their weight.
    """
    place = jnp.arange(size)
    index, real = windows_at(windows.train, span, place)
    weight = jnp.where(real, windows.weight[index], 0)
    taken = weight > 0
    luck = jax.random.uniform(key, (size,))[jnp.cumsum(taken) - 1]
    order = index[jnp.argsort(jnp.where(taken, luck, 2.0))]
    count = jnp.sum(taken)
    return jnp.where(place < count, order, order[0]), count, jnp.sum(weight)


def gather_windows(x: Array, index: Array, n_context: int) -> Array:
    """Windows of `n_context` consecutive rows of `x` (n_rows, d) that start at `index` (n,).

    Returns:
        (n, n_context, d). A window that would run past the last row is moved back to end with it;
        of fewer rows than that the last is repeated.
    """
    x = jnp.pad(x, ((0, max(n_context - x.shape[0], 0)), (0, 0)), mode="edge")
    # A window lies in one piece of memory: slices are three times as fast as picking rows.
    return jax.vmap(lambda start: lax.dynamic_slice_in_dim(x, start, n_context))(index)


def inputs_and_targets(config: AutoencoderConfig, windows: Array) -> tuple[Array, Array]:
    """What the network sees and what it should answer, of windows (n, n_context, d); (n, …) each."""
    n = windows.shape[0]
    if config.predict == "window":
        return windows.reshape(n, -1), windows.reshape(n, -1)
    middle = config.n_context // 2
    others = jnp.concatenate([windows[:, :middle], windows[:, middle + 1 :]], axis=1)
    return others.reshape(n, -1), windows[:, middle]
