"""Numbers of a small network by PyTorch, which `test_network` compares ours with where PyTorch is not installed.

Run:     python -m tests.detectors.frozen_network      (with torch; writes frozen_network.json)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from adjax.detectors.network import NetworkConfig
from adjax.detectors.network.network import Weights, init_weights

FILE = Path(__file__).with_suffix(".json")
CONFIG = NetworkConfig(n_samples=70_400, width=16, n_centres=4)  # all layers as published, narrower
N_MACHINES = 3


def weights() -> tuple[Weights, np.ndarray]:
    """Those of both versions, drawn by NumPy, and centres (n_machines, n_centres, 2 width)."""
    rng = np.random.default_rng(0)
    empty = jax.eval_shape(lambda: init_weights(CONFIG, jax.random.key(0), np.float32))

    def draw(leaf: Any) -> np.ndarray:
        return (rng.uniform(-1, 1, leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))).astype(np.float32)

    stats = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), empty.batch_stats)
    centres = rng.normal(size=(N_MACHINES, CONFIG.n_centres, 2 * CONFIG.width)).astype(np.float32)
    return Weights(jax.tree.map(draw, empty.params), stats), centres


def batch() -> tuple[np.ndarray, np.ndarray]:
    """(4, n_samples) waves and (4, n_machines) targets, as mixup makes them."""
    rng = np.random.default_rng(1)
    turns = np.outer(rng.uniform(0.02, 0.4, 4), np.arange(CONFIG.n_samples))
    waves = 0.1 * np.sin(2 * np.pi * turns) + 0.05 * rng.normal(size=turns.shape)
    return waves.astype(np.float32), rng.dirichlet(np.ones(N_MACHINES), 4).astype(np.float32)


def main() -> None:
    """Compute and write."""
    import torch

    from experiments.benchmarks._torch_network import Network, set_weights

    model = Network(CONFIG.n_samples, N_MACHINES, CONFIG.n_centres, CONFIG.width)
    own, centres = weights()
    set_weights(model, own.params, centres)
    waves, target = (torch.from_numpy(one) for one in batch())
    with torch.no_grad():
        vectors = model.train().embed(waves)
        found = {
            "vectors": vectors.tolist(),
            "logits": model.logits(vectors).tolist(),
            "loss": float(model.loss(waves, target)),
        }
    FILE.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
