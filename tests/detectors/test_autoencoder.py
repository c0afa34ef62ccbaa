"""The autoencoder as a detector: its shape and constants, its training, its padding, its variants."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from numpy.testing import assert_allclose, assert_array_equal

from adjax.detectors.autoencoder import RECIPES, AutoencoderConfig, AutoencoderHyper, make_autoencoder
from adjax.detectors.autoencoder.network import (
    Autoencoder,
    init_weights,
    reconstruct,
    reconstruct_and_follow,
)
from adjax.detectors.autoencoder.residuals import residuals
from adjax.detectors.autoencoder.windows import Span, Windows, gather_windows, inputs_and_targets, shuffle
from adjax.types import MAX_ITER, NOT_FINITE, SettingsError

SMALL = AutoencoderConfig(n_context=3, hidden=(16,), bottleneck=4, n_epochs=6, batch_size=64)


def normal_rows(seed: int, n: int = 500, d: int = 6) -> np.ndarray:
    """A rhythm in a few dimensions plus noise: something that a bottleneck can learn."""
    rng = np.random.default_rng(seed)
    phase = 2 * np.pi * np.arange(n)[:, None] / 25
    return (np.sin(phase + np.arange(d)[None, :]) * 3 + 0.1 * rng.normal(size=(n, d))).astype(np.float32)


def window_weight(n: int, n_context: int = 3) -> np.ndarray:
    return (np.arange(n) <= n - n_context).astype(np.float32)


SMALL_FIT = jax.jit(make_autoencoder(SMALL).fit)  # one compile a shape for several tests


def test_architecture_is_the_baselines() -> None:
    for name in ("2020", "2023"):
        config = RECIPES[name]
        model = Autoencoder(config, 128, jax.random.key(0), config.bottleneck, jnp.float32)
        widths = [640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640]
        assert [kernel.shape for kernel in model.kernels] == list(pairwise(widths))
        weights = init_weights(config, 128, jax.random.key(0), config.bottleneck, jnp.float32)
        # Keras's summary of the baseline: 269,992 parameters, 2,064 of them BatchNorm's running statistics.
        n_trained, n_running = (sum(leaf.size for leaf in jax.tree.leaves(part)) for part in weights)
        assert (n_trained + n_running, n_running) == (269_992, 2_064)
        assert config.n_epochs == 100
    assert (RECIPES["2020"].batch_size, RECIPES["2023"].batch_size) == (512, 256)


@pytest.mark.parametrize("constants", ["keras", "torch"])
def test_initial_weights_have_the_frameworks_range(constants: str) -> None:
    config = replace(RECIPES["2020"], constants=constants)
    params = init_weights(config, 128, jax.random.key(0), 8, jnp.float32).params
    for number, (fan_in, fan_out) in enumerate([(640, 128), *[(128, 128)] * 3, (128, 8), (8, 128)]):
        limit = np.sqrt(6 / (fan_in + fan_out) if constants == "keras" else 1 / fan_in)
        kernel, bias = params["kernels"][number][...], params["biases"][number][...]
        assert 0.98 * limit < np.abs(kernel).max() <= limit * (1 + 1e-6)
        assert (np.abs(bias).max() > 0.4 * limit) if constants == "torch" else not np.any(bias)


@pytest.mark.parametrize(("constants", "scale"), [("keras", 1.0), ("torch", 32 / 31)])
def test_training_step_equals_a_numpy_forward_pass(constants: str, scale: float) -> None:
    """One layer: Dense -> BatchNorm (biased variance, epsilon 1e-3) -> ReLU -> Dense, and the running statistics."""
    config = AutoencoderConfig(n_context=1, hidden=(), bottleneck=3, constants=constants)
    weights = init_weights(config, 4, jax.random.key(1), 3, jnp.float32)
    kernels, biases = (
        [np.asarray(leaf) for leaf in jax.tree.leaves(weights.params[name])] for name in ("kernels", "biases")
    )
    x = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
    z = x @ kernels[0] + biases[0]
    normed = (z - z.mean(0)) / np.sqrt(z.var(0) + 1e-3)
    expected = np.maximum(normed, 0) @ kernels[1] + biases[1]
    mask = jnp.asarray(np.r_[np.ones(32), np.zeros(8)], jnp.float32)
    padded = jnp.asarray(np.r_[x, np.full((8, 4), 99, np.float32)])
    output, batch_stats = reconstruct_and_follow(config, weights, padded, 4, 3, mask)
    assert_allclose(output[:32], expected, rtol=1e-4, atol=1e-5)
    norm = batch_stats["norms"][0]
    assert_allclose(norm["mean"][...], 0.01 * z.mean(0), rtol=1e-4, atol=1e-7)
    assert_allclose(norm["var"][...], 0.99 + 0.01 * scale * z.var(0), rtol=1e-5)


def test_windows_are_stacked_frames() -> None:
    x = jnp.arange(12.0).reshape(6, 2)
    windows = gather_windows(x, jnp.array([0, 3]), 3)
    assert_array_equal(windows.reshape(2, -1), [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]])
    inputs, targets = inputs_and_targets(replace(SMALL, predict="middle"), windows)
    assert_array_equal(inputs, [[0, 1, 4, 5], [6, 7, 10, 11]])
    assert_array_equal(targets, [[2, 3], [8, 9]])
    assert_array_equal(gather_windows(x[:1], jnp.array([0]), 3), [[[0, 1]] * 3])


@pytest.mark.parametrize(
    "variant", [{}, {"predict": "middle"}, {"residual": "mahalanobis"}, {"denoising": True}], ids=str
)
def test_learns_normal_rows_and_scores_others_higher(variant: dict) -> None:
    config = replace(SMALL, n_epochs=40, **variant)
    detector = make_autoencoder(config, AutoencoderHyper(noise=0.3))
    fit, score = jax.jit(detector.fit), jax.jit(detector.score)
    params, info = fit(jax.random.key(0), normal_rows(0), window_weight(500), detector.hyper)
    normal = score(params, normal_rows(1))[:498]
    other = score(params, np.roll(normal_rows(1), 2, axis=1) * np.float32([1, -1, 1, 1, -1, 1]))[:498]
    assert int(info.status) == MAX_ITER
    assert int(info.n_steps) == 40
    assert float(info.objective) < 0.5 * np.mean(normal_rows(1) ** 2)
    assert np.mean(other) > 2 * np.mean(normal)


def test_padding_is_inert_in_value_and_in_number() -> None:
    """Padded rows of whatever value and number change nothing, not even the order of the windows."""
    x, weight = normal_rows(2, 200), window_weight(200)
    runs = [
        SMALL_FIT(
            jax.random.key(1),
            np.r_[x, np.full((300, 6), value, np.float32)],
            np.r_[weight, np.zeros(300, np.float32)],
            AutoencoderHyper(),
        )
        for value in (0.0, 99.0, np.nan)
    ]
    for other in runs[1:]:
        jax.tree.map(assert_array_equal, runs[0], other)
    plain = SMALL_FIT(jax.random.key(1), x, weight, AutoencoderHyper())
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-4, atol=1e-6), plain, runs[0])


def test_luck_begins_alike_however_much_of_it_is_drawn() -> None:
    """Orders, noise and initial weights of narrow bottlenecks rest on it."""
    for key in jax.random.split(jax.random.key(5), 3):
        for n, d in ((1, 3), (37, 3), (1000, 1)):
            many = jax.random.uniform(key, (4096, d)), jax.random.normal(key, (4096, d))
            few = jax.random.uniform(key, (n, d)), jax.random.normal(key, (n, d))
            jax.tree.map(lambda a, b, n=n: assert_array_equal(a[:n], b), many, few)


@pytest.mark.parametrize("size", [300, 512])
def test_the_order_is_that_of_the_windows_of_weight_alone(size: int) -> None:
    """Whatever lies between them: padding, windows held out, in whatever buffer."""
    key, windows = jax.random.key(4), np.arange(200)
    none = jnp.zeros(0, jnp.int32)
    alone = Windows(jnp.zeros((200, 1)), jnp.ones(200), jnp.asarray(windows), none)
    expected, count, total = shuffle(key, 200, alone, Span(0, 200))
    assert (int(count), float(total)) == (200, 200.0)
    assert_array_equal(np.sort(expected), windows)
    assert not np.array_equal(expected, shuffle(jax.random.key(5), 200, alone, Span(0, 200))[0])
    place = np.sort(np.random.default_rng(0).permutation(300)[:200])  # the rest has weight 0
    weight = np.isin(np.arange(320), place + 20).astype(np.float32)
    among = Windows(jnp.zeros((320, 1)), jnp.asarray(weight), jnp.arange(320), none)
    order, count, total = shuffle(key, size, among, Span(20, 300))
    assert (int(count), float(total)) == (200, 200.0)
    assert_array_equal(order[:200], 20 + place[np.asarray(expected)])
    assert_array_equal(order[200:], order[0])


def test_clips_of_weight_0_might_as_well_not_be_there() -> None:
    """Before, between and after the others, in a last batch and a first; also under noise and residual covariances."""
    config = replace(SMALL, denoising=True, residual="mahalanobis", n_epochs=4)
    fit = jax.jit(make_autoencoder(config).fit)
    clips = [(normal_rows(seed, 90), window_weight(90)) for seed in range(3)]
    odd = np.full((70, 6), 99, np.float32), np.zeros(70, np.float32)
    short = np.full((5, 6), np.nan, np.float32), np.zeros(5, np.float32)
    hyper = AutoencoderHyper(noise=0.1, ridge=0.1)
    runs = [
        fit(jax.random.key(2), *map(np.concatenate, zip(*parts, strict=True)), hyper)
        for parts in (clips, [odd, clips[0], short, clips[1], odd, odd, clips[2], odd])
    ]
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-4, atol=1e-5), *runs)
    assert_allclose(runs[0][1].objective, runs[1][1].objective, rtol=1e-5)


def test_a_weight_counts_in_the_loss() -> None:
    """One batch, one window of weight 3: the first epoch's loss is the weighted mean."""
    config = replace(SMALL, n_epochs=1, batch_size=32)
    x, weight = normal_rows(3, 32), window_weight(32)
    weight[4] = 3
    fit = jax.jit(make_autoencoder(config).fit)
    _, info = fit(jax.random.key(1), x, weight, AutoencoderHyper(0.0))
    key_init, _ = jax.random.split(jax.random.key(1))
    weights = init_weights(config, 6, key_init, 4, jnp.float32)
    inputs, targets = inputs_and_targets(config, gather_windows(jnp.asarray(x), jnp.arange(30), 3))
    output, _ = reconstruct_and_follow(config, weights, inputs, 6, 4, jnp.ones(30))
    expected = np.average(np.mean(np.square(output - targets), axis=1), weights=weight[:30])
    assert_allclose(info.objective, expected, rtol=1e-5)


def test_mahalanobis_equals_numpy_and_is_selective_over_domains() -> None:
    """Two domains with residuals of their own: the smaller of two norms, as NumPy has it."""
    config = replace(SMALL, residual="mahalanobis", n_domains=2, n_epochs=2)
    x, weight = normal_rows(4, 300), window_weight(300)
    domain = (np.arange(300) >= 180).astype(np.int32)
    fit, score = jax.jit(make_autoencoder(config).fit), jax.jit(make_autoencoder(config).score)
    hyper = AutoencoderHyper(ridge=1e-2)
    params, _ = fit(jax.random.key(0), x, weight, hyper, domain)
    windows = gather_windows(jnp.asarray(x), jnp.arange(298), 3)
    residual = np.asarray(residuals(config, params.weights, windows, params.width), np.float64)
    norms = []
    for d in range(2):
        own = residual[domain[:298] == d]
        covariance = own.T @ own / (len(own) - 1)
        covariance += 1e-2 * np.trace(covariance) / 18 * np.eye(18)
        norms.append(np.einsum("ij,ij->i", residual @ np.linalg.inv(covariance), residual) / 18)
    assert_allclose(score(params, x)[:298], np.min(norms, axis=0), rtol=2e-3)
    assert 0.2 < np.mean(norms[0] < norms[1]) < 0.8
    one, _ = fit(jax.random.key(0), x, weight, hyper, np.zeros(300, np.int32))
    assert_array_equal(
        one.whitening[0], one.whitening[1]
    )  # a domain without windows takes the common covariance


def test_epochs_are_reported_from_inside_the_compiled_loop() -> None:
    losses: list[float] = []
    detector = make_autoencoder(SMALL, on_epoch=lambda loss: losses.append(float(loss)))
    _, info = jax.jit(detector.fit)(jax.random.key(0), normal_rows(6), window_weight(500), detector.hyper)
    jax.effects_barrier()
    assert len(losses) == SMALL.n_epochs
    assert_allclose(losses[-1], float(info.objective))
    assert losses[-1] < losses[0]


def test_a_row_that_is_not_finite_gives_a_status() -> None:
    x = normal_rows(7)
    x[9] = np.nan
    params, info = SMALL_FIT(jax.random.key(0), x, window_weight(500), AutoencoderHyper())
    assert (int(info.status), int(info.n_steps)) == (NOT_FINITE, 0)
    assert np.isnan(info.objective)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(params))


def test_jit_equals_eager_and_one_shape_is_one_trace() -> None:
    config = replace(SMALL, hidden=(), n_epochs=1, batch_size=128)
    traces = []

    def counted(key, x, weight, hyper):
        traces.append(1)
        return make_autoencoder(config).fit(key, x, weight, hyper)

    fit = jax.jit(counted)
    arguments = jax.random.key(0), normal_rows(8, 100), window_weight(100)
    compiled, _ = fit(*arguments, AutoencoderHyper(1e-3))
    fit(*arguments, AutoencoderHyper(1e-2, weight_decay=0.1))
    assert len(traces) == 1
    with jax.disable_jit():
        eager, _ = make_autoencoder(config).fit(*arguments, AutoencoderHyper(1e-3))
    score = jax.jit(make_autoencoder(config).score)
    assert_allclose(score(compiled, arguments[1]), score(eager, arguments[1]), rtol=1e-4)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"bottleneck": 0}, "bottleneck=0: give a whole number from 1"),
        ({"constants": "jax"}, "keras, torch"),
        ({"compute_dtype": "float16"}, "float32, bfloat16"),
        ({"n_context": 4, "predict": "middle"}, "no middle row"),
        ({"n_domains": 2}, "mahalanobis"),
    ],
)
def test_settings_out_of_range_are_refused(bad: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        make_autoencoder(replace(SMALL, **bad))


@pytest.mark.parametrize(
    "bad", [{"learning_rate": np.nan}, {"noise": -1.0}, {"width": 99}, {"ridge": np.inf}]
)
def test_traced_settings_out_of_range_are_refused(bad: dict) -> None:
    with pytest.raises(SettingsError, match=f"{next(iter(bad))}="):
        make_autoencoder(SMALL, AutoencoderHyper(**bad))


def _equations(jaxpr, name: str) -> list:
    """Also those inside of other equations."""
    inner = [sub for eqn in jaxpr.eqns for sub in jaxprs_in_params(eqn.params)]
    own = [eqn for eqn in jaxpr.eqns if eqn.primitive.name == name]
    return own + [eqn for sub in inner for eqn in _equations(sub, name)]


REDUCED = replace(SMALL, compute_dtype="bfloat16")


def test_bfloat16_trains_to_about_the_same_loss_and_scores() -> None:
    """All that is kept stays float32; the numbers differ, but by no more than three digits allow."""
    arguments = jax.random.key(0), normal_rows(0), window_weight(500), AutoencoderHyper()
    full, info = SMALL_FIT(*arguments)
    params, reduced_info = jax.jit(make_autoencoder(REDUCED).fit)(*arguments)
    assert int(reduced_info.status) == MAX_ITER
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params.weights))
    assert reduced_info.objective.dtype == jnp.float32
    assert info.objective != reduced_info.objective
    assert_allclose(reduced_info.objective, info.objective, rtol=0.02)
    scores, expected = (
        np.asarray(make_autoencoder(config).score(own, normal_rows(1)))[:498]
        for config, own in ((REDUCED, params), (SMALL, full))
    )
    assert scores.dtype == jnp.float32
    assert_allclose(np.mean(scores), np.mean(expected), rtol=0.05)
    assert np.corrcoef(scores, expected)[0, 1] > 0.99


def test_bfloat16_is_in_every_layers_products_and_in_nothing_else() -> None:
    """Forward one product a layer; backward one for the kernel and, but for the first layer, one for the input."""
    weights = init_weights(REDUCED, 6, jax.random.key(0), 4, jnp.float32)
    inputs, targets = inputs_and_targets(
        REDUCED, gather_windows(jnp.asarray(normal_rows(0)), jnp.arange(20), 3)
    )

    def loss_of(params):
        output, batch_stats = reconstruct_and_follow(
            REDUCED, weights._replace(params=params), inputs, 6, 4, jnp.ones(20)
        )
        return jnp.mean(jnp.square(output - targets)), batch_stats

    program = jax.make_jaxpr(jax.grad(loss_of, has_aux=True))(weights.params)
    products = [
        {str(variable.aval.dtype) for variable in eqn.invars}
        for eqn in _equations(program.jaxpr, "dot_general")
    ]
    assert products.count({"bfloat16"}) == 3 * len(weights.params["kernels"]) - 1
    assert all(dtypes in ({"bfloat16"}, {"float32"}) for dtypes in products)
    grads, batch_stats = jax.grad(loss_of, has_aux=True)(weights.params)
    assert {leaf.dtype for leaf in jax.tree.leaves((grads, batch_stats))} == {jnp.dtype(jnp.float32)}


def test_reconstruction_uses_the_running_statistics() -> None:
    """One window scored alone scores the same as among others."""
    weights = init_weights(SMALL, 6, jax.random.key(0), 4, jnp.float32)
    inputs, _ = inputs_and_targets(SMALL, gather_windows(jnp.asarray(normal_rows(0)), jnp.arange(20), 3))
    together = reconstruct(SMALL, weights, inputs, 6, 4)
    assert_allclose(reconstruct(SMALL, weights, inputs[7:8], 6, 4), together[7:8], rtol=1e-4, atol=1e-6)
