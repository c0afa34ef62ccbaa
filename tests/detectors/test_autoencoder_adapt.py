"""An autoencoder for a new machine: BatchNorm's statistics, whose network, how many epochs, what changes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from adjax.detectors.autoencoder import (
    KIND,
    AutoencoderConfig,
    AutoencoderHyper,
    AutoencoderParams,
    make_autoencoder,
)
from adjax.detectors.autoencoder import adapt as adapting
from adjax.detectors.autoencoder.adapt import DEFAULT, Plan, adapt, learn_plan
from adjax.detectors.autoencoder.network import adapt_statistics, init_weights
from adjax.types import MAX_ITER, NOT_FINITE, Training

D, N_ROWS, CONTEXT = 4, 40, 2
CONFIG = AutoencoderConfig(n_context=CONTEXT, hidden=(16,), bottleneck=2, n_epochs=80, batch_size=32)
HYPER = AutoencoderHyper(learning_rate=1e-2)
KEY = jax.random.key(0)


def clips_of(machine: int, n: int, seed: int = 0) -> np.ndarray:
    """(n * N_ROWS, D) of a rhythm; machines differ by level and by how their columns go together."""
    rng = np.random.default_rng([seed, machine])
    phase = 2 * np.pi * np.arange(n * N_ROWS)[:, None] / 8
    return (np.sin(phase + machine * np.arange(D)) + machine + 0.1 * rng.normal(size=phase.shape)).astype(
        np.float32
    )


def training(rows: np.ndarray, machine: Any) -> Training:
    """Weights are those of whole windows."""
    n = len(rows) // N_ROWS
    clip = np.repeat(np.arange(n), N_ROWS).astype(np.int32)
    machine = np.broadcast_to(np.asarray(machine, np.int32), n)
    weight = (np.arange(len(rows)) % N_ROWS <= N_ROWS - CONTEXT).astype(np.float32)
    seeds = np.arange(machine.max() + 1, dtype=np.uint32)
    return Training(rows, weight, clip, machine, np.zeros(n, np.int32), seeds)


def fitted(config: AutoencoderConfig = CONFIG) -> tuple[AutoencoderParams, Training]:
    fit = jax.jit(make_autoencoder(config, HYPER).fit)
    mates = [training(clips_of(m, 4), 0) for m in (1, 2, 3)]
    fits = [fit(jax.random.key(m), own.rows, own.weight)[0] for m, own in enumerate(mates)]
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *fits)
    return params, training(np.concatenate([own.rows for own in mates]), np.repeat([0, 1, 2], 4))


@pytest.fixture(scope="module")
def mates() -> tuple[AutoencoderParams, Training]:
    return fitted()


@pytest.mark.parametrize("count", [0.0, 10.0])
def test_the_norms_statistics_are_numpys(count: float) -> None:
    """Layer after layer, each behind the adapted ones before it; rows of mask 0 are not there."""
    weights = init_weights(CONFIG, D, KEY, 2, jnp.float32)
    rng = np.random.default_rng(0)
    draw = [
        jnp.asarray(rng.uniform(0.5, 2, leaf.shape), jnp.float32)
        for leaf in jax.tree.leaves(weights.batch_stats)
    ]
    weights = weights._replace(batch_stats=jax.tree.unflatten(jax.tree.structure(weights.batch_stats), draw))
    x = (3 + 2 * rng.normal(size=(25, CONTEXT * D))).astype(np.float32)
    mask = np.repeat([1.0, 0.0], [20, 5]).astype(np.float32)
    padded = np.where(mask[:, None] > 0, x, 99)
    found = jax.jit(adapt_statistics, static_argnums=(0, 4))(
        CONFIG, weights, padded, padded, D, 2, mask, count
    )
    jax.tree.map(assert_array_equal, found.params["kernels"], weights.params["kernels"])
    h, own = x[:20].astype(np.float64), 20 / (20 + count)
    for i in range(3):
        kernel, bias = (np.asarray(weights.params[name][i]) for name in ("kernels", "biases"))
        old, norm = weights.batch_stats["norms"][i], weights.params["norms"][i]
        z = h @ kernel + bias
        mean = own * z.mean(axis=0) + (1 - own) * np.asarray(old["mean"])
        second = own * (z**2).mean(axis=0) + (1 - own) * (
            np.asarray(old["var"]) + np.asarray(old["mean"]) ** 2
        )
        var = second - mean**2
        assert_allclose(found.batch_stats["norms"][i]["mean"], mean, rtol=1e-3, atol=1e-4)
        assert_allclose(found.batch_stats["norms"][i]["var"], var, rtol=1e-3, atol=1e-4)
        scaled = (z - mean) / np.sqrt(var + 1e-3) * np.asarray(norm["scale"]) + np.asarray(norm["bias"])
        h = np.maximum(scaled, 0)
    output = h @ np.asarray(weights.params["kernels"][3]) + np.asarray(weights.params["biases"][3])
    moved = np.asarray(found.params["biases"][3]) - np.asarray(weights.params["biases"][3])
    assert_allclose(moved, own * (x[:20] - output).mean(axis=0), rtol=1e-3, atol=1e-3)


def test_without_an_epoch_it_is_the_norms_alone(mates, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the mate that is nearest, and no kernel moves."""
    params, memory = mates
    new = training(clips_of(2, 2, seed=5) + 10, 0)  # as the second mate, ten louder
    monkeypatch.setattr(adapting, "learn_plan", lambda *_: Plan(1e-6, 0))
    found, info = adapt(CONFIG, HYPER, KEY, params, memory, new)
    assert_array_equal(info.status, MAX_ITER)
    assert_array_equal(info.n_steps, 0)
    kernels, trained = found.weights.params["kernels"], params.weights.params["kernels"]
    jax.tree.map(lambda a, b: assert_array_equal(a[0], b[1]), kernels, trained)
    score = jax.jit(make_autoencoder(CONFIG).score)
    normal = clips_of(2, 2, seed=6) + 10
    own, mate = (jax.tree.map(lambda leaf, i=i: leaf[i], one) for one, i in ((found, 0), (params, 1)))
    assert np.isfinite(score(own, normal)).all()
    assert jax.tree.map(lambda a: a.shape[1:], found) == jax.tree.map(lambda a: a.shape[1:], params)
    assert score(own, normal).mean() < 0.1 * score(mate, normal).mean()


def test_some_epochs_bring_it_nearer(mates, monkeypatch: pytest.MonkeyPatch) -> None:
    params, memory = mates
    new, normal, found = training(clips_of(5, 2), 0), clips_of(5, 2, seed=6), []
    for n_epochs in (0, 16):
        monkeypatch.setattr(adapting, "learn_plan", lambda *_, n=n_epochs: Plan(1e-6, n))
        own, info = adapt(CONFIG, HYPER, KEY, params, memory, new)
        assert_array_equal(info.n_steps, n_epochs)
        score = jax.jit(make_autoencoder(CONFIG).score)
        found.append(score(jax.tree.map(lambda leaf: leaf[0], own), normal).mean())
    assert found[1] < 0.7 * found[0]


def test_the_plan_is_learnt_from_the_source(mates) -> None:
    """Mates of levels of their own: little of their statistics, and training; without a source it is the default."""
    params, memory = mates
    plan = learn_plan(CONFIG, HYPER, KEY, params, memory, 2)
    assert plan.n_epochs > 0
    assert plan.old_clips <= 1
    nothing = memory._replace(weight=np.zeros_like(memory.weight))
    assert learn_plan(CONFIG, HYPER, KEY, params, nothing, 2) == DEFAULT
    lone = jax.tree.map(lambda leaf: leaf[:1], params)
    few = training(clips_of(1, 4), 0)
    assert learn_plan(CONFIG, HYPER, KEY, lone, few, 2) == DEFAULT


def test_clips_of_weight_0_change_nothing_and_none_is_a_status(
    mates, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, memory = mates
    monkeypatch.setattr(adapting, "learn_plan", lambda *_: Plan(1.0, 2))
    assert KIND.adapt is adapt
    new = training(clips_of(5, 3), 0)
    weight = np.where(np.arange(3 * N_ROWS) // N_ROWS == 1, 0, new.weight).astype(np.float32)
    spoilt = np.where((np.arange(3 * N_ROWS) // N_ROWS == 1)[:, None], np.nan, new.rows)
    found, info = adapt(CONFIG, HYPER, KEY, params, memory, new._replace(rows=spoilt, weight=weight))
    two = training(np.delete(new.rows.reshape(3, N_ROWS, D), 1, axis=0).reshape(-1, D), 0)
    alone, _ = adapt(CONFIG, HYPER, KEY, params, memory, two)
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-3, atol=1e-4), found, alone)
    assert_array_equal(info.status, MAX_ITER)
    _, info = adapt(CONFIG, HYPER, KEY, params, memory, new._replace(weight=np.zeros_like(weight)))
    assert_array_equal(info.status, NOT_FINITE)
    rows = np.array(new.rows)
    rows[0] = np.inf
    _, info = adapt(CONFIG, HYPER, KEY, params, memory, new._replace(rows=rows))
    assert_array_equal(info.status, NOT_FINITE)


def test_residuals_covariance_is_the_mates_beside_the_new_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(CONFIG, residual="mahalanobis")
    params, memory = fitted(config)
    new = training(clips_of(2, 1, seed=5), 0)

    def covariance(old_clips: float) -> np.ndarray:
        monkeypatch.setattr(adapting, "learn_plan", lambda *_: Plan(old_clips, 0))
        found, _ = adapt(config, HYPER, KEY, params, memory, new)
        inverse = np.linalg.inv(np.asarray(found.whitening[0, 0], np.float64))
        return inverse @ inverse.T

    source = np.linalg.inv(np.asarray(params.whitening[1, 0], np.float64))
    assert_allclose(covariance(1e6), source @ source.T, rtol=2e-2, atol=1e-4)
    assert np.abs(covariance(1e-6) - source @ source.T).max() > 1e-3
