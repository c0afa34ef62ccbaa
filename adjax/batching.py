"""Many at once: `lax.map` or `vmap`, whichever the platform likes, and all the cores of a CPU, in threads.

One compiled call of small operations keeps no more than one core busy; hence the threads.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from adjax.checks import check_number
from adjax.types import SettingsError

Strategy = Literal["auto", "map", "vmap"]
STRATEGIES = get_args(Strategy)


def on_cpu() -> bool:
    """Whether JAX's default backend is the CPU: for code that runs here and now, on the host.

    Never inside traced code, which may be lowered here for another platform: there `jax.lax.platform_dependent`.
    """
    return jax.default_backend() == "cpu"


def strategy_here(strategy: Strategy) -> Strategy:
    """What "auto" means where a program runs here and now: one trace then does."""
    return strategy if strategy != "auto" else "map" if on_cpu() else "vmap"


def map_clips(
    fn: Callable[[Any], Any], batch: Any, *, strategy: Strategy = "auto", batch_size: int | None = None
) -> Any:
    """Apply a function of one clip to every clip of a batch.

    Args:
        fn: takes one clip: `batch` without its leading axis. For a `ClipBatch` that is
            `ClipBatch(samples (n_samples,), n_valid ())`; for a bare array one row.
        batch: pytree of arrays with a common leading axis (n_clips, ...).
        strategy: "map" goes through the clips one by one (`jax.lax.map`): the working set stays in a CPU's
            cache. "vmap" takes all at once: right on a GPU or TPU. "auto" is "map" where the program is lowered
            for a CPU and "vmap" elsewhere; `fn` is traced for both. Static.
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
    if batch_size is not None:
        check_number("batch_size", batch_size, low=1, whole=True)

    def one_by_one(batch: Any) -> Any:
        return jax.lax.map(fn, batch)

    def at_once(batch: Any) -> Any:
        return jax.vmap(fn)(batch) if batch_size is None else jax.lax.map(fn, batch, batch_size=batch_size)

    if strategy == "auto":
        return jax.lax.platform_dependent(batch, cpu=one_by_one, default=at_once)
    return one_by_one(batch) if strategy == "map" else at_once(batch)


def compile_clips(
    fn: Callable[[Any], Any], *, strategy: Strategy = "auto", n_parts: int | None = None
) -> Callable[[Any], Any]:
    """Compile a function of one clip into a function of a batch that keeps the whole machine busy.

    On a CPU one compiled call hardly uses a second core: the operations of one clip are too small to share.
    So each core gets a part of the batch, in a thread of its own (JAX runs the calls of *one* thread one after
    the other). On an accelerator the batch stays whole.

    Args:
        fn: takes one clip, as in `map_clips`.
        strategy: as in `map_clips`.
        n_parts: parts of a batch; None: one a core on a CPU, else 1.

    Returns:
        The function of a batch, called from outside `jax.jit`: NumPy or JAX arrays in, NumPy arrays out. It
        compiles once for each shape of a batch.

    Raises:
        SettingsError: an unknown strategy, or n_parts below 1.
    """
    if n_parts is not None:
        check_number("n_parts", n_parts, low=1, whole=True)
    if strategy not in STRATEGIES:
        raise SettingsError(f"strategy={strategy!r} is not one of {STRATEGIES}")
    compiled = jax.jit(functools.partial(map_clips, fn, strategy=strategy_here(strategy)))
    return lambda batch: in_parts(compiled, batch, n_parts)


def in_parts(compiled: Callable[[Any], Any], batch: Any, n_parts: int | None = None) -> Any:
    """Call a compiled function of a batch on parts of it, in a thread for each core of a CPU.

    Args:
        compiled: takes a batch, gives a pytree with the same leading axis; all parts have one shape, for one compile.
        batch: pytree of arrays with a common leading axis.
        n_parts: None: one for each core on a CPU, else 1.

    Returns:
        NumPy arrays.
    """
    n_parts = n_parts or (n_cores() if on_cpu() else 1)
    n_clips = len(jax.tree.leaves(batch)[0])
    size = -(-n_clips // n_parts)

    def run(part: Any) -> Any:
        return jax.tree.map(np.asarray, compiled(part))

    if size in (0, n_clips):
        return run(batch)
    # All parts have one shape, for one compile: the last reaches back, and what it repeats is dropped.
    ends = [min(start + size, n_clips) for start in range(0, n_clips, size)]
    parts = [jax.tree.map(lambda x, end=end: x[end - size : end], batch) for end in ends]
    *results, last = _pool(n_parts).map(run, parts)
    new = ends[-1] - ends[-2]
    last = jax.tree.map(lambda x: x[size - new :], last)
    return jax.tree.map(lambda *pieces: np.concatenate(pieces), *results, last)


@functools.cache
def _pool(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads, thread_name_prefix="adjax-compute")  # its threads start when needed


def n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def threads(n: int) -> Iterator[Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]]]:
    """A map over JAX work by `n` threads, which live as long as the context.

    Args:
        n: threads.

    Returns:
        (function, items) -> the function's results, finished; in the precision that the context was made in, which a
        thread would not inherit.
    """
    x64 = bool(jnp.result_type(float) == jnp.float64)
    with ThreadPoolExecutor(n, thread_name_prefix="adjax") as pool:

        def over(fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
            def call(item: Any) -> Any:
                with jax.enable_x64(x64):
                    return jax.block_until_ready(fn(item))

            return list(pool.map(call, items))

        yield over
