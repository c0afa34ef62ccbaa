"""Source and target: two conditions of one machine, each judged for itself, and a clip by the one that it fits better.

A machine that runs at other speeds, or is heard by another microphone, is in what matters here a machine like its
mates: it has a mean, a spread and false alarms of its own, learnt from few clips and from what it has in common with
the others. So the domains of a machine stand in a model like two machines, "section_00 source" and "section_00 target";
kinds that know one machine only are fitted to both together, and calibrated for each. Nobody knows the domain of a new
clip: it is normal if it is so in one of them, so that its p-value is the larger of the two, and false alarms are no
more than asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from adjax.model.calibration import MIN_CLIPS
from adjax.model.extraction import ClipFeatures
from adjax.types import MachineId

DOMAINS = ("source", "target")


def in_domain(machine: MachineId, domain: str) -> MachineId:
    """Its name in a model: "section_00 target"."""
    return machine._replace(machine_id=f"{machine.machine_id} {domain}".strip())


def whole(machine: MachineId, known: Sequence[MachineId]) -> MachineId:
    """The machine that an entry of a model is a domain of; itself, unless the other domain or the machine is there."""
    name, _, domain = machine.machine_id.rpartition(" ")
    if domain in DOMAINS:
        one = machine._replace(machine_id=name)
        other = in_domain(one, DOMAINS[1 - DOMAINS.index(domain)])
        if one in known or other in known:
            return one
    return machine


def wholes(machines: Sequence[MachineId]) -> tuple[MachineId, ...]:
    """The machines of a model, each once, whatever its domains."""
    return tuple(dict.fromkeys(whole(name, machines) for name in machines))


def apart(features: ClipFeatures, known: Sequence[MachineId] = ()) -> ClipFeatures:
    """Clips named by their domains, where a machine has some of both.

    Args:
        features: of normal clips.
        known: machines of a model that goes on to judge them: clips of a target domain are then the only ones needed.
    """
    counts = Counter((clip.machine, clip.domain) for clip in features.clips)
    judged = wholes(known)

    def has_domains(machine: MachineId) -> bool:
        unsaid, source, target = (counts[machine, domain] for domain in ("", *DOMAINS))
        if machine in judged:
            return target > 0 and unsaid == source == 0
        return unsaid == 0 and min(source, target) >= MIN_CLIPS

    several = {machine for machine in features.clips.machines if has_domains(machine)}
    if not several:
        return features
    clips = [
        replace(clip, machine_id=in_domain(clip.machine, clip.domain).machine_id)
        if clip.machine in several
        else clip
        for clip in features.clips
    ]
    return replace(features, clips=replace(features.clips, clips=tuple(clips)))
