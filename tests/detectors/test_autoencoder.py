"""The baseline autoencoder: its shape and constants, its training, its padding."""

from __future__ import annotations

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from numpy.testing import assert_allclose, assert_array_equal

from adjax.detectors.autoencoder import (
    Autoencoder,
    AutoencoderConfig,
    AutoencoderHyper,
    gather_windows,
    make_autoencoder,
)
from adjax.types import MAX_ITER, NOT_FINITE, SettingsError

SMALL = AutoencoderConfig(n_context=3, hidden=(16, 16), bottleneck=2, n_epochs=6, batch_size=64)


def normal_rows(seed: int, n: int = 500, d: int = 6) -> np.ndarray:
    """A rhythm in a few dimensions plus noise: something that a bottleneck can learn."""
    rng = np.random.default_rng(seed)
    phase = 2 * np.pi * np.arange(n)[:, None] / 25
    return (np.sin(phase + np.arange(d)[None, :]) * 3 + 0.1 * rng.normal(size=(n, d))).astype(np.float32)


def window_weight(n: int, n_context: int = 3) -> np.ndarray:
    return (np.arange(n) <= n - n_context).astype(np.float32)


def test_architecture_is_the_2020_baselines() -> None:
    model = Autoencoder(AutoencoderConfig(), 640, nnx.Rngs(0))
    widths = [640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640]
    kernels = [layer.kernel.shape for layer in model.layers] + [model.output.kernel.shape]
    assert kernels == list(pairwise(widths))
    # Keras's summary of the baseline: 269,992 parameters, 2,064 of them BatchNorm's running statistics.
    n_trained = sum(p.size for p in jax.tree.leaves(nnx.state(model, nnx.Param)))
    n_running = sum(p.size for p in jax.tree.leaves(nnx.state(model, nnx.BatchStat)))
    assert (n_trained + n_running, n_running) == (269_992, 2_064)


def test_training_step_equals_a_numpy_forward_pass() -> None:
    """One layer: Dense -> BatchNorm (biased variance, epsilon 1e-3) -> ReLU -> Dense, and the running statistics."""
    config = AutoencoderConfig(n_context=1, hidden=(), bottleneck=3)
    model = Autoencoder(config, 4, nnx.Rngs(1))
    x = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
    z = x @ np.asarray(model.layers[0].kernel[...])
    normed = (z - z.mean(0)) / np.sqrt(z.var(0) + 1e-3)
    expected = np.maximum(normed, 0) @ np.asarray(model.output.kernel[...])
    mask = jnp.asarray(np.r_[np.ones(32), np.zeros(8)] > 0)
    padded = jnp.asarray(np.r_[x, np.full((8, 4), 99, np.float32)])
    assert_allclose(model(padded, mask=mask)[:32], expected, rtol=1e-4, atol=1e-5)
    assert_allclose(model.norms[0].mean[...], 0.01 * z.mean(0), rtol=1e-4, atol=1e-7)
    assert_allclose(model.norms[0].var[...], 0.99 + 0.01 * z.var(0), rtol=1e-5)


def test_windows_are_stacked_frames() -> None:
    x = jnp.arange(12.0).reshape(6, 2)
    assert_array_equal(gather_windows(x, jnp.array([0, 3]), 3), [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]])


def test_learns_normal_rows_and_scores_others_higher() -> None:
    detector = make_autoencoder(AutoencoderConfig(3, (16, 16), 2, n_epochs=40, batch_size=64))
    params, info = jax.jit(detector.fit)(
        jax.random.key(0), normal_rows(0), window_weight(500), detector.hyper
    )
    normal = detector.score(params, jnp.asarray(normal_rows(1)))[:498]
    other = detector.score(params, jnp.asarray(np.roll(normal_rows(1), 2, axis=1) * [1, -1, 1, 1, -1, 1]))[
        :498
    ]
    assert int(info.status) == MAX_ITER
    assert int(info.n_steps) == 40
    assert np.mean(normal) < 0.5 * np.mean(normal_rows(1) ** 2)
    assert np.mean(other) > 2 * np.mean(normal)


def test_padding_is_inert_in_value_and_in_number() -> None:
    """Other values in padded rows change nothing; whole batches of padding change nothing but the order's draw."""
    fit = jax.jit(make_autoencoder(SMALL).fit)
    x, weight = normal_rows(2, 200), window_weight(200)
    runs = [
        fit(
            jax.random.key(1),
            np.r_[x, np.full((300, 6), value, np.float32)],
            np.r_[weight, np.zeros(300, np.float32)],
            AutoencoderHyper(),
        )
        for value in (0.0, 99.0, np.nan)
    ]
    for other in runs[1:]:
        jax.tree.map(assert_array_equal, runs[0], other)


def test_full_batch_is_unchanged_by_more_padding() -> None:
    """One batch holds all windows, so that the drawn order cannot matter."""
    config = AutoencoderConfig(3, (8,), 2, n_epochs=3, batch_size=256)
    x, weight = normal_rows(3, 200), window_weight(200)
    plain, _ = make_autoencoder(config).fit(
        jax.random.key(1), jnp.pad(x, ((0, 56), (0, 0))), jnp.pad(weight, (0, 56)), AutoencoderHyper()
    )
    padded, _ = make_autoencoder(config).fit(
        jax.random.key(1), jnp.pad(x, ((0, 900), (0, 0))), jnp.pad(weight, (0, 900)), AutoencoderHyper()
    )
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-3, atol=1e-5), plain, padded)


@pytest.mark.parametrize("batch", [jax.vmap, lambda f: lambda *args: lax.map(lambda a: f(*a), args)])
def test_a_lane_is_a_solo_run(batch) -> None:
    x = np.stack([normal_rows(4, 300), normal_rows(5, 300)])
    weight = np.stack([window_weight(300), window_weight(300)])
    weight[1, 150:] = 0
    keys = jax.random.split(jax.random.key(3), 2)
    hyper = AutoencoderHyper(jnp.array([1e-3, 3e-3]))
    fit, score, *_ = make_autoencoder(SMALL)
    lanes, info = jax.jit(batch(fit))(keys, x, weight, hyper)
    for lane in range(2):
        solo, alone = jax.jit(fit)(
            keys[lane], x[lane], weight[lane], AutoencoderHyper(hyper.learning_rate[lane])
        )
        assert_allclose(info.objective[lane], alone.objective, rtol=1e-4)
        # Scores, not parameters: a bias before BatchNorm has no gradient, and Adam walks on its rounding noise.
        lane_params = jax.tree.map(lambda leaf: leaf[lane], lanes)  # noqa: B023
        assert_allclose(score(lane_params, x[lane]), score(solo, x[lane]), rtol=1e-2, atol=1e-3)


def test_epochs_are_reported_from_inside_the_compiled_loop() -> None:
    losses: list[float] = []
    detector = make_autoencoder(SMALL, on_epoch=lambda loss: losses.append(float(loss)))
    _, info = jax.jit(detector.fit)(jax.random.key(0), normal_rows(6), window_weight(500), detector.hyper)
    jax.effects_barrier()
    assert len(losses) == SMALL.n_epochs
    assert_allclose(min(losses), float(info.objective), rtol=0.5)


def test_a_row_that_is_not_finite_gives_a_status() -> None:
    x = normal_rows(7)
    x[9] = np.nan
    _, info = jax.jit(make_autoencoder(SMALL).fit)(
        jax.random.key(0), x, window_weight(500), AutoencoderHyper()
    )
    assert int(info.status) == NOT_FINITE


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(SettingsError, match="at least 1"):
        make_autoencoder(AutoencoderConfig(bottleneck=0))
