"""Which clips are held out together: contiguous blocks in recording order, never parting what belongs together."""

from __future__ import annotations

import numpy as np

SPLIT_OF = 5  # a split holds out one block of so many


def fold_of_clips(machine: np.ndarray, group: np.ndarray, n_folds: int) -> np.ndarray:
    """The fold that holds out each clip.

    Neighbours in recording order are alike, so that a fold is a contiguous block of each machine's groups; a group
    (the pieces of one recording, the clips of a session) is never cut. A machine's folds depend on its own
    clips alone.

    Args:
        machine: (n,) int, whose each clip is.
        group: (n,) int, numbered in recording order; no group has clips of two machines.
        n_folds: at most; a machine with fewer groups has one for each.

    Returns:
        (n,) int in [0, n_folds).
    """
    fold = np.zeros(len(machine), np.int64)
    for own in np.unique(machine):
        clips = np.flatnonzero(machine == own)
        _, place, size = np.unique(group[clips], return_inverse=True, return_counts=True)
        middle = np.cumsum(size) - size / 2
        n = min(n_folds, len(size))
        number = np.minimum((middle * n / len(clips)).astype(int), n - 1)
        # A large group may leave a fold empty: the numbers that are used, without gaps.
        fold[clips] = np.unique(number[place.reshape(-1)], return_inverse=True)[1].reshape(-1)
    return fold


def held_out_split(machine: np.ndarray, group: np.ndarray) -> np.ndarray:
    """(n,) bool, the clips that a split keeps out of the model: a fifth of each machine, in blocks, at least two."""
    fold = fold_of_clips(machine, group, 2 * SPLIT_OF)
    held_out = np.zeros(len(machine), bool)
    for own in np.unique(machine):
        clips = machine == own
        n_blocks = int(fold[clips].max()) + 1
        # Of ten blocks the third and the eighth.
        wanted = np.unique(((np.arange(2) + 0.5) * n_blocks / 2).astype(int)) if n_blocks > 2 else [0]
        held_out |= clips & np.isin(fold, wanted)
    return held_out
