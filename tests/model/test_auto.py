"""The model auto: calibration by brute force, fusion, few clips, lone machines, bad clips, no name in the rule."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from adjax.data.clips import Clip, ClipTable
from adjax.extraction import ClipFeatures
from adjax.features import VIEWS
from adjax.results import Result
from adjax.selection import (
    GROUPS,
    LANES,
    MAX_BLOCKS,
    calibrate,
    fit_lanes,
    fuse,
    held_out_blocks,
    judge_type,
    lane_distances,
    select_and_score,
)
from adjax.types import ClipError, FitError

N_MELS = 16


def clips_of(
    counts: Sequence[tuple[str, str, int]], *, split: str = "train", seed: int = 0, shift: float = 0.0
) -> ClipFeatures:
    """Normal views; `shift` is added to the peaks of every second clip, which is labelled anomalous."""
    rng = np.random.default_rng(seed)
    clips, rows = [], []
    for machine_type, machine_id, n in counts:
        centre = 10.0 * np.random.default_rng(sum(map(ord, machine_type + machine_id))).normal(
            size=5 * N_MELS
        )
        for i in range(n):
            odd = bool(i % 2 and shift)
            row = rng.normal(size=(len(VIEWS), N_MELS))
            row[VIEWS.index("peaks")] += shift * odd
            path = Path(f"{machine_type}/{split}/{'anomaly' if odd else 'normal'}_{machine_id}_{i:08d}.wav")
            clips.append(Clip(path, machine_type, machine_id, split, label=int(odd)))
            rows.append(centre + row.ravel())
    table = np.array(rows, np.float32).reshape(-1, 5 * N_MELS)
    return ClipFeatures(ClipTable(tuple(clips)), table, np.arange(len(clips) + 1))


def fan(*counts: int) -> list[tuple[str, str, int]]:
    return [("fan", f"id_{i:02d}", n) for i, n in enumerate(counts)]


@pytest.fixture(scope="module")
def result() -> Result:
    return select_and_score(clips_of(fan(6, 8)), clips_of(fan(6, 6), split="test", seed=1, shift=6.0))


def test_held_out_scores_equal_fits_without_the_clips(x64) -> None:
    """Brute force: leave clips out by deleting them, fit each lane, compare."""
    train, machine = clips_of(fan(4, 12)), np.repeat([0, 1], [4, 12])
    views = train.rows.astype(np.float64).reshape(16, 5, -1)
    blocks = [[i] for i in range(4)] + [[4, 5], [6, 7], *([i] for i in range(8, 16))]
    distances = np.zeros((16, len(LANES)))
    fit = jax.jit(functools.partial(fit_lanes, n_machines=2))
    for block in blocks:
        kept = np.delete(np.arange(16), block)
        own = jnp.asarray(machine[block[0]])
        lanes = fit(jnp.asarray(views[kept]), jnp.ones(len(kept)), machine[kept], own)
        distances[block] = lane_distances(lanes, jnp.asarray(views[block]))
    centre = np.stack([distances[:4].mean(axis=0), distances[4:].mean(axis=0)])[machine]
    spread = np.sqrt((np.maximum(distances - centre, 0) ** 2).sum(axis=0) / (3 + 11))
    normal, z = judge_type(views.reshape(16, -1), machine, views[:3].reshape(3, -1), machine[:3])
    assert_allclose(normal, (distances - centre) / spread, rtol=1e-8, atol=1e-8)
    whole = fit(jnp.asarray(views), jnp.ones(16), machine, jnp.asarray(0))
    expected = (np.asarray(lane_distances(whole, jnp.asarray(views[:3]))) - centre[0]) / spread
    assert_allclose(z, expected, rtol=1e-8, atol=1e-8)


def test_every_clip_is_held_out_once_in_contiguous_blocks() -> None:
    machine = np.repeat([0, 1], [4, 25])
    blocks, owner = held_out_blocks(machine, 2)
    assert_array_equal(blocks.sum(axis=0), np.ones(29))
    assert len(blocks) == 4 + MAX_BLOCKS + 2
    assert not blocks[-2:].any()
    for block, own in zip(blocks[:-2], owner[:-2], strict=True):
        clips = np.flatnonzero(block)
        assert set(machine[clips]) == {own}
        assert_array_equal(np.diff(clips), 1)


def test_the_spread_never_vanishes() -> None:
    _, spread = calibrate(jnp.ones((6, 3)), np.repeat([0, 1], 3), n_machines=2)
    assert (spread > 0).all()


def test_fuse_takes_the_loudest_lane() -> None:
    assert_array_equal(fuse(np.array([[0.0, 2.0, -1.0], [-3.0, -2.0, -4.0]])), [2.0, -2.0])


def test_lanes_are_the_fourteen_of_the_rule() -> None:
    assert len(set(LANES)) == len(LANES) == sum(len(group.views) for group in GROUPS) == 14


def test_anomalies_are_found_and_the_lanes_say_where(result: Result) -> None:
    assert not result.failures
    assert all(metrics.auc == 1.0 for metrics in result.metrics()["fan"].values())
    assert result.lanes is not None
    for label, loudest in zip(result.clips.labels, result.lanes.loudest, strict=True):
        assert loudest.startswith("peaks") or not label
    assert_array_equal(result.scores, result.lanes.z.max(axis=1))
    assert [len(result.lanes.held_out["fan", f"id_{i:02d}"]) for i in (0, 1)] == [6, 8]
    assert [(fit.n_clips, fit.n_steps) for fit in result.fits] == [(6, 7), (8, 9)]


def test_no_label_and_no_name_is_in_the_rule(result: Result) -> None:
    train, test = clips_of(fan(6, 8)), clips_of(fan(6, 6), split="test", seed=1, shift=6.0)
    new = {"id_00": "section_05", "id_01": "section_01"}  # in another order, too

    def renamed(features: ClipFeatures) -> ClipFeatures:
        clips = (
            replace(c, machine_type="toy", machine_id=new[c.machine_id], label=None) for c in features.clips
        )
        return replace(features, clips=ClipTable(tuple(clips)))

    again = select_and_score(renamed(train), renamed(test))
    assert_allclose(again.scores, result.scores, rtol=1e-3, atol=1e-3)


def test_a_machine_alone_in_its_type(result: Result) -> None:
    alone = select_and_score(clips_of(fan(6)), clips_of(fan(6), split="test", seed=1, shift=6.0))
    assert not alone.failures
    assert alone.metrics()["fan"]["id_00"].auc == 1.0


def test_too_few_training_clips_are_reported_and_the_others_go_on(result: Result) -> None:
    test = clips_of(fan(6, 6, 2, 1), split="test", seed=1, shift=6.0)
    few = select_and_score(clips_of(fan(6, 8, 2)), test)
    assert [type(error) for error in few.failures] == [FitError, FitError]
    assert "fan id_02 has 2 training clips" in str(few.failures[0])
    assert "fan id_03 has 0 training clips" in str(few.failures[1])
    assert few.clips.machine_ids == result.clips.machine_ids
    assert_allclose(few.scores, result.scores, rtol=1e-3, atol=1e-3)  # two clips lend nothing


def test_mates_without_test_clips_lend_theirs(result: Result) -> None:
    test = clips_of(fan(6), split="test", seed=1, shift=6.0)
    one = select_and_score(clips_of(fan(6, 8)), test)
    assert_allclose(one.scores, result.of("fan", "id_00")[1], rtol=1e-3, atol=1e-3)
    assert len(one.fits) == 1


def test_one_model_a_type() -> None:
    train, test = clips_of(fan(6, 8)), clips_of(fan(6, 6), split="test", seed=1, shift=6.0)
    judged = select_and_score(train, test, per="type")
    assert [(fit.machine_id, fit.n_clips) for fit in judged.fits] == [("", 14)]
    assert len(judged.scores) == 12


def test_a_clip_that_is_not_finite_spoils_no_other(result: Result) -> None:
    train, test = clips_of(fan(7, 8)), clips_of(fan(6, 6), split="test", seed=1, shift=6.0)
    train.rows[0, 3], test.rows[1, 5] = np.nan, np.inf
    judged = select_and_score(train, test)
    assert {error.path for error in judged.failures if isinstance(error, ClipError)} == {
        str(train.clips[0].path),
        str(test.clips[1].path),
    }
    assert len(judged.scores) == 11
    assert np.isfinite(judged.scores).all()


def test_scores_that_are_not_finite_are_reported_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from adjax import selection

    def judge(train, train_machine, test, test_machine):
        z = np.ones((len(test), len(LANES)))
        z[1, 4] = np.nan
        return np.ones((len(train), len(LANES))), z

    monkeypatch.setattr(selection, "judge_type", judge)
    judged = select_and_score(clips_of(fan(6, 8)), clips_of(fan(3, 3), split="test"))
    assert len(judged.scores) == 5
    assert [type(error) for error in judged.failures] == [FitError]
    assert "fan id_00" in str(judged.failures[0])
