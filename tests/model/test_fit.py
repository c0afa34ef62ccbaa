"""From clips to a model and its scores: machines and types, pooling, standardising, checkpoints, failures."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from adjax.model.fit import fit_model
from adjax.model.spec import ModelSpec
from adjax.types import (
    MAX_ITER,
    MachineId,
    SettingsError,
)
from tests.model.machines import (
    AUTOENCODER,
    GMM,
    fit_and_score,
    relabel,
    with_own,
)


@pytest.mark.parametrize("per", ["machine", "type"])
@pytest.mark.parametrize(
    "spec",
    [GMM, with_own(GMM, standardize=True), with_own(AUTOENCODER, standardize=True)],
    ids=["gmm", "standardised gmm", "autoencoder"],
)
def test_models_find_the_anomalies(splits, spec: ModelSpec, per: str) -> None:
    train, test = splits
    model = fit_model(with_own(spec, per=per), train)
    result = model.score_features(test)
    assert len(model.record.fits) == (2 if per == "machine" else 1)
    assert sum(fit.n_clips for fit in model.record.fits) == 12
    assert not model.record.failures
    assert not result.failures
    for metrics in result.metrics()["fan"].values():
        assert metrics.auc > 0.9
        assert (metrics.n_normal, metrics.n_anomalous) == (4, 4)


def test_without_calibration_there_is_no_p_value_and_no_decision(splits) -> None:
    model = fit_model(GMM, splits[0])
    result = model.score_features(splits[1])
    assert not model.calibrated
    assert np.isnan(result.p_values).all()
    assert set(result.verdicts) == {"undecided"}
    assert not result.extrapolated.any()
    assert_array_equal(result.scores, result.parts[:, 0])
    assert result.part_names == ("gmm",)
    with pytest.raises(SettingsError, match="calibration"):
        model.with_false_alarm_rate(0.1)


@pytest.mark.parametrize("calibration", ["folds", "split"])
def test_a_calibrated_model_decides(splits, calibration: str) -> None:
    """A split keeps clips out of the model; folds do not: then the model is the one without calibration."""
    train, test = splits
    spec = replace(GMM, calibration=calibration, n_folds=3)
    model = fit_model(spec, train, false_alarm_rate=0.1)
    result = model.score_features(test)
    assert ((result.p_values > 0) & (result.p_values <= 1)).all()
    found = np.array(result.verdicts) == "anomalous"
    assert found[test.clips.labels == 1].all()
    assert calibration == "split" or not found[test.clips.labels == 0].any()  # two clips say little
    assert result.extrapolated[test.clips.labels == 1].all()
    n_held_out = {"folds": 6, "split": 2}[calibration]
    assert [len(own.scores) for own in model.record.held_out] == [n_held_out] * 2
    assert [fit.n_clips for fit in model.record.fits] == [6 if calibration == "folds" else 4] * 2
    if calibration == "folds":
        found, bare = (m.params.detectors[0].params for m in (model, fit_model(GMM, train)))
        jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-4, atol=1e-4), found, bare)


def test_residuals_of_two_domains_find_the_anomalies(splits) -> None:
    train, test = splits
    train = relabel(train, lambda i, clip: replace(clip, domain=("source", "target")[i % 2]))
    spec = with_own(AUTOENCODER, residual="mahalanobis", n_domains=2, standardize=True, per="type")
    result = fit_and_score(train, test, spec)
    assert not result.failures
    assert all(metrics.auc > 0.9 for metrics in result.metrics()["fan"].values())


def test_a_model_of_one_machine_misjudges_the_other(splits) -> None:
    train, test = splits
    normals = test.where(lambda clip: clip.label == 0)
    swapped = {"id_00": "id_02", "id_02": "id_00"}
    other = relabel(train, lambda i, clip: replace(clip, machine_id=swapped[clip.machine_id]))
    right = fit_and_score(train, normals, GMM).scores
    wrong = fit_and_score(other, normals, GMM).scores
    assert wrong.min() > right.max()


def test_score_pooling(splits) -> None:
    """The clip's score is the pooled score of its frames, of the detector that the machine's own key has fitted."""
    train, test = (part.where(lambda clip: clip.machine_id == "id_00") for part in splits)
    detector = GMM.detectors[0].make()
    key = jax.random.fold_in(jax.random.key(0), MachineId("fan", "id_00").seed)
    params, _ = jax.jit(detector.fit)(key, jnp.asarray(train.rows), jnp.ones(len(train.rows)), detector.hyper)
    frames = np.asarray(detector.score(params, jnp.asarray(test.rows)))
    for pooling in ("mean", "std", "max", "percentile"):
        result = fit_and_score(train, test, with_own(GMM, pooling=pooling, percentile=90.0))
        pool = getattr(np, pooling) if pooling != "percentile" else lambda own: np.percentile(own, 90)
        expected = [pool(frames[a:b]) for a, b in pairwise(test.offsets)]
        assert_allclose(result.scores, expected, rtol=5e-2, err_msg=pooling)


def test_same_seed_same_scores(splits) -> None:
    spec = with_own(AUTOENCODER, n_epochs=3)
    one, two = (fit_and_score(*splits, spec) for _ in range(2))
    assert_array_equal(one.scores, two.scores)
    assert np.any(fit_and_score(*splits, replace(spec, seed=1)).scores != one.scores)


def test_a_machine_has_the_same_model_in_any_company(splits) -> None:
    """Its key depends on its name alone."""
    train, test = splits
    alone = [part.where(lambda clip: clip.machine_id == "id_02") for part in splits]
    for spec in (GMM, with_own(AUTOENCODER, n_epochs=3)):
        assert_array_equal(
            fit_and_score(*alone, spec).scores, fit_and_score(train, test, spec).of("fan", "id_02")[1]
        )


def test_a_fit_that_made_all_its_steps_says_so(splits) -> None:
    model = fit_model(with_own(GMM, max_iter=1), splits[0])
    assert [fit.status for fit in model.record.fits] == [MAX_ITER] * 2
