"""Settings and parameters of a Gaussian mixture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from adjax.detectors.gmm.em import CovarianceType, Mixture


@dataclass(frozen=True)
class GmmConfig:
    """Static settings: each value is one compile.

    Attributes:
        n_components: Gaussians in the mixture; `GmmHyper.n_components` can use fewer of them.
        covariance_type: "full", "tied", "diag" or "spherical", as in scikit-learn.
        max_iter: EM iterations at most.
        n_init: starts, of which the one with the largest likelihood is kept.
        scoring: "log_likelihood", or "max_component": the largest component density, weights ignored (TWFR-GMM).
        n_kmeans_iter: Lloyd iterations at most of the default start.
        block_size: rows handled at once; memory and speed, not the result. None: 512 on a CPU, where a block should
            stay in cache, and 8192 elsewhere.
    """

    n_components: int = 4
    covariance_type: CovarianceType = "full"
    max_iter: int = 100
    n_init: int = 1
    scoring: Literal["log_likelihood", "max_component"] = "log_likelihood"
    n_kmeans_iter: int = 20
    block_size: int | None = None


@dataclass(frozen=True)
class PlacedConfig(GmmConfig):
    """Settings, and for which kind of platform the loops are cut; the results agree to rounding.

    Attributes:
        on_cpu: True: blocks that stay in cache, and one component, panel or start after the other. False: large
            blocks, and everything in them at once.
    """

    on_cpu: bool = True

    @property
    def rows_a_block(self) -> int:
        """`block_size`, or the platform's."""
        if self.block_size is None:
            return 512 if self.on_cpu else 8192
        return self.block_size


def place(config: GmmConfig, on_cpu: bool) -> PlacedConfig:
    """Place settings from outside `jax.jit`, where the platform is known; those already placed stay where they are."""
    if isinstance(config, PlacedConfig):
        return config
    return PlacedConfig(
        **{field.name: getattr(config, field.name) for field in fields(config)}, on_cpu=on_cpu
    )


def where_lowered(fn: Callable[..., Any], config: GmmConfig) -> Callable[..., Any]:
    """`fn(placed, *arguments)` as a function of the arrays, placed by the platform that the program is lowered for.

    That need not be JAX's default backend (see `jax.export`), so both are traced, each in one piece: a choice at
    every loop would trace the inner ones many times. Settings that are placed already are traced once.
    """
    if isinstance(config, PlacedConfig):
        return partial(fn, config)
    cpu, others = (partial(fn, place(config, on_cpu)) for on_cpu in (True, False))
    return lambda *arguments: lax.platform_dependent(*arguments, cpu=cpu, default=others)


class GmmHyper(NamedTuple):
    """Traced settings, swept without a new compile.

    Attributes:
        reg_covar: () added to the diagonals of the covariances, in squared units of `x`. Where a covariance is
            singular in the precision at hand all the same, more is added and the status says so; with 0, never.
        tol: () EM stops when the mean log-likelihood of a vector changes by less, in nats; a change below the
            float's resolution counts as less (where a covariance had to be raised: 1e-4 nats a feature). With 0 it
            never stops early.
        n_components: () int, how many of `GmmConfig.n_components` take part; None: all. The masked mixture equals
            the small one, from the same key too.
    """

    reg_covar: Array | float = 1e-6
    tol: Array | float = 1e-3
    n_components: Array | int | None = None


class GmmParams(NamedTuple):
    """A fitted mixture of k components in d dimensions; what a mask left out has weight 0.

    Attributes:
        weights: (k,), sum to 1.
        offsets: (k, d) means relative to `centre`, so that float32 keeps their digits far from the origin.
        covariances: (k, d, d) full, (d, d) tied, (k, d) diag, (k,) spherical.
        precisions_chol: the same shape: Cholesky factors P of the precisions, P P' = inverse covariance.
        centre: (d,) the weighted mean of the training vectors.
    """

    weights: Array
    offsets: Array
    covariances: Array
    precisions_chol: Array
    centre: Array

    @property
    def means(self) -> Array:
        """(k, d) means of the components."""
        return self.centre[..., None, :] + self.offsets


Start = Array | GmmParams | None  # responsibilities, parameters, or k-means


def as_mixture(kind: CovarianceType, params: GmmParams) -> Mixture:
    """The parameters as `em` takes them, about `centre`, in the data's units."""
    factors = params.precisions_chol
    whiteners = jnp.swapaxes(factors, -1, -2) if kind in ("full", "tied") else factors
    return Mixture(params.weights, params.offsets, params.covariances, whiteners)
