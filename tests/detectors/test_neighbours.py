"""The detector of nearest neighbours: scaling, machines beside each other, folds, statuses."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from adjax.detectors.neighbours import NeighboursConfig, NeighboursHyper, make_neighbours
from adjax.types import CONVERGED, NOT_FINITE, SettingsError, Training

D = 6
MACHINE = np.repeat([0, 1], [5, 11]).astype(np.int32)
CONFIGS = [
    NeighboursConfig(),
    NeighboursConfig("cosine", "variance", n_neighbours=2),
    NeighboursConfig(rescale="domain"),
]


def rows_of(n: int = 16, seed: int = 0) -> np.ndarray:
    """(n, D) of two machines with centres far apart, heavy tails in the last column."""
    rng = np.random.default_rng(seed)
    x = 5 * MACHINE[:n, None] + rng.normal(size=(n, D))
    x[:, -1] = rng.standard_t(1, n)
    return x.astype(np.float32)


def training(rows: Any, weight: Any = None, machine: np.ndarray = MACHINE, members: Any = None) -> Training:
    n = len(rows)
    weight = np.ones(n, np.float32) if weight is None else weight
    nothing, seeds = np.zeros(n, np.int32), np.arange(machine.max() + 1, dtype=np.uint32)
    clip = np.arange(n, dtype=np.int32)
    return Training(*map(jnp.asarray, (rows, weight, clip, machine, nothing, seeds)), members)


@functools.cache
def compiled(config: NeighboursConfig, x64: bool = False):
    del x64
    detector = make_neighbours(config)
    score = jax.vmap(
        lambda params, machine, row: detector.score(params, machine, row[None], jnp.ones(1))[0], (None, 0, 0)
    )
    return jax.jit(detector.fit), jax.jit(score)


def fit(
    config: NeighboursConfig, train: Training, hyper: NeighboursHyper = NeighboursHyper(), x64: bool = False
):
    return compiled(config, x64)[0](jax.random.key(0), train, hyper)


def scores(config: NeighboursConfig, rows: np.ndarray, test: np.ndarray, x64: bool = False) -> np.ndarray:
    params, info = fit(config, training(rows), x64=x64)
    assert_array_equal(info.status, CONVERGED)
    return np.asarray(compiled(config, x64)[1](params, jnp.asarray(MACHINE), jnp.asarray(test)))


@pytest.mark.parametrize("config", CONFIGS)
def test_units_and_offsets_of_columns_change_nothing(x64, config: NeighboursConfig) -> None:
    rows, test = rows_of().astype(np.float64), rows_of(seed=1).astype(np.float64)
    unit, offset = 10.0 ** np.array([6, -6, 0, 3, 0, 1]), np.array([0, 0, 1e5, -3, 0, 7])
    found = scores(config, rows * unit + offset, test * unit + offset, x64=True)
    assert_allclose(found, scores(config, rows, test, x64=True), rtol=1e-6)


@pytest.mark.parametrize("config", CONFIGS)
def test_in_single_precision_a_unit_costs_rounding_alone(config: NeighboursConfig) -> None:
    rows, test, unit = (
        rows_of(),
        rows_of(seed=1),
        np.float32(10.0) ** np.array([6, -6, 0, 3, 0, 1], np.float32),
    )
    assert_allclose(scores(config, rows * unit, test * unit), scores(config, rows, test), rtol=1e-4)


@pytest.mark.parametrize("config", CONFIGS)
def test_constant_columns_are_left_out(config: NeighboursConfig) -> None:
    """Also where a later clip differs in one: no unit says how far that is."""
    rows, test = rows_of(), rows_of(seed=1)
    constant = np.full((16, 2), 1e4, np.float32)
    found = scores(config, np.hstack([rows, constant]), np.hstack([test, constant + 1]))
    assert_allclose(found, scores(config, rows, test), rtol=1e-4)


def test_a_fault_in_columns_of_heavy_tails_is_heard() -> None:
    """A fault in three of Cauchy's columns is heard, and is lost where one wild clip sets their scale."""
    rng = np.random.default_rng(0)
    machine = np.zeros(60, np.int32)
    rows = np.hstack([rng.normal(size=(60, 5)), rng.standard_cauchy((60, 3))]).astype(np.float32)
    normal = np.hstack([rng.normal(size=(60, 5)), rng.standard_cauchy((60, 3))]).astype(np.float32)
    odd = normal + np.array([0, 0, 0, 0, 0, 4, 4, 4], np.float32)
    rates = []
    for shape in ("normal", "linear"):
        config = NeighboursConfig(rescale="none", marginals=shape)
        params, _ = fit(config, training(rows, machine=machine))
        found = [np.asarray(compiled(config)[1](params, jnp.asarray(machine), x)) for x in (normal, odd)]
        rates.append(np.mean(found[1][:, None] > found[0][None, :]))
    assert rates[0] > rates[1] + 0.08


def test_few_clips_borrow_their_scale_and_many_have_their_own() -> None:
    rng = np.random.default_rng(0)
    machine = np.repeat([0, 1, 2], [4, 400, 400]).astype(np.int32)
    rows = (rng.normal(size=(804, 3)) * np.array([1, 10, 1])[machine][:, None]).astype(np.float32)
    params, _ = fit(CONFIGS[0], training(rows, machine=machine))
    alone, _ = fit(CONFIGS[0], training(rows, machine=machine), NeighboursHyper(mates=0.0))
    pooled, _ = fit(CONFIGS[0], training(rows, machine=machine), NeighboursHyper(mates=1e9))
    one, none, all_ = (1 / own.marginals.factor for own in (params, alone, pooled))
    assert_allclose(none[1:], [[10] * 3, [1] * 3], rtol=0.2)
    assert_allclose(all_, np.tile(all_[:1], (3, 1)), rtol=1e-5)
    freedom = np.array([3, 399, 399])[:, None]
    assert_allclose(one, np.sqrt((freedom * none**2 + 8 * all_**2) / (freedom + 8)), rtol=1e-4)


@pytest.mark.parametrize("config", CONFIGS)
def test_held_out_clips_are_scored_as_if_they_were_not_there(x64, config: NeighboursConfig) -> None:
    """Weight 0 is the same as deleting the clip, whatever it holds; and so is the room of a larger machine."""
    rows = rows_of().astype(np.float64)
    block = [1, 6, 7]
    kept = np.delete(np.arange(16), block)
    spoilt = rows.copy()
    spoilt[block] = np.nan
    params, info = fit(config, training(spoilt, np.where(np.isin(np.arange(16), block), 0.0, 3.0)), x64=True)
    assert_array_equal(info.status, CONVERGED)
    members = np.full((2, 10), 13, np.int32)  # 13 stands for none
    members[0, :4], members[1, :9] = np.arange(4), np.arange(4, 13)
    few, _ = fit(config, training(rows[kept], machine=MACHINE[kept], members=jnp.asarray(members)), x64=True)
    assert few.references.clips.shape == (2, 10, D)
    score = compiled(config, True)[1]
    found = score(params, jnp.asarray(MACHINE[block]), rows[block])
    assert_allclose(found, score(few, jnp.asarray(MACHINE[block]), rows[block]), rtol=1e-9)


def test_a_clip_of_the_machine_has_a_gradient_at_distance_nothing() -> None:
    detector = make_neighbours()
    params, _ = fit(CONFIGS[0], training(rows_of()))
    slope = jax.grad(lambda row: detector.score(params, jnp.int32(1), row[None], jnp.ones(1))[0])
    assert np.isfinite(slope(jnp.asarray(rows_of()[7]))).all()
    assert np.abs(slope(jnp.asarray(rows_of(seed=1)[7]))).max() > 0


def test_machines_that_cannot_be_fitted_have_a_status() -> None:
    """Too few clips, or nothing that moves: that machine. A row or setting that is no number: all of the type."""
    config = CONFIGS[0]

    def status(rows: Any, weight: Any = None, hyper: NeighboursHyper = NeighboursHyper()) -> list[int]:
        return np.asarray(fit(config, training(rows, weight), hyper)[1].status).tolist()

    rows = rows_of()
    one = np.where(np.arange(16) < 4, 0.0, 1.0)
    assert status(rows, one.astype(np.float32)) == [NOT_FINITE, CONVERGED]
    assert status(np.ones_like(rows)) == [NOT_FINITE] * 2
    rows[9, 2] = np.inf
    assert status(rows) == [NOT_FINITE] * 2
    negative = np.ones(16, np.float32)
    negative[3] = -1
    assert status(rows_of(), negative) == [NOT_FINITE] * 2
    for bad in ({"density": 1.5}, {"mates": -1.0}, {"mates": np.nan}):
        assert status(rows_of(), hyper=NeighboursHyper(**bad)) == [NOT_FINITE] * 2, bad
    with pytest.raises(SettingsError, match=r"density=1\.5"):
        make_neighbours(config, NeighboursHyper(density=1.5))
    for settings in ({"n_neighbours": 0}, {"n_local": 0}, {"metric": "city"}, {"rescale": "some"}):
        with pytest.raises(SettingsError):
            make_neighbours(NeighboursConfig(**settings))


def test_one_program_for_all_numbers() -> None:
    """Traced settings share a compile, and lanes of them are the fits alone."""
    detector, train = make_neighbours(), training(rows_of())
    hyper = NeighboursHyper(jnp.array([1.0, 0.3]), jnp.array([8.0, 0.0]))
    lanes, _ = jax.jit(jax.vmap(lambda own: detector.fit(jax.random.key(0), train, own)))(hyper)
    for i in range(2):
        alone, _ = fit(CONFIGS[0], train, NeighboursHyper(*(float(leaf[i]) for leaf in hyper)))
        jax.tree.map(lambda a, b, i=i: assert_allclose(a[i], b, rtol=1e-4, atol=1e-5), lanes, alone)


def domain_scores(train: Training, test: np.ndarray, rescale: Any = "domain") -> np.ndarray:
    """(n,) of clips of the one machine."""
    config = NeighboursConfig(rescale=rescale, marginals="linear")
    params, info = fit(config, train)
    assert_array_equal(info.status, CONVERGED)
    return np.asarray(compiled(config)[1](params, jnp.zeros(len(test), jnp.int32), jnp.asarray(test)))


def two_domains() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of a dense source and a sparse target, their domains, and test rows of the target."""
    rng = np.random.default_rng(0)
    domain = np.repeat([0, 1], [30, 7]).astype(np.int32)
    rows = rng.normal(size=(37, D)) * np.where(domain, 4, 0.5)[:, None] + 10 * domain[:, None]
    test = 10 + 4 * rng.normal(size=(20, D))
    return rows.astype(np.float32), domain, test.astype(np.float32)


def test_each_domains_distance_is_measured_by_its_own_median() -> None:
    """The smaller of two nearest distances, each over the median of its domain's clips left out in turn."""
    rows, domain, test = two_domains()
    train = training(rows, machine=np.zeros(37, np.int32))._replace(domain=jnp.asarray(domain))
    found = domain_scores(train, test)
    scale = np.sqrt(((rows - rows.mean(0)) ** 2).sum(0) / 36)
    z, t = rows / scale, test / scale
    expected = []
    for d in (0, 1):
        own = z[domain == d]
        between = np.sqrt(np.mean((own[:, None] - own[None]) ** 2, axis=2)) + np.diag(
            np.full(len(own), np.inf)
        )
        median = np.median(between.min(axis=1))
        expected.append(np.sqrt(np.mean((t[:, None] - own[None]) ** 2, axis=2)).min(axis=1) / median)
    assert_allclose(found, np.log(np.min(expected, axis=0)), rtol=1e-3, atol=1e-3)
    # A normal clip of the sparse domain is no farther than one of the dense domain.
    held_out = np.random.default_rng(9).normal(size=(20, D)).astype(np.float32) * 0.5
    plain = domain_scores(train, test, "none") - domain_scores(train, held_out, "none").mean()
    assert np.abs((found - domain_scores(train, held_out)).mean()) < 0.5 < plain.mean()


def test_of_one_domain_a_constant_changes() -> None:
    rows, _, test = two_domains()
    for domain in (0, 1):
        train = training(rows, machine=np.zeros(37, np.int32))
        train = train._replace(domain=jnp.full(37, domain, jnp.int32))
        apart = domain_scores(train, test) - domain_scores(train, test, "none")
        assert_allclose(apart, np.full(20, apart[0]), atol=1e-5)


@pytest.mark.parametrize("n_target", [1, 2])
def test_a_domain_of_few_clips_has_finite_scores(n_target: int) -> None:
    """One has no distance to measure by, and takes that of all; two copies of one lie no nearer than is usual."""
    rows, domain, test = two_domains()
    kept = np.append(np.arange(30), np.full(n_target, 31))
    train = training(rows[kept], machine=np.zeros(len(kept), np.int32))
    found = domain_scores(train._replace(domain=jnp.asarray(domain[kept])), test)
    assert np.isfinite(found).all()
