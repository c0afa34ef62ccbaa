"""One large mixture on all cores of a CPU: a thread for each part of the rows.

XLA shares the small products of one EM iteration over no more than a core and a half. So the host drives EM: every
iteration, each thread sums the statistics of its own blocks of rows, and one M-step follows on their total.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, reduce
from itertools import pairwise

import jax
import jax.numpy as jnp
from jax import Array
from threadpoolctl import threadpool_limits

from adjax.batching import n_cores, on_cpu, threads
from adjax.checks import unit_weights
from adjax.detectors.gmm.checks import check_rows, check_settings
from adjax.detectors.gmm.config import GmmConfig, GmmHyper, GmmParams, PlacedConfig, Start, place
from adjax.detectors.gmm.detector import fit_gmm
from adjax.detectors.gmm.em import Statistics
from adjax.detectors.gmm.fit import (
    RUNNING,
    EmState,
    Frame,
    best_start,
    end_em,
    gather,
    make_frame,
    start_em,
    start_keys,
    update,
)
from adjax.detectors.rows import n_blocks
from adjax.types import FitInfo

_LEAST_BLOCKS = 4  # a core: for fewer, waking a thread costs more than it gains


def n_parts(config: GmmConfig, n_rows: int) -> int:
    """Into how many parts the rows of one fit are split; 1 off the CPU, and for few rows."""
    placed = place(config, on_cpu())
    if not placed.on_cpu:
        return 1
    return max(1, min(n_cores(), n_blocks(n_rows, placed.rows_a_block) // _LEAST_BLOCKS))


@contextmanager
def em_steps(
    config: PlacedConfig, frame: Frame, x: Array, weight: Array
) -> Iterator[Callable[[GmmHyper, EmState], EmState]]:
    """The EM iterations of a fit, run from the host; the threads live as long as the context."""
    parts = n_parts(config, x.shape[0])
    blocks = n_blocks(x.shape[0], config.rows_a_block)
    edges = [blocks * part // parts for part in range(parts + 1)]
    total = jnp.sum(weight)
    with threads(parts) as over:

        def step(hyper: GmmHyper, state: EmState) -> EmState:
            def sums(span: tuple[int, int]) -> Statistics:
                return _gather(config, frame, x, weight, state.mixture, span)

            return _update(config, frame, total, hyper, state, over(sums, list(pairwise(edges))))

        yield step


def fit_split(
    config: GmmConfig, key: Array, x: Array, weight: Array, hyper: GmmHyper, start: Start = None
) -> tuple[GmmParams, FitInfo]:
    """`fit_gmm`, to rounding, from outside `jax.jit`: faster where there are many rows and a CPU with several cores.

    Arguments, results and errors are those of `fit_gmm`.
    """
    x, weight = jnp.asarray(x), jnp.asarray(weight)
    check_settings(config, hyper)
    check_rows(x, weight)
    config, weight = place(config, on_cpu()), unit_weights(weight)
    with threadpool_limits(1, user_api="blas"):  # see `fit_lanes`
        if n_parts(config, x.shape[0]) == 1:
            return jax.block_until_ready(_fit_whole(config, key, x, weight, hyper, start))
        frame = frame_rows(config, x, weight, hyper)
        states = []
        with em_steps(config, frame, x, weight) as step:
            for one in _start_keys(config, key) if start is None else [key]:
                state = start_fit(config, frame, one, x, weight, hyper, start)
                while int(state.status) == RUNNING and int(state.n_steps) < config.max_iter:
                    state = step(hyper, state)
                states.append(state)
        return _end_best(config, frame, weight, states)


frame_rows = partial(jax.jit, static_argnums=0)(make_frame)
start_fit = partial(jax.jit, static_argnums=0)(start_em)
end_fit = partial(jax.jit, static_argnums=0)(end_em)
_start_keys = partial(jax.jit, static_argnums=0)(start_keys)
_gather = partial(jax.jit, static_argnums=0)(gather)
_fit_whole = partial(jax.jit, static_argnums=0)(fit_gmm)


@partial(jax.jit, static_argnums=0)
def _update(
    config: PlacedConfig, frame: Frame, total: Array, hyper: GmmHyper, state: EmState, parts: list[Statistics]
) -> EmState:
    sums = reduce(partial(jax.tree.map, jnp.add), parts)
    return update(config, frame, total, hyper, state, sums)


@partial(jax.jit, static_argnums=0)
def _end_best(
    config: PlacedConfig, frame: Frame, weight: Array, states: list[EmState]
) -> tuple[GmmParams, FitInfo]:
    best = best_start(jax.tree.map(lambda *leaves: jnp.stack(leaves), *states))
    return end_em(config, frame, weight, best)
