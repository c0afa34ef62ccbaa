"""The autoencoder as a `RowDetector`: one lane, trained in one go."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

from adjax.detectors.autoencoder.config import AutoencoderConfig, AutoencoderHyper, check_config
from adjax.detectors.autoencoder.lanes import score_rows
from adjax.detectors.autoencoder.residuals import AutoencoderParams, finish
from adjax.detectors.autoencoder.training import (
    Losses,
    Sizes,
    TrainState,
    init_state,
    one_lane,
    train_epoch,
)
from adjax.types import FitInfo, RowDetector


def make_autoencoder(
    config: AutoencoderConfig = AutoencoderConfig(),
    hyper: AutoencoderHyper = AutoencoderHyper(),
    on_epoch: Callable[[Array], None] | None = None,
) -> RowDetector:
    """Build the autoencoder as a `RowDetector`.

    Its `fit(key, x, weight, hyper, domain=None)` takes rows in time order, clip after clip; `weight` is 0 where no
    whole window starts (see `RowDetector.n_context`), `domain` is that of `finish`. `FitInfo.objective` is the mean
    training loss of the last epoch, NaN when the fit did not stay finite (or no window had any weight);
    `score` is what `AutoencoderConfig.residual` says.

    Weights are 0 or more. Windows of weight 0 might as well not be there: neither the order of the others nor anything
    else depends on them. A window of weight 2 counts twice in the loss, and like any other in BatchNorm's
    statistics.

    Args:
        config: static settings; `RECIPES` has the published ones.
        hyper: default traced settings.
        on_epoch: called on the host with each epoch's mean loss, without holding up the device.

    Raises:
        SettingsError: a setting out of its range.
    """
    check_config(config, hyper)

    def fit(
        key: Array, x: Array, weight: Array, hyper: AutoencoderHyper = hyper, domain: Array | None = None
    ) -> tuple[AutoencoderParams, FitInfo]:
        windows, lane = one_lane(key, jnp.asarray(x), jnp.asarray(weight), hyper)
        sizes = Sizes(len(windows.x), 0)

        def epoch(state: TrainState, _: None) -> tuple[TrainState, Losses]:
            state, losses = train_epoch(config, sizes, windows, lane, state)
            if on_epoch is not None:
                jax.debug.callback(on_epoch, losses.train)
            return state, losses

        state, losses = lax.scan(epoch, init_state(config, windows, lane), length=config.n_epochs)
        params = finish(config, windows, lane, state.weights, domain)
        return params, FitInfo(losses.train[-1], state.n_epochs, state.status)

    def score(params: AutoencoderParams, x: Array) -> Array:
        return score_rows(config, params, jnp.asarray(x))

    return RowDetector(fit, score, hyper, config.n_context, uses_domain=config.n_domains > 1)
