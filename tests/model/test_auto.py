"""The model auto: calibration by brute force, what is found and where, few clips, lone machines, bad clips, no name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from adjax.data.clips import Clip, ClipTable
from adjax.detectors.kinds import AUTO_KINDS, KINDS
from adjax.features.recipes import FeatureConfig
from adjax.features.views import VIEWS
from adjax.model.extraction import ClipFeatures
from adjax.model.fit import fit_model
from adjax.model.model import Model
from adjax.model.named import make_spec
from adjax.model.result import Result
from adjax.model.spec import VectorConfig
from adjax.types import ClipError, FitError, SettingsError, Training

N_MELS = 16
AUTO = make_spec("auto", features=FeatureConfig(n_mels=N_MELS))
GAUSSIANS = make_spec("gaussians", features=FeatureConfig(n_mels=N_MELS))  # what auto was made of before


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


TRAIN = clips_of(fan(6, 8))
TEST = clips_of(fan(6, 6), split="test", seed=1, shift=6.0)


@pytest.fixture(scope="module")
def model() -> Model:
    return fit_model(AUTO, TRAIN)


@pytest.fixture(scope="module")
def result(model: Model) -> Result:
    return model.score_features(TEST)


def upper(distances: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """(n_parts,) sum of squares above the centre."""
    return np.sum(np.clip(distances - centre, 0, None) ** 2, axis=0)


def test_calibration_by_brute_force() -> None:
    """The k-th block of every machine is held out at once; each clip is then judged by the other held-out ones."""
    train = clips_of(fan(4, 12))
    model = fit_model(GAUSSIANS, train)
    machine = np.repeat([0, 1], [4, 12])
    blocks = [[0, 4], [1, 5], [2, 6, 7], [3, 8], [9], [10], [11], [12, 13], [14], [15]]
    detector = GAUSSIANS.detectors[0].make()
    fit = jax.jit(detector.fit)
    score = jax.jit(jax.vmap(detector.score, in_axes=(None, 0, 0, 0)))

    def distances_of(params, machine, rows) -> np.ndarray:
        ones = jnp.ones((len(rows), 1))
        return np.asarray(score(params, jnp.asarray(machine), rows[:, None], ones), np.float64)

    def fitted(weight):
        n, seeds = jnp.arange(16, dtype=jnp.int32), jnp.zeros(2, jnp.uint32)
        nothing = jnp.zeros(16, jnp.int32)
        clips = Training(train.rows, jnp.asarray(weight), n, jnp.asarray(machine), nothing, seeds)
        return fit(jax.random.key(0), clips)[0]

    distances = np.zeros((16, 14))
    for block in blocks:
        params = fitted(np.where(np.isin(np.arange(16), block), np.float32(0), np.float32(1)))
        distances[block] = distances_of(params, machine[block], train.rows[block])
    own = [distances[machine == m] for m in (0, 1)]
    for m, held_out in enumerate(model.record.held_out):
        mate = own[1 - m]
        of_mate = upper(mate, mate.mean(axis=0))
        expected = []
        for i in range(len(own[m])):
            others = np.delete(own[m], i, axis=0)
            centre = others.mean(axis=0)
            spread = np.sqrt((upper(others, centre) + of_mate) / (len(others) - 1 + len(mate) - 1))
            expected.append(np.max((own[m][i] - centre) / spread))
        assert_allclose(held_out.scores, expected, rtol=2e-3, atol=2e-3)
        assert held_out.names == tuple(
            clip.name for clip, k in zip(train.clips, machine, strict=True) if k == m
        )

    test = clips_of(fan(3, 3), split="test", seed=1, shift=2.0)
    result = model.score_features(test)
    params, which = fitted(np.ones(16, np.float32)), np.repeat([0, 1], 3)
    raw = distances_of(params, which, test.rows)
    centre = np.stack([part.mean(axis=0) for part in own])
    spread = np.sqrt(sum(upper(part, part.mean(axis=0)) for part in own) / (3 + 11))
    z = (raw - centre[which]) / spread
    assert_allclose(result.parts, z, rtol=5e-3, atol=5e-3)
    assert_array_equal(result.scores, result.parts.max(axis=1))
    for i, m in enumerate(which):
        normal = model.record.held_out[m].scores
        p = (1 + np.sum(normal >= result.scores[i])) / (len(normal) + 1)
        if result.extrapolated[i]:
            assert result.scores[i] > normal.max()
            assert 0 < result.p_values[i] < 1 / (len(normal) + 1)
        else:
            assert_allclose(result.p_values[i], p, rtol=1e-5)


def test_anomalies_are_found_and_the_parts_say_where(model: Model, result: Result) -> None:
    assert not model.record.failures
    assert not result.failures
    assert all(metrics.auc == 1.0 for metrics in result.metrics()["fan"].values())
    assert {
        verdict for label, verdict in zip(result.clips.labels, result.verdicts, strict=True) if label
    } == {"anomalous"}
    assert len(result.part_names) == 14 + len(AUTO_KINDS) - 1
    assert [len(own.scores) for own in model.record.held_out] == [6, 8]
    assert [(fit.kind, fit.n_clips) for fit in model.record.fits] == [
        (kind, n) for kind in AUTO_KINDS for n in (6, 8)
    ]
    before = fit_model(GAUSSIANS, TRAIN).score_features(TEST)
    assert_array_equal(before.scores, before.parts.max(axis=1))
    for label, loudest, verdict in zip(before.clips.labels, before.loudest, before.verdicts, strict=True):
        assert not label or (loudest.startswith("peaks") and verdict == "anomalous")


def test_no_label_and_no_name_is_in_the_rule(result: Result) -> None:
    new = {"id_00": "section_05", "id_01": "section_01"}  # in another order, too

    def renamed(features: ClipFeatures) -> ClipFeatures:
        clips = (
            replace(c, machine_type="toy", machine_id=new[c.machine_id], label=None) for c in features.clips
        )
        return replace(features, clips=ClipTable(tuple(clips)))

    again = fit_model(AUTO, renamed(TRAIN)).score_features(renamed(TEST))
    assert_allclose(again.scores, result.scores, rtol=1e-3, atol=1e-3)
    assert_allclose(again.p_values, result.p_values, rtol=1e-2)


def test_machines_of_another_type_lend_nothing_but_contrast() -> None:
    company = clips_of([*fan(6, 8), ("pump", "id_00", 6)])
    assert_array_equal(company.rows[:14], TRAIN.rows)
    spec = make_spec("auto", features=FeatureConfig(n_mels=N_MELS), contrast="none")
    alone = fit_model(spec, TRAIN).score_features(TEST)
    found = fit_model(spec, company).score_features(TEST)
    assert_allclose(found.scores, alone.scores, rtol=1e-5, atol=1e-5)


def test_a_machine_alone_in_its_type() -> None:
    alone = fit_model(AUTO, clips_of(fan(6)))
    judged = alone.score_features(clips_of(fan(6), split="test", seed=1, shift=6.0))
    assert not alone.record.failures
    assert not judged.failures
    assert judged.metrics()["fan"]["id_00"].auc == 1.0


def test_too_few_training_clips_are_reported_and_the_others_go_on(result: Result) -> None:
    test = clips_of(fan(6, 6, 2, 1), split="test", seed=1, shift=6.0)
    few = fit_model(AUTO, clips_of(fan(6, 8, 2)))
    judged = few.score_features(test)
    assert [type(error) for error in few.record.failures] == [FitError]
    assert "fan id_02 has 2 training clips" in str(few.record.failures[0])
    # One could not be fitted; of the other's clip nobody has ever heard.
    of_stranger, of_failed = judged.failures
    assert isinstance(of_stranger, ClipError)
    assert "fan id_03, is not in the model" in str(of_stranger)
    assert isinstance(of_failed, FitError)
    assert "fan id_02 is not in the model" in str(of_failed)
    assert "its 2 clips have no score" in str(of_failed)
    assert judged.clips.machine_ids == result.clips.machine_ids
    assert_array_equal(judged.scores, result.scores)  # two clips lend nothing


def test_three_clips_of_a_machine_are_enough() -> None:
    model = fit_model(AUTO, clips_of(fan(3)))
    judged = model.score_features(clips_of(fan(6), split="test", seed=1, shift=12.0))
    assert [len(own.scores) for own in model.record.held_out] == [3]
    assert np.isfinite(judged.scores).all()
    assert judged.metrics()["fan"]["id_00"].auc == 1.0


def test_mates_without_test_clips_lend_theirs(model: Model, result: Result) -> None:
    one = model.score_features(TEST.where(lambda clip: clip.machine_id == "id_00"))
    assert_array_equal(one.scores, result.of("fan", "id_00")[1])
    without = fit_model(AUTO, TRAIN.where(lambda clip: clip.machine_id == "id_00"))
    alone = without.score_features(TEST.where(lambda clip: clip.machine_id == "id_00"))
    assert np.max(np.abs(alone.scores - one.scores)) > 0.1


def test_one_model_a_type() -> None:
    """One Gaussian for both machines; each is calibrated by its own clips."""
    model = fit_model(make_spec("auto", features=AUTO.detectors[0].features, per="type"), TRAIN)
    judged = model.score_features(TEST)
    assert {(fit.machine_id, fit.n_clips) for fit in model.record.fits} == {("", 14)}
    assert [len(own.scores) for own in model.record.held_out] == [6, 8]
    assert len(judged.scores) == 12


def test_a_clip_that_is_not_finite_spoils_no_other(result: Result) -> None:
    train = clips_of(fan(7, 8))
    test = replace(TEST, rows=TEST.rows.copy())
    train.rows[0, 3], test.rows[1, 5] = np.nan, np.inf
    model = fit_model(AUTO, train)
    judged = model.score_features(test)
    assert [error.path for error in model.record.failures] == [str(train.clips[0].path)]
    assert [error.path for error in judged.failures] == [str(test.clips[1].path)]
    assert all(isinstance(error, ClipError) for error in judged.failures)
    assert len(judged.scores) == 11
    assert np.isfinite(judged.scores).all()


def test_scores_that_are_not_finite_are_reported_and_left_out(model: Model) -> None:
    """Numbers that are finite, whose squares are not."""
    test = replace(TEST, rows=TEST.rows.copy())
    test.rows[1] = 1e30
    judged = model.score_features(test)
    assert len(judged.scores) == 11
    assert [error.path for error in judged.failures] == [str(test.clips[1].path)]
    assert "its score is not finite" in str(judged.failures[0])


def test_a_clip_has_the_same_score_in_any_company(model: Model, result: Result) -> None:
    for chosen in ([3], [11, 0, 4]):
        some = model.score_features(TEST.at(chosen))
        assert_array_equal(some.scores, result.scores[chosen])
        assert_array_equal(some.p_values, result.p_values[chosen])
    nothing = model.score_features(TEST.at([]))
    assert (len(nothing.scores), nothing.parts.shape, nothing.failures) == (0, (0, len(model.part_names)), ())


@pytest.mark.parametrize("fusion", ["max", "mean", "fisher"])
def test_other_models_are_fused_with_it(fusion: str) -> None:
    settings = {"n_components": 1, "covariance_type": "diag", "reg_covar": 1e-2, "max_iter": 5}
    spec = make_spec("auto+gmm", settings=settings, features=AUTO.detectors[0].features, fusion=fusion)
    model = fit_model(spec, TRAIN)
    judged = model.score_features(TEST)
    assert judged.part_names[0] == "gaussians mean"
    assert judged.part_names[-1] == "gmm"
    assert len(judged.part_names) == 14 + len(AUTO_KINDS)
    assert np.isfinite(judged.scores).all()
    assert ((judged.p_values > 0) & (judged.p_values <= 1)).all()
    assert all(metrics.auc == 1.0 for metrics in judged.metrics()["fan"].values())


def test_p_values_too_small_for_a_float_are_still_scores() -> None:
    """Fisher's sum is of logarithms; no anomaly is so far out that it has no score, and farther is higher."""
    model = fit_model(AUTO, TRAIN)
    far = [model.score_features(clips_of(fan(2), split="test", shift=shift)) for shift in (1e3, 1e6, 1e9)]
    assert not any(judged.failures for judged in far)
    scores = [judged.scores[1] for judged in far]
    assert np.isfinite(scores).all()
    assert scores == sorted(set(scores))
    assert all(judged.p_values[1] > 0 for judged in far)


def test_it_refuses_what_it_cannot_use() -> None:
    small = FeatureConfig(n_fft=256, hop_length=128, n_mels=16)
    front_end = make_spec("auto", features=small).front_ends[0]
    assert isinstance(front_end, FeatureConfig)
    assert front_end.pooling == "views"
    for bad in ({"kind": "mfcc"}, {"pooling": "mean"}):
        with pytest.raises(SettingsError, match="gaussians takes log-mels as they are"):
            make_spec("auto", features=replace(small, **bad))
    with pytest.raises(SettingsError, match="auto has no setting n_components"):
        make_spec("auto", settings={"n_components": 2})
    with pytest.raises(SettingsError, match="leave the pooling of scores"):
        make_spec("auto", features=small, pooling="max")
    wide = replace(clips_of(fan(6)), rows=np.zeros((6, 5 * 24), np.float32))
    with pytest.raises(SettingsError, match="multiple of 16"):
        fit_model(make_spec("auto", features=replace(small, n_mels=24)), wide)
    assert make_spec("gaussians", features=VectorConfig(7)).detectors[0].make().parts == (
        "vector",
        "vector diagonal",
    )


def test_vectors_from_elsewhere_have_no_views() -> None:
    kinds = [detector.kind for detector in make_spec("auto", features=VectorConfig(7)).detectors]
    assert kinds == [kind for kind in AUTO_KINDS if KINDS[kind].rows != "views"]
