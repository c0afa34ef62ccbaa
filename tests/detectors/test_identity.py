"""Which machine a clip is of: the score, its columns' scale, and what it does where there is nothing to tell apart."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression

from adjax.detectors.identity import (
    IdentityConfig,
    IdentityHyper,
    adapt_identity,
    fit_columns,
    make_identity,
    squash,
)
from adjax.types import CONVERGED, MAX_ITER, NOT_FINITE, SettingsError, Training

N, D, N_MACHINES = 60, 12, 3


def rows_of(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    machine = np.repeat(np.arange(N_MACHINES), N // N_MACHINES).astype(np.int32)
    x = 0.7 * rng.normal(size=(N_MACHINES, D))[machine] + rng.normal(size=(N, D)) * np.linspace(0.5, 2, D)
    return x.astype(np.float32), machine


def training(x: Any, machine: Any, weight: Any = None, n_machines: int = N_MACHINES) -> Training:
    weight = np.ones(len(x), np.float32) if weight is None else weight
    clip = np.arange(len(x), dtype=np.int32)
    seeds = np.arange(n_machines, dtype=np.uint32)
    return Training(*map(jnp.asarray, (x, weight, clip, machine, np.zeros_like(machine), seeds)))


DETECTOR = make_identity()
fit = jax.jit(lambda own: DETECTOR.fit(jax.random.key(0), own))


@jax.jit
def scores(params: Any, machine: Any, x: Any) -> Any:
    one = jnp.ones(1)
    return jax.vmap(lambda m, row: DETECTOR.score(params, m, row[None], one)[0])(machine, x)


def score_of(own: Training, machine: Any, x: Any) -> np.ndarray:
    params, info = fit(own)
    assert (np.asarray(info.status) == CONVERGED).all()
    return np.asarray(scores(params, machine, x))


def test_the_score_is_the_distance_from_the_prototype_in_the_logits() -> None:
    x, machine = rows_of()
    new, _ = rows_of(1)
    # As told: centred on the machines' means, divided by the spread within machines, squashed; scikit-learn's defaults.
    each = [x[machine == m].astype(float) for m in range(N_MACHINES)]
    within = np.sqrt(np.mean([own.var(axis=0) for own in each], axis=0)) + 1e-3 * x.std(axis=0)
    centre = np.mean([own.mean(axis=0) for own in each], axis=0)
    scaled, new_scaled = (2 * np.arcsinh((own - centre) / within / 2) for own in (x, new))
    columns = fit_columns(jnp.asarray(x), jnp.asarray(machine), jnp.ones(N), N_MACHINES)
    assert_allclose(squash(columns, jnp.asarray(x)), scaled, atol=1e-4)
    peer = LogisticRegression(tol=1e-9, max_iter=10_000).fit(scaled, machine)
    logits = peer.decision_function(scaled)
    means = np.stack([logits[machine == m].mean(axis=0) for m in range(N_MACHINES)])
    scatters = [(N // N_MACHINES - 1) * np.cov(logits[machine == m].T) for m in range(N_MACHINES)]
    common = sum(scatters) / (N - N_MACHINES)
    expected = []
    for row, m in zip(peer.decision_function(new_scaled), machine, strict=True):
        total = (scatters[m] + 64 * common) / (N // N_MACHINES - 1 + 64)
        total += 1e-2 * np.trace(total) / N_MACHINES * np.eye(N_MACHINES)
        expected.append(np.log((row - means[m]) @ np.linalg.solve(total, row - means[m]) / N_MACHINES))
    found = score_of(training(x, machine), machine, new)
    assert_allclose(found, expected, atol=5e-3)


def test_a_new_machine_gets_a_prototype_in_the_logits_of_the_others() -> None:
    x, machine = rows_of()
    known, new = machine > 0, machine == 0
    params, _ = fit(training(x[known], machine[known] - 1, n_machines=2))
    weight = np.ones(new.sum(), np.float32)
    weight[:2] = 0
    odd = x[new].copy()
    odd[:2] = np.nan
    memory = training(x[known], machine[known] - 1, n_machines=2)

    @jax.jit
    def adapt(own: Training) -> Any:
        return adapt_identity(IdentityConfig(), IdentityHyper(), jax.random.key(0), params, memory, own)

    found, info = adapt(training(odd, machine[new], weight, n_machines=1))
    assert_array_equal(info.status, [CONVERGED])
    inert, _ = adapt(training(x[new][2:], machine[new][2:], n_machines=1))
    jax.tree.map(lambda a, b: assert_allclose(a, b, atol=1e-5), found, inert)
    clips = scores(found, machine, x)
    assert np.mean(clips[new]) < np.mean(clips[known])
    # The mates keep their numbers.
    jax.tree.map(assert_array_equal, found.common.value, params.common.value)


def test_the_unit_of_a_column_and_constant_columns_change_nothing() -> None:
    x, machine = rows_of()
    new, _ = rows_of(1)
    plain = score_of(training(x, machine), machine, new)
    factor, offset = np.ones(D, np.float32), np.zeros(D, np.float32)
    factor[[0, 1, 2]], offset[3] = (1e6, 1e-6, 2.0**100), 100.0
    other = score_of(training(x * factor + offset, machine), machine, new * factor + offset)
    assert_allclose(other, plain, rtol=1e-3, atol=2e-3)
    constant = np.full((N, 3), [0, 12345.678, -1e30], np.float32)
    with_constant = score_of(
        training(np.hstack([x, constant]), machine), machine, np.hstack([new, constant + 1])
    )
    assert_allclose(with_constant, plain, rtol=1e-3, atol=1e-3)


def test_a_column_with_heavy_tails_is_squashed() -> None:
    x, machine = rows_of()
    x[0, 0] = 1e8
    assert np.isfinite(score_of(training(x, machine), machine, x)).all()


def test_padding_and_other_lanes_are_inert() -> None:
    x, machine = rows_of()
    weight = np.ones(N, np.float32)
    weight[::5] = 0
    odd = x.copy()
    odd[::5] = np.nan
    params, _ = fit(training(x, machine, weight))
    spoilt, _ = fit(training(odd, machine, weight))
    jax.tree.map(assert_array_equal, params, spoilt)
    alone = score_of(training(x[weight > 0], machine[weight > 0]), machine, x)
    assert_allclose(scores(params, machine, x), alone, atol=2e-3)
    other = np.ones(N, np.float32)
    lanes = jax.jit(
        lambda w: jax.lax.map(lambda own: DETECTOR.fit(jax.random.key(0), training(x, machine, own)), w)
    )(jnp.stack([other, weight]))
    jax.tree.map(lambda a, b: assert_allclose(a[1], b, atol=1e-3), lanes[0], params)


def test_a_machine_without_a_row_is_no_class_and_has_no_score() -> None:
    x, machine = rows_of()
    weight = (machine != 1).astype(np.float32)
    found = score_of(training(x, machine, weight), machine, x)
    assert np.isnan(found[machine == 1]).all()
    kept = machine != 1
    two = score_of(training(x[kept], machine[kept] // 2, n_machines=2), machine[kept] // 2, x[kept])
    assert_allclose(found[kept], two, atol=2e-3)


def test_one_machine_alone_knows_nothing() -> None:
    x, machine = rows_of()
    own = machine == 0
    assert_array_equal(score_of(training(x[own], machine[own], n_machines=1), machine[own], x[own]), 0)


def test_statuses() -> None:
    x, machine = rows_of()
    short = make_identity(IdentityConfig(max_iter=1))
    _, info = jax.jit(short.fit)(jax.random.key(0), training(x, machine))
    assert_array_equal(info.status, MAX_ITER)
    bad = x.copy()
    bad[0, 0] = np.nan
    assert_array_equal(fit(training(bad, machine))[1].status, NOT_FINITE)
    for c in (np.nan, -1.0, np.inf):
        _, info = jax.jit(DETECTOR.fit)(
            jax.random.key(0), training(x, machine), IdentityHyper(jnp.float32(c))
        )
        assert_array_equal(info.status, NOT_FINITE)


def test_explanations_have_gradients_everywhere() -> None:
    x, machine = rows_of()
    params, _ = fit(training(x, machine))
    centre = params.common.of(0).columns.centre
    for row in (x[0], centre):
        slope = jax.grad(lambda r: DETECTOR.score(params, 1, r[None], jnp.ones(1))[0])(jnp.asarray(row))
        assert np.isfinite(slope).all()
        assert np.abs(slope).max() > 0


@pytest.mark.parametrize(
    ("config", "hyper", "named"),
    [
        (IdentityConfig(contrast="none"), IdentityHyper(), "contrast"),
        (IdentityConfig(max_iter=0), IdentityHyper(), "max_iter"),
        (IdentityConfig(), IdentityHyper(C=0.0), "C"),
        (IdentityConfig(), IdentityHyper(C=np.nan), "C"),
        (IdentityConfig(), IdentityHyper(mates=-1.0), "mates"),
    ],
)
def test_settings_out_of_range(config: IdentityConfig, hyper: IdentityHyper, named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        make_identity(config, hyper)
