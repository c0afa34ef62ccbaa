"""The clips of one machine behind one front end, pooled for a whole grid of r from one sort."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adjax.batching import compile_clips
from adjax.data.audio import Channel
from adjax.data.clips import ClipTable
from adjax.features.framing import frame_weights
from adjax.features.pooling import gwrp
from adjax.features.recipes import FeatureConfig
from adjax.model.extraction import ClipFeatures, extract
from adjax.model.spec import VectorConfig
from adjax.model.usable import finite_clips
from adjax.types import DataError, MachineId

_BATCH = 64  # clips pooled at once


@dataclass
class Machine:
    """Features of one machine's clips, and the sets of rows that its lanes are fitted to.

    Attributes:
        train: of its normal clips.
        test: of the clips to score.
        name: whose; part of its lanes' keys.
        ratios: the values of r that lanes pool with, one set of rows each; None: they share the rows as they are.
    """

    train: ClipFeatures
    test: ClipFeatures
    name: MachineId
    ratios: tuple[float, ...] | None

    @cached_property
    def sets(self) -> tuple[np.ndarray, np.ndarray]:
        """(n_sets, n_rows, n_features) float32 of the training and of the test clips."""
        if self.ratios is None:
            return self.train.rows[None], self.test.rows[None]
        return pool_grid(self.train, self.ratios), pool_grid(self.test, self.ratios)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the clips' names, labels and features."""
        digest = hashlib.sha256(repr(self.name).encode())
        for part in (self.train, self.test):
            digest.update(repr([(clip.name, clip.label, clip.domain) for clip in part.clips]).encode())
            digest.update(part.offsets.tobytes())
            digest.update(np.ascontiguousarray(part.rows).data)
        return digest.hexdigest()


def load_machine(
    clips: ClipTable | ClipFeatures,
    features: FeatureConfig | VectorConfig,
    name: MachineId,
    ratios: tuple[float, ...] | None,
    *,
    channel: Channel,
    cache: Path | None,
) -> Machine:
    """Read one machine's clips, or take its vectors; where `ratios` are given, their frames, which the lanes pool.

    Raises:
        DataError: it has no training or no test clips, or none of them can be read.
    """
    parts = []
    for split in ("train", "test"):
        if isinstance(clips, ClipFeatures):
            own = clips.at([i for i, clip in enumerate(clips.clips) if clip.split == split])
        else:
            assert isinstance(features, FeatureConfig)  # `run_sweep` has checked that
            front_end = features if ratios is None else replace(features, pooling="none")
            chosen = clips.select(split=split)
            own = extract(chosen, front_end, channel=channel, cache=cache, none_is_fine=not len(chosen))
        if not len(own.clips):
            raise DataError(f"there are no {split} clips of this machine")
        parts.append(finite_clips(own))
    return Machine(parts[0], parts[1], name, ratios)


def pool_grid(frames: ClipFeatures, ratios: tuple[float, ...]) -> np.ndarray:
    """Pool every clip with every r of GWRP.

    Args:
        frames: of the clips.
        ratios: values of r.

    Returns:
        (n_ratios, n_clips, n_features) float32.
    """
    lengths = np.diff(frames.offsets)
    longest = int(lengths.max())
    pooled = np.empty((len(ratios), len(lengths), frames.rows.shape[1]), np.float32)
    grid = np.broadcast_to(np.asarray(ratios, np.float32), (_BATCH, len(ratios)))
    for start in range(0, len(lengths), _BATCH):
        own = range(start, min(start + _BATCH, len(lengths)))
        batch = np.zeros((_BATCH, longest, frames.rows.shape[1]), np.float32)
        for place, i in enumerate(own):
            batch[place, : lengths[i]] = frames.rows[frames.offsets[i] : frames.offsets[i + 1]]
        counts = np.resize(lengths[own.start : own.stop], _BATCH)
        values = _compiled_pooling()((batch, counts.astype(np.int32), grid))
        pooled[:, own.start : own.stop] = values[: len(own)].swapaxes(0, 1)
    return pooled


@functools.cache
def _compiled_pooling() -> Callable[[Any], Any]:
    over_r = jax.vmap(gwrp, in_axes=(None, 0, None))

    def pool(clip: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        x, n_frames, ratios = map(jnp.asarray, clip)
        return over_r(x, ratios, frame_weights(n_frames, x.shape[0]))

    return compile_clips(pool)
