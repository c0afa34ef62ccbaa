"""One detector of a kept model for one further machine: its numbers, and what normal clips score by such numbers.

Held-out scores come from two sides. The machine's own clips are left out in turn, as in a fit. And every mate plays the
new machine once: nothing is remembered of it but as many clips as the new machine has, and its other clips are scored.
So it is known what a machine's normal clips score when only so few of them have been heard, also where those are too
few to be left out.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from adjax.detectors.kinds import kind_of
from adjax.model.extraction import ClipFeatures
from adjax.model.lanes import domain_of_clips
from adjax.model.lift import make_detector, members_of
from adjax.model.scopes import scopes_of, units_of
from adjax.model.score import DetectorParams, parameters_of, parts_of_clips
from adjax.model.spec import DetectorSpec
from adjax.types import NOT_FINITE, MachineId, Training

MOST_MATES = 8  # that play the new machine
MOST_CLIPS = 64  # of each of them that are scored


class Adapted(NamedTuple):
    """What became of one detector.

    Attributes:
        params: of the new machine alone.
        parts: (n_clips, n_parts) float32 raw parts of its clips, each by numbers without it; NaN where not left out.
        played: each mate that played the new machine, and (n, n_parts) raw parts of its other clips.
        status: of the fit.
    """

    params: DetectorParams
    parts: np.ndarray
    played: tuple[tuple[MachineId, np.ndarray], ...]
    status: int


def training_of(features: ClipFeatures, machines: Sequence[MachineId]) -> Training:
    """Clips as a fit takes them, on the host, of weight 1; padded to powers of two, so that few shapes are compiled."""
    lengths = np.diff(features.offsets)
    clip = np.repeat(np.arange(len(lengths)), lengths)
    place = {name: i for i, name in enumerate(machines)}
    machine = np.array([place[one.machine] for one in features.clips], np.int32)
    domain = domain_of_clips(features.clips)
    extra, more = power_of_two(len(clip)) - len(clip), power_of_two(len(lengths)) - len(lengths)
    owner = np.pad(machine[clip], (0, extra), constant_values=-1)
    room = power_of_two(int(np.bincount(machine[clip]).max()))
    return Training(
        np.pad(features.rows, ((0, extra), (0, 0))),
        np.pad(np.ones(len(clip), np.float32), (0, extra)),
        np.pad(clip, (0, extra), mode="edge").astype(np.int32),
        np.pad(machine, (0, more), mode="edge"),
        np.pad(domain, (0, more)),
        np.array([name.seed for name in machines], np.uint32),
        members_of(owner, len(machines), room),
    )


def power_of_two(n: int) -> int:
    """The next one, at least 8."""
    return max(8, 1 << max(n - 1, 0).bit_length())


def adapt_detector(
    number: int,
    spec: DetectorSpec,
    seed: int,
    params: DetectorParams,
    machines: Sequence[MachineId],
    memory: ClipFeatures,
    new: ClipFeatures,
    left_out: Sequence[np.ndarray],
    play: bool,
) -> Adapted:
    """Adapt one detector.

    Args:
        number: which of the model's detectors.
        spec: of the detector.
        seed: of the model.
        params: of the kept model.
        machines: that it judges.
        memory: what is remembered of them.
        new: clips of one further machine.
        left_out: (n_clips,) bool each, which of those a lane leaves out; the last leaves out none.
        play: whether mates play the new machine.
    """
    own = new.clips[0].machine
    mates = mates_of(spec, machines, own)
    key = jax.random.fold_in(jax.random.key(seed), number) if number else jax.random.key(seed)
    kept = memory.where(lambda clip: clip.machine in mates)
    lender = training_of(kept, mates)
    numbers = parameters_of(params, np.array([machines.index(name) for name in mates]))
    alone = training_of(new, [own])
    clip = np.asarray(alone.clip)
    weights = np.stack([np.asarray(alone.weight) * ~lane[clip] for lane in left_out]).astype(np.float32)
    found, status = _lanes(spec, key, numbers, lender, alone, weights)
    nothing = np.full((1, 1), np.nan, np.float32)

    def made(params: Any, k: int) -> DetectorParams:
        of_lane = jax.tree.map(lambda leaf: np.asarray(leaf[k]), params)
        return DetectorParams(np.zeros(1, np.int32), None, of_lane, nothing)

    parts = np.full((len(new.clips), len(make_detector(spec).parts)), np.nan, np.float32)
    for k, lane in enumerate(left_out):
        if lane.any() and status[k] != NOT_FINITE:
            some = new.at(np.flatnonzero(lane).tolist())
            parts[lane] = parts_of_clips(spec, made(found, k), 0, some.rows, some.offsets)
    played = []
    for name in _players(mates, kept, len(new.clips)) if play else ():
        heard, others = _cast(name, kept, len(new.clips), seed)
        silent = np.asarray(lender.machine) == mates.index(name)
        without = np.where(silent[np.asarray(lender.clip)], 0, np.asarray(lender.weight)).astype(np.float32)
        role = training_of(heard, [name])
        weight = np.asarray(role.weight)[None]
        acted, how = _lanes(spec, key, numbers, lender._replace(weight=without), role, weight)
        if how[0] != NOT_FINITE:
            played.append((name, parts_of_clips(spec, made(acted, 0), 0, others.rows, others.offsets)))
    return Adapted(made(found, len(left_out) - 1), parts, tuple(played), int(status[-1]))


def mates_of(spec: DetectorSpec, machines: Sequence[MachineId], own: MachineId) -> list[MachineId]:
    """The machines that a fit of the detector would see together with one."""
    names = [*machines, own]
    scopes = scopes_of(spec, units_of(spec, names))
    found = [name for name, scope in zip(machines, scopes, strict=False) if scope == scopes[-1]]
    return found or [name for name in machines if name.machine_type == own.machine_type]


def _players(mates: Sequence[MachineId], kept: ClipFeatures, n_clips: int) -> list[MachineId]:
    """Mates that can play a machine of so many clips: of whom some are left to be scored, and others to lend."""
    if len(mates) < 2:
        return []
    able = [name for name in mates if sum(clip.machine == name for clip in kept.clips) >= n_clips + 2]
    return [able[i] for i in np.linspace(0, len(able) - 1, min(len(able), MOST_MATES)).round().astype(int)]


def _cast(name: MachineId, kept: ClipFeatures, n_clips: int, seed: int) -> tuple[ClipFeatures, ClipFeatures]:
    """Of a mate's clips as many as the new machine has, and some of the others."""
    places = [i for i, clip in enumerate(kept.clips) if clip.machine == name]
    order = np.random.default_rng([seed, name.seed]).permutation(places)
    heard, others = sorted(order[:n_clips].tolist()), sorted(order[n_clips:][:MOST_CLIPS].tolist())
    return kept.at(heard), kept.at(others)


def _lanes(
    spec: DetectorSpec, key: Array, params: Any, memory: Training, new: Training, weights: np.ndarray
) -> tuple[Any, np.ndarray]:
    """Parameters with leaves (n_lanes, 1, ...), and (n_lanes,) how each lane ended."""
    kind = kind_of(spec.kind)
    assert kind.adapt is not None
    if kind.engine is None and kind.fit_all is None:
        same = np.minimum(np.arange(power_of_two(len(weights))), len(weights) - 1)  # few shapes, too
        found, info = _compiled(spec, key, params, memory, new, weights[same])
        return found, np.asarray(info.status)[:, 0]
    each = [
        kind.adapt(spec.config, spec.hyper, key, params, memory, new._replace(weight=weight))
        for weight in weights
    ]
    found = jax.tree.map(
        lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *(p for p, _ in each)
    )
    return found, np.array([int(np.asarray(info.status)[0]) for _, info in each])


@functools.partial(jax.jit, static_argnums=0)
def _compiled(
    spec: DetectorSpec, key: Array, params: Any, memory: Training, new: Training, weights: Array
) -> Any:
    adapt = kind_of(spec.kind).adapt
    assert adapt is not None
    # By vmap: what the mates lend is then worked out once, for it is the same in every lane.
    return jax.vmap(
        lambda weight: adapt(spec.config, spec.hyper, key, params, memory, new._replace(weight=weight))
    )(weights)
