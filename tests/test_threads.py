"""Threads for JAX work: order, failures, and the precision of whoever asks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adjax.threads import n_cores, threads


def test_results_come_in_order_and_in_the_callers_precision() -> None:
    assert n_cores() >= 1
    for enabled, dtype in ((True, jnp.float64), (False, jnp.float32)):
        with jax.enable_x64(enabled), threads(3) as over:
            results = over(lambda n: jnp.arange(n) / np.float64(2), list(range(1, 8)))
        assert [len(result) for result in results] == list(range(1, 8))
        assert {result.dtype for result in results} == {jnp.dtype(dtype)}


def test_a_failure_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError), threads(2) as over:
        over(lambda n: 1 // n, [1, 0, 2])
