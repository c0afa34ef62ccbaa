"""What `auto` says and what other fusions of its kinds would have said, from one fit.

Used by `experiments.real_vectors` (tables of numbers) and `experiments.label_free` (recordings). Nothing here
looks at a label.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import jax
import numpy as np

from adjax.data.clips import ClipTable
from adjax.model.evidence import evidence_of
from adjax.model.extraction import ClipFeatures
from adjax.model.fit import fit_model
from adjax.model.model import Model
from adjax.model.result import Result
from adjax.model.spec import ModelSpec
from adjax.types import AdjaxError

N_OTHERS = 64  # clips of each other machine that weights rest on
LEAST_EVIDENCE = -np.log(0.99)  # for Cauchy's rule
ALL = 0  # in place of a number of clips
AUTO = "auto (Fisher)"
BEFORE = {"gaussians": "gaussians, auto before"}  # the loudest of them alone was once what is called auto
KIND, EVIDENCE, WITHOUT = "kind: ", "evidence: ", "auto without "
Features = tuple[ClipFeatures, ...]


class Told(NamedTuple):
    """What the kinds of a model say of a machine's clips.

    Attributes:
        loudest: (n_clips, n_kinds) loudest part of each kind, centred and scaled.
        evidence: (n_clips, n_kinds) >= 0, -log p of it.
        weights: (n_kinds,) see `weights_of`.
    """

    loudest: np.ndarray
    evidence: np.ndarray
    weights: np.ndarray


def cauchy(evidence: np.ndarray) -> np.ndarray:
    """(n_clips,) a monotone map of the sum of cot(pi p) (Liu and Xie 2020), which itself overflows.

    p counts as .99 at most: cot(pi) is minus infinity, and one kind that finds nothing at all would outvote the rest.
    """
    p = np.exp(-np.clip(evidence, LEAST_EVIDENCE, 30))
    total = np.sum(1 / np.tan(np.pi * p), axis=1)
    # For small p the cotangent is 1 / (pi p); from 1 on both are taken as logarithms.
    far = np.logaddexp.reduce(evidence, axis=1) - np.log(np.pi)
    near = np.where(total > 1, 1 + np.log(np.maximum(total, 1)), total)
    return np.where(evidence.max(axis=1) > 25, 1 + far, near)


FUSIONS: Mapping[str, Callable[[Told], np.ndarray]] = {  # beside Fisher's rule, the plain sum of the evidence
    "smallest p": lambda told: told.evidence.max(axis=1),
    "Cauchy": lambda told: cauchy(told.evidence),
    "weighted by other machines": lambda told: told.evidence @ told.weights,
    "mean z": lambda told: told.loudest.mean(axis=1),
    "largest z": lambda told: told.loudest.max(axis=1),
}
RULES = (AUTO, *FUSIONS)


class Task(NamedTuple):
    """One model to be fitted, and the clips that judge it.

    Attributes:
        data: name of the data set.
        size: normal clips of each machine; ALL: every one.
        draw: number of the subset, or of the fold.
        spec: of the model.
        train: features of normal clips for each detector.
        test: of labelled clips.
        faults: by name of clip, which fault it has, where that is known.
        tag: what to add to the names of machines, where several sets are one.
        failures: clips of the set that could not be read.
    """

    data: str
    size: int
    draw: int
    spec: ModelSpec
    train: Features
    test: Features
    faults: Mapping[str, str] = {}
    tag: str = ""
    failures: Sequence[AdjaxError] = ()


class Cell(NamedTuple):
    """One machine of one model: (n_clips,) labels and faults, and what each system scores."""

    data: str
    machine_type: str
    size: int
    draw: int
    machine: str
    n_train: int
    labels: np.ndarray
    faults: np.ndarray
    systems: Mapping[str, np.ndarray]


def at(features: Sequence[ClipFeatures], places: Sequence[int]) -> Features:
    """The clips in these places, for each detector."""
    return tuple(own.at(list(places)) for own in features)


def halves(features: Features) -> tuple[Features, Features]:
    """The training and the test clips."""
    splits = [clip.split for clip in features[0].clips]
    train, test = ([i for i, own in enumerate(splits) if own == name] for name in ("train", "test"))
    return at(features, train), at(features, test)


def subset(features: Features, size: int, draw: int) -> Features:
    """A random subset of each machine's clips, the same in any data set, in their order; all if there are no more."""
    clips, chosen = features[0].clips, []
    for machine in clips.machines:
        own = [i for i, clip in enumerate(clips) if clip.machine == machine]
        if size != ALL and size < len(own):
            own = np.random.default_rng([draw, machine.seed]).permutation(own)[:size].tolist()
        chosen += own
    return at(features, sorted(chosen))


def cells_of(task: Task, *, leave_out: bool = False) -> tuple[list[Cell], list[AdjaxError]]:
    """Fit a model once, and judge by it and by every other system; and what failed."""
    model = fit_model(task.spec, task.train)
    # A kind that needs more machines than there are is not in the model.
    kept = [number for number, own in enumerate(task.spec.detectors) if own in model.spec.detectors]
    train, test = ([features[number] for number in kept] for features in (task.train, task.test))
    result = model.score_features(test)
    kinds = [BEFORE.get(detector.kind, detector.kind) for detector in model.spec.detectors]
    loudest, evidence = say(model, result)
    weights = weights_of(model, train)
    faults = np.array([task.faults.get(name, "") for name in result.clips.names])
    cells = []
    for number, machine in enumerate(model.machines):
        own = result.places(*machine)
        told = Told(loudest[own], evidence[own], weights[number])
        systems = {AUTO: result.scores[own], **{name: rule(told) for name, rule in FUSIONS.items()}}
        systems |= {KIND + kind: told.loudest[:, k] for k, kind in enumerate(kinds)}
        systems |= {EVIDENCE + kind: told.evidence[:, k] for k, kind in enumerate(kinds)}
        if leave_out:
            others = {kind: np.delete(told.evidence, k, axis=1) for k, kind in enumerate(kinds)}
            systems |= {WITHOUT + kind: rest.sum(axis=1) for kind, rest in others.items()}
        n_train = sum(clip.machine == machine for clip in task.train[0].clips)
        name, labels = machine.machine_id + task.tag, result.clips.labels[own]
        where = (task.data, machine.machine_type, task.size, task.draw, name, n_train)
        if {0, 1} <= set(labels.tolist()):
            cells.append(Cell(*where, labels, faults[own], systems))
    return cells, [*task.failures, *model.record.failures, *result.failures]


def say(model: Model, result: Result) -> tuple[np.ndarray, np.ndarray]:
    """(n_clips, n_kinds) the loudest part of each kind, and its evidence.

    Raises:
        ValueError: the model does not fuse the evidence of several kinds.
    """
    evidence = model.params.calibration.evidence
    if evidence is None:
        raise ValueError("a model of several kinds that are fused by their evidence is needed")
    machine = np.array([model.machines.index(clip.machine) for clip in result.clips], np.int32)
    found = _evidence(evidence, machine, result.parts.astype(np.float32))
    owner = np.asarray(evidence.detector)
    loudest = [result.parts[:, owner == k].max(axis=1) for k in range(len(model.spec.detectors))]
    return np.stack(loudest, axis=1), np.asarray(found, np.float64)


_evidence = jax.jit(jax.vmap(evidence_of, in_axes=(None, 0, 0)))


def weights_of(model: Model, train: Sequence[ClipFeatures]) -> np.ndarray:
    """(n_machines, n_kinds) in [0, 1]: how far a kind sets other machines' normal clips apart from a machine's own.

    It is 2 AUC - 1. The evidence against held-out clips of the machine itself is exponential with mean 1, so the AUC
    is the mean of 1 - exp(-evidence). The other machines of the type are meant; 1 for each kind where there are none.
    """
    clips = train[0].clips
    places: list[int] = []
    judges: list[int] = []
    for number, own in enumerate(model.machines):
        for other in model.machines:
            if other.machine_type == own.machine_type and other != own:
                theirs = [i for i, clip in enumerate(clips) if clip.machine == other]
                theirs = theirs[:: -(-len(theirs) // N_OTHERS)]
                places, judges = places + theirs, judges + [number] * len(theirs)
    weights = np.ones((len(model.machines), len(model.spec.detectors)))
    if places:
        names = [model.machines[number]._asdict() for number in judges]
        others = [
            replace(own, clips=ClipTable(tuple(map(lambda c, n: replace(c, **n), own.clips, names))))
            for own in at(train, places)
        ]
        result = model.score_features(others)
        apart = 1 - np.exp(-say(model, result)[1])
        for number, own in enumerate(model.machines):
            if len(judged := apart[result.places(*own)]):
                weights[number] = np.maximum(2 * judged.mean(axis=0) - 1, 1e-6)
    return weights
