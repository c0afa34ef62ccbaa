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
from threadpoolctl import threadpool_limits

from adjax.detectors.kinds import kind_of
from adjax.features.normalize import Standardizer
from adjax.model.extraction import ClipFeatures
from adjax.model.lanes import domain_of_clips
from adjax.model.lift import make_detector, members_of, window_starts
from adjax.model.roles import Role, clips_of
from adjax.model.scopes import scopes_of, units_of
from adjax.model.score import DetectorParams, parameters_of, parts_of_clips
from adjax.model.spec import DetectorSpec
from adjax.types import NOT_FINITE, MachineId, Training, of_machines

PRIOR = 8.0  # as many clips the mates' scale counts in that of a machine's standardized rows


class Source(NamedTuple):
    """What one detector of a kept model has for a new machine.

    Attributes:
        spec: of the detector.
        hyper: its traced settings: what was set, or the default, or learnt from the mates in its place.
        key: of its fits.
        mates: the machines that lend.
        kept: what is remembered of them.
        lender: the same as a fit takes it.
        params: of the mates, for which see `Kind.adapt`.
        standardizer: of the mates, leaves (n_mates, n_features); None: rows are taken as they are.
    """

    spec: DetectorSpec
    hyper: Any
    key: Array
    mates: list[MachineId]
    kept: ClipFeatures
    lender: Training
    params: Any
    standardizer: Standardizer | None


def source_of(
    number: int,
    spec: DetectorSpec,
    seed: int,
    params: DetectorParams,
    machines: Sequence[MachineId],
    memory: ClipFeatures,
    machine: MachineId,
    n_clips: int | None,
) -> Source:
    """What a model has for a machine that it has not heard.

    Args:
        number: which of the model's detectors.
        spec: of the detector.
        seed: of the model.
        params: of the kept model.
        machines: that it judges.
        memory: what is remembered of them.
        machine: the new one.
        n_clips: that it has, for which strengths are learnt; None: the settings stay as they are.
    """
    mates = mates_of(spec, machines, machine)
    key = jax.random.fold_in(jax.random.key(seed), number) if number else jax.random.key(seed)
    index = np.array([machines.index(name) for name in mates], np.int64)
    own = set(mates)
    kept = memory.where(lambda clip: clip.machine in own)
    lender, standardizer = training_of(kept, mates), params.standardizer
    if standardizer is not None:
        standardizer = jax.tree.map(lambda leaf: np.asarray(leaf)[params.model[index]], standardizer)
        owner = lender.machine[lender.clip]
        rows = (lender.rows - standardizer.mean[owner]) / standardizer.std[owner]
        lender = lender._replace(rows=rows.astype(np.float32))
    hyper = spec.hyper if n_clips is None else _learnt(spec, lender, n_clips)
    return Source(spec, hyper, key, mates, kept, lender, parameters_of(params, index), standardizer)


def adapt_lanes(
    source: Source, new: ClipFeatures, left_out: Sequence[np.ndarray]
) -> tuple[list[DetectorParams], np.ndarray]:
    """Numbers of one new machine, without some of its clips in each lane.

    Args:
        source: see `source_of`.
        new: clips of the machine.
        left_out: for each lane (n_clips,) bool.

    Returns:
        For each lane the numbers of the machine alone, and (n_lanes,) how it ended.
    """
    alone = training_of(new, [new.clips[0].machine])
    weights = np.stack([alone.weight * ~lane[alone.clip] for lane in left_out])
    return _made(source, source.lender, alone, weights)


def held_out_parts(
    source: Source, new: ClipFeatures, lanes: Sequence[DetectorParams], left_out: Sequence[np.ndarray]
) -> np.ndarray:
    """(n_clips, n_parts) float32 raw parts of each clip by the lane that left it out; NaN where none has."""
    parts = np.full((len(new.clips), len(make_detector(source.spec).parts)), np.nan, np.float32)
    for own, lane in zip(lanes, left_out, strict=True):
        if lane.any():
            some = new.at(np.flatnonzero(lane).tolist())
            parts[lane] = parts_of_clips(source.spec, own, 0, some.rows, some.offsets)
    return parts


def play(source: Source, roles: Sequence[Role]) -> list[np.ndarray]:
    """For each role (n_judged, n_parts) float32 raw parts of the clips that are judged; NaN where there are none."""
    played = []
    for role in roles:
        heard, judged = (clips_of(source.kept, role.mate, paths) for paths in (role.heard, role.judged))
        silent = source.lender.machine == source.mates.index(role.mate)
        weight = np.where(silent[source.lender.clip], 0, source.lender.weight).astype(np.float32)
        own = training_of(heard, [role.mate])
        (acted,), (status,) = _made(source, source.lender._replace(weight=weight), own, own.weight[None])
        parts = parts_of_clips(source.spec, acted, 0, judged.rows, judged.offsets)
        played.append(np.full_like(parts, np.nan) if status == NOT_FINITE else parts)
    return played


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


def mates_of(spec: DetectorSpec, machines: Sequence[MachineId], own: MachineId) -> list[MachineId]:
    """The machines that a fit of the detector would see together with one."""
    names = [*machines, own]
    scopes = scopes_of(spec, units_of(spec, names))
    found = [name for name, scope in zip(machines, scopes, strict=False) if scope == scopes[-1]]
    return found or [name for name in machines if name.machine_type == own.machine_type]


def _learnt(spec: DetectorSpec, lender: Training, n_clips: int) -> Any:
    """Traced settings for a machine of so many clips: what a person has set stays."""
    kind = kind_of(spec.kind)
    if kind.learn is None or spec.hyper != kind.hyper():
        return spec.hyper
    return jax.tree.map(np.asarray, kind.learn(spec.config, spec.hyper, lender, n_clips))


@threadpool_limits.wrap(limits=1, user_api="blas")  # LAPACK's threads wait for each other, even for ever
def _made(
    source: Source, lender: Training, new: Training, weights: np.ndarray
) -> tuple[list[DetectorParams], np.ndarray]:
    """For each lane of weights (n_lanes, n_rows) the new machine's numbers, and how it ended."""
    kind, spec = kind_of(source.spec.kind), source.spec
    assert kind.adapt is not None
    n_context = getattr(spec.make(), "n_context", 1)
    lender = lender._replace(weight=window_starts(lender.clip, lender.weight, n_context))
    weights = np.stack([window_starts(new.clip, own, n_context) for own in weights]).astype(np.float32)
    standardizers: list[Standardizer | None] = [None] * len(weights)
    if source.standardizer is None and kind.engine is None and kind.fit_all is None:
        n = len(weights)
        same = np.minimum(np.arange(power_of_two(n) if n > 1 else 1), n - 1)  # few shapes, too
        found, info = _compiled(spec, source.hyper, source.key, source.params, lender, new, weights[same])
        params = [jax.tree.map(lambda leaf, k=k: np.asarray(leaf[k]), found) for k in range(len(weights))]
        status = np.asarray(info.status)[: len(weights), 0]
    else:
        params, status = [], np.zeros(len(weights), np.int64)
        theirs, lender = _without_silent(source.params, lender)
        for k, weight in enumerate(weights):
            own = new._replace(weight=weight)
            if source.standardizer is not None:
                standardizers[k], own = _standardized(source.standardizer, own)
            found, info = kind.adapt(spec.config, source.hyper, source.key, theirs, lender, own)
            params.append(jax.tree.map(np.asarray, found))
            status[k] = int(np.asarray(info.status)[0])
    zero, nothing = np.zeros(1, np.int32), np.full((1, 1), np.nan, np.float32)
    made = [DetectorParams(zero, s, own, nothing) for s, own in zip(standardizers, params, strict=True)]
    return made, status


def _without_silent(params: Any, lender: Training) -> tuple[Any, Training]:
    """Mates without those of which nothing is remembered: their networks and mixtures must lend nothing either."""
    heard = np.unique(lender.machine[lender.clip[lender.weight > 0]])
    if len(heard) in (0, len(lender.seed)) or lender.members is None:
        return params, lender
    place = np.zeros(len(lender.seed), np.int32)
    place[heard] = np.arange(len(heard))
    owner = np.where(lender.weight > 0, place[lender.machine[lender.clip]], -1)
    members = members_of(owner, len(heard), lender.members.shape[1])
    lender = lender._replace(machine=place[lender.machine], seed=lender.seed[heard], members=members)
    return of_machines(params, heard), lender


def _standardized(mates: Standardizer, new: Training) -> tuple[Standardizer, Training]:
    """Rows of the new machine by its own mean, and by a scale that is drawn towards the mates'."""
    rows, weight = np.asarray(new.rows, np.float64), np.asarray(new.weight, np.float64)[:, None]
    n_clips = len(np.unique(np.asarray(new.clip)[np.asarray(new.weight) > 0]))
    mean = (weight * rows).sum(axis=0) / max(weight.sum(), 1)
    variance = (weight * (rows - mean) ** 2).sum(axis=0) / max(weight.sum(), 1)
    theirs = np.mean(np.asarray(mates.std, np.float64) ** 2, axis=0)
    scale = np.sqrt((n_clips * variance + PRIOR * theirs) / (n_clips + PRIOR))
    scaled = ((rows - mean) / scale).astype(np.float32)  # also rows of weight 0: windows may hold them
    found = Standardizer(mean[None].astype(np.float32), scale[None].astype(np.float32))
    return found, new._replace(rows=scaled)


@functools.partial(jax.jit, static_argnums=0)
def _compiled(
    spec: DetectorSpec, hyper: Any, key: Array, params: Any, memory: Training, new: Training, weights: Array
) -> Any:
    adapt = kind_of(spec.kind).adapt
    assert adapt is not None
    # By vmap: what the mates lend is then worked out once, for it is the same in every lane.
    return jax.vmap(
        lambda weight: adapt(spec.config, hyper, key, params, memory, new._replace(weight=weight))
    )(weights)
