"""A peer of the mixture benchmark in a process of its own; see `_harness.SubprocessPeer`.

    python -m experiments.benchmarks._gmm_peer WORK PEER DATA.npz

PEER: scikit-learn at its default threads, scikit-learn-1 with one thread, gmmx.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits


def large_fit(data: Any, kind: str) -> Callable[[], float]:
    """scikit-learn: a fixed number of iterations from given responsibilities; returns the log-likelihood."""
    x, resp, n_iter = data["x"], data["resp"], int(data["n_iter"])

    def run() -> float:
        model = GaussianMixture(resp.shape[1], covariance_type=kind, max_iter=n_iter, tol=0.0)
        model._initialize_parameters = lambda x, *args, **kwargs: model._initialize(x, resp)
        return model.fit(x).lower_bound_

    return run


def large_fit_gmmx(data: Any, kind: str) -> Callable[[], float]:
    """The same by gmmx, compiled."""
    import jax
    import jax.numpy as jnp
    from gmmx import EMFitter, GaussianMixtureModelJax

    x, resp = jnp.asarray(data["x"]), jnp.asarray(data["resp"])
    start = (
        GaussianMixtureModelJax.from_responsibilities(  # its axes: rows, components, features, features again
            x[:, None, :, None], resp[:, :, None, None], reg_covar=1e-6, covariance_type=kind
        )
    )
    fitter = EMFitter(max_iter=int(data["n_iter"]), tol=0.0)

    def run() -> float:
        return float(jax.block_until_ready(fitter.fit(x, start)).log_likelihood.reshape(()))

    return run


def grid(data: Any) -> Callable[[], float]:
    """scikit-learn in float64, a fit after the other, as TWFR-GMM does; returns the mean log-likelihood."""

    def fits() -> Iterator[float]:
        for x, n_rows in zip(data["x"], data["n_rows"], strict=True):
            rows = x[:n_rows].astype(np.float64)
            for n_components in data["n_components"]:
                model = GaussianMixture(int(n_components), tol=1e-6, reg_covar=1e-6, random_state=0)
                yield model.fit(rows).lower_bound_

    return lambda: float(np.mean(list(fits())))


def main() -> None:
    """Answer each line with the work done once."""
    work, peer, path = sys.argv[1:]
    warnings.simplefilter("ignore")
    data = dict(np.load(path))
    kind = work.removesuffix("_large")
    run = grid(data) if work == "twfr_grid" else (large_fit_gmmx if peer == "gmmx" else large_fit)(data, kind)
    threads: AbstractContextManager = threadpool_limits(1) if peer == "scikit-learn-1" else nullcontext()
    with threads:
        print("ready", flush=True)
        for _ in sys.stdin:
            print(run(), flush=True)


if __name__ == "__main__":
    main()
