"""Many trainings of autoencoders as the lanes of one compiled program: from clips to the program, and to scores.

The studies that ask about the trainings themselves use it: seeds, widths, a validation loss. A model that is to score
clips is fitted by `adjax.model.fit`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from operator import itemgetter

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adjax.data.clips import Clip
from adjax.detectors.autoencoder import (
    AutoencoderConfig,
    AutoencoderHyper,
    AutoencoderParams,
    Lane,
    LaneProgram,
    Sizes,
    Span,
    Windows,
)
from adjax.detectors.autoencoder.resume import LaneTable
from adjax.model.extraction import ClipFeatures
from adjax.model.lanes import domain_of_clips
from adjax.model.lift import window_starts
from adjax.types import FitError


@dataclass(frozen=True)
class LaneSpec:
    """One autoencoder of a study.

    Attributes:
        machine_type: whose clips it is trained on.
        machine_id: whose; "": those of all ids of the type.
        width: units of the bottleneck.
        seed: of its initial weights and of the order of its windows.
        learning_rate: of Adam.
        weight_decay: decoupled.
    """

    machine_type: str
    machine_id: str = ""
    width: int = 8
    seed: int = 0
    learning_rate: float = 1e-3
    weight_decay: float = 0.0

    @property
    def name(self) -> str:
        """For folders and figures."""
        machine = " ".join(part for part in (self.machine_type, self.machine_id) if part)
        return f"{machine} width {self.width} seed {self.seed}"


def make_table(
    train: ClipFeatures,
    specs: Sequence[LaneSpec],
    config: AutoencoderConfig,
    *,
    validation: float = 0.1,
    split_seed: int = 0,
) -> LaneTable:
    """Lay the clips out machine after machine, so that a lane is a range of windows; nothing is cut or copied twice.

    Args:
        train: features of normal clips.
        specs: the lanes.
        config: static settings.
        validation: share of the clips of *every* machine that is kept for the validation loss, rounded up; 0: none.
        split_seed: which clips those are.

    Raises:
        FitError: a lane without any training window.
    """
    machines = sorted({(clip.machine_type, clip.machine_id) for clip in train.clips})
    rng = np.random.default_rng(split_seed)
    rows, weights, domains = [train.rows[:0]], [], []
    index: dict[str, list[np.ndarray]] = {"train": [], "validation": []}
    counts: dict[str, list[int]] = {"train": [], "validation": []}
    n_rows = 0
    for machine in machines:
        own = train.where(partial(_is_machine, machine))
        lengths = np.diff(own.offsets)
        clip = np.repeat(np.arange(len(lengths)), lengths)
        starts = window_starts(clip, np.ones(len(clip), np.float32), config.n_context) > 0
        held_out = rng.permutation(len(own.clips))[: int(np.ceil(validation * len(own.clips)))]
        in_validation = np.isin(clip, held_out)
        for name, chosen in (("train", ~in_validation), ("validation", in_validation)):
            index[name].append(n_rows + np.flatnonzero(starts & chosen))
            counts[name].append(len(index[name][-1]))
        rows.append(own.rows)
        weights.append(starts.astype(np.float32))
        domains.append(domain_of_rows(own))
        n_rows += len(own.rows)
    windows = Windows(
        jnp.asarray(np.concatenate(rows)),
        jnp.asarray(np.concatenate(weights)),
        *(jnp.asarray(np.concatenate(index[name]), jnp.int32) for name in ("train", "validation")),
    )
    spans = {name: [_span(spec, machines, counts[name]) for spec in specs] for name in counts}
    for spec, span in zip(specs, spans["train"], strict=True):
        if span[1] == 0:
            raise FitError(
                f"{spec.name} has no training window: give it normal clips of at least {config.n_context} frames, "
                "more than are kept for validation"
            )

    def column(name: str) -> Array:
        return jnp.array([getattr(spec, name) for spec in specs])

    def ranges(name: str) -> Span:
        return Span(*jnp.array(spans[name], jnp.int32).T)

    usual = AutoencoderHyper()
    hyper = AutoencoderHyper(
        column("learning_rate"),
        column("weight_decay"),
        column("width"),
        jnp.full(len(specs), usual.noise),
        jnp.full(len(specs), usual.ridge),
    )
    lanes = Lane(jax.vmap(jax.random.key)(column("seed")), ranges("train"), ranges("validation"), hyper)
    largest = {name: max(length for _, length in spans[name]) for name in spans}
    return LaneTable(windows, lanes, Sizes(**largest), jnp.asarray(np.concatenate(domains)))


def score_lanes(
    program: LaneProgram, params: AutoencoderParams, specs: Sequence[LaneSpec], test: ClipFeatures
) -> list[tuple[ClipFeatures, np.ndarray]]:
    """For each lane its machine's test clips, and (n_rows,) the scores of the windows that start at their rows.

    Machines are scored one after another with all of their lanes at once, padded to the rows of the largest: one
    compile for those that have as many lanes.
    """
    found: dict[int, tuple[ClipFeatures, np.ndarray]] = {}
    groups = sorted({(spec.machine_type, spec.machine_id) for spec in specs})
    own = {group: test.where(partial(_is_of, group)) for group in groups}
    longest = max(len(part.rows) for part in own.values())
    for group, part in own.items():
        chosen = np.array(
            [i for i, spec in enumerate(specs) if (spec.machine_type, spec.machine_id) == group]
        )
        rows = jnp.pad(part.rows, ((0, longest - len(part.rows)), (0, 0)))
        scores = np.asarray(program.score(jax.tree.map(itemgetter(chosen), params), rows))
        found |= {int(i): (part, scores[k, : len(part.rows)]) for k, i in enumerate(chosen)}
    return [found[i] for i in range(len(specs))]


def domain_of_rows(features: ClipFeatures) -> np.ndarray:
    """(n_rows,) int32, 1 for the rows of target-domain clips, else 0."""
    return np.repeat(domain_of_clips(features.clips), np.diff(features.offsets))


def _is_machine(machine: tuple[str, str], clip: Clip) -> bool:
    return (clip.machine_type, clip.machine_id) == machine


def _is_of(group: tuple[str, str], clip: Clip) -> bool:
    return clip.machine_type == group[0] and group[1] in ("", clip.machine_id)


def _span(spec: LaneSpec, machines: list[tuple[str, str]], counts: list[int]) -> tuple[int, int]:
    """First and length of the windows of a lane's machine, or of all of its type (which lie together)."""
    edges = np.concatenate([[0], np.cumsum(counts)]).tolist()
    own = [
        pair
        for machine, pair in zip(machines, pairwise(edges), strict=True)
        if machine[0] == spec.machine_type and spec.machine_id in ("", machine[1])
    ]
    return (own[0][0], own[-1][1] - own[0][0]) if own else (0, 0)
