"""One further machine, by every kind that is a pure function: as the fit of all has it, and what lends nothing."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose

from adjax.detectors.kinds import kind_of
from adjax.types import CONVERGED, Training

D, N = 8, 30
KINDS = ("joint", "neighbours", "identity", "gaussians")


def training(machines: list[str], n: list[int], weight: Any = None) -> Training:
    rows, machine = [], []
    for number, (name, count) in enumerate(zip(machines, n, strict=True)):
        rng = np.random.default_rng([*name.encode()])
        rows.append(2 * rng.normal(size=D) + rng.normal(size=(count, D)) @ (np.eye(D) + 0.4))
        machine += [number] * count
    x = np.concatenate(rows).astype(np.float32)
    index = np.arange(len(x), dtype=np.int32)
    weight = np.ones(len(x), np.float32) if weight is None else weight
    seeds = np.arange(len(machines), dtype=np.uint32)
    return Training(x, weight, index, np.array(machine, np.int32), np.zeros(len(x), np.int32), seeds)


def parts_of(kind: str) -> tuple[Any, Any, Any, Any]:
    own = kind_of(kind)
    config, hyper = own.for_vectors(own.config()), own.hyper()
    made = own.make(config, hyper)
    assert own.adapt is not None

    @jax.jit
    def fit(given: Training) -> Any:
        return made.fit(jax.random.key(0), given, hyper)

    @jax.jit
    def adapt(params: Any, memory: Training, new: Training) -> Any:
        return own.adapt(config, hyper, jax.random.key(0), params, memory, new)

    @jax.jit
    def score(params: Any, machine: Any, rows: Any) -> Any:
        return jax.vmap(lambda row: made.score(params, machine, row[None], np.ones(1))[0])(rows)

    return fit, adapt, score, made


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_machine_is_as_if_it_had_been_there(kind: str) -> None:
    fit, adapt, score, _ = parts_of(kind)
    memory, new = training(["a", "b", "c"], [N] * 3), training(["new"], [N])
    together, _ = fit(training(["a", "b", "c", "new"], [N] * 4))
    params, _ = fit(memory)
    own, info = adapt(params, memory, new)
    assert np.asarray(info.status).tolist() == [CONVERGED]
    assert all(len(leaf) == 1 for leaf in jax.tree.leaves(own))
    rows = training(["new"], [3 * N]).rows[N:]
    rows[: len(rows) // 2, 0] += 6
    first, second = score(own, 0, rows), score(together, 3, rows)
    # Their mates' columns and correlations are worked out without the new machine, or its class.
    least = 0.7 if kind == "identity" else 0.98
    assert np.corrcoef(first, second)[0, 1] > least
    # A silent mate and held-out clips lend nothing.
    silent = np.where(memory.machine == 1, 0, memory.weight).astype(np.float32)
    held_out = np.ones(N, np.float32)
    held_out[3] = 0

    def adapted(wild: float) -> Any:
        rows = np.where((memory.machine == 1)[:, None], memory.rows + wild, memory.rows).astype(np.float32)
        own = new.rows.copy()
        own[3] += wild
        return adapt(
            params, memory._replace(rows=rows, weight=silent), new._replace(rows=own, weight=held_out)
        )[0]

    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-4, atol=1e-5), adapted(0.0), adapted(50.0))
