"""Clips of machines that a model does not judge, and only tells its own machines apart from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from adjax.data.clips import ClipTable, count
from adjax.features.recipes import FeatureConfig
from adjax.model.extraction import ClipFeatures, extract
from adjax.model.lanes import Lane
from adjax.model.scopes import looks_beyond
from adjax.model.spec import DetectorSpec, ModelSpec
from adjax.model.usable import finite_clips
from adjax.model.vectors import align
from adjax.types import MachineId, SettingsError


def contrasts_of(
    spec: ModelSpec,
    contrast: ClipFeatures | Sequence[ClipFeatures | None] | None,
    machines: Sequence[MachineId],
) -> tuple[list[ClipFeatures | None], list[str]]:
    """For each detector the clips to contrast with, machine after machine; None where it looks at none. And notes.

    Args:
        spec: of the model.
        contrast: see `fit_model`.
        machines: that the model judges.

    Raises:
        SettingsError: other numbers than the detector takes, or a machine that the model judges.
        DataError: vectors with other columns.
    """
    if contrast is None or isinstance(contrast, ClipFeatures):
        contrast = [contrast] * len(spec.detectors)
    if len(contrast) != len(spec.detectors):
        raise SettingsError(
            f"contrast has {len(contrast)} sets of features for {len(spec.detectors)} detectors: give one for each, "
            "None where there is none"
        )
    found: list[ClipFeatures | None] = []
    notes: list[str] = []
    for own, given in zip(spec.detectors, contrast, strict=True):
        if given is None or not looks_beyond(own):
            found.append(None)
            continue
        given = align(given, own)
        if both := set(given.clips.machines) & set(machines):
            raise SettingsError(
                f"{min(both).label} is among the machines to judge and in contrast: leave it out of one of them"
            )
        usable = finite_clips(given)
        if usable.failures:
            clips = count(len(usable.failures), "clip")
            notes.append(
                f"{clips} of other types, which the model does not judge, could not be used; the first: "
                f"{usable.failures[0]}"
            )
        whose = [clip.machine for clip in usable.clips]
        order = sorted(range(len(whose)), key=whose.__getitem__)
        found.append(usable.at(order) if order else None)
    return found, list(dict.fromkeys(notes))


def extract_contrast(
    specs: Sequence[ModelSpec],
    clips: ClipTable | ClipFeatures | None,
    *,
    cache: Path | None = None,
) -> list[tuple[ClipFeatures | None, ...]]:
    """Features of clips to contrast with, for each model and detector: each front end once, and only where one looks.

    A clip that cannot be read is among the features' failures.
    """
    found: dict[FeatureConfig, ClipFeatures] = {}

    def of(spec: ModelSpec, own: DetectorSpec) -> ClipFeatures | None:
        if clips is None or not looks_beyond(own):
            return None
        if isinstance(clips, ClipFeatures):  # vectors
            return clips
        assert isinstance(own.features, FeatureConfig)
        if own.features not in found:
            found[own.features] = extract(
                clips, own.features, channel=spec.channel, cache=cache, none_is_fine=True
            )
        return found[own.features]

    return [tuple(of(spec, own) for own in spec.detectors) for spec in specs]


def beside(
    own: ClipFeatures,
    machine: np.ndarray,
    lanes: Sequence[Lane],
    machines: Sequence[MachineId],
    other: ClipFeatures | None,
) -> tuple[ClipFeatures, np.ndarray, list[Lane], tuple[MachineId, ...]]:
    """Clips, their machines, what each lane leaves out, and the machines' names, with those of a contrast behind them.

    No lane leaves out a clip of the contrast: nobody asks what those score.
    """
    if other is None:
        return own, machine, list(lanes), tuple(machines)
    names = other.clips.machines
    theirs = [len(machines) + names.index(clip.machine) for clip in other.clips]
    none = np.zeros(len(theirs), bool)
    return (
        own.followed_by(other),
        np.concatenate([machine, np.array(theirs, machine.dtype)]),
        [lane._replace(left_out=np.concatenate([lane.left_out, none])) for lane in lanes],
        (*machines, *names),
    )
