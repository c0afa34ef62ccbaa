"""Lanes: each is the run it would be alone, whatever its size, its bottleneck and its neighbours' fate."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from adjax.batching import on_cpu
from adjax.detectors.autoencoder import (
    AutoencoderConfig,
    AutoencoderHyper,
    Lane,
    LaneProgram,
    Sizes,
    Span,
    Windows,
    make_lanes,
)
from adjax.types import MAX_ITER, NOT_FINITE, SettingsError

CONFIG = AutoencoderConfig(n_context=3, hidden=(8,), bottleneck=6, n_epochs=3, batch_size=32)
N_ROWS = (70, 150, 110)  # of three machines
WIDTHS = (6, 1, 3)
RATES = (1e-3, 3e-3, 1e-2)
DECAYS = (0.0, 0.1, 0.01)


def make_windows(machines: range = range(3)) -> tuple[Windows, list[Span], list[Span]]:
    """Rows of some machines, one after another; the last 20 windows of each are for validation."""
    x, train, validation, spans, held_out = [], [], [], [], []
    begin = 0
    for machine in machines:
        n = N_ROWS[machine]
        rng = np.random.default_rng(machine)
        phase = 2 * np.pi * np.arange(n)[:, None] / (15 + machine)
        x.append(3 * np.sin(phase + np.arange(5)[None, :]) + 0.1 * rng.normal(size=(n, 5)))
        starts = begin + np.arange(n - 2)
        spans.append(Span(sum(map(len, train)), n - 22))
        held_out.append(Span(sum(map(len, validation)), 20))
        train.append(starts[:-20])
        validation.append(starts[-20:])
        begin += n
    rows = jnp.asarray(np.concatenate(x), jnp.result_type(float))
    index = [jnp.asarray(np.concatenate(part), jnp.int32) for part in (train, validation)]
    return Windows(rows, jnp.ones(begin, rows.dtype), *index), spans, held_out


def make_lane_table(rates: tuple[float, ...] = RATES) -> tuple[Windows, Lane, Sizes]:
    windows, spans, held_out = make_windows()
    first, count = (jnp.array(part) for part in zip(*spans, strict=True))
    v_first, v_count = (jnp.array(part) for part in zip(*held_out, strict=True))
    hyper = AutoencoderHyper(
        jnp.array(rates), jnp.array(DECAYS), jnp.array(WIDTHS), noise=jnp.ones(3), ridge=jnp.full(3, 1e-3)
    )
    keys = jax.random.split(jax.random.key(7), 3)
    lanes = Lane(keys, Span(first, count), Span(v_first, v_count), hyper)
    return windows, lanes, Sizes(max(N_ROWS) - 22, 20)


@cache
def shared_program(strategy: str = "map", x64: bool = False) -> LaneProgram:
    """Compiled once for several tests."""
    del x64  # the key of another compile
    return jitted(make_lanes(CONFIG, Sizes(max(N_ROWS) - 22, 20), lanes=strategy))


def jitted(program: LaneProgram) -> LaneProgram:
    init, train, finish, score = program
    return LaneProgram(jax.jit(init), jax.jit(train, static_argnums=3), jax.jit(finish), jax.jit(score))


def run(program: LaneProgram, windows: Windows, lanes: Lane, chunks: tuple[int, ...] = (3,)):
    init, train, *_ = program
    state = init(windows, lanes)
    history = []
    for n_epochs in chunks:
        state, losses = train(windows, lanes, state, n_epochs)
        history.append(losses)
    return state, jax.tree.map(lambda *parts: jnp.concatenate(parts), *history)


@pytest.mark.parametrize("strategy", ["map", "vmap"])
def test_a_lane_is_the_small_model_trained_alone(strategy, x64) -> None:
    """Masked width = built width, BatchNorm included; other machines and larger lanes change nothing. In float64."""
    windows, lanes, _ = make_lane_table()
    program = shared_program(strategy, x64=True)
    state, losses = run(program, windows, lanes)
    params = program.finish(windows, lanes, state)
    scores = program.score(params, windows.x)
    assert scores.dtype == jnp.float64
    for i in {"map": (1,), "vmap": (2,)}[strategy]:
        own, (span,), (held_out,) = make_windows(range(i, i + 1))
        lane = Lane(
            lanes.key[i : i + 1],
            Span(*(jnp.array([value]) for value in span)),
            Span(*(jnp.array([value]) for value in held_out)),
            AutoencoderHyper(jnp.array([RATES[i]]), jnp.array([DECAYS[i]]), None, jnp.ones(1), jnp.ones(1)),
        )
        solo = jitted(make_lanes(replace(CONFIG, bottleneck=WIDTHS[i]), Sizes(span.length, 20), lanes="map"))
        solo_state, solo_losses = run(solo, own, lane)
        solo_params = solo.finish(own, lane, solo_state)
        jax.tree.map(
            lambda many, one, i=i: assert_allclose(many[:, i], one[:, 0], rtol=1e-9),
            losses, solo_losses,
        )  # fmt: skip
        begin = sum(N_ROWS[:i])
        alone = solo.score(solo_params, own.x)[0]
        assert_allclose(scores[i, begin : begin + N_ROWS[i] - 2], alone[:-2], rtol=1e-8)
        for wide, narrow in zip(
            jax.tree.leaves(state.weights), jax.tree.leaves(solo_state.weights), strict=True
        ):
            used = tuple(slice(n) for n in narrow.shape[1:])
            assert_allclose(wide[i][used], narrow[0], rtol=1e-7, atol=1e-9)


@pytest.mark.skipif(not on_cpu(), reason="an accelerator's products of many lanes round in their own way")
def test_a_lane_is_the_small_model_alone_to_the_bit() -> None:
    """In float32, where a rounding would have grown after 20 epochs; also of fewer windows than a batch."""
    config = replace(CONFIG, batch_size=100)
    windows, lanes, sizes = make_lane_table()
    _, losses = run(jitted(make_lanes(config, sizes, lanes="map")), windows, lanes, chunks=(20,))
    for i in (0, 1):
        own, (span,), _ = make_windows(range(i, i + 1))
        none = jnp.zeros(1, jnp.int32)
        lane = Lane(
            lanes.key[i : i + 1],
            Span(none, none + span.length),
            Span(none, none),
            AutoencoderHyper(jnp.array([RATES[i]]), jnp.array([DECAYS[i]]), None, jnp.ones(1), jnp.ones(1)),
        )
        solo = jitted(make_lanes(replace(config, bottleneck=WIDTHS[i]), Sizes(span.length, 0), lanes="map"))
        state, alone = run(solo, own, lane, chunks=(20,))
        assert_array_equal(losses.train[:, i], alone.train[:, 0])
        kernels = [
            leaf.shape[1:] for leaf in solo.finish(own, lane, state).weights.params["kernels"].values()
        ]
        assert kernels == [(15, 8), (8, WIDTHS[i]), (WIDTHS[i], 8), (8, 15)]


def test_a_width_beyond_the_configs_is_the_configs() -> None:
    """Not the units that only training has: they are cut off, and would be missing in a score."""
    windows, lanes, _ = make_lane_table()
    program = shared_program()
    wide = lanes._replace(hyper=lanes.hyper._replace(width=jnp.array([99, 1, 3])))
    jax.tree.map(
        assert_array_equal,
        *(program.finish(windows, own, program.init(windows, own)) for own in (lanes, wide)),
    )


def test_training_in_pieces_is_training_in_one_go() -> None:
    windows, lanes, _ = make_lane_table()
    program = shared_program()
    pieces = run(program, windows, lanes, chunks=(1, 1, 1))
    jax.tree.map(assert_array_equal, run(program, windows, lanes), pieces)


@pytest.mark.parametrize("strategy", ["map", "vmap"])
def test_a_lane_that_is_not_finite_stops_alone(strategy) -> None:
    windows, lanes, _ = make_lane_table()
    program = shared_program(strategy)
    good_state, good_losses = run(program, windows, lanes)
    state, losses = run(program, *make_lane_table(rates=(1e-3, 1e38, 1e-2))[:2])
    assert state.status.tolist() == [MAX_ITER, NOT_FINITE, MAX_ITER]
    assert state.n_epochs.tolist() == [3, 0, 3]
    assert np.isnan(losses.train[:, 1]).all()
    assert np.isnan(losses.validation[:, 1]).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.weights))
    for lane in (0, 2):
        jax.tree.map(
            lambda a, b, lane=lane: assert_array_equal(a[lane], b[lane]),
            state.weights, good_state.weights,
        )  # fmt: skip
        assert_array_equal(losses.train[:, lane], good_losses.train[:, lane])


def test_losses_of_all_lanes_come_from_inside_the_compiled_loop() -> None:
    windows, lanes, sizes = make_lane_table()
    seen = []
    program = jitted(
        make_lanes(CONFIG, sizes, on_epoch=lambda *news: seen.append([np.asarray(n) for n in news]))
    )
    _, losses = run(program, windows, lanes)
    jax.effects_barrier()
    assert [news[0].tolist() for news in seen] == [[1] * 3, [2] * 3, [3] * 3]
    assert_array_equal([news[1] for news in seen], losses.train)
    assert_array_equal([news[2] for news in seen], losses.validation)
    assert np.all(losses.train[-1] < losses.train[0])


def test_one_trace_for_all_values_of_one_shape() -> None:
    windows, lanes, sizes = make_lane_table()
    program = make_lanes(CONFIG, sizes)
    traces = []

    @partial(jax.jit, static_argnums=3)
    def train(*arguments):
        traces.append(1)
        return program.train(*arguments)

    state = shared_program().init(windows, lanes)
    train(windows, lanes, state, 1)
    other = lanes._replace(hyper=lanes.hyper._replace(width=jnp.array([2, 2, 2]), learning_rate=jnp.ones(3)))
    train(windows, other, state, 1)
    assert len(traces) == 1


@pytest.mark.parametrize("strategy", ["map", "vmap"])
def test_the_matrix_of_windows_never_exists(strategy) -> None:
    """Temporary memory of a training epoch is far below that of one machine's windows."""
    _, lanes, _ = make_lane_table()
    n_rows, d = 50_000, 40
    shapes = Windows(
        *(jax.ShapeDtypeStruct((n_rows, *rest), dtype) for rest, dtype in
          (((d,), jnp.float32), ((), jnp.float32), ((), jnp.int32), ((), jnp.int32)))
    )  # fmt: skip
    program = make_lanes(CONFIG, Sizes(n_rows, n_rows), lanes=strategy)
    state = jax.eval_shape(program.init, shapes, lanes)
    train = jax.jit(program.train, static_argnums=3)
    memory = train.lower(shapes, lanes, state, 1).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 0.5 * n_rows * 3 * d * 4


def test_an_unknown_strategy_and_no_windows_are_refused() -> None:
    with pytest.raises(SettingsError, match="auto, map, vmap"):
        make_lanes(CONFIG, Sizes(10, 0), lanes="pmap")
    with pytest.raises(SettingsError, match="no training windows"):
        make_lanes(CONFIG, Sizes(0, 0))
