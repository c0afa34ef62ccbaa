"""One epoch of the 2020 baseline's autoencoder against PyTorch, and 24 lanes against one.

Run:     python -m experiments.benchmarks.autoencoder [--quick] [--json FILE]
Works:   epoch: 30,720 windows of 5 x 128, batches of 512. The limit is its products as square ones: its floating-point
         operations at the rate of a 2048 x 2048 product, so that "limit / ours" is the fraction of the matmul peak.
         Ours in bfloat16 stands among the peers; what it costs in AUC: `adjax run --model autoencoder --out DIR`
         beside the same with `--compute-dtype bfloat16`.
         lanes24: an epoch of 3 machines of unlike size x 8 bottlenecks, 61,440 windows together, one lane after
         another; the peer is vmap. The limit is as many windows of a single lane, so that "limit / ours" is the
         fraction of the single lane's floating-point rate.
         (full_set is in autoencoder_memory.py.)
Result:  README.md beside this file.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from adjax.detectors.autoencoder import (
    AutoencoderConfig,
    AutoencoderHyper,
    Lane,
    Sizes,
    Span,
    Strategy,
    Windows,
    make_autoencoder,
    make_lanes,
)
from experiments.benchmarks._harness import Case, find_peer, main
from experiments.benchmarks._torch_autoencoder import (
    N_CONTEXT,
    N_MELS,
    WIDTHS,
    build,
    stack_windows,
    train_epoch,
)

N_WINDOWS, BATCH = 30_720, 512
MACHINES = (3072, 3072, 1536)  # windows, in about the proportions of the slide rails
WIDTHS_SWEPT = (1, 2, 4, 8, 16, 24, 32, 64)


def make_rows() -> np.ndarray:
    """(N_WINDOWS + N_CONTEXT - 1, N_MELS) float32: correlated noise at the level of log-mels in dB."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(16, N_MELS))
    return (-30 + rng.normal(size=(N_WINDOWS + N_CONTEXT - 1, 16)) @ mixing).astype(np.float32)


def make_ours(rows: np.ndarray, compute_dtype: Literal["float32", "bfloat16"]) -> Callable[[], Any]:
    """One epoch, weights initialised and windows gathered inside."""
    config = AutoencoderConfig(N_CONTEXT, n_epochs=1, batch_size=BATCH, compute_dtype=compute_dtype)
    detector = make_autoencoder(config)
    fit = jax.jit(detector.fit)
    x = jax.device_put(rows)
    weight = (jnp.arange(len(rows)) < N_WINDOWS).astype(jnp.float32)
    return lambda: fit(jax.random.key(0), x, weight, detector.hyper)


def make_torch(rows: np.ndarray) -> Callable[[], Any] | None:
    """The usual eager loop over a shuffled matrix of windows, which exists whole."""
    torch = find_peer("torch")
    if torch is None:
        return None
    windows = torch.from_numpy(stack_windows(rows))
    model, optimizer = build(torch, "2020")
    return lambda: train_epoch(torch, model, optimizer, windows, BATCH)


def make_limit() -> Callable[[], Any]:
    """As many operations as the epoch's products: forward, and twice as many backward."""
    n = 2048
    per_window = 3 * 2 * sum(i * o for i, o in pairwise(WIDTHS))
    n_products = max(1, round(per_window * N_WINDOWS / (2 * n**3)))
    a = jnp.ones((n, n))
    products = jax.jit(lambda a: jax.lax.fori_loop(0, n_products, lambda _, b: (a @ b) / n, a))
    return lambda: products(a)


def make_lanes24(rows: np.ndarray) -> Case:
    """One epoch of each of 24 lanes; the single lane makes as many epochs as give the same number of windows."""
    config = AutoencoderConfig(N_CONTEXT, bottleneck=64, batch_size=BATCH)
    edges = np.concatenate([[0], np.cumsum(MACHINES)])
    windows = Windows(
        jnp.asarray(rows),
        jnp.ones(len(rows)),
        jnp.arange(edges[-1], dtype=jnp.int32),
        jnp.zeros(0, jnp.int32),
    )
    sizes = Sizes(max(MACHINES), 0)

    def stack(machines: list[int], widths: list[int]) -> Lane:
        n = len(machines)
        none = jnp.zeros(n, jnp.int32)
        hyper = AutoencoderHyper(jnp.full(n, 1e-3), jnp.zeros(n), jnp.array(widths), jnp.ones(n), jnp.ones(n))
        span = Span(jnp.array(edges[:-1][machines]), jnp.array(MACHINES)[jnp.array(machines)])
        return Lane(jax.random.split(jax.random.key(0), n), span, Span(none, none), hyper)

    def runner(strategy: Strategy, lanes: Lane, n_epochs: int) -> Callable[[], Any]:
        program = make_lanes(config, sizes, lanes=strategy)
        state = jax.jit(program.init)(windows, lanes)
        train = jax.jit(program.train, static_argnums=3)
        return lambda: train(windows, lanes, state, n_epochs)

    many = stack([machine for machine in range(3) for _ in WIDTHS_SWEPT], [*WIDTHS_SWEPT] * 3)
    same_work = sum(MACHINES) * len(WIDTHS_SWEPT) // MACHINES[0]
    return Case(
        "lanes24",
        runner("map", many, 1),
        {"ours by vmap": runner("vmap", many, 1)},
        runner("map", stack([0], [8]), same_work),
    )


def make_cases(quick: bool) -> list[Case]:
    """Both cases."""
    del quick  # the work stays the same, only the rounds are fewer
    rows = make_rows()
    torch_epoch = make_torch(rows)
    peers = {"ours in bfloat16": make_ours(rows, "bfloat16")}
    peers |= {"torch (eager)": torch_epoch} if torch_epoch else {}
    return [Case("epoch", make_ours(rows, "float32"), peers, make_limit()), make_lanes24(rows)]


if __name__ == "__main__":
    main("Epochs of the autoencoder", make_cases, packages=("flax", "optax", "torch"), rounds=9)
