"""Programs lowered here for a CPU, a GPU and a TPU: each is what its platform wants and needs no other's library.

No GPU or TPU is needed for that: what is lowered here for another platform shows whether a form was chosen too early.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from jax import export
from jax import numpy as jnp

from adjax.batching import map_clips
from adjax.detectors import identity, mahalanobis, neighbours
from adjax.detectors.autoencoder import (
    AutoencoderConfig,
    AutoencoderHyper,
    Sizes,
    make_autoencoder,
    make_lanes,
)
from adjax.detectors.autoencoder.training import one_lane
from adjax.detectors.gmm import GmmConfig, GmmHyper, fit_gmm, make_gmm, start_from_means
from adjax.detectors.gmm.config import place
from adjax.detectors.network import NetworkConfig, make_network
from adjax.features import log_mel_spectrogram
from adjax.features.recipes import FeatureConfig, make_features
from adjax.types import Training

PLATFORMS = ("cpu", "cuda", "tpu")
COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")
N_ROWS, N_FEATURES = 1100, 32
X = jax.ShapeDtypeStruct((N_ROWS, N_FEATURES), jnp.float32)
WEIGHT = jax.ShapeDtypeStruct((N_ROWS,), jnp.float32)
Y = jax.ShapeDtypeStruct((16_000,), jnp.float32)
BATCH = jax.ShapeDtypeStruct((3, 16_000), jnp.float32)
COUNT = jax.ShapeDtypeStruct((), jnp.int32)
KEY = jax.eval_shape(lambda: jax.random.key(0))


def lower(fn: Callable[..., Any], *shapes: Any, platforms: tuple[str, ...]) -> str:
    return export.export(jax.jit(fn), platforms=platforms)(*shapes).mlir_module()


def custom_calls(module: str) -> set[str]:
    return set(re.findall(r"custom_call @([\w.$]+)", module))


def log_mel(y: Any) -> Any:
    return log_mel_spectrogram(y, sr=16_000, n_fft=512, hop_length=256, n_mels=64)


def feature_case(config: FeatureConfig) -> tuple[Any, ...]:
    return make_features(config), Y, COUNT


def gmm_case(kind: Any) -> tuple[Any, ...]:
    detector = make_gmm(GmmConfig(3, kind))
    return detector.score, jax.eval_shape(detector.fit, KEY, X, WEIGHT)[0], X


def autoencoder_case() -> tuple[Any, ...]:
    detector = make_autoencoder(AutoencoderConfig(n_epochs=1))
    return detector.score, jax.eval_shape(detector.fit, KEY, X, WEIGHT)[0], X


def lanes_case() -> tuple[Any, ...]:
    program = make_lanes(AutoencoderConfig(n_epochs=1), Sizes(N_ROWS, 0))
    windows, lane = jax.eval_shape(one_lane, KEY, X, WEIGHT, AutoencoderHyper())
    # Typed keys and arrays alike: two of each.
    lanes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape), leaf.dtype), lane)
    state = jax.eval_shape(program.init, windows, lanes)
    return functools.partial(program.train, n_epochs=1), windows, lanes, state


def network_case() -> tuple[Any, ...]:
    config = NetworkConfig(
        2048, 128, 64, 0, width=8, kernels=(16,), strides=(4,), n_dense=1, n_pairs=1, n_epochs=1, batch_size=4
    )
    counts = [jax.ShapeDtypeStruct((n,), jnp.int32) for n in (N_ROWS, 8, 8)]
    seeds = jax.ShapeDtypeStruct((2,), jnp.uint32)
    return make_network(config).fit, KEY, Training(X, WEIGHT, *counts, seeds)


def gaussian_case(covariance: mahalanobis.Covariance = "full") -> tuple[Any, ...]:
    fit = functools.partial(mahalanobis.fit_gaussian, n_machines=3, covariance=covariance)
    return fit, X, WEIGHT, jax.ShapeDtypeStruct((N_ROWS,), jnp.int32), COUNT


def log_distance_case() -> tuple[Any, ...]:
    fit, *shapes = gaussian_case()
    return mahalanobis.log_distance, jax.eval_shape(fit, *shapes), X


def neighbours_case() -> tuple[Any, ...]:
    config = neighbours.NeighboursConfig("cosine", "variance", n_neighbours=2)
    whole = jax.ShapeDtypeStruct((N_ROWS,), jnp.int32)
    seeds = jax.ShapeDtypeStruct((3,), jnp.uint32)
    return neighbours.make_neighbours(config).fit, KEY, Training(X, WEIGHT, whole, whole, whole, seeds)


def nearness_case() -> tuple[Any, ...]:
    fit, *shapes = neighbours_case()
    one = (jax.ShapeDtypeStruct((1, N_FEATURES), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.float32))
    detector = neighbours.make_neighbours(neighbours.NeighboursConfig("cosine", "variance", n_neighbours=2))
    return detector.score, jax.eval_shape(fit, *shapes)[0], COUNT, *one


def identity_case() -> tuple[Any, ...]:
    whole = jax.ShapeDtypeStruct((N_ROWS,), jnp.int32)
    seeds = jax.ShapeDtypeStruct((3,), jnp.uint32)
    return identity.make_identity().fit, KEY, Training(X, WEIGHT, whole, whole, whole, seeds)


def log_odds_case() -> tuple[Any, ...]:
    fit, *shapes = identity_case()
    one = (jax.ShapeDtypeStruct((1, N_FEATURES), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.float32))
    return identity.make_identity().score, jax.eval_shape(fit, *shapes)[0], COUNT, *one


def fit_case(kind: Any, n_init: int = 1) -> tuple[Any, ...]:
    return make_gmm(GmmConfig(3, kind, n_init=n_init)).fit, KEY, X, WEIGHT


SCORES: dict[str, Callable[[], tuple[Any, ...]]] = {
    "log-mel": lambda: (log_mel, Y),
    "log-mels of a batch": lambda: (functools.partial(map_clips, log_mel), BATCH),
    "gradients of a batch": lambda: (jax.vmap(jax.grad(lambda y: log_mel(y).sum())), BATCH),
    "views": lambda: feature_case(FeatureConfig(pooling="views")),
    "gwrp": lambda: feature_case(FeatureConfig(pooling="gwrp")),
    "mahalanobis": log_distance_case,
    "neighbours": nearness_case,
    "identity": log_odds_case,
    "autoencoder": autoencoder_case,
    **{f"{kind} mixture": functools.partial(gmm_case, kind) for kind in COVARIANCE_TYPES},
}
FITS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "mahalanobis": gaussian_case,
    "neighbours": neighbours_case,
    "identity": identity_case,
    "autoencoder": lambda: (make_autoencoder(AutoencoderConfig(n_epochs=1)).fit, KEY, X, WEIGHT),
    "autoencoder lanes": lanes_case,
    "network": network_case,
    "full mixture": lambda: fit_case("full", n_init=2),
    "diag mixture": lambda: fit_case("diag"),
    "mixture from means": lambda: (
        functools.partial(start_from_means, GmmConfig(3, "tied")),
        X,
        WEIGHT,
        jax.ShapeDtypeStruct((3, N_FEATURES), jnp.float32),
    ),
}


@pytest.mark.parametrize("name", SCORES)
def test_a_score_needs_no_library_of_any_platform(name: str) -> None:
    """Also not all three in one program: StableHLO alone, which other compilers read too."""
    fn, *shapes = SCORES[name]()
    assert custom_calls(lower(fn, *shapes, platforms=PLATFORMS)) == set()


@pytest.mark.parametrize("name", FITS)
def test_a_fit_needs_no_cpu_library_elsewhere(name: str) -> None:
    fn, *shapes = FITS[name]()
    assert custom_calls(lower(fn, *shapes, platforms=("cuda",))) <= {"cusolver_potrf_ffi"}
    assert custom_calls(lower(fn, *shapes, platforms=("tpu",))) == set()


@pytest.mark.parametrize("name", ["log-mel", "log-mels of a batch", "gradients of a batch"])
def test_each_platform_gets_its_own_form_of_a_log_mel_and_no_other(name: str) -> None:
    """An FFT and the filterbank in pieces; an FFT and one product; products alone. Gradients have twice as many."""
    fn, *shapes = SCORES[name]()
    modules = {platform: lower(fn, *shapes, platforms=(platform,)) for platform in PLATFORMS}
    times = 2 if name.startswith("gradient") else 1
    for platform, ffts, products in (("cpu", 1, 2), ("cuda", 1, 1), ("tpu", 0, 3)):
        assert modules[platform].count("stablehlo.fft") == times * ffts, platform
        assert modules[platform].count("stablehlo.dot_general") == times * products, platform


def test_views_on_a_tpu_have_no_fft() -> None:
    fn, *shapes = SCORES["views"]()
    assert "stablehlo.fft" not in lower(fn, *shapes, platforms=("tpu",))


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_a_mixture_walks_over_components_on_a_cpu_only(kind: str) -> None:
    """There a loop over blocks has one over components inside."""
    fn, *shapes = SCORES[f"{kind} mixture"]()
    for platform, loops in (("cpu", 2), ("cuda", 1), ("tpu", 1)):
        assert lower(fn, *shapes, platforms=(platform,)).count("stablehlo.while") == loops, platform


@pytest.mark.parametrize(("kind", "n_init"), [("full", 2), ("diag", 1)])
def test_the_mixture_of_an_accelerator_is_that_of_the_cpu(kind: Any, n_init: int) -> None:
    """Both forms run here; several blocks, and starts."""
    x = np.random.default_rng(0).normal(size=(60, 33)).astype(np.float32)
    x[:30] += 3
    config = GmmConfig(2, kind, n_init=n_init, max_iter=4, block_size=32)
    weight, hyper = np.ones(60, np.float32), GmmHyper(reg_covar=0.1)
    fits = []
    for on_cpu in (True, False):
        placed = place(config, on_cpu)
        assert place(placed, not on_cpu) == placed
        params, info = jax.jit(fit_gmm, static_argnums=0)(placed, jax.random.key(0), x, weight, hyper)
        fits.append((params, info, make_gmm(placed).score(params, x)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *fits)


def test_blocks_suit_the_platform() -> None:
    assert [place(GmmConfig(), on_cpu).rows_a_block for on_cpu in (True, False)] == [512, 8192]
    assert place(GmmConfig(block_size=100), False).rows_a_block == 100
