"""What a person holds: a fitted model that scores clips, changes its rate of false alarms, and tells about itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from adjax.data.clips import first_of
from adjax.data.recordings import group_clips
from adjax.model.domains import wholes
from adjax.model.extraction import ClipFeatures
from adjax.model.inputs import gather
from adjax.model.judging import part_names_of, score_features
from adjax.model.record import Record
from adjax.model.result import Result
from adjax.model.score import ModelParams
from adjax.model.spec import ModelSpec, check_rate
from adjax.model.vectors import align
from adjax.types import MachineId, SettingsError

ANY = "any"  # in place of a machine's name
RATES = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)  # of the table of false alarms


@dataclass(frozen=True)
class Model:
    """A fitted model.

    Attributes:
        spec: what it does; what ran, not what was asked for.
        params: its numbers, NumPy arrays with the machine axis first.
        machines: their names, in the order of that axis.
        record: how it came to be.
        memory: normal clips that it was fitted to, for each detector, by which it can be adapted to other machines (see
            `adjax.model.memory`); (): it cannot.
    """

    spec: ModelSpec
    params: ModelParams
    machines: tuple[MachineId, ...]
    record: Record
    memory: tuple[ClipFeatures, ...] = ()

    @property
    def part_names(self) -> tuple[str, ...]:
        """Of what is fused; with several detectors, each with its kind before it."""
        return part_names_of(self.spec)

    @property
    def calibrated(self) -> bool:
        """Whether scores have p-values."""
        return self.spec.calibration != "none"

    @property
    def false_alarm_rate(self) -> float:
        """The share of normal clips that will be called anomalous, about."""
        return float(np.float64(str(np.float32(self.params.calibration.false_alarm_rate))))

    def with_false_alarm_rate(self, rate: float) -> Model:
        """The same model that decides at another rate; nothing is fitted again.

        Raises:
            SettingsError: a rate that is none, or a model without calibration.
        """
        check_rate(rate)
        if not self.calibrated:
            raise SettingsError(
                "this model was fitted with calibration='none': it has no p-values to decide by"
            )
        calibration = self.params.calibration._replace(false_alarm_rate=np.float32(rate))
        return replace(self, params=self.params._replace(calibration=calibration))

    @property
    def caution(self) -> str:
        """Which machines have too few held-out clips for the rate of false alarms; "" where none has."""
        rate, counts = self.false_alarm_rate, self.params.calibration.n_held_out.tolist()
        needed = int(np.ceil(1 / rate - 1e-9)) - 1
        few = [
            f"{machine.label} {n}"
            for machine, n in zip(self.machines, counts, strict=True)
            if self.calibrated and n < needed
        ]
        if not few:
            return ""
        return (
            f"too few held-out clips for a false-alarm rate of {rate:g}, which needs {needed} ({first_of(few)}): "
            "thresholds rest on a fitted tail, and more normal clips than asked for may be called anomalous; record "
            "more normal clips, or ask for a larger rate"
        )

    def with_about(self, **about: Any) -> Model:
        """The same model with more kept beside it, in its record."""
        return replace(self, record=replace(self.record, about={**self.record.about, **about}))

    def thresholds(self, rates: Sequence[float] = RATES) -> dict[str, list[tuple[float, float, bool]]]:
        """For each machine and rate: (rate, the score above which a clip is anomalous, whether it is extrapolated)."""
        found = {}
        calibration = self.params.calibration
        for number, machine in enumerate(self.machines):
            n = int(calibration.n_held_out[number])
            scores = np.asarray(calibration.scores[number][:n], np.float64)
            rows = []
            for rate in rates if n else ():
                k = int(np.floor(rate * (n + 1) + 1e-9))  # so many held-out scores may be as high, less one
                beyond = k < 1
                tail = float(calibration.tail[number])
                limit = scores[-1] + tail * np.log(1 / (rate * (n + 1))) if beyond else scores[n - k]
                rows.append((rate, float(limit), beyond))
            found[machine.label] = rows
        return found

    @property
    def names(self) -> tuple[MachineId, ...]:
        """The machines that it judges, each once, whatever its domains; see `adjax.model.domains`."""
        return wholes(self.machines)

    def score(
        self,
        what: Any,
        *,
        machine: Any = None,
        sr: int | None = None,
        cache: Path | None = None,
        on_clips: Callable[[int], None] | None = None,
    ) -> Result:
        """Score recordings, sounds in memory, or vectors.

        A clip that cannot be scored is in `Result.failures`, and has no score.

        Args:
            what: a file, a folder, several of them, a `ClipTable`; a list of (n_samples,) arrays; or for a model of
                vectors (n_clips, n_features) numbers, a table (see `read_vectors`), or features. All rows of a table
                are scored, whatever their split.
            machine: whose clips these are (a name, or one for each clip). None: by folders and names of files; the
                model's only machine. "any": nobody knows; every machine judges each clip, and the one that finds it
                most normal counts.
            sr: rate of arrays in Hz; None: the model's.
            cache: folder of features already computed; None: compute everything.
            on_clips: called with the number of clips that each batch has finished.

        Raises:
            SettingsError: a machine that the model does not know, or input that it does not take.
            DataError: a folder without recordings, a table that cannot be used, or one with other columns.
        """
        anyone = isinstance(machine, str) and machine == ANY
        # Who names a machine may name one of its domains.
        known = self.names if machine is None else tuple(dict.fromkeys((*self.names, *self.machines)))
        features, strangers = gather(
            self.spec,
            what,
            machine=self.names[0] if anyone else machine,
            known=known,
            sr=sr,
            cache=cache,
            on_clips=on_clips,
        )
        result = self.score_features(features, any_machine=anyone)
        return replace(result, failures=(*strangers, *result.failures))

    def adapt(
        self,
        what: Any,
        *,
        machine: Any = None,
        sr: int | None = None,
        group: Any = None,
        cache: Path | None = None,
    ) -> Model:
        """The model with further machines, from a few normal clips of each; see `adjax.model.adapt.adapt_model`.

        Args:
            what: normal clips, as for `adjax.fit`.
            machine: whose clips these are, such as "pump/left": a name, or one for each clip. None: what a folder's
                layout or a table says.
            sr: rate of arrays in Hz; None: the model's.
            group: (n_clips,) int, clips of one recording or session, or a regular expression that finds its name in a
                path. None: by folders and names, where those tell.
            cache: of features, see `extract`.

        Raises:
            SettingsError: input that the model does not take, or a model that cannot be adapted.
            DataError: there are no recordings, or a table cannot be used.
            FitError: not one machine can be adapted.
        """
        from adjax.model.adapt import adapt_model  # it needs this class

        features, errors = gather(self.spec, what, machine=machine, sr=sr, cache=cache)
        if group is None or isinstance(group, str):
            group = group_clips(features[0].clips.clips, pattern=group).group
        adapted = adapt_model(self, features, group=group)
        failures = (*errors, *adapted.record.failures)
        return replace(adapted, record=replace(adapted.record, failures=failures))

    def save(self, folder: Path | str) -> Path:
        """Keep the model in a folder; see `adjax.model.keep.save_model`."""
        from adjax.model.keep import save_model  # it needs this class

        return save_model(self, folder)

    def score_features(
        self, features: ClipFeatures | Sequence[ClipFeatures], *, any_machine: bool = False
    ) -> Result:
        """Score clips whose features are at hand: one for all detectors, or one for each.

        A clip that cannot be scored is in `Result.failures`, and has no score.

        Args:
            features: of the clips.
            any_machine: whether every machine judges each clip, whatever its name: the one that finds it most normal
                counts.

        Raises:
            DataError: vectors with other columns than the model's.
            SettingsError: rows of another width.
        """
        every = (
            [features] * len(self.spec.detectors) if isinstance(features, ClipFeatures) else list(features)
        )
        every = [align(own, detector) for detector, own in zip(self.spec.detectors, every, strict=True)]
        return score_features(
            self.spec, self.params, self.machines, self.record, every, any_machine=any_machine
        )
