"""Stacked context frames: each row becomes a window of consecutive frames."""

from __future__ import annotations

from jax import Array
from jax import numpy as jnp

from adjax.types import SettingsError


def stack_frames(x: Array, n_context: int) -> Array:
    """Windows of consecutive frames, laid side by side: the DCASE autoencoder takes 5 frames of 128 mels.

    Args:
        x: (n_frames, n_features) of one clip.
        n_context: frames in a window, static.

    Returns:
        (n_frames - n_context + 1, n_context * n_features): row t holds frame t, then frame t + 1, and so on.
        Of a padded clip with `n_valid` real frames the first `n_valid - n_context + 1` rows are real.

    Raises:
        SettingsError: `n_context` below 1, or a clip with fewer frames.
    """
    n_frames = x.shape[0]
    if not 1 <= n_context <= n_frames:
        raise SettingsError(
            f"n_context={n_context} must lie between 1 and the clip's {n_frames} frames: "
            "lower it, or drop or lengthen the clip"
        )
    n_windows = n_frames - n_context + 1
    return jnp.concatenate([x[offset : offset + n_windows] for offset in range(n_context)], axis=1)
