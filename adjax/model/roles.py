"""Mates that play a new machine: as many clips of each are heard as the new machine has, and some of its others judged.

So it is known what normal clips of a machine score of which only so few have been heard. Heard is a block in recording
order, as the clips of a new machine come, and the clips are the same for all detectors of a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from adjax.model.extraction import ClipFeatures
from adjax.types import MachineId

MOST_MATES = 8  # that play
JUDGED = 2  # clips of each of them, at least
MOST_CLIPS = 64  # of each of them that are judged


class Role(NamedTuple):
    """One mate, and its clips by their paths.

    Attributes:
        mate: who plays.
        heard: clips that stand for those of the new machine.
        judged: others of its clips.
    """

    mate: MachineId
    heard: tuple[Path, ...]
    judged: tuple[Path, ...]


def cast_roles(
    memory: Sequence[ClipFeatures], machine: MachineId, n_clips: int, seed: int
) -> tuple[Role, ...]:
    """Who plays a machine of so many clips: other machines of its type, if there are two.

    Of one that has no more clips than these, fewer are heard, so that two are left to be judged.

    Args:
        memory: of the model, for each detector.
        machine: the new one.
        n_clips: that it has.
        seed: of the model.
    """
    sets = [{(clip.machine, clip.path) for clip in own.clips} for own in memory]
    clips: dict[MachineId, list[Path]] = {}
    for clip in memory[0].clips:
        mate = clip.machine.machine_type == machine.machine_type and clip.machine != machine
        if mate and all((clip.machine, clip.path) in own for own in sets):
            clips.setdefault(clip.machine, []).append(clip.path)
    able = [name for name, own in clips.items() if len(own) > JUDGED]
    if len(clips) < 2 or not able:
        return ()
    chosen = np.linspace(0, len(able) - 1, min(len(able), MOST_MATES)).round().astype(int)
    roles = []
    for name in (able[i] for i in chosen):
        own = clips[name]
        rng = np.random.default_rng([seed, name.seed])
        n = min(n_clips, len(own) - JUDGED)
        start = int(rng.integers(len(own) - n + 1))
        others = own[:start] + own[start + n :]
        judged = sorted(rng.permutation(len(others))[:MOST_CLIPS].tolist())
        roles.append(Role(name, tuple(own[start : start + n]), tuple(others[i] for i in judged)))
    return tuple(roles)


def clips_of(features: ClipFeatures, machine: MachineId, paths: Sequence[Path]) -> ClipFeatures:
    """The clips of a machine with these paths, in that order."""
    places = {clip.path: i for i, clip in enumerate(features.clips) if clip.machine == machine}
    return features.at([places[path] for path in paths])
