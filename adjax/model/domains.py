"""Source and target: two conditions of one machine, each judged for itself, and a clip by the one that it fits better.

A machine that runs at other speeds, or is heard by another microphone, is in what matters here a machine like its
mates: it has a mean, a spread and false alarms of its own, learnt from few clips and from what it has in common with
the others, first of all with itself in the source. So the target domain of a machine stands in a model like one more
machine, "section_00 target", to which the model of the sources is adapted (`adjax.model.adapt`). Nobody knows the
domain of a new clip: it is normal if it is so in one of them, so that its p-value is the larger of the two, and false
alarms are no more than asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from adjax.model.calibration import MIN_CLIPS
from adjax.model.extraction import ClipFeatures
from adjax.model.spec import ModelSpec
from adjax.types import MachineId

SOURCE, TARGET = "source", "target"


def judges_apart(spec: ModelSpec) -> bool:
    """Whether domains are judged apart: not where a detector knows them itself."""
    return spec.domains == "apart" and not any(
        getattr(own.make(), "uses_domain", False) for own in spec.detectors
    )


def in_target(machine: MachineId) -> MachineId:
    """The name of a machine's target domain in a model: "section_00 target"."""
    return machine._replace(machine_id=f"{machine.machine_id} {TARGET}".strip())


def whole(machine: MachineId, known: Sequence[MachineId]) -> MachineId:
    """The machine that an entry of a model is the target domain of; itself where there is no such machine."""
    name, _, domain = machine.machine_id.rpartition(" ")
    one = machine._replace(machine_id=name)
    return one if domain == TARGET and one in known else machine


def wholes(machines: Sequence[MachineId]) -> tuple[MachineId, ...]:
    """The machines of a model, each once, whatever its domains."""
    return tuple(dict.fromkeys(whole(name, machines) for name in machines))


def targets(features: ClipFeatures) -> np.ndarray:
    """(n_clips,) bool, the clips of a target domain of machines that have some of a source, too."""
    counts = Counter((clip.machine, clip.domain) for clip in features.clips)
    both = {
        machine
        for machine in features.clips.machines
        if counts[machine, SOURCE] >= MIN_CLIPS and not counts[machine, ""]
    }
    return np.array([clip.domain == TARGET and clip.machine in both for clip in features.clips], bool)


def as_targets(features: ClipFeatures, known: Sequence[MachineId]) -> ClipFeatures:
    """Clips of a target domain, of machines that a model knows, named by it."""
    judged = {name for name in wholes(known) if name in known}
    clips = [
        replace(clip, machine_id=in_target(clip.machine).machine_id, key=clip.name)
        if clip.domain == TARGET and clip.machine in judged
        else clip
        for clip in features.clips
    ]
    return replace(features, clips=replace(features.clips, clips=tuple(clips)))
