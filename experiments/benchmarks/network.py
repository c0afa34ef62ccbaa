"""One epoch of the network that tells machines apart against PyTorch.

Run:     python -m experiments.benchmarks.network [--quick] [--json FILE]
Work:    epoch: 128 clips of 10 s at 16 kHz of three machines, two steps of 64, from waves to weights: mixup, both
         spectra, the way there and back, AdamW. (--quick: one step.) The peer is the independent eager version that
         `tests/detectors/test_network.py` holds ours to, on the same waves.
Reads:   clips a second of both.
Result:  README.md beside this file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adjax.detectors.network import NetworkConfig, NetworkHyper
from adjax.detectors.network.detector import Clips
from adjax.detectors.network.host import train_epoch
from adjax.detectors.network.training import init_state
from experiments.benchmarks._harness import Case, Row, find_peer, main

BATCH, N_MACHINES = 64, 3


def make_waves(n_clips: int, n_samples: int) -> np.ndarray:
    """(n_clips, n_samples) float32 noise at the level of recordings."""
    return np.random.default_rng(0).normal(0, 0.05, (n_clips, n_samples)).astype(np.float32)


def make_ours(waves: np.ndarray, config: NetworkConfig) -> Callable[[], Any]:
    """One epoch as a fit from the host makes it, always from the same state."""
    n, hyper = len(waves), jax.tree.map(jnp.float32, NetworkHyper())
    clips = Clips(jnp.zeros(n, jnp.int32), jnp.full(n, waves.shape[1]), jnp.arange(n) % N_MACHINES)
    key, seeds = jax.random.key(0), jnp.arange(N_MACHINES, dtype=jnp.uint32)
    state = init_state(config, key, seeds, hyper, jnp.float32)
    return lambda: train_epoch(config, key, state, hyper, clips, lambda clip, start: waves[clip])


def make_torch(waves: np.ndarray) -> Callable[[], Any] | None:
    """The usual eager loop."""
    torch = find_peer("torch")
    if torch is None:
        return None
    from experiments.benchmarks._torch_network import Network
    from experiments.benchmarks._torch_network import train_epoch as epoch_of_torch

    model, x = Network(waves.shape[1], N_MACHINES), torch.from_numpy(waves)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    machine = torch.arange(len(waves)) % N_MACHINES
    return lambda: epoch_of_torch(model, optimizer, x, machine, BATCH)


def make_cases(quick: bool) -> list[Case]:
    """The one case."""
    config = NetworkConfig(
        n_samples=159_744, n_epochs=1, batch_size=BATCH
    )  # whole blocks: nothing is repeated
    n_clips = BATCH if quick else 2 * BATCH
    waves = make_waves(n_clips, config.n_samples)
    theirs = make_torch(waves)

    def facts(row: Row) -> dict[str, float]:
        return {"clips/s": n_clips / row.ours_s} | {
            f"clips/s of {name}": n_clips / seconds for name, seconds in row.peers.items()
        }

    peers = {"torch (eager)": theirs} if theirs else {}
    return [Case("epoch", make_ours(waves, config), peers, facts=facts)]


if __name__ == "__main__":
    main("An epoch of the network", make_cases, packages=("flax", "optax", "torch"), rounds=5)
