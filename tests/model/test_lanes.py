"""Lanes, folds and checkpoints change nothing: each training is the one that stands alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from adjax.app.fitting import drop_checkpoints
from adjax.data.clips import Clip
from adjax.detectors.autoencoder import resume
from adjax.detectors.kinds import kind_of
from adjax.model.fit import Watch, fit_model
from adjax.model.lanes import fit_rows
from adjax.model.lift import make_detector, window_starts
from adjax.types import (
    EngineOptions,
    StoreError,
    Training,
)
from tests.model.machines import (
    AUTOENCODER,
    fit_and_score,
    relabel,
    with_own,
)


def test_two_trainings_of_one_machine_keep_their_checkpoints_apart(splits, tmp_path: Path) -> None:
    (own,) = AUTOENCODER.detectors
    short = [replace(own, config=replace(own.config, n_epochs=n)) for n in (1, 2)]
    spec = replace(AUTOENCODER, detectors=tuple(short), fusion="max")
    train, test = (part.where(lambda clip: clip.machine_id == "id_00") for part in splits)
    first = fit_model(spec, train, checkpoints=tmp_path / "net")
    again = fit_model(spec, train, checkpoints=tmp_path / "net")
    assert "fan id_00: went on after epoch 2 of 2" in again.record.notes
    assert_array_equal(first.score_features(test).scores, again.score_features(test).scores)
    drop_checkpoints(tmp_path, "net", test.clips)
    assert not (tmp_path / "net").exists()


def test_checkpoints_change_nothing_and_belong_to_one_run(
    splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = splits
    plain = fit_model(AUTOENCODER, train)
    scores = plain.score_features(test).scores
    place = tmp_path / "checkpoints" / "net"
    heard: list[float] = []
    done: list[str] = []
    watch = Watch(done.append, lambda n_lanes, loss: heard.append(loss))
    built: list[object] = []
    make_lanes = resume.make_lanes
    monkeypatch.setattr(resume, "make_lanes", lambda *a, **b: built.append(a) or make_lanes(*a, **b))
    fit = lambda spec: fit_model(spec, train, checkpoints=place, watch=watch)
    assert_array_equal(fit(AUTOENCODER).score_features(test).scores, scores)
    again = fit(AUTOENCODER)
    assert_array_equal(again.score_features(test).scores, scores)
    assert "fan id_02: went on after epoch 30 of 30" in again.record.notes
    assert not set(plain.record.notes) & set(again.record.notes)
    assert len(built) == 1  # two machines of one size, twice: one program
    assert done == ["fan id_00", "fan id_02"] * 2
    assert len(heard) == 4 * 30  # two machines, twice: the second time from the checkpoints
    assert_array_equal(np.sort(heard[:60]), np.sort(heard[60:]))
    for other in (replace(AUTOENCODER, seed=1), with_own(AUTOENCODER, standardize=True)):
        with pytest.raises(StoreError, match="other settings, data or versions"):
            fit(other)
    drop_checkpoints(place.parent, "net", test.where(lambda clip: clip.machine_id == "id_00").clips)
    assert [path.name.partition("~")[0] for path in place.iterdir()] == ["fan_id_02"]
    drop_checkpoints(place.parent, "net", test.clips)
    assert not place.parent.exists()


def test_clips_without_a_name_have_a_folder_too(splits, tmp_path: Path) -> None:
    """Not the caller's: that one stays, with whatever else is in it."""
    train, test = (relabel(part, lambda i, clip: Clip(clip.path)) for part in splits)
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "mine.txt").touch()
    spec = with_own(AUTOENCODER, per="type", n_epochs=3)
    assert len(fit_and_score(train, test, spec, checkpoints=tmp_path / "net").clips) == len(test.clips)
    assert len(list((tmp_path / "net").iterdir())) == 2
    drop_checkpoints(tmp_path, "net", test.clips)
    assert [path.name for path in (tmp_path / "net").iterdir()] == ["mine.txt"]


def test_a_lane_is_the_detector(splits) -> None:
    """A model trains by its kind's engine, which is `RowDetector.fit`, whatever clips are left out between others."""
    own = with_own(AUTOENCODER, n_epochs=4).detectors[0]
    train, kind = splits[0], kind_of(own.kind)
    clip = np.repeat(np.arange(len(train.clips)), np.diff(train.offsets))
    real = np.stack([np.ones(len(clip)), clip % 3 != 1, clip % 2 == 0]).astype(np.float32)
    weights = np.stack([window_starts(clip, kept, own.config.n_context) for kept in real])
    options = EngineOptions(domain=np.zeros(len(clip), np.int32))
    keys, rows = jax.random.split(jax.random.key(0), 2), np.stack([train.rows, train.rows[::-1]])
    data, fold, lane_keys = np.array([0, 1, 0, 0]), np.array([0, 1, 1, 2]), keys[np.array([0, 1, 1, 0])]
    found = fit_rows(kind, own.config, own.hyper, lane_keys, rows, weights, data, fold, options)
    assert found.losses.shape == (4, 4)
    assert_allclose(found.losses[:, -1], found.info.objective)
    fit = jax.jit(own.make().fit)
    for i in range(4):
        alone = fit_rows(
            kind, own.config, own.hyper, lane_keys[i][None], rows[data[i]][None], weights[fold[i]][None],
            np.zeros(1, int), np.zeros(1, int), options,
        )  # fmt: skip
        assert_allclose(found.losses[i, 0], alone.losses[0, 0], rtol=1e-6)
        solo = fit(lane_keys[i], rows[data[i]], weights[fold[i]], own.hyper)
        for expected in (jax.tree.map(lambda leaf: leaf[0], (alone.params, alone.info)), solo):
            jax.tree.map(
                lambda a, b, i=i: assert_allclose(a[i], b, rtol=1e-5, atol=1e-6),
                (found.params, found.info),
                expected,
            )


@pytest.mark.parametrize("standardize", [False, True])
def test_one_training_whoever_asks_for_it(splits, standardize: bool) -> None:
    """A model with its calibration beside it, one of what that leaves, and the pure fit among other machines' rows."""
    train, spec = splits[0], with_own(AUTOENCODER, n_epochs=4, standardize=standardize)
    model = fit_model(replace(spec, calibration="split"), train)
    held_out = {name for own in model.record.held_out for name in own.names}
    seen = train.where(lambda clip: clip.name not in held_out)
    assert 0 < len(seen.clips) < len(train.clips)
    alone = fit_model(spec, seen)
    for fits in zip(model.record.fits, alone.record.fits, strict=True):
        assert_allclose(*(fit.losses for fit in fits), rtol=1e-5)
    if standardize:
        return
    machines = seen.clips.machines
    machine = np.array([machines.index(clip.machine) for clip in seen.clips], np.int32)
    clip = np.repeat(np.arange(len(machine)), np.diff(seen.offsets)).astype(np.int32)
    seeds = np.array([name.seed for name in machines], np.uint32)
    training = Training(*map(jnp.asarray, (seen.rows, np.ones(len(clip)), clip, machine, 0 * machine, seeds)))
    own = spec.detectors[0]
    params, info = jax.jit(make_detector(own).fit)(jax.random.key(spec.seed), training, own.hyper)
    assert_allclose([fit.objective for fit in model.record.fits], info.objective, rtol=1e-5)
    jax.tree.map(
        lambda a, b: assert_allclose(a, b, rtol=1e-5, atol=1e-6), model.params.detectors[0].params, params
    )


def test_windows_do_not_cross_clips() -> None:
    clip = np.repeat([0, 1, 2], [4, 1, 3])
    for xp in (np, jnp):
        starts = window_starts(xp.asarray(clip), xp.ones(8), 3)
        assert_array_equal(starts, [1, 1, 0, 0, 0, 1, 0, 0])
        left_out = window_starts(xp.asarray(clip), xp.asarray(clip == 2, float), 3)
        assert_array_equal(left_out, [0, 0, 0, 0, 0, 1, 0, 0])
        assert_array_equal(window_starts(xp.asarray(clip[:2]), xp.ones(2), 3), [0, 0])
