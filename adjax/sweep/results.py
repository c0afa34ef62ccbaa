"""What a sweep leaves behind: one file for each chunk with every clip's score, and a tidy table of the trials."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adjax.batching import map_clips
from adjax.data.clips import ClipTable
from adjax.evaluation.device import bootstrap_counts, bootstrap_intervals, roc_areas
from adjax.files import csv_table
from adjax.sweep.models import Scored
from adjax.types import AdjaxError

MEASURES = ("auc", "auc_low", "auc_high", "pauc", "pauc_low", "pauc_high")


class Chunk(NamedTuple):
    """The trials of one file.

    Attributes:
        scored: scores and how the fits ended.
        measures: (n_trials, 6) float, MEASURES; NaN without labels of both kinds, or without scores.
    """

    scored: Scored
    measures: np.ndarray


@dataclass(frozen=True)
class TrialResult:
    """One trial on one machine.

    Attributes:
        machine_type: for example "slider".
        machine_id: for example "id_00".
        settings: the fields that the trial changes, as in `Sweep.settings`.
        status: how its fit ended, or why there is none.
        objective: what the fit optimised, at its end; NaN where there is none.
        n_steps: iterations or epochs made.
        auc: with the limits of its 95% bootstrap interval; NaN where the test clips have no labels of both kinds,
            or the trial no scores.
        auc_low: see `auc`.
        auc_high: see `auc`.
        pauc: the same.
        pauc_low: the same.
        pauc_high: the same.
        chunk: file of the scores, in the sweep's folder; "" where there are none.
        row: of the trial in that file.
        scores: (n_clips,) float32, one for each of `clips`; empty where there are none.
        clips: the test clips of the machine that the trial's front end could read.
    """

    machine_type: str
    machine_id: str
    settings: Mapping[str, Any]
    status: str
    objective: float
    n_steps: int
    auc: float
    auc_low: float
    auc_high: float
    pauc: float
    pauc_low: float
    pauc_high: float
    chunk: str
    row: int
    scores: np.ndarray
    clips: ClipTable

    @property
    def failed(self) -> bool:
        """Whether it has no scores."""
        return len(self.scores) == 0


@dataclass(frozen=True)
class SweepResult:
    """All trials, machine by machine, in the order of the sweep's settings.

    Attributes:
        trials: what each found out.
        failures: clips and machines that could not be used.
        n_resumed: trials whose results an earlier run had left.
        notes: remarks, such as results of an earlier run that were found damaged.
    """

    trials: tuple[TrialResult, ...]
    failures: tuple[AdjaxError, ...]
    n_resumed: int
    notes: tuple[str, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """The tidy table: a dictionary a trial, for `csv.DictWriter` or `pandas.DataFrame`."""
        plain = [
            name for name in TrialResult.__dataclass_fields__ if name not in ("settings", "scores", "clips")
        ]
        axes = dict.fromkeys(name for trial in self.trials for name in trial.settings)
        return [
            {
                **{name: getattr(trial, name) for name in plain[:2]},
                **{name: trial.settings.get(name, "") for name in axes},
                **{name: getattr(trial, name) for name in plain[2:]},
            }
            for trial in self.trials
        ]

    def write(self, path: Path) -> Path:
        """Write the table as CSV, whole or not at all; what is not known is an empty cell.

        Raises:
            StoreError: it cannot be written.
        """
        rows = self.rows()
        with csv_table(path, rows[0] if rows else []) as write:
            for row in rows:
                write(row.values())
        return path


def trial_result(
    name: tuple[str, str],
    settings: Mapping[str, Any],
    chunk: Chunk | None,
    source: str,
    row: int,
    clips: ClipTable = ClipTable(()),
) -> TrialResult:
    """One trial out of its chunk.

    Args:
        name: type and id of the machine.
        settings: of the trial.
        chunk: what it found out; None: nothing.
        source: the chunk's file, or, without one, the reason.
        row: of the trial in its chunk.
        clips: that its scores are of.
    """
    if chunk is None:
        nothing: dict[str, Any] = dict.fromkeys(MEASURES, math.nan)
        return TrialResult(
            *name, settings, source, math.nan, 0, **nothing, chunk="", row=0, scores=np.zeros(0), clips=clips
        )
    scores, objective, n_steps, status = (values[row] for values in chunk.scored)
    measures: dict[str, Any] = dict(zip(MEASURES, chunk.measures[row].tolist(), strict=True))
    if np.isnan(scores).all():
        scores, source = scores[:0], ""
    return TrialResult(
        *name,
        settings,
        str(status),
        float(objective),
        int(n_steps),
        **measures,
        chunk=source,
        row=row,
        scores=scores,
        clips=clips,
    )


def measure(scores: np.ndarray, labels: np.ndarray, n_resamples: int) -> np.ndarray:
    """AUC, pAUC and their bootstrap intervals of many trials on the same clips.

    Args:
        scores: (n_trials, n_clips) float32; a trial of NaN has no metrics, a clip that is NaN in all trials no part.
        labels: (n_clips,) int, 1 = anomaly, 0 = normal, negative = unknown.
        n_resamples: of the bootstrap; all trials share the resamples.

    Returns:
        (n_trials, 6) float, MEASURES; all NaN without labels of both kinds.
    """
    if not {0, 1} <= set(labels.tolist()):
        return np.full((len(scores), len(MEASURES)), np.nan)
    return np.asarray(_measure(jnp.asarray(scores), jnp.asarray(labels), n_resamples))


@partial(jax.jit, static_argnums=2)
def _measure(scores: Array, labels: Array, n_resamples: int) -> Array:
    weight = ((labels >= 0) & jnp.isfinite(scores).any(axis=0)).astype(scores.dtype)
    counts = bootstrap_counts(jax.random.key(0), labels, weight, n_resamples)

    def one(own: Array) -> Array:
        areas = roc_areas(own, labels, weight)
        low, high = bootstrap_intervals(own, labels, counts)
        return jnp.stack([areas.auc, low.auc, high.auc, areas.pauc, low.pauc, high.pauc])

    return map_clips(one, scores, batch_size=64)


def save_chunk(path: Path, chunk: Chunk, names: Sequence[str], settings: Sequence[str]) -> None:
    """Write a chunk, with the clips' names and the trials' settings beside their scores."""
    with open(path, "wb") as file:
        np.savez(
            file,
            **chunk.scored._asdict(),
            measures=chunk.measures,
            clips=np.array(list(names)),
            settings=np.array(json.dumps(list(settings))),
        )


def load_chunk(path: Path, names: Sequence[str], settings: Sequence[str]) -> Chunk | None:
    """Read a chunk; None where it is none, or not of these clips and trials (then it is computed again)."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            if arrays["clips"].tolist() != list(names) or json.loads(str(arrays["settings"])) != list(
                settings
            ):
                return None
            chunk = Chunk(Scored(*(arrays[name] for name in Scored._fields)), arrays["measures"])
            rows = (*chunk.scored, chunk.measures)
            fits = all(len(own) == len(settings) for own in rows) and chunk.scored.scores.shape[1] == len(
                names
            )
            return chunk if fits else None
    except (OSError, ValueError, KeyError, IndexError, TypeError, EOFError, zipfile.BadZipFile):
        return None
