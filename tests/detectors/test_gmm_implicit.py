"""The gradient of a mixture's parameters where EM has converged."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from adjax.detectors.gmm import GmmConfig, GmmHyper, fit_gmm, fit_implicit, log_joint
from tests.detectors.test_gmm import clusters, soft_start

ROWS, NEW, START = clusters(0, n=120, d=3), clusters(1, n=40, d=3), soft_start(2, 120, 3)
WEIGHT = np.r_[np.linspace(0.5, 1.5, 100), np.zeros(20)]


def judged(kind: str, fit: Callable = fit_implicit, taking_part: int | None = None) -> Callable:
    """(bend, reg) -> mean log-likelihood of held-out rows, whose columns are bent as those of the fit are."""
    config = GmmConfig(3, kind, max_iter=2000)

    def loss(bend: jax.Array, reg: jax.Array) -> jax.Array:
        bent = ROWS + bend * jnp.sin(ROWS)
        hyper = GmmHyper(reg, 1e-13, taking_part)
        params, _ = fit(config, jax.random.key(3), bent, jnp.asarray(WEIGHT), hyper, jnp.asarray(START))
        return jnp.mean(jax.nn.logsumexp(log_joint(kind, params, NEW + bend * jnp.sin(NEW)), axis=1))

    return loss


@pytest.mark.parametrize(
    ("kind", "taking_part"), [("full", None), ("full", 2), ("diag", None), ("tied", None)]
)
def test_reverse_mode_equals_finite_differences(x64: None, kind: str, taking_part: int | None) -> None:
    """Also where a component takes no part."""
    at, step = np.array([0.3, 1e-2]), 1e-5
    look = jax.jit(jax.value_and_grad(judged(kind, taking_part=taking_part), argnums=(0, 1)))
    slopes = look(*at)[1]
    for place, slope in enumerate(slopes):
        moved = at[place] * step * np.eye(2)[place]
        difference = (look(*(at + moved))[0] - look(*(at - moved))[0]) / (2 * moved[place])
        assert_allclose(slope, difference, rtol=1e-4)


def test_reverse_mode_equals_forward_mode_through_all_steps(x64: None) -> None:
    at = (0.3, 1e-2)
    slopes = jax.jit(jax.grad(judged("full"), argnums=(0, 1)))(*at)
    assert_allclose(slopes, jax.jit(jax.jacfwd(judged("full", fit_gmm), argnums=(0, 1)))(*at), rtol=1e-4)
    assert_allclose(slopes, jax.jit(jax.jacfwd(judged("full"), argnums=(0, 1)))(*at), rtol=1e-5)


def test_parameters_are_those_of_the_fit() -> None:
    x, config, hyper = ROWS.astype(np.float32), GmmConfig(2, "diag", n_init=2), GmmHyper(1e-3, 1e-5)
    fits = [
        jax.jit(partial(fit, config))(jax.random.key(0), x, WEIGHT.astype(np.float32), hyper)
        for fit in (fit_gmm, fit_implicit)
    ]
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-5, atol=1e-6), *fits)


def test_padding_has_no_gradient() -> None:
    """In float32, in blocks."""
    x = np.where(WEIGHT[:, None] > 0, ROWS, 99).astype(np.float32)
    config, hyper = GmmConfig(3, block_size=32), GmmHyper(1e-2, 1e-6)

    def loss(x: jax.Array) -> jax.Array:
        weight, start = jnp.float32(WEIGHT), jnp.float32(START)
        return fit_implicit(config, jax.random.key(0), x, weight, hyper, start)[0].means.std()

    slope = jax.jit(jax.grad(loss))(x)
    assert np.isfinite(slope).all()
    assert np.abs(slope[:100]).max() > 1e-4
    assert not np.any(slope[100:])
