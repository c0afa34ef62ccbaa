"""Threads for JAX work on a CPU, where one compiled call of small operations keeps no more than one core busy."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp


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
