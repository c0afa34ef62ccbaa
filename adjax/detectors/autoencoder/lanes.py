"""Many autoencoders at once: machines, bottlenecks, seeds and rates as the lanes of one compiled program."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
from jax import Array, lax

from adjax.batching import STRATEGIES, Strategy, map_clips
from adjax.detectors.autoencoder.config import AutoencoderConfig, check_config
from adjax.detectors.autoencoder.residuals import AutoencoderParams, finish, score_windows
from adjax.detectors.autoencoder.training import Lane, Losses, Sizes, TrainState, init_state, train_epoch
from adjax.detectors.autoencoder.windows import Windows, gather_windows
from adjax.detectors.rows import map_rows
from adjax.types import SettingsError

OnEpoch = Callable[[Array, Array, Array], None]


class LaneProgram(NamedTuple):
    """Pure functions over all lanes; every leaf of `lanes`, `state` and `params` has the leading axis n_lanes.

    Attributes:
        init: (windows, lanes) -> state.
        train: (windows, lanes, state, n_epochs) -> (state, losses), losses (n_epochs, n_lanes); `n_epochs` is
            static. Epochs in several calls give the same bits as in one.
        finish: (windows, lanes, state, domain) -> params.
        score: (params, x) -> (n_lanes, n_rows): the score of the window that starts at each row of `x`.
    """

    init: Callable[[Windows, Lane], TrainState]
    train: Callable[[Windows, Lane, TrainState, int], tuple[TrainState, Losses]]
    finish: Callable[..., AutoencoderParams]
    score: Callable[[AutoencoderParams, Array], Array]


def make_lanes(
    config: AutoencoderConfig, sizes: Sizes, *, lanes: Strategy = "auto", on_epoch: OnEpoch | None = None
) -> LaneProgram:
    """Build the program of one study.

    Args:
        config: static settings, the widest bottleneck among them.
        sizes: of the largest lane.
        lanes: "map" trains the lanes of an epoch one after another: the working set stays in a CPU's cache, and a
            small lane costs less than a large one. "vmap" trains them together: right on a GPU or TPU, and a lane
            with few windows waits for the largest. "auto" is "map" where the program is lowered for a CPU and "vmap"
            elsewhere; both are traced, which costs half a second (`batching.strategy_here` spares it).
        on_epoch: called on the host with (epochs made (n_lanes,), training losses (n_lanes,), validation losses
            (n_lanes,)) after each epoch, from inside the compiled loop and without holding up the device.

    Raises:
        SettingsError: a setting out of its range.
    """
    check_config(config)
    if sizes.train < 1:
        raise SettingsError("there are no training windows")
    if lanes not in STRATEGIES:
        raise SettingsError(f"lanes={lanes!r} is not one of {', '.join(STRATEGIES)}")
    over = partial(map_clips, strategy=lanes)

    def init(windows: Windows, lanes: Lane) -> TrainState:
        return over(lambda lane: init_state(config, windows, lane), lanes)

    def train(windows: Windows, lanes: Lane, state: TrainState, n_epochs: int) -> tuple[TrainState, Losses]:
        def epoch(state: TrainState, _: None) -> tuple[TrainState, Losses]:
            state, losses = over(lambda both: train_epoch(config, sizes, windows, *both), (lanes, state))
            if on_epoch is not None:
                jax.debug.callback(on_epoch, state.n_epochs, losses.train, losses.validation)
            return state, losses

        return lax.scan(epoch, state, length=n_epochs)

    def finish_all(
        windows: Windows, lanes: Lane, state: TrainState, domain: Array | None = None
    ) -> AutoencoderParams:
        return over(lambda both: finish(config, windows, both[0], both[1], domain), (lanes, state.weights))

    def score(params: AutoencoderParams, x: Array) -> Array:
        return over(lambda one: score_rows(config, one, x), params)

    return LaneProgram(init, train, finish_all, score)


def score_rows(config: AutoencoderConfig, params: AutoencoderParams, x: Array) -> Array:
    """(n_rows,) the score of the window that starts at each row of `x` (n_rows, n_features)."""

    def score_block(index: Array) -> Array:
        return score_windows(config, params, gather_windows(x, index, config.n_context))

    return map_rows(score_block, x.shape[0], config.block_size, x.dtype)
