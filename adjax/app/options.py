"""What `run` and `train` have in common: which model, on which features, calibrated how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from adjax.app.fitting import check_group
from adjax.detectors.kinds import KINDS
from adjax.features.recipes import FeatureKind, Floor, Pooling
from adjax.model.named import kinds_of, make_spec
from adjax.model.named import names as known_models
from adjax.model.setting_text import parse_setting, setting_text, setting_types
from adjax.model.spec import (
    Calibrating,
    Contrast,
    Domains,
    Fusion,
    ModelSpec,
    Per,
    ScorePooling,
    VectorConfig,
    check_rate,
)
from adjax.types import Kind, SettingsError


def _settings_help() -> str:
    lines = []
    for kind in KINDS.values():
        values = ", ".join(
            f"{name}={setting_text(default)}" for name, (_, default) in setting_types(kind).items()
        )
        lines.append(f"{kind.name}: {values or 'none'}.")
    return "Settings of the model, NAME=VALUE, with their defaults: " + " ".join(lines)


UNREAD = VectorConfig(1)  # in place of a front end, until the table of vectors is read
_OF_SOUND = ("features", "floor", "clip_pooling", "gwrp_r", "n_mels", "sr", "channel", "snr_db")


def check_source(command: Any) -> None:
    """Refuse recordings beside vectors, and settings of recordings where there are none.

    Args:
        command: with a field `vectors` and, as far as it has them, `data` or `files` and those of `_OF_SOUND`.

    Raises:
        SettingsError: see above.
    """
    if command.vectors is None:
        return
    for own in fields(command):
        if getattr(command, own.name) == own.default:
            continue
        if own.name in ("data", "files"):
            raise SettingsError(f"{own.name} and vectors: give recordings or a table, not both")
        if own.name in _OF_SOUND:
            raise SettingsError(f"{own.name} means nothing to vectors, which are no sound: leave it out")


@dataclass(frozen=True)
class ModelOptions:
    """Settings that make a model."""

    vectors: Path | None = None
    """In place of --data: a table of vectors from elsewhere (embeddings, openSMILE, ...), CSV, NPZ or Parquet, one row
    for each clip: columns file, machine_type, machine_id, split, label, domain, and numbers (docs/vectors.md). Settings
    of recordings (--features to --n-mels, --sr, --channel) are refused with it; numbers are standardized for kinds that
    do not scale them themselves."""
    set: Annotated[tuple[str, ...], tyro.conf.arg(help=_settings_help(), metavar="NAME=VALUE")] = ()
    features: FeatureKind = "log-mel"
    """Log-mel spectrogram in dB, MFCC, magnitude spectrum or PCEN."""
    floor: Floor | None = None
    """Of log-mel and MFCC in silence: add: log10(mel + eps), max: log10(max(mel, eps)). Default: the model's own."""
    clip_pooling: Pooling | None = None
    """Pool the frames of a clip into one vector before the detector; none: frames. Default: the model's own."""
    gwrp_r: float = 0.5
    """r of --clip-pooling gwrp: 1 is the mean, 0 the maximum."""
    n_mels: int = 128
    """Mel bands of log-mels and MFCCs."""
    standardize: bool = False
    """Give features zero mean and unit variance on the training clips."""
    per: Per = "machine"
    """One model for each machine, or one for all machines of a type (as the DCASE baselines do)."""
    score_pooling: ScorePooling = "mean"
    """How the scores of a clip's rows become the clip's score."""
    score_percentile: float = 95.0
    """Which, for --score-pooling percentile."""
    contrast: Contrast = "all"
    """From which machines a kind that tells machines apart (identity) tells each: all in the data, also those of the
    types that --machine-type leaves out (their training clips are read, and not scored), or those of its own type.
    none: such kinds are left out."""
    domains: Domains = "apart"
    """Of a machine with training clips of a source and of a target domain (DCASE 2021 and later): judged apart, a clip
    by the one that it fits better, or together, as if there were one."""
    fusion: Fusion = "fisher"
    """Of several detectors: fisher adds up their evidence (-log p of each one's loudest part); max: the loudest part of
    all; mean: of all parts."""
    calibration: Calibrating | None = None
    """How normal clips get scores that no fit has seen: in folds, by a split (a fifth of the clips is kept out of the
    model), or none (no p-values, no decisions). Default: folds, a split where training takes long."""
    false_alarm_rate: float = 0.05
    """Share of normal clips that may be called anomalous; it can be changed afterwards (adjax info)."""
    group: str | None = None
    """Which clips come from one recording or session and are held out together: a regular expression (clips in whose
    path it finds the same text), or a table, FILE.csv or FILE.csv:COLUMN, with a column `file`. Default: by
    sub-folders, names and times, where those tell."""
    sr: int = 16000
    """Sampling rate in Hz; clips of another rate are resampled, and the report says so."""
    channel: int | Literal["mean"] = 0
    """Of multi-channel clips: which one, or their mean."""
    seed: int = 0
    """Of everything random; the same seed on the same machine gives the same table."""
    cache: bool = True
    """Keep features on disk and reuse them while neither the clip nor a setting changes (see `adjax cache`)."""

    def specs(self, names: Sequence[str]) -> dict[str, ModelSpec]:
        """The settings of each model by its name.

        Raises:
            SettingsError: no name or an unknown one, an unknown setting, one out of its range, or settings that
                contradict each other.
        """
        if not names:
            raise SettingsError(f"model has no value: give at least one of {', '.join(known_models())}")
        check_rate(self.false_alarm_rate)
        check_group(self.group)
        wanted = self.parsed(names)
        check_source(self)
        features: dict[str, Any] = {
            "kind": self.features, "sr": self.sr, "gwrp_r": self.gwrp_r, "n_mels": self.n_mels,
        }  # fmt: skip
        features |= {"floor": self.floor} if self.floor else {}
        features |= {"pooling": self.clip_pooling} if self.clip_pooling else {}
        more: dict[str, Any] = {"calibration": self.calibration} if self.calibration else {}
        more |= {"standardize": True} if self.standardize else {}  # else what suits the kind
        found = {}
        for name in names:
            fields = {field for kind in _kinds(name) for field in setting_types(kind)}
            found[name] = make_spec(
                name,
                settings={key: value for key, value in wanted.items() if key in fields},
                features=features if self.vectors is None else UNREAD,
                contrast=self.contrast,
                per=self.per,
                pooling=self.score_pooling,
                percentile=self.score_percentile,
                fusion=self.fusion,
                domains=self.domains,
                channel=self.channel,
                seed=self.seed,
                **more,
            )
        return found

    def parsed(self, names: Sequence[str]) -> dict[str, Any]:
        """The values of --set, by name; every one is a setting of one of the models."""
        kinds = [kind for name in names for kind in _kinds(name)]
        found = {}
        for text in self.set:
            name, equals, value = text.partition("=")
            if not equals:
                raise SettingsError(f"--set {text!r}: write NAME=VALUE, such as n_components=8")
            found[name] = parse_setting(name, value, kinds)
        return found


def _kinds(name: str) -> list[Kind]:
    """The kinds of a model; those of an unknown name are none, which `make_spec` will say."""
    kinds = [one.partition(":")[0] for one in kinds_of(name)]
    return [KINDS[kind] for kind in kinds if kind in KINDS]
