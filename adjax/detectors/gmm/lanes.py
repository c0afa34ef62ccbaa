"""Many mixtures in one call: lanes over machines, seeds, regularisations and numbers of components.

A compiled loop over a batch runs until its slowest lane stops, with the finished ones along. Two ways out: on a CPU
each lane runs alone in cache and only as long as it needs; on an accelerator all lanes step together, and after
each chunk of steps the finished ones are taken out of the batch.
"""

from __future__ import annotations

import functools
from operator import itemgetter

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from threadpoolctl import threadpool_limits

from adjax.batching import Strategy, n_cores, on_cpu, strategy_here, threads
from adjax.checks import check_number, unit_weights
from adjax.detectors.gmm.checks import check_rows, check_settings
from adjax.detectors.gmm.config import GmmConfig, GmmHyper, GmmParams, PlacedConfig, place
from adjax.detectors.gmm.detector import fit_gmm
from adjax.detectors.gmm.fit import (
    RUNNING,
    EmState,
    Frame,
    best_start,
    end_em,
    make_frame,
    run_em,
    start_em,
    start_keys,
)
from adjax.detectors.gmm.split import fit_split, n_parts
from adjax.types import FitInfo, SettingsError


def fit_lanes(
    config: GmmConfig,
    keys: Array,
    x: Array,
    weight: Array,
    hyper: GmmHyper,
    *,
    data: Array | None = None,
    lanes: Strategy = "auto",
    chunk_steps: int = 8,
) -> tuple[GmmParams, FitInfo]:
    """Fit a mixture for each lane; lane i equals `fit_gmm` alone with the same inputs, to rounding.

    A lane that fails says so in its own status and leaves the others alone.

    Args:
        config: static settings, shared by all lanes.
        keys: (n_lanes,) typed PRNG keys.
        x: (n_data, n_rows, n_features) float; data sets of different length are padded with rows of weight 0.
        weight: (n_data, n_rows) float >= 0.
        hyper: traced settings, each a scalar or (n_lanes,).
        data: (n_lanes,) int, which data set each lane is fitted to; None: lane i to data set i.
        lanes: "map" fits lane after lane, in a thread for each core (where there are fewer lanes than cores
            and many rows, each on all cores); "vmap" steps all lanes together; "auto" is "map" on a CPU.
        chunk_steps: EM steps between two looks at which lanes of "vmap" are done.

    Returns:
        Parameters and how the fits ended, with a leading axis (n_lanes, ...).

    Raises:
        SettingsError: settings out of range, no lanes or rows, shapes that do not fit together, weights that no fit
            can use, or an unknown `lanes`.
    """
    x, weight = jnp.asarray(x), jnp.asarray(weight)
    n_lanes = keys.shape[0]
    if not n_lanes:
        raise SettingsError("there are no lanes to fit: give a key for each")
    data = jnp.arange(x.shape[0]) if data is None else jnp.asarray(data)
    if x.ndim != 3 or weight.shape != x.shape[:2] or data.shape != (n_lanes,):
        raise SettingsError(
            f"x {x.shape}, weight {weight.shape} and data {data.shape} must be (n_data, n_rows, n_features), "
            f"(n_data, n_rows) and ({n_lanes},), one a key"
        )
    if not jnp.issubdtype(data.dtype, jnp.integer) or not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
        raise SettingsError(
            f"keys {keys.dtype} and data {data.dtype} must be keys of jax.random.key, and whole numbers"
        )
    if any(jnp.ndim(leaf) and jnp.shape(leaf) != (n_lanes,) for leaf in jax.tree.leaves(hyper)):
        raise SettingsError(f"a traced setting must be one number, or one for each of the {n_lanes} lanes")
    check_settings(config, hyper)
    check_rows(x, weight)
    check_number("chunk_steps", chunk_steps, low=1, whole=True)
    if not (int(data.min()) >= 0 and int(data.max()) < x.shape[0]):
        raise SettingsError(f"data must lie between 0 and {x.shape[0] - 1}, the data sets that x holds")
    weight = unit_weights(weight)
    hyper = jax.tree.map(lambda value: jnp.broadcast_to(jnp.asarray(value), (n_lanes,)), hyper)
    lanes = strategy_here(lanes)
    placed = place(config, on_cpu())
    if lanes == "map" and n_lanes < n_cores() and n_parts(placed, x.shape[1]) > n_lanes:
        return _fit_in_turn(placed, keys, x, weight, hyper, data)
    if lanes == "map":
        return _fit_in_threads(placed, keys, x, weight, hyper, data)
    if lanes == "vmap":
        return _fit_together(placed, keys, x, weight, hyper, data, chunk_steps)
    raise SettingsError(f"lanes={lanes!r} is not one of auto, map, vmap")


def _fit_in_turn(
    config: PlacedConfig, keys: Array, x: Array, weight: Array, hyper: GmmHyper, data: Array
) -> tuple[GmmParams, FitInfo]:
    """A few large lanes, each on all cores."""

    def fit(lane: int) -> tuple[GmmParams, FitInfo]:
        which = data[lane]
        own = jax.tree.map(itemgetter(lane), hyper)
        return fit_split(config, keys[lane], x[which], weight[which], own)

    fits = [fit(lane) for lane in range(len(data))]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *fits)


def _fit_in_threads(
    config: PlacedConfig, keys: Array, x: Array, weight: Array, hyper: GmmHyper, data: Array
) -> tuple[GmmParams, FitInfo]:
    """One compiled loop over lanes, called by a thread for each core on shares of the lanes in turns."""
    n_lanes = keys.shape[0]
    n_threads = n_cores()
    # A few calls a thread even out lanes of different cost; all have the same shape, hence one compile.
    n_calls = min(n_lanes, 4 * n_threads)
    size = -(-n_lanes // n_calls)
    padded = np.minimum(np.arange(-(-n_lanes // size) * size), n_lanes - 1).reshape(-1, size)

    def call(index: np.ndarray) -> tuple[GmmParams, FitInfo]:
        chosen = jax.tree.map(itemgetter(index), (keys, hyper, data))
        return _map_lanes(config, x, weight, *chosen)

    # LAPACK's own threads on matrices of a hundred rows wait for each other: 10 times slower than one.
    with threads(n_threads) as over, threadpool_limits(1, user_api="blas"):
        results = over(call, list(padded))
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[:n_lanes], *results)


@functools.partial(jax.jit, static_argnums=0)
def _map_lanes(
    config: PlacedConfig, x: Array, weight: Array, keys: Array, hyper: GmmHyper, data: Array
) -> tuple[GmmParams, FitInfo]:
    def fit(lane: tuple[Array, GmmHyper, Array]) -> tuple[GmmParams, FitInfo]:
        key, hyper, which = lane
        return fit_gmm(config, key, x[which], weight[which], hyper)

    return lax.map(fit, (keys, hyper, data))


def _fit_together(
    config: PlacedConfig, keys: Array, x: Array, weight: Array, hyper: GmmHyper, data: Array, chunk_steps: int
) -> tuple[GmmParams, FitInfo]:
    """All lanes (times `n_init` starts) step together; the batch shrinks to the unfinished ones in halves."""
    n_init = config.n_init
    keys = jax.vmap(lambda key: start_keys(config, key))(keys).reshape(-1)
    hyper, data = jax.tree.map(lambda leaf: jnp.repeat(leaf, n_init, axis=0), (hyper, data))
    frames, states = _start_lanes(config, keys, x, weight, hyper, data)
    running = np.flatnonzero(np.asarray(states.status) == RUNNING)
    while len(running):
        # Powers of two: few shapes, so few compiles. The repeats at the end step along and are not written.
        size = min(1 << (len(running) - 1).bit_length(), len(keys))
        index = np.resize(running, size)
        part = jax.tree.map(itemgetter(index), (frames, hyper, data, states))
        part = _step_lanes(config, chunk_steps, x, weight, *part)
        n_running = len(running)
        states = jax.tree.map(
            lambda old, new, running=running, n=n_running: old.at[running].set(new[:n]), states, part
        )
        status, n_steps = np.asarray(states.status), np.asarray(states.n_steps)
        running = np.flatnonzero((status == RUNNING) & (n_steps < config.max_iter))
    shape = (len(keys) // n_init, n_init)
    states = jax.vmap(best_start)(jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), states))
    frames, data = jax.tree.map(lambda leaf: leaf[::n_init], (frames, data))
    return _end_lanes(config, frames, weight, data, states)


@functools.partial(jax.jit, static_argnums=0)
def _start_lanes(
    config: PlacedConfig, keys: Array, x: Array, weight: Array, hyper: GmmHyper, data: Array
) -> tuple[Frame, EmState]:
    def start(key: Array, hyper: GmmHyper, which: Array) -> tuple[Frame, EmState]:
        frame = make_frame(config, x[which], weight[which], hyper)
        return frame, start_em(config, frame, key, x[which], weight[which], hyper)

    return jax.vmap(start)(keys, hyper, data)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _step_lanes(
    config: PlacedConfig,
    n_steps: int,
    x: Array,
    weight: Array,
    frames: Frame,
    hyper: GmmHyper,
    data: Array,
    states: EmState,
) -> EmState:
    def steps(frame: Frame, hyper: GmmHyper, which: Array, state: EmState) -> EmState:
        return run_em(config, frame, x[which], weight[which], hyper, state, n_steps)

    return jax.vmap(steps)(frames, hyper, data, states)


@functools.partial(jax.jit, static_argnums=0)
def _end_lanes(
    config: PlacedConfig, frames: Frame, weight: Array, data: Array, states: EmState
) -> tuple[GmmParams, FitInfo]:
    return jax.vmap(lambda frame, which, state: end_em(config, frame, weight[which], state))(
        frames, data, states
    )
