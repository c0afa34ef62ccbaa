"""Multinomial regression beside scikit-learn's, from the same rows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import log_softmax, logsumexp
from sklearn.linear_model import LogisticRegression

from adjax.detectors.multinomial import fit_multinomial, logits
from adjax.types import CONVERGED, MAX_ITER, NOT_FINITE


def made(n: int = 240, d: int = 30, n_classes: int = 4, apart: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """Correlated columns, classes that overlap a little."""
    rng = np.random.default_rng(0)
    owner = rng.integers(n_classes, size=n)
    mixed = rng.normal(size=(n, d // 3)) @ rng.normal(size=(d // 3, d))
    x = apart * rng.normal(size=(n_classes, d))[owner] + mixed / 2 + 0.3 * rng.normal(size=(n, d))
    return x.astype(np.float32), owner.astype(np.int32)


fit = jax.jit(fit_multinomial, static_argnames=("n_classes", "max_iter"))


def objective(x: np.ndarray, owner: np.ndarray, w: np.ndarray, b: np.ndarray, c: float) -> float:
    log_share = log_softmax(x.astype(float) @ w.T + b, axis=1)
    return float(-c * log_share[np.arange(len(x)), owner].sum() + (w**2).sum() / 2)


@pytest.mark.parametrize("shape", [(240, 30, 4), (30, 60, 3)])
@pytest.mark.parametrize("c", [0.1, 1.0, 30.0])
def test_parity_with_scikit_learn(shape: tuple[int, int, int], c: float) -> None:
    x, owner = made(*shape)
    found, info = fit(x, owner, np.ones(len(x), np.float32), c, n_classes=shape[2], max_iter=50)
    peer = LogisticRegression(C=c, tol=1e-9, max_iter=20_000).fit(x.astype(float), owner)
    w, b = peer.coef_, peer.intercept_
    assert int(info.status) == CONVERGED
    assert int(info.n_steps) < 25
    best = objective(x, owner, w, b, c)
    assert_allclose(float(info.objective), best, rtol=1e-4)
    own = objective(x, owner, np.asarray(found.coefficients, float), np.asarray(found.intercepts, float), c)
    assert_allclose(own, best, rtol=1e-5)
    mine = np.asarray(logits(found, x))
    assert_allclose(jax.nn.softmax(mine, axis=1), peer.predict_proba(x), atol=1e-3)
    for k in range(shape[2]):  # the order of the score
        own_odds, theirs = (
            logsumexp(np.delete(each, k, 1), axis=1) - each[:, k]
            for each in (mine, peer.decision_function(x))
        )
        assert_array_equal(np.argsort(own_odds[::7]), np.argsort(theirs[::7]))


def test_two_classes_are_those_of_scikit_learn_at_twice_its_c() -> None:
    """It has one row of coefficients for two classes, and so half of the penalty."""
    x, owner = made(120, 10, 2)
    found, info = fit(x, owner, np.ones(len(x), np.float32), 1.0, n_classes=2, max_iter=50)
    assert int(info.status) == CONVERGED
    peer = LogisticRegression(C=2.0, tol=1e-9, max_iter=20_000).fit(x.astype(float), owner)
    share = jax.nn.softmax(logits(found, x), axis=1)
    assert_allclose(share, peer.predict_proba(x), atol=1e-3)


def test_rows_of_weight_zero_and_classes_without_rows_change_nothing() -> None:
    x, owner = made()
    alone, _ = fit(x, owner, np.ones(len(x), np.float32), 1.0, n_classes=4, max_iter=50)
    odd = np.concatenate([x, np.full((7, x.shape[1]), np.nan, np.float32)])
    whose = np.concatenate([owner, np.array([4, 4, 5, 0, 1, 2, 3], np.int32)])
    weight = np.pad(np.ones(len(x), np.float32), (0, 7))
    padded, info = fit(odd, whose, weight, 1.0, n_classes=6, max_iter=50)
    assert int(info.status) == CONVERGED
    assert_array_equal(padded.present, [True] * 4 + [False] * 2)
    assert_allclose(padded.coefficients[:4], alone.coefficients, atol=1e-4)
    assert_array_equal(padded.coefficients[4:], 0)


def test_a_weight_of_two_is_the_row_twice() -> None:
    x, owner = made()
    weight = np.ones(len(x), np.float32)
    weight[:40] = 2
    heavy, _ = fit(x, owner, weight, 1.0, n_classes=4, max_iter=50)
    twice = fit(
        *(np.concatenate([own, own[:40]]) for own in (x, owner, np.ones(len(x), np.float32))),
        1.0, n_classes=4, max_iter=50,
    )[0]  # fmt: skip
    assert_allclose(heavy.coefficients, twice.coefficients, atol=1e-3)


def test_statuses() -> None:
    x, owner = made()
    weight = np.ones(len(x), np.float32)
    _, info = fit(x, owner, weight, 1.0, n_classes=4, max_iter=2)
    assert (int(info.status), int(info.n_steps)) == (MAX_ITER, 2)
    bad = x.copy()
    bad[3, 3] = np.inf
    _, info = fit(bad, owner, weight, 1.0, n_classes=4, max_iter=50)
    assert int(info.status) == NOT_FINITE
    _, info = fit(x, owner, weight, np.nan, n_classes=4, max_iter=50)
    assert int(info.status) == NOT_FINITE
    _, info = fit(x, np.zeros_like(owner), weight, 1.0, n_classes=4, max_iter=50)  # one class alone
    assert (int(info.status), int(info.n_steps)) == (CONVERGED, 0)


def test_no_array_has_rows_and_classes_and_columns() -> None:
    """100,000 rows of 300 classes in memory: the compiled program's own arrays stay below 1.5 GB."""
    n, d, k = 100_000, 64, 300
    shapes = (
        jax.ShapeDtypeStruct((n, d), jnp.float32),
        jax.ShapeDtypeStruct((n,), jnp.int32),
        jax.ShapeDtypeStruct((n,), jnp.float32),
        jax.ShapeDtypeStruct((), jnp.float32),
    )
    memory = fit.lower(*shapes, n_classes=k, max_iter=50).compile().memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < 1.5e9 < n * k * d * 4
