"""What there is to say of a fitted model besides its numbers: kept with it."""

from __future__ import annotations

import functools
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import Any

import jax
import numpy as np

from adjax.data.clips import ClipTable
from adjax.model.profile import Profile
from adjax.model.result import Fit, HeldOut
from adjax.types import AdjaxError, ClipError, FitError, MachineId

PACKAGES = ("adjax", "jax", "jaxlib", "flax", "optax", "numpy", "scipy", "scikit-learn", "soundfile", "soxr")


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on, and the device."""
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "device": f"{device.platform}: {device.device_kind}",
    }


@dataclass(frozen=True)
class Record:
    """How a model came to be.

    Attributes:
        fits: of every detector.
        failures: clips and machines that could not be used; such a machine is not in the model.
        notes: remarks, such as clips that were resampled.
        held_out: what normal clips score that no fit has seen, for each machine.
        n_clips: training clips of each machine, by its label.
        findings: what is odd about the training recordings, for each machine, by its label.
        profiles: what the training recordings of each machine looked like, by its label; new ones are compared with it.
        versions: of everything the numbers depend on.
        about: more that a command wants to be kept: where the clips came from, and so on.
    """

    fits: tuple[Fit, ...] = ()
    failures: tuple[AdjaxError, ...] = ()
    notes: tuple[str, ...] = ()
    held_out: tuple[HeldOut, ...] = ()
    n_clips: Mapping[str, int] = field(default_factory=dict)
    findings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, *, clips: ClipTable, **fields: Any) -> Record:
        """With the counts and versions filled in."""
        counts: dict[str, int] = {}
        for clip in clips:
            counts[clip.machine.label] = counts.get(clip.machine.label, 0) + 1
        return cls(**fields, n_clips=counts, versions=versions(), about={})


def to_json(record: Record) -> dict[str, Any]:
    """A mapping that JSON can hold."""
    return {
        "fits": [_without_nan(asdict(fit)) for fit in record.fits],
        "failures": [
            {"file": error.path, "reason": error.reason}
            if isinstance(error, ClipError)
            else {"reason": str(error)}
            for error in record.failures
        ],
        "notes": list(record.notes),
        "held_out": [
            {
                "machine": list(own.machine),
                "names": list(own.names),
                "scores": np.asarray(own.scores).tolist(),
                "apart": list(own.apart),
            }
            for own in record.held_out
        ],
        "n_clips": dict(record.n_clips),
        "findings": {name: list(own) for name, own in record.findings.items()},
        "profiles": {name: profile.to_dict() for name, profile in record.profiles.items()},
        "versions": dict(record.versions),
        "about": dict(record.about),
    }


def from_json(found: Mapping[str, Any]) -> Record:
    """What `to_json` wrote."""
    return Record(
        fits=tuple(
            Fit(
                **{
                    **fit,
                    "objective": np.nan if fit["objective"] is None else fit["objective"],
                    "losses": tuple(np.nan if loss is None else loss for loss in fit["losses"]),
                }
            )
            for fit in found["fits"]
        ),
        failures=tuple(
            ClipError(one["file"], one["reason"]) if "file" in one else FitError(one["reason"])
            for one in found["failures"]
        ),
        notes=tuple(found["notes"]),
        held_out=tuple(
            HeldOut(
                MachineId(*own["machine"]), tuple(own["names"]), np.array(own["scores"]), tuple(own["apart"])
            )
            for own in found["held_out"]
        ),
        n_clips=found["n_clips"],
        findings={name: tuple(own) for name, own in found["findings"].items()},
        profiles={name: Profile.from_dict(own) for name, own in found["profiles"].items()},
        versions=found["versions"],
        about=found["about"],
    )


def _without_nan(fit: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: null stands for a number that there is not."""
    losses = [None if np.isnan(loss) else loss for loss in fit["losses"]]
    return {**fit, "objective": None if np.isnan(fit["objective"]) else fit["objective"], "losses": losses}
