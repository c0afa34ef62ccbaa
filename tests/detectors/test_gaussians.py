"""The detector of many Gaussians: its parts, batches of them, held-out clips by brute force, clips of no frame."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from adjax.detectors.gaussians import (
    GaussiansConfig,
    distances,
    fit_groups,
    groups_of,
    make_gaussians,
    parts_of,
    split_views,
)
from adjax.detectors.mahalanobis import fit_gaussian, log_distance
from adjax.features.views import VIEWS
from adjax.types import CONVERGED, NOT_FINITE, SettingsError, Training

CONFIG = GaussiansConfig()
D = 16
MACHINE = np.repeat([0, 1], [4, 12])
PARTS = (
    *("mean", "spread", "loud", "peaks", "rhythm"),
    *("mean /4", "spread /4", "loud /4", "peaks /4"),
    *("mean /16", "spread /16", "loud /16", "peaks /16"),
    "mean diagonal",
)


def rows_of(n: int = 16, seed: int = 0) -> np.ndarray:
    """(n, 5 * D) of two machines with centres far apart."""
    centres = 10 * np.random.default_rng(7).normal(size=(2, 5 * D))
    return (centres[MACHINE[:n]] + np.random.default_rng(seed).normal(size=(n, 5 * D))).astype(np.float32)


def training(rows: np.ndarray, weight: np.ndarray, machine: np.ndarray = MACHINE) -> Training:
    n = np.arange(len(rows), dtype=np.int32)
    nothing = np.zeros(len(machine), np.int32)
    seeds = np.array([3, 5], np.uint32)
    leaves = (jnp.asarray(rows), jnp.asarray(weight), n, machine.astype(np.int32), nothing, seeds)
    return Training(*map(jnp.asarray, leaves))


@functools.cache
def compiled(x64: bool):
    """Compiled once for each precision."""
    del x64
    detector = make_gaussians()
    score = jax.vmap(detector.score, in_axes=(None, 0, 0, 0))
    return jax.jit(detector.fit), jax.jit(score)


def fit(train: Training, x64: bool = False):
    return compiled(x64)[0](jax.random.key(0), train)


def score(params, machine: np.ndarray, rows: np.ndarray, x64: bool = False) -> np.ndarray:
    """(n, n_parts) of clips of one row."""
    return np.asarray(
        compiled(x64)[1](params, jnp.asarray(machine), rows[:, None, :], jnp.ones((len(rows), 1)))
    )


def test_the_parts_are_the_fourteen_of_the_rule() -> None:
    assert parts_of(CONFIG) == make_gaussians().parts == PARTS
    assert len(set(PARTS)) == 14 == sum(len(group.views) for group in groups_of(CONFIG))


def test_its_views_are_those_of_the_features() -> None:
    """The wings do not know each other; this keeps them together."""
    assert CONFIG.views == VIEWS


def test_each_part_is_a_gaussian_of_its_own_numbers(x64) -> None:
    """The batches by views, resolutions and covariances mix nothing up."""
    rows = rows_of().astype(np.float64)
    views = split_views(CONFIG, jnp.asarray(rows))
    one = functools.partial(fit_groups, CONFIG, n_machines=2)
    gaussians = jax.jit(one)(views, jnp.ones(16), jnp.asarray(MACHINE), jnp.asarray(1))
    found = distances(CONFIG, gaussians, views[:3])
    alone = jax.jit(functools.partial(fit_gaussian, n_machines=2), static_argnames="covariance")
    for place, name in enumerate(PARTS):
        view, _, more = name.partition(" ")
        n = int(more[1:]) if more.startswith("/") else 1
        x = rows.reshape(16, 5, D)[:, VIEWS.index(view)].reshape(16, D // n, n).mean(axis=2)
        covariance = "diag" if more == "diagonal" else "full"
        gaussian = alone(
            jnp.asarray(x), jnp.ones(16), jnp.asarray(MACHINE), jnp.asarray(1), covariance=covariance
        )
        assert_allclose(found[:, place], log_distance(gaussian, jnp.asarray(x[:3])), rtol=1e-8, err_msg=name)


def test_held_out_clips_are_scored_as_if_they_were_not_there(x64) -> None:
    """Brute force: weight 0 is the same as deleting the clip; padding that holds NaN changes nothing."""
    rows = rows_of().astype(np.float64)
    block = [1, 6, 7]
    weight = np.where(np.isin(np.arange(16), block), 0.0, 1.0)
    params, info = fit(training(rows, weight), x64=True)
    assert_array_equal(info.status, [CONVERGED, CONVERGED])
    found = score(params, MACHINE[block], rows[block], x64=True)
    kept = np.delete(np.arange(16), block)
    views = split_views(CONFIG, jnp.asarray(rows))
    one = jax.jit(functools.partial(fit_groups, CONFIG, n_machines=2))
    for place, i in enumerate(block):
        own = one(views[kept], jnp.ones(13), jnp.asarray(MACHINE[kept]), jnp.asarray(MACHINE[i]))
        assert_allclose(found[place], distances(CONFIG, own, views[i : i + 1])[0], rtol=1e-8, atol=1e-8)
    spoilt = rows.copy()
    spoilt[block] = np.nan
    again, _ = fit(training(spoilt, weight), x64=True)
    jax.tree.map(assert_array_equal, again, params)


def test_a_machine_in_the_order_of_another_is_the_same() -> None:
    """No number of a machine is in the rule."""
    rows = rows_of()
    params, _ = fit(training(rows, np.ones(16)))
    swapped, _ = fit(training(rows, np.ones(16), 1 - MACHINE))
    jax.tree.map(lambda a, b: assert_allclose(a[0], b[1], rtol=1e-4, atol=1e-4), params, swapped)


def test_a_clip_of_no_frame_has_no_score_and_a_fit_that_is_not_finite_says_so() -> None:
    rows = rows_of()
    detector = make_gaussians()
    params, _ = fit(training(rows, np.ones(16)))
    padding = detector.score(params, jnp.int32(0), jnp.zeros((1, 5 * D)), jnp.zeros(1))
    assert np.isnan(padding).all()
    rows[5] = np.inf  # of the second machine, from which the first borrows
    _, info = fit(training(rows, np.ones(16)))
    assert_array_equal(info.status, [NOT_FINITE, NOT_FINITE])


@pytest.mark.parametrize(
    "bad",
    [
        {"views": ("mean", "rhythm")},
        {"diagonal": ("colour",)},
        {"averaged": (1, 0)},
        {"averaged": ()},
    ],
)
def test_settings_that_make_no_sense_are_refused(bad: dict) -> None:
    with pytest.raises(SettingsError):
        make_gaussians(GaussiansConfig(**bad))


def test_rows_that_are_no_views_are_refused() -> None:
    for width in (81, 5 * 8):
        with pytest.raises(SettingsError, match=f"rows of {width} numbers"):
            split_views(CONFIG, jnp.zeros((2, width)))


def test_other_settings_give_other_parts() -> None:
    config = GaussiansConfig(views=("a", "b"), smooth=("b",), averaged=(1, 2), diagonal=())
    detector = make_gaussians(config)
    assert detector.parts == ("a", "b", "b /2")
    rows = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)
    params, _ = detector.fit(jax.random.key(0), training(rows, np.ones(16)))
    assert detector.score(params, jnp.int32(0), rows[:1], jnp.ones(1)).shape == (3,)
