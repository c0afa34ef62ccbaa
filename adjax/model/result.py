"""What a model says of clips, and what fitting one found out."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from adjax.data.clips import ClipTable
from adjax.evaluation.metrics import Metrics, evaluate
from adjax.model.comparable import Flag
from adjax.types import AdjaxError, MachineId

NORMAL, ANOMALOUS, UNDECIDED = 0, 1, -1
DECISIONS = {NORMAL: "normal", ANOMALOUS: "anomalous", UNDECIDED: "undecided"}
NOT_COMPARABLE = "not comparable"


@dataclass(frozen=True)
class Fit:
    """One fit: of which detector, for whom, on what, how it ended; the loss of each epoch where there are epochs."""

    kind: str
    machine_type: str
    machine_id: str
    n_clips: int
    n_vectors: int
    objective: float
    n_steps: int
    status: int
    losses: tuple[float, ...] = ()


@dataclass(frozen=True)
class Result:
    """Scores of clips.

    Attributes:
        clips: the clips that have a score.
        scores: (n_clips,) float64, higher = more anomalous, all finite.
        p_values: (n_clips,) float64 in (0, 1], the chance that a normal clip of the machine scores at least as high;
            NaN of a model without calibration.
        extrapolated: (n_clips,) bool, whether the p-value rests on the tail beyond all held-out scores.
        decisions: (n_clips,) int, ANOMALOUS, NORMAL or UNDECIDED.
        part_names: (n_parts,) of what was fused.
        parts: (n_clips, n_parts) float64, calibrated.
        flags: for each clip what sets its recording apart from those of the training, with evidence.
        comparable: (n_clips,) bool, False where a score cannot mean anything, for the flags' reason.
        failures: clips and machines that could not be used; they have no score.
        notes: remarks for the report.
        spoke: (n_clips,) int, which part speaks against each clip; None: the one with the largest value.
    """

    clips: ClipTable
    scores: np.ndarray
    p_values: np.ndarray
    extrapolated: np.ndarray
    decisions: np.ndarray
    part_names: tuple[str, ...]
    parts: np.ndarray
    flags: tuple[tuple[Flag, ...], ...] = ()
    comparable: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    failures: tuple[AdjaxError, ...] = ()
    notes: tuple[str, ...] = ()
    spoke: np.ndarray | None = None

    @property
    def loudest(self) -> tuple[str, ...]:
        """(n_clips,) the part that speaks against each clip: why the clip stands out."""
        spoke = np.argmax(self.parts, axis=1) if self.spoke is None else self.spoke
        return tuple(self.part_names[i] for i in spoke)

    @property
    def verdicts(self) -> tuple[str, ...]:
        """(n_clips,) the decisions in words; "not comparable" where a flag forbids one."""
        return tuple(
            DECISIONS[int(decision)] if usable else NOT_COMPARABLE
            for decision, usable in zip(self.decisions, self.comparable, strict=True)
        )

    def places(self, machine_type: str, machine_id: str | None = None) -> np.ndarray:
        """(n,) int, where the clips of one machine, or of all of a type, stand."""
        return np.array(
            [
                i
                for i, clip in enumerate(self.clips)
                if clip.machine_type == machine_type and machine_id in (None, clip.machine_id)
            ],
            np.int64,
        )

    def of(self, machine_type: str, machine_id: str | None = None) -> tuple[ClipTable, np.ndarray]:
        """Clips and scores of one machine, or of all of a type."""
        chosen = self.places(machine_type, machine_id)
        return ClipTable(tuple(self.clips[i] for i in chosen)), self.scores[chosen]

    def metrics(self) -> dict[str, dict[str, Metrics]]:
        """Machine type -> machine id -> metrics, for the machines whose test clips have labels of both kinds."""
        found: dict[str, dict[str, Metrics]] = {}
        for machine in self.clips.machines:
            clips, scores = self.of(*machine)
            if metrics := evaluate(clips.labels, scores):
                found.setdefault(machine.machine_type, {})[machine.machine_id] = metrics
        return found


@dataclass(frozen=True)
class HeldOut:
    """Scores of a machine's training clips, each from a fit without it.

    Attributes:
        machine: whose.
        names: (n,) of the clips.
        scores: (n,) float64.
        apart: names of the clips that stand apart from all the others: likely anomalous, or of another machine.
    """

    machine: MachineId
    names: tuple[str, ...]
    scores: np.ndarray
    apart: tuple[str, ...] = ()
