"""What a run found out: scores, how each fit ended, and what could not be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from adjax.data.clips import Clip, ClipTable
from adjax.evaluation.metrics import Metrics, evaluate
from adjax.types import AdjaxError


@dataclass(frozen=True)
class Fit:
    """One model: whom it is for, what it was fitted on, how the fit ended; an autoencoder's loss in each epoch."""

    machine_type: str
    machine_id: str
    n_clips: int
    n_vectors: int
    objective: float
    n_steps: int
    status: int
    losses: tuple[float, ...] = ()


@dataclass(frozen=True)
class LaneScores:
    """The calibrated scores of several detectors ("lanes") before their fusion.

    Attributes:
        names: (n_lanes,) what each lane looks at.
        z: (n_clips, n_lanes) float64, in the order of `Result.clips`; 0 = a typical normal clip, 1 = as far above it
            as the higher half of normal clips is on average (root mean square).
        held_out: machine (type, id) -> (n,) float64 fused scores of its training clips, each from a fit
            without it: what normal clips score, for a threshold.
    """

    names: tuple[str, ...]
    z: np.ndarray
    held_out: Mapping[tuple[str, str], np.ndarray]

    @property
    def loudest(self) -> tuple[str, ...]:
        """(n_clips,) the lane with the largest score of each clip: why the clip stands out."""
        return tuple(self.names[lane] for lane in np.argmax(self.z, axis=1))


@dataclass(frozen=True)
class Result:
    """What a run found out.

    Attributes:
        clips: the test clips that have a score.
        scores: (n_clips,) float64, higher = more anomalous, all finite.
        fits: the models.
        failures: clips and models that could not be used; what they should have scored has no score.
        notes: remarks for the report.
        lanes: what stands behind the scores, where several detectors were fused.
    """

    clips: ClipTable
    scores: np.ndarray
    fits: tuple[Fit, ...]
    failures: tuple[AdjaxError, ...] = ()
    notes: tuple[str, ...] = ()
    lanes: LaneScores | None = None

    def of(self, machine_type: str, machine_id: str | None = None) -> tuple[ClipTable, np.ndarray]:
        """Clips and scores of one machine, or of all of a type."""
        chosen = [
            i
            for i, clip in enumerate(self.clips)
            if clip.machine_type == machine_type and machine_id in (None, clip.machine_id)
        ]
        return ClipTable(tuple(self.clips[i] for i in chosen)), self.scores[chosen]

    def metrics(self) -> dict[str, dict[str, Metrics]]:
        """Machine type -> machine id -> metrics, for the machines whose test clips have labels of both kinds."""
        found: dict[str, dict[str, Metrics]] = {}
        for machine_type in self.clips.machine_types:
            of_type, _ = self.of(machine_type)
            for machine_id in of_type.machine_ids:
                clips, scores = self.of(machine_type, machine_id)
                if metrics := evaluate(clips.labels, scores):
                    found.setdefault(machine_type, {})[machine_id] = metrics
        return found


def group_of(clip: Clip, per: str) -> tuple[str, str]:
    """Type and id of the model that judges a clip; the id is empty for one model a type."""
    return clip.machine_type, clip.machine_id if per == "machine" else ""
