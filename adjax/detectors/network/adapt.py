"""A new machine from few clips: what the network hears stays, the clips' vectors are the machine's references."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adjax.detectors.network.config import NetworkConfig, NetworkHyper
from adjax.detectors.network.detector import Clips, NetworkParams, clips_of
from adjax.detectors.network.host import finish_here, vectors_of, waves_of_clips
from adjax.types import CONVERGED, NOT_FINITE, FitInfo, Training


def adapt(
    config: NetworkConfig,
    hyper: NetworkHyper,
    key: Array,
    params: NetworkParams,
    memory: Training,
    new: Training,
) -> tuple[NetworkParams, FitInfo]:
    """See `Kind.adapt`; nothing is trained, and there is no objective.

    There is room for as many references as each mate has, or for more clips if there are more.
    """
    weights = params.weights.of(0)
    rows = np.asarray(new.rows)
    clips: Clips = jax.tree.map(np.asarray, clips_of(new))
    vectors = vectors_of(config, weights, clips, functools.partial(waves_of_clips, config, rows, clips))
    taken = clips.length > 0
    good = bool(taken.any()) and bool(np.isfinite(vectors[taken]).all())
    most = max(params.references.weight.shape[1], len(taken))
    found = finish_here(config, most, weights, vectors, clips, jnp.asarray(new.seed))
    status = np.array([CONVERGED if good else NOT_FINITE], np.int32)
    return found, FitInfo(np.full(1, np.nan, np.float32), np.zeros(1, np.int32), status)
