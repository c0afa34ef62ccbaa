"""The space around references and the distances measured by it, against scikit-learn and plain loops."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.neighbors import NearestNeighbors

from adjax.detectors.local_density import halved, make_references, nearness

METRICS = ("euclidean", "cosine")
RESCALES = ("none", "ratio", "variance")


def apart(metric: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n, m) D of vectors before they are placed."""
    if metric == "euclidean":
        return np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=2))
    a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b))
    return (1 - a @ b.T) / 2


def by_hand(metric: str, rescale: str, k: int, local: int, x: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The definition, one reference at a time."""
    n, d = len(x), apart(metric, x, x)

    def space(j: int, without: int = -1) -> float:
        others = sorted(d[j, i] for i in range(n) if i not in (j, without))
        return float(np.mean(others[:local]))

    b = np.array([space(j) for j in range(n)])
    values = apart(metric, test, x)
    if rescale == "ratio":
        values = values / b
    if rescale == "variance":
        pairs = []
        for i in range(n):
            nearest = sorted((d[i, j], j) for j in range(n) if j != i)[:k]
            pairs.append((np.mean([v for v, _ in nearest]), np.mean([space(j, i) for _, j in nearest])))
        own, spaces = np.array(pairs).T
        values = values - np.cov(own, spaces)[0, 1] / np.var(spaces, ddof=1) * b
    return np.sort(values, axis=1)[:, :k].mean(axis=1)


def scores(x: Any, test: Any, present: Any = None, density: float = 1.0, **settings: Any) -> np.ndarray:
    present = jnp.ones(len(x), bool) if present is None else jnp.asarray(present)
    placed = halved if settings["metric"] == "cosine" else lambda z: z
    references = jax.jit(lambda x: make_references(placed(x), present, jnp.asarray(density), **settings))(x)
    own = {name: settings[name] for name in ("metric", "n_neighbours") if name in settings}
    return np.asarray(jax.vmap(lambda clip: nearness(references, clip, **own))(placed(jnp.asarray(test))))


def vectors(n: int = 12, d: int = 5, seed: int = 0) -> np.ndarray:
    """Some close together, others apart."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, d)) * np.exp(rng.normal(size=(n, 1))) + 2).astype(np.float32)


@pytest.mark.parametrize("rescale", RESCALES)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("k", "local"), [(1, 4), (3, 2)])
def test_it_is_the_definition(x64, metric: str, rescale: str, k: int, local: int) -> None:
    x, test = vectors().astype(np.float64), vectors(seed=1).astype(np.float64)
    settings = {"metric": metric, "rescale": rescale, "n_neighbours": k, "n_local": local}
    expected = by_hand(metric, rescale, k, local, x, test)
    assert_allclose(scores(x, test, **settings), expected, rtol=1e-9, atol=1e-12)


def test_distances_and_spaces_are_those_of_scikit_learn() -> None:
    x, test = vectors(40, 8), vectors(20, 8, seed=1)
    found, _ = NearestNeighbors(n_neighbors=3).fit(x).kneighbors(test)
    settings: dict[str, Any] = {"metric": "euclidean", "n_neighbours": 3}
    assert_allclose(scores(x, test, rescale="none", **settings), found.mean(axis=1), rtol=1e-5)
    space, _ = NearestNeighbors(n_neighbors=4).fit(x).kneighbors()  # without itself
    references = make_references(
        jnp.asarray(x), jnp.ones(40, bool), jnp.asarray(1.0), rescale="ratio", **settings
    )
    assert_allclose(1 / references.times, space.mean(axis=1), rtol=1e-5)


@pytest.mark.parametrize("rescale", RESCALES)
@pytest.mark.parametrize("metric", METRICS)
def test_padding_is_not_there(metric: str, rescale: str) -> None:
    x, test = vectors(), vectors(seed=1)
    odd = np.concatenate([x[:5], np.full((4, 5), 99), x[5:], np.full((3, 5), np.nan)]).astype(np.float32)
    present = np.concatenate([np.ones(5), np.zeros(4), np.ones(7), np.zeros(3)]) > 0
    settings = {"metric": metric, "rescale": rescale}
    alone = scores(x, test, **settings)
    assert_allclose(scores(odd, test, present, **settings), alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rescale", RESCALES)
@pytest.mark.parametrize("n", [2, 3, 4])
def test_fewer_references_than_asked_for(rescale: str, n: int) -> None:
    """All there are; two have no leave-one-out pair, and alpha is 0."""
    x, test = vectors(n), vectors(seed=1)
    found = scores(x, test, metric="euclidean", rescale=rescale, n_neighbours=3)
    assert np.isfinite(found).all()
    if n == 2 and rescale == "variance":
        plain = scores(x, test, metric="euclidean", rescale="none", n_neighbours=3)
        assert_array_equal(found, plain)
    if n == 4:
        assert_allclose(found, by_hand("euclidean", rescale, 3, 4, x, test), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rescale", RESCALES)
def test_copies_leave_scores_and_gradients_finite(rescale: str) -> None:
    """Six copies of one clip have no space around them; a clip that is one of them lies at distance 0."""
    x = np.concatenate([np.repeat(vectors(1), 6, axis=0), vectors(6, seed=1)])
    settings: dict[str, Any] = {"metric": "euclidean", "rescale": rescale}
    found = scores(x, x, **settings)
    assert np.isfinite(found).all()
    references = make_references(jnp.asarray(x), jnp.ones(12, bool), jnp.asarray(1.0), **settings)
    slope = jax.grad(lambda clip: nearness(references, clip, metric="euclidean"))(jnp.asarray(x[0]))
    assert np.isfinite(slope).all()
    alike = scores(x[:6], x, **settings)
    assert np.isfinite(alike).all()


def test_small_distances_keep_their_digits() -> None:
    """Clips that are there almost twice, far from the origin and close to each other: 1e-3 of what parts the rest."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (30, 64)).astype(np.float32)
    x[1::2] = x[::2] + rng.normal(0, 1e-3, (15, 64)).astype(np.float32)
    references = make_references(
        jnp.asarray(x), jnp.ones(30, bool), jnp.asarray(1.0), metric="euclidean", rescale="ratio", n_local=1
    )
    exact = np.linalg.norm(x[::2].astype(np.float64) - x[1::2], axis=1)
    assert_allclose((1 / references.times)[::2], np.maximum(exact, 0.01 * exact.mean()), rtol=1e-5)
    found = scores(x[::2], x[1::2], metric="euclidean", rescale="none")
    assert_allclose(found, exact, rtol=1e-5)


def test_density_counts_as_much_as_is_said() -> None:
    x, test = vectors(), vectors(seed=1)
    for rescale in ("ratio", "variance"):
        none = scores(x, test, density=0.0, metric="euclidean", rescale=rescale)
        assert_allclose(none, scores(x, test, metric="euclidean", rescale="none"), rtol=1e-6)
        half = scores(x, test, density=0.5, metric="euclidean", rescale=rescale)
        assert not np.allclose(half, none)


def test_without_a_reference_there_is_no_score() -> None:
    assert np.isnan(scores(vectors(), vectors(), np.zeros(12, bool), metric="cosine", rescale="ratio")).all()


def test_a_reference_alone_has_no_space_and_its_distance_is_as_it_is() -> None:
    alone = make_references(
        jnp.zeros((3, 2)),
        jnp.array([False, True, False]),
        jnp.float32(1),
        metric="euclidean",
        rescale="ratio",
    )
    assert_allclose(nearness(alone, jnp.array([3.0, 4.0]), metric="euclidean"), 5.0, rtol=1e-6)
