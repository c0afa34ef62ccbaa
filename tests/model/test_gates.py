"""What gradient descent finds in normal clips."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adjax.detectors.gmm import GmmConfig
from adjax.model.gates import learn_gates, learn_ratio
from tests.model.test_selection import APART, CONSTANT, MACHINE, N_MACHINES, NOISE, TWIN, made


@pytest.mark.parametrize("density", ["alone", "together"])
def test_gates_open_for_what_tells_machines_apart(density: str) -> None:
    learn = jax.jit(partial(learn_gates, n_machines=N_MACHINES, density=density, n_steps=100))
    found = learn(made(), MACHINE)
    gates = np.asarray(found.value)
    assert gates[CONSTANT] == 0
    assert ((gates >= 0) & (gates <= 1)).all()
    assert max(gates[APART], gates[TWIN]) > 3 * gates[NOISE]
    assert found.losses[-1] < found.losses[0]


@pytest.mark.parametrize(("loud", "low", "high"), [(True, 0.0, 0.7), (False, 0.95, 1.0)])
def test_r_follows_what_foreign_clips_have(loud: bool, low: float, high: float) -> None:
    """Foreign clips with one loud frame ask for the maximum, those that are a little louder throughout for the mean."""
    rng = np.random.default_rng(0)
    frames = rng.gumbel(size=(40, 50, 2)).astype(np.float32)
    foreign = rng.gumbel(size=(20, 50, 2)).astype(np.float32)
    if loud:
        foreign[:, 7] += 8
    else:
        foreign += 0.5
    weight, foreign_weight = np.ones((40, 50), np.float32), np.ones((20, 50), np.float32)
    frames[3, 30:], weight[3, 30:] = 99, 0  # padding
    machine, theirs = np.zeros(40, np.int32), np.zeros(20, np.int32)
    learn = jax.jit(partial(learn_ratio, n_machines=1, config=GmmConfig(1, "diag"), n_steps=60))
    found = learn(jax.random.key(0), frames, weight, machine, foreign, foreign_weight, theirs)
    assert low <= float(found.value) <= high
    assert found.losses[-1] < found.losses[0]
    assert jnp.isfinite(found.values).all()
