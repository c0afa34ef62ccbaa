"""The mixture as a scikit-learn estimator: scikit-learn's interface and starts, adjax's EM."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from functools import partial
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.base import _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as SklearnGaussianMixture
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import InvalidParameterError, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from adjax.batching import on_cpu
from adjax.checks import check_number, check_weights, unit_weights
from adjax.detectors.gmm.checks import check_settings
from adjax.detectors.gmm.config import CovarianceType, GmmConfig, GmmHyper, GmmParams, PlacedConfig, place
from adjax.detectors.gmm.detector import log_component_densities, log_joint
from adjax.detectors.gmm.fit import RUNNING, EmState
from adjax.detectors.gmm.split import em_steps, end_fit, frame_rows, start_fit
from adjax.types import CONVERGED, NOT_FINITE, REGULARIZED, FitError, SettingsError

_FOREVER = 2**31 - 1  # the loop is on the host, so that every `max_iter` shares one compile


class GaussianMixture(SklearnGaussianMixture):
    """scikit-learn's `GaussianMixture`, fitted and scored by adjax.

    Parameters, attributes, starts (from the same `random_state`) and results are those of scikit-learn 1.9, which
    describes them; float64 data are computed in float64 and float32 data in float32, whatever JAX's default is.
    Beyond scikit-learn: `fit` takes sample weights, and mixtures far from the origin or with features of very
    different units keep their digits in float32 (`means_` is float64 for that reason). In float32, where a
    covariance is singular in spite of `reg_covar`, more is added, with a warning.

    Args:
        n_components: Gaussians.
        covariance_type: "full", "tied", "diag" or "spherical".
        tol: EM stops when the mean log-likelihood changes by less, in nats (see `GmmHyper.tol`).
        reg_covar: added to the variances.
        max_iter: EM iterations at most.
        n_init: starts, of which the best is kept.
        init_params: "kmeans", "k-means++", "random" or "random_from_data".
        weights_init: (n_components,) to start from.
        means_init: (n_components, n_features) to start from.
        precisions_init: inverse covariances to start from.
        random_state: seed of the starts.
        warm_start: go on from the last fit.
        verbose: print each start and every `verbose_interval`-th iteration.
        verbose_interval: see `verbose`.
        scoring: what `score_samples` returns: "log_likelihood", or "max_component", the largest component density
            with weights ignored (TWFR-GMM). Higher is more normal, unlike in a `Detector`.
    """

    _parameter_constraints: ClassVar[dict] = {
        **SklearnGaussianMixture._parameter_constraints,
        "scoring": [StrOptions({"log_likelihood", "max_component"})],
    }

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: CovarianceType = "full",
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: str = "kmeans",
        weights_init: Any = None,
        means_init: Any = None,
        precisions_init: Any = None,
        random_state: Any = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
        scoring: Literal["log_likelihood", "max_component"] = "log_likelihood",
    ) -> None:
        super().__init__(
            n_components=n_components,
            covariance_type=covariance_type,
            tol=tol,
            reg_covar=reg_covar,
            max_iter=max_iter,
            n_init=n_init,
            init_params=init_params,
            weights_init=weights_init,
            means_init=means_init,
            precisions_init=precisions_init,
            random_state=random_state,
            warm_start=warm_start,
            verbose=verbose,
            verbose_interval=verbose_interval,
        )
        self.scoring = scoring

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> GaussianMixture:
        """Fit by EM.

        Args:
            X: (n_samples, n_features).
            y: ignored.
            sample_weight: (n_samples,) >= 0; a weight of 2 is a sample twice, 0 is a sample left out.

        Raises:
            ValueError: bad data; as `SettingsError` bad parameters or weights, as `FitError` a singular covariance.
        """
        self.fit_predict(X, y, sample_weight)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> np.ndarray:
        """Fit as `fit` does and return each sample's component, (n_samples,) int."""
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
        weight = self._weights(X, sample_weight)
        rows, weight = (X, weight) if sample_weight is None else (X[weight > 0], weight[weight > 0])
        if len(rows) < self.n_components:
            raise ValueError(
                f"Expected n_samples >= n_components but got n_components = {self.n_components}, "
                f"n_samples = {len(rows)}"
            )
        self._check_parameters(rows, xp=np)
        go_on = self.warm_start and hasattr(self, "converged_")
        random_state = check_random_state(self.random_state)
        with _precision_of(X), threadpool_limits(1, user_api="blas"):
            self._weight = weight
            fits = []
            for number in range(1 if go_on else self.n_init):
                self._print_verbose_msg_init_beg(number)
                fits.append(self._fit_once(rows, weight, random_state, go_on))
                self._print_verbose_msg_init_end(fits[-1][1].bound, fits[-1][1].status == CONVERGED)
            del self._weight
            self._keep(max(fits, key=lambda fit: -np.inf if np.isnan(fit[1].bound) else float(fit[1].bound)))
            return np.argmax(self._estimate_weighted_log_prob(X), axis=1)

    def _validate_params(self) -> None:
        """scikit-learn's hook: its own rules, then those of the mixture, which also refuse NaN and infinity."""
        try:
            super()._validate_params()
        except InvalidParameterError as error:
            raise SettingsError(str(error)) from error
        check_number("max_iter", self.max_iter, low=0, whole=True)
        check_settings(
            GmmConfig(self.n_components, self.covariance_type, n_init=self.n_init),
            GmmHyper(self.reg_covar, self.tol),
        )

    def _weights(self, X: np.ndarray, sample_weight: Any) -> np.ndarray:
        """(n_samples,) in the dtype of `X`; the scale of those given, which changes nothing, is taken out."""
        try:
            weight = _check_sample_weight(sample_weight, X, dtype=X.dtype)
        except ValueError as error:
            raise SettingsError(f"sample_weight: {error}") from error
        check_weights(weight, "sample_weight")
        with _precision_of(X):
            return np.asarray(unit_weights(weight))

    def score_samples(self, X: Any) -> np.ndarray:
        """Log-likelihood of each sample (or its largest component density, see `scoring`), (n_samples,) nats."""
        if self.scoring == "log_likelihood":
            return super().score_samples(X)
        check_is_fitted(self)
        X = validate_data(self, X, reset=False)
        return np.max(self._estimate_log_prob(X), axis=1)

    def _fit_once(
        self, rows: np.ndarray, weight: np.ndarray, random_state: Any, go_on: bool
    ) -> tuple[GmmParams, EmState, list[float], int]:
        """One start of EM: parameters, last state, the bound of every iteration, and how the fit ended."""
        config, hyper = self._config(), self._hyper(rows.dtype)
        frame = frame_rows(config, rows, weight, hyper)
        if not go_on:
            self._initialize_parameters(rows, random_state)
        state = start_fit(config, frame, jax.random.key(0), rows, weight, hyper, self._params(rows.dtype))
        if go_on:
            state = state._replace(bound=jnp.asarray(self.lower_bound_, rows.dtype))
        bounds: list[float] = []
        with em_steps(config, frame, jnp.asarray(rows), jnp.asarray(weight)) as step:
            while len(bounds) < self.max_iter and int(state.status) == RUNNING:
                before = float(state.bound)
                state = step(hyper, state)
                bounds.append(float(state.bound))
                self._print_verbose_msg_iter_end(len(bounds), bounds[-1] - before)
        params, info = end_fit(config, frame, weight, state)
        return params, state, bounds, int(info.status)

    def _keep(self, fit: tuple[GmmParams, EmState, list[float], int]) -> None:
        """Set the fitted attributes, with scikit-learn's warning if EM did not converge."""
        params, state, bounds, status = fit
        if status == NOT_FINITE:
            raise FitError(
                "Fitting the mixture model failed because some components have ill-defined empirical "
                "covariance (for instance caused by singleton or collapsed samples). Try to decrease the "
                "number of components, increase reg_covar, or scale the input data."
            )
        params = jax.tree.map(np.asarray, params)
        means = params.centre.astype(np.float64)[None, :] + params.offsets
        self._set_parameters((params.weights, means, params.covariances, params.precisions_chol))
        self.converged_ = int(state.status) == CONVERGED
        self.n_iter_, self.lower_bounds_ = len(bounds), bounds
        self.lower_bound_ = float(state.bound)
        if status == REGULARIZED:
            warnings.warn(
                f"A covariance is singular in {params.weights.dtype} with reg_covar={self.reg_covar}; more was "
                "added. Raise reg_covar, use fewer components, or fit in float64.",
                ConvergenceWarning,
                stacklevel=4,
            )
        if not self.converged_ and self.max_iter > 0:
            warnings.warn(
                "Best performing initialization did not converge. Try different init parameters, or increase "
                "max_iter, tol, or check for degenerate data.",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _initialize(self, X: np.ndarray, resp: Any, xp: Any = None) -> None:
        """scikit-learn's hook: the first parameters, from responsibilities unless they are given."""
        config, hyper = self._config(), self._hyper(X.dtype)
        given = (self.weights_init, self.means_init, self.precisions_init)
        if resp is not None:
            frame = frame_rows(config, X, self._weight, hyper)
            state = start_fit(
                config, frame, jax.random.key(0), X, self._weight, hyper, np.asarray(resp, X.dtype)
            )
            params, info = end_fit(config, frame, self._weight, state)
            if int(info.status) == NOT_FINITE and self.precisions_init is None:
                self._keep((params, state, [], NOT_FINITE))
            self.weights_ = np.asarray(params.weights)
            self.means_ = np.asarray(params.centre, np.float64)[None, :] + np.asarray(params.offsets)
            self.covariances_ = np.asarray(params.covariances)
            self.precisions_cholesky_ = np.asarray(params.precisions_chol)
        weights, means, precisions = given
        self.weights_ = self.weights_ if weights is None else np.asarray(weights)
        self.means_ = self.means_ if means is None else np.asarray(means, np.float64)
        if precisions is not None:
            factors, self.covariances_ = _from_precisions(self.covariance_type, np.asarray(precisions))
            self.precisions_cholesky_ = factors

    def _estimate_log_prob(self, X: Any, xp: Any = None) -> np.ndarray:
        """scikit-learn's hook: log densities of the components, (n_samples, n_components)."""
        return self._evaluate(_densities, X)

    def _estimate_weighted_log_prob(self, X: Any, xp: Any = None) -> np.ndarray:
        """scikit-learn's hook: the same plus log weights."""
        return self._evaluate(_joint, X)

    def _evaluate(self, fn: Any, X: Any) -> np.ndarray:
        X = np.asarray(X)
        X = X if X.dtype == np.float32 else X.astype(np.float64)
        with _precision_of(X):
            return np.asarray(fn(self.covariance_type, self._params(X.dtype), X))

    def _params(self, dtype: Any) -> GmmParams:
        """The fitted attributes as `GmmParams`; the centre's rounding goes into the offsets."""
        means = np.asarray(self.means_, np.float64)
        centre = np.mean(means, axis=0).astype(dtype)
        offsets = means - centre.astype(np.float64)[None, :]
        leaves = (self.weights_, offsets, self.covariances_, self.precisions_cholesky_, centre)
        return GmmParams(*(jnp.asarray(leaf, dtype) for leaf in leaves))

    def _config(self) -> PlacedConfig:
        return place(GmmConfig(self.n_components, self.covariance_type, max_iter=_FOREVER), on_cpu())

    def _hyper(self, dtype: Any) -> GmmHyper:
        return GmmHyper(jnp.asarray(self.reg_covar, dtype), jnp.asarray(self.tol, dtype))


def _precision_of(x: np.ndarray) -> Any:
    """JAX in float64 for float64 data, without touching the user's setting."""
    return jax.enable_x64(True) if x.dtype == np.float64 else nullcontext()


def _from_precisions(kind: CovarianceType, precisions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cholesky factors of given precisions, as scikit-learn holds them, and the covariances."""
    if kind in ("diag", "spherical"):
        return np.sqrt(precisions), 1 / precisions
    covariances = np.linalg.inv(precisions)
    # P P' = precision with P upper-triangular: Cholesky of the matrix read from its other corner.
    flipped = np.linalg.cholesky(np.flip(precisions, (-2, -1)))
    return np.flip(flipped, (-2, -1)), covariances


_densities = partial(jax.jit, static_argnums=0)(log_component_densities)
_joint = partial(jax.jit, static_argnums=0)(log_joint)
