"""A new machine for a network that is not trained again: its references, their room, what changes nothing."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from adjax.detectors.local_density import halved
from adjax.detectors.network import KIND, NetworkConfig, NetworkHyper, NetworkParams, make_network
from adjax.detectors.network.adapt import adapt
from adjax.detectors.network.detector import clips_of, finish
from adjax.detectors.network.network import embed, init_weights
from adjax.types import CONVERGED, NOT_FINITE, Training

HOP, N_ROWS = 64, 32
CONFIG = NetworkConfig(
    n_samples=2048, n_fft=128, hop_length=64, first_bin=0, width=16, kernels=(16, 8), strides=(4, 4), n_dense=2,
    n_pairs=1, n_centres=2, n_epochs=1, batch_size=4, n_neighbours=2,
)  # fmt: skip


def tones(hz: float, n: int, seed: int = 0) -> np.ndarray:
    """(n, n_samples) at 4 kHz, in noise."""
    rng = np.random.default_rng(seed)
    turns = hz * np.arange(HOP * N_ROWS) / 4000 + rng.uniform(size=(n, 1))
    return (0.1 * np.sin(2 * np.pi * turns) + 0.02 * rng.normal(size=turns.shape)).astype(np.float32)


def training(waves: np.ndarray, machine: np.ndarray) -> Training:
    n = len(waves)
    clip = np.repeat(np.arange(n), N_ROWS).astype(np.int32)
    seeds = np.arange(machine.max() + 1, dtype=np.uint32)
    rows = waves.reshape(-1, HOP)
    return Training(
        rows, np.ones(len(rows), np.float32), clip, machine.astype(np.int32), np.zeros(n, np.int32), seeds
    )


NEW = training(tones(900, 3), np.zeros(3, int))


@pytest.fixture(scope="module")
def mates() -> tuple[NetworkParams, Training]:
    """A network as it was drawn, and five clips of each of two machines."""
    weights = init_weights(CONFIG, jax.random.key(0), jnp.float32)
    waves = np.concatenate([tones(300, 5), tones(500, 5)])
    memory = jax.tree.map(jnp.asarray, training(waves, np.repeat([0, 1], 5)))
    vectors = jax.jit(embed, static_argnums=0)(CONFIG, weights, waves)
    return finish(CONFIG, 5, weights, vectors, clips_of(memory), jnp.asarray(memory.seed)), memory


def test_the_new_machine_has_its_clips_vectors_and_the_network_stays(mates) -> None:
    params, memory = mates
    assert KIND.adapt is adapt
    found, info = adapt(CONFIG, NetworkHyper(), jax.random.key(0), params, memory, NEW)
    assert_array_equal(info.status, CONVERGED)
    jax.tree.map(assert_array_equal, found.weights.value, params.weights.value)
    assert_array_equal(found.weights.fit, [0])
    vectors = jax.jit(embed, static_argnums=0)(CONFIG, params.weights.of(0), tones(900, 3))
    assert_allclose(found.references.clips[0, :3], halved(vectors), rtol=1e-4, atol=1e-5)
    assert_array_equal(found.references.weight, [[1, 1, 1, 0, 0]])  # room as the mates have
    score = jax.jit(make_network(CONFIG).score)

    def scores(hz: float) -> list[float]:
        waves = tones(hz, 4, seed=1).reshape(4, N_ROWS, HOP)
        return [float(score(found, 0, wave, jnp.ones(N_ROWS))[0]) for wave in waves]

    assert max(scores(900)) < min(scores(1400))


def test_more_clips_than_a_mate_has_have_room(mates) -> None:
    params, memory = mates
    found, _ = adapt(
        CONFIG, NetworkHyper(), jax.random.key(0), params, memory, training(tones(900, 7), np.zeros(7, int))
    )
    assert_array_equal(found.references.weight, np.ones((1, 7)))


def test_clips_of_weight_0_change_nothing_and_none_is_a_status(mates) -> None:
    params, memory = mates
    weight = np.repeat([1, 0, 1], N_ROWS).astype(np.float32)
    two, _ = adapt(
        CONFIG,
        NetworkHyper(),
        jax.random.key(0),
        params,
        memory,
        training(tones(900, 3)[[0, 2]], np.zeros(2, int)),
    )
    spoilt = np.where(weight[:, None] > 0, NEW.rows, np.nan)
    held_out = NEW._replace(rows=spoilt, weight=weight)
    found, _ = adapt(CONFIG, NetworkHyper(), jax.random.key(0), params, memory, held_out)
    score = jax.jit(make_network(CONFIG).score)
    wave = tones(700, 1).reshape(N_ROWS, HOP)
    one, other = (score(own, 0, wave, jnp.ones(N_ROWS)) for own in (two, found))
    assert_allclose(one, other, rtol=1e-5)
    nothing = NEW._replace(weight=np.zeros_like(weight))
    _, info = adapt(CONFIG, NetworkHyper(), jax.random.key(0), params, memory, nothing)
    assert_array_equal(info.status, NOT_FINITE)
