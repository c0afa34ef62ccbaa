"""Products in float32 on every device, and the factor of a covariance, of as many as there are."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import Precision
from jax.scipy.linalg import solve_triangular

from adjax.batching import map_clips


def times(a: Array, b: Array) -> Array:
    """The product of two matrices; by default those are TF32 on a GPU and bfloat16 on a TPU."""
    return jnp.matmul(a, b, precision=Precision.HIGHEST)


@jax.custom_batching.custom_vmap
def whitening_of(covariance: Array) -> Array:
    """(d, d) lower triangle: inverse Cholesky factor; NaN where the covariance is not positive definite.

    Of several under `jax.vmap` a CPU takes one after the other: two batches of Cholesky factors at once can block
    there, each waiting for threads of the pool that wait for the other (JAX 0.10.2). No gradient in reverse mode.
    """
    factor = jnp.linalg.cholesky(covariance)
    return solve_triangular(factor, jnp.eye(len(covariance), dtype=covariance.dtype), lower=True)


@whitening_of.def_vmap
def _whitenings_of(axis_size: int, in_batched: Any, covariances: Array) -> tuple[Array, bool]:
    return map_clips(whitening_of.fun, covariances), True
