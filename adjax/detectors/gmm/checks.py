"""What a mixture refuses, where it comes in from the host; inside a program the status of a fit says it."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from adjax.checks import check_fields, check_numbers, check_weights
from adjax.detectors.gmm.config import GmmConfig, GmmHyper
from adjax.types import SettingsError


def check_settings(config: GmmConfig, hyper: GmmHyper) -> None:
    """Refuse settings out of range; traced ones may be arrays over lanes, and pass while a program is traced.

    Raises:
        SettingsError: the first of them, with its range.
    """
    check_fields(config)
    for name in ("n_components", "n_init", *(["block_size"] if config.block_size is not None else [])):
        check_numbers(name, getattr(config, name), low=1, whole=True)
    for name in ("max_iter", "n_kmeans_iter"):
        check_numbers(name, getattr(config, name), low=0, whole=True)
    check_numbers("reg_covar", hyper.reg_covar, low=0)
    check_numbers("tol", hyper.tol, low=0)
    if hyper.n_components is not None:
        check_numbers("n_components", hyper.n_components, low=1, high=config.n_components, whole=True)


def check_rows(x: Any, weight: Any) -> None:
    """Refuse arrays that cannot be fitted to; a data set may stand alone or in a stack.

    Raises:
        SettingsError: shapes that do not fit together, no rows or features, rows that are no floats, or weights that
            no fit can use.
    """
    if x.ndim < 2 or weight.shape != x.shape[:-1] or not jnp.issubdtype(x.dtype, jnp.floating):
        raise SettingsError(
            f"x {x.dtype}{x.shape} and weight {weight.shape}: give floats, (n_rows, n_features), and (n_rows,) weights"
        )
    if 0 in x.shape:
        raise SettingsError(f"x {x.shape} holds nothing to fit to: give at least one row of one feature")
    check_weights(weight)


def is_usable(config: GmmConfig, hyper: GmmHyper) -> Array:
    """() bool: whether traced settings are in range, by the same limits as `check_settings`."""
    usable = jnp.array(True)
    for value in (hyper.reg_covar, hyper.tol):
        usable &= (jnp.asarray(value) >= 0) & jnp.isfinite(jnp.asarray(value))
    if hyper.n_components is not None:
        n = jnp.asarray(hyper.n_components)
        usable &= (n >= 1) & (n <= config.n_components) & (n == jnp.round(n))
    return usable
