"""The estimator against scikit-learn: its own checks, its results, and its mixture suite by name and meaning."""

from __future__ import annotations

import pickle
import warnings

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture as Sklearn
from sklearn.utils.estimator_checks import check_estimator

from adjax import GaussianMixture
from adjax.types import FitError

COVARIANCE_TYPES = ["full", "tied", "diag", "spherical"]
CENTRES = np.array([[0.0, 0, 0], [7, 0, 1], [0, 8, 3]])


def blobs(seed: int = 0, n: int = 150, dtype: type = np.float64) -> tuple[np.ndarray, np.ndarray]:
    """Three blobs of unlike shape in three dimensions, and which row is whose."""
    rng = np.random.default_rng(seed)
    which = np.arange(n) % 3
    spread = np.array([[1.0, 0.5, 0.8], [0.4, 1.2, 1.0], [0.9, 0.9, 0.3]])
    return (CENTRES[which] + spread[which] * rng.normal(size=(n, 3))).astype(dtype), which


def quiet_fit(model: Sklearn, x: np.ndarray) -> Sklearn:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(x)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_check_estimator() -> None:
    """No check may fail; those skipped are the ones scikit-learn skips for its own, and pandas's."""
    results = check_estimator(GaussianMixture(), on_fail=None, on_skip=None)
    assert not [r["check_name"] for r in results if r["status"] not in ("passed", "skipped")]
    assert sum(r["status"] == "passed" for r in results) >= 40


@pytest.mark.parametrize("init_params", ["kmeans", "random"])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_gaussian_mixture_fit(kind: str, init_params: str) -> None:
    """The same random state gives scikit-learn's start, hence its result."""
    x, _ = blobs()
    args = {"covariance_type": kind, "init_params": init_params, "random_state": 3, "n_init": 2}
    theirs, ours = quiet_fit(Sklearn(3, **args), x), quiet_fit(GaussianMixture(3, **args), x)
    assert (ours.n_iter_, ours.converged_) == (theirs.n_iter_, theirs.converged_)
    for name in (
        "weights_",
        "means_",
        "covariances_",
        "precisions_",
        "precisions_cholesky_",
        "lower_bounds_",
    ):
        assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-7, atol=1e-9)
    assert_allclose(ours.score_samples(x), theirs.score_samples(x), rtol=1e-9)
    assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), atol=1e-9)
    assert_allclose([ours.bic(x), ours.aic(x)], [theirs.bic(x), theirs.aic(x)])
    assert_array_equal(ours.sample(20)[0].shape, (20, 3))


def test_recovers_the_blobs_and_predicts_them() -> None:
    x, which = blobs(1)
    model = GaussianMixture(3, random_state=0)
    labels = model.fit_predict(x)
    assert adjusted_rand_score(which, labels) > 0.98
    assert_array_equal(labels, model.predict(x))
    order = np.argsort(model.means_ @ [1, 2, 0])
    assert_allclose(model.means_[order], CENTRES, atol=0.5)


def test_gaussian_mixture_log_probabilities() -> None:
    x, _ = blobs(2)
    model = GaussianMixture(2, random_state=0).fit(x)
    densities = np.stack(
        [multivariate_normal(m, c).logpdf(x) for m, c in zip(model.means_, model.covariances_, strict=True)]
    )
    expected = np.logaddexp.reduce(densities + np.log(model.weights_)[:, None])
    assert_allclose(model.score_samples(x), expected, rtol=1e-9)
    model.set_params(scoring="max_component")
    assert_allclose(model.score_samples(x), densities.max(axis=0), rtol=1e-9)


def test_gaussian_mixture_estimate_log_prob_resp() -> None:
    x, _ = blobs(3)
    assert_allclose(GaussianMixture(3, random_state=0).fit(x).predict_proba(x).sum(axis=1), 1)


def test_gaussian_mixture_fit_convergence_warning() -> None:
    x, _ = blobs(4)
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        model = GaussianMixture(3, max_iter=1, tol=0.0, random_state=0).fit(x)
    assert not model.converged_


def test_multiple_init() -> None:
    x, _ = blobs(5)
    args = {"init_params": "random", "max_iter": 10, "random_state": 0}
    one, ten = (quiet_fit(GaussianMixture(3, n_init=n, **args), x) for n in (1, 10))
    assert ten.lower_bound_ >= one.lower_bound_


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_warm_start(seed: int) -> None:
    """Twice one iteration is once two."""
    x, _ = blobs(seed)
    args = {"init_params": "random", "reg_covar": 0, "random_state": seed}
    twice = GaussianMixture(2, max_iter=1, warm_start=True, **args)
    quiet_fit(quiet_fit(twice, x), x)
    once = quiet_fit(GaussianMixture(2, max_iter=2, **args), x)
    assert_allclose(twice.means_, once.means_, rtol=1e-10)
    assert_allclose(twice.score(x), once.score(x), rtol=1e-12)
    for _ in range(100):
        if quiet_fit(twice, x).converged_:
            break
    assert twice.converged_
    assert twice.max_iter >= twice.n_iter_


def test_monotonic_likelihood() -> None:
    x, _ = blobs(6)
    for kind in COVARIANCE_TYPES:
        model = GaussianMixture(3, covariance_type=kind, reg_covar=0, init_params="random", random_state=0)
        assert np.all(np.diff(quiet_fit(model.set_params(tol=1e-7), x).lower_bounds_) > -1e-12)


def test_regularisation() -> None:
    """Constant rows: singular without reg_covar, fine with it."""
    x = np.vstack([np.ones((50, 2)), np.zeros((50, 2))])
    for kind in COVARIANCE_TYPES:
        with pytest.raises(ValueError, match="ill-defined empirical covariance"):
            GaussianMixture(2, covariance_type=kind, reg_covar=0, random_state=0).fit(x)
        model = GaussianMixture(2, covariance_type=kind, reg_covar=1e-6, random_state=0).fit(x)
        assert np.all(np.isfinite(model.score_samples(x)))


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_given_weights_means_and_precisions(kind: str) -> None:
    """Nothing is estimated before the first iteration when all is given."""
    x, _ = blobs(7)
    first = GaussianMixture(3, covariance_type=kind, random_state=0).fit(x)
    given = {"weights_init": first.weights_, "means_init": first.means_, "precisions_init": first.precisions_}
    model = GaussianMixture(3, covariance_type=kind, max_iter=0, **given).fit(x)
    assert_allclose(model.precisions_cholesky_, first.precisions_cholesky_, rtol=1e-6, atol=1e-12)
    assert_allclose(model.score_samples(x), first.score_samples(x), rtol=1e-7)
    theirs = Sklearn(3, covariance_type=kind, means_init=first.means_, random_state=0).fit(x)
    ours = GaussianMixture(3, covariance_type=kind, means_init=first.means_, random_state=0).fit(x)
    assert_allclose(ours.means_, theirs.means_, rtol=1e-7)


def test_max_iter_zero() -> None:
    x, _ = blobs(8)
    model = GaussianMixture(3, means_init=CENTRES, max_iter=0, random_state=0).fit(x)
    assert_allclose(model.means_, CENTRES, atol=1e-12)
    assert model.n_iter_ == 0


def test_gaussian_mixture_single_component_stable() -> None:
    x = np.random.default_rng(0).multivariate_normal([0, 0], np.eye(2), size=3)
    assert_allclose(GaussianMixture(1).fit(x).means_[0], x.mean(axis=0), atol=1e-12)


def test_init_means_not_duplicated() -> None:
    x = blobs(9, n=9)[0]
    model = GaussianMixture(9, init_params="k-means++", max_iter=0, random_state=0).fit(x)
    assert len(np.unique(model.means_.round(9), axis=0)) == 9


def test_sample_weight_is_a_repeated_row() -> None:
    x, _ = blobs(10)
    times = np.random.default_rng(0).integers(0, 3, size=len(x))
    args = {
        "means_init": CENTRES,
        "weights_init": np.ones(3) / 3,
        "precisions_init": np.stack([np.eye(3)] * 3),
    }
    weighted = GaussianMixture(3, **args).fit(x, sample_weight=times)
    repeated = GaussianMixture(3, **args).fit(np.repeat(x, times, axis=0))
    assert_allclose(weighted.means_, repeated.means_, rtol=1e-9)
    assert_allclose(weighted.covariances_, repeated.covariances_, rtol=1e-7, atol=1e-10)


def test_dtype_is_that_of_the_data_and_jax_is_left_as_it_was() -> None:
    for dtype in (np.float32, np.float64):
        x, _ = blobs(11, dtype=dtype)
        model = GaussianMixture(3, random_state=0).fit(x)
        assert model.weights_.dtype == model.covariances_.dtype == dtype
        assert model.score_samples(x).dtype == dtype
        assert not jax.config.jax_enable_x64


def test_float32_far_from_the_origin_scores_as_float64_does() -> None:
    x = (blobs(12)[0] + 1e6).astype(np.float32)
    narrow, wide = (
        GaussianMixture(3, random_state=0).fit(x),
        GaussianMixture(3, random_state=0).fit(x.astype(float)),
    )
    assert_allclose(narrow.lower_bound_, wide.lower_bound_, atol=1e-2)
    assert_allclose(narrow.score_samples(x), wide.score_samples(x.astype(float)), atol=2e-2)


def test_float32_says_that_it_added_to_a_singular_covariance() -> None:
    rng = np.random.default_rng(13)
    x = (rng.normal(size=(40, 3)) @ rng.normal(size=(3, 30))).astype(np.float32)
    with pytest.warns(ConvergenceWarning, match="more was added"):
        model = GaussianMixture(1, reg_covar=1e-9).fit(x)
    assert np.all(np.isfinite(model.score_samples(x)))


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ({"n_components": 0}, "n_components"),
        ({"covariance_type": "round"}, "covariance_type"),
        ({"scoring": "best"}, "scoring"),
        ({"n_components": 2, "weights_init": [0.5, 0.6]}, "normalized"),
        ({"n_components": 2, "means_init": [[0.0]]}, "means"),
        ({"n_components": 200}, "n_samples >= n_components"),
    ],
)
def test_bad_parameters_are_refused_as_scikit_learn_does(bad: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        GaussianMixture(**bad).fit(blobs()[0])


def test_unfitted_is_refused_and_a_fit_travels() -> None:
    x, _ = blobs(14)
    with pytest.raises(NotFittedError):
        GaussianMixture().score_samples(x)
    model = GaussianMixture(3, random_state=0).fit(x)
    assert_array_equal(pickle.loads(pickle.dumps(model)).score_samples(x), model.score_samples(x))
    assert issubclass(FitError, ValueError)
