"""What a person holds: a fitted model that scores clips, changes its rate of false alarms, and tells about itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from adjax.data.clips import Clip, first_of
from adjax.data.descriptors import ClipInfo
from adjax.data.recordings import group_clips
from adjax.model.comparable import Flag, comparable, compare
from adjax.model.extraction import ClipFeatures
from adjax.model.inputs import gather
from adjax.model.lift import make_detector
from adjax.model.record import Record
from adjax.model.result import UNDECIDED, Result
from adjax.model.score import ModelParams, judge_clips, parts_of_clips
from adjax.model.spec import ModelSpec, check_rate
from adjax.model.vectors import align, takes_vectors
from adjax.types import AdjaxError, ClipError, FitError, MachineId, SettingsError

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
        several = len(self.spec.detectors) > 1
        return tuple(
            f"{detector.kind} {part}" if several and part != detector.kind else part
            for detector in self.spec.detectors
            for part in make_detector(detector).parts
        )

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

    def place_of(self, clip: Clip) -> int:
        """Which machine judges a clip: its own; in a model of one machine that one, whatever the clip is called.

        Raises:
            ClipError: the model does not know the clip's machine.
        """
        if clip.machine in self.machines:
            return self.machines.index(clip.machine)
        if len(self.machines) == 1 and not clip.machine_id:
            return 0
        known = ", ".join(machine.label for machine in self.machines[:8])
        raise ClipError(
            clip.path,
            f"its machine, {clip.machine.label}, is not in the model, which knows {known}; say whose it is, or train "
            "the model with normal clips of it",
        )

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
                model's only machine.
            sr: rate of arrays in Hz; None: the model's.
            cache: folder of features already computed; None: compute everything.
            on_clips: called with the number of clips that each batch has finished.

        Raises:
            SettingsError: a machine that the model does not know, or input that it does not take.
            DataError: a folder without recordings, a table that cannot be used, or one with other columns.
        """
        features, strangers = gather(
            self.spec, what, machine=machine, known=self.machines, sr=sr, cache=cache, on_clips=on_clips
        )
        result = self.score_features(features)
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

    def flags_of(self, place: int, info: ClipInfo) -> tuple[Flag, ...]:
        """In which ways a clip's recording is not like the training ones of the machine in that place."""
        profile = self.record.profiles.get(self.machines[place].label)
        return () if profile is None else compare(profile, info)

    def score_features(self, features: ClipFeatures | Sequence[ClipFeatures]) -> Result:
        """Score clips whose features are at hand: one for all detectors, or one for each.

        A clip that cannot be scored is in `Result.failures`, and has no score.

        Raises:
            DataError: vectors with other columns than the model's.
            SettingsError: rows of another width.
        """
        every = (
            [features] * len(self.spec.detectors) if isinstance(features, ClipFeatures) else list(features)
        )
        every = [align(own, detector) for detector, own in zip(self.spec.detectors, every, strict=True)]
        failures: list[AdjaxError] = list(dict.fromkeys(error for own in every for error in own.failures))
        notes = tuple(dict.fromkeys(note for own in every for note in own.notes))
        clips = every[0].clips
        place = np.full(len(clips), -1)
        strangers: dict[MachineId, int] = {}
        for i, clip in enumerate(clips):
            try:
                place[i] = self.place_of(clip)
            except ClipError as error:
                if any(
                    isinstance(own, FitError) and clip.machine.label in str(own)
                    for own in self.record.failures
                ):
                    strangers[clip.machine] = strangers.get(clip.machine, 0) + 1
                else:
                    failures.append(error)
        failures += [
            FitError(
                f"{name.label} is not in the model (it could not be fitted): its {n} clips have no score"
            )
            for name, n in strangers.items()
        ]
        parts = np.full((len(clips), len(self.part_names)), np.nan, np.float32)
        column = 0
        for spec, params, own in zip(self.spec.detectors, self.params.detectors, every, strict=True):
            width = len(make_detector(spec).parts)
            for number in np.unique(place[place >= 0]):
                chosen = np.flatnonzero(place == number)
                some = own.at(chosen.tolist())
                parts[chosen, column : column + width] = parts_of_clips(
                    spec, params, int(number), some.rows, some.offsets
                )
            column += width
        known = place >= 0
        good = known & np.isfinite(parts).all(axis=1)
        n_rows = np.stack([np.diff(own.offsets) for own in every])
        needed = np.array([getattr(spec.make(), "n_context", 1) for spec in self.spec.detectors])
        for i in np.flatnonzero(known & ~good).tolist():
            if not all(np.isfinite(own.at([i]).rows).all() for own in every):
                reason = "its features are not finite: scale the samples to [-1, 1]"
            elif (n_rows[:, i] < needed).any():
                reason = f"{n_rows[:, i].min()} frames are too few for a score; give a longer clip"
            else:
                reason = "its score is not finite: scale the samples to [-1, 1], as those of the training"
                if takes_vectors(self.spec):
                    reason = "its score is not finite: its numbers are too far from those of the training"
            failures.append(ClipError(clips[i].path, reason))
        return self._result(
            every[0].at(np.flatnonzero(good).tolist()), place[good], parts[good], failures, notes
        )

    def _result(
        self,
        features: ClipFeatures,
        place: np.ndarray,
        parts: np.ndarray,
        failures: list[AdjaxError],
        notes: tuple[str, ...],
    ) -> Result:
        n = len(place)
        # Few shapes, so few compiles: the last clip is repeated.
        size = max(8, 1 << max(n - 1, 0).bit_length())
        index = np.minimum(np.arange(size), max(n - 1, 0))
        if n:
            judged = judge_clips(
                self.params.calibration, self.spec.fusion, place[index].astype(np.int32), parts[index]
            )
            score, p_value, extrapolated, decision, z, _, spoke = (np.asarray(field)[:n] for field in judged)
        else:
            score, p_value, z = np.zeros(0), np.zeros(0), np.zeros((0, len(self.part_names)))
            extrapolated, decision, spoke = np.zeros(0, bool), np.zeros(0, np.int32), np.zeros(0, np.int32)
        flags = [
            self.flags_of(int(number), info) for number, info in zip(place, features.infos, strict=False)
        ]
        flags += [()] * (n - len(flags))
        usable = np.array([comparable(own) for own in flags], bool)
        decision = np.where(usable, decision, UNDECIDED)
        return Result(
            features.clips,
            score.astype(np.float64),
            _as_written(p_value),
            extrapolated.astype(bool),
            decision,
            self.part_names,
            z.astype(np.float64),
            tuple(flags),
            usable,
            tuple(failures),
            notes,
            spoke,
        )


def _as_written(values: np.ndarray) -> np.ndarray:
    """float64 of the shortest decimals that float32 numbers have: .05 is .05, as in a comparison with a rate."""
    return np.array([float(str(value)) for value in values.astype(np.float32)], np.float64)
