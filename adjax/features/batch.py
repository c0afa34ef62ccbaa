"""One clip's function over a batch of clips: `lax.map` or `vmap`, whichever the platform likes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from adjax.types import SettingsError

STRATEGIES = ("auto", "map", "vmap")


def map_clips(
    fn: Callable[[Any], Any], batch: Any, *, strategy: str = "auto", batch_size: int | None = None
) -> Any:
    """Apply a function of one clip to every clip of a batch.

    Args:
        fn: takes one clip: `batch` without its leading axis. For a `ClipBatch` that is
            `ClipBatch(samples (n_samples,), n_valid ())`; for a bare array one row.
        batch: pytree of arrays with a common leading axis (n_clips, ...).
        strategy: "map" goes through the clips one by one (`jax.lax.map`): the working set stays in a CPU's
            cache. "vmap" takes all at once: right on a GPU or TPU. "auto" is "map" when JAX's default backend
            is the CPU and "vmap" elsewhere. Static.
        batch_size: clips taken at once, to bound the memory of "vmap"; None: all of them. Static; "map"
            ignores it.

    Returns:
        What `fn` returns, with the leading axis (n_clips, ...). The two strategies agree to rounding, not to
        the bit.

    Raises:
        SettingsError: an unknown strategy, or a batch_size below 1.
    """
    if strategy not in STRATEGIES:
        raise SettingsError(f"strategy={strategy!r} is not one of {STRATEGIES}")
    if batch_size is not None and batch_size < 1:
        raise SettingsError(f"batch_size={batch_size} must be at least 1")
    if strategy == "auto":
        strategy = "map" if jax.default_backend() == "cpu" else "vmap"
    if strategy == "map":
        return jax.lax.map(fn, batch)
    if batch_size is None:
        return jax.vmap(fn)(batch)
    return jax.lax.map(fn, batch, batch_size=batch_size)
