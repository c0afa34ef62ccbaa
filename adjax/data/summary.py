"""What adjax understood of a folder before it starts: for each machine, which clips, how long, at which rate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from adjax.batching import n_cores
from adjax.data.audio import AudioInfo, read_info
from adjax.data.clips import Clip, ClipTable, count
from adjax.types import ClipError

Header = (
    AudioInfo | ClipError | None
)  # what a file's header says, or why it cannot be used; None: there is no file

_AT_ONCE = 64  # headers a task: a task each would cost as much as reading it


@dataclass(frozen=True)
class MachineSummary:
    """The clips of one machine.

    Attributes:
        machine_type: for example "slider".
        machine_id: for example "id_00"; "" where the type is one machine.
        n_train: training clips.
        n_test: test clips.
        n_normal: test clips known to be normal.
        n_anomalous: test clips known to be anomalous; the labels of the other test clips are unknown.
        n_unreadable: clips whose header cannot be used; nothing below counts them.
        seconds: length of all clips together, in s.
        shortest: of the shortest clip, in s; 0 if there is none.
        longest: of the longest clip, in s.
        rates: (sampling rate in Hz, clips), most clips first.
        channels: (channels, clips), most clips first.
    """

    machine_type: str
    machine_id: str
    n_train: int
    n_test: int
    n_normal: int
    n_anomalous: int
    n_unreadable: int
    seconds: float
    shortest: float
    longest: float
    rates: tuple[tuple[int, int], ...]
    channels: tuple[tuple[int, int], ...]

    @property
    def hours(self) -> float:
        """Length of all clips together, in h."""
        return self.seconds / 3600

    @property
    def line(self) -> str:
        """All of it in one line, for people."""
        name = " ".join(part for part in (self.machine_type, self.machine_id) if part)
        known = [
            f"{n} {word}" for n, word in ((self.n_normal, "normal"), (self.n_anomalous, "anomalous")) if n
        ]
        if n_unknown := self.n_test - self.n_normal - self.n_anomalous:
            known.append(f"{n_unknown} of unknown label")
        test = count(self.n_test, "test clip") + (f" ({', '.join(known)})" if known else "")
        facts = [count(self.n_train, "training clip"), test]
        if self.rates:
            each = _time(self.shortest)
            if _time(self.longest) != each:
                each = f"{each} to {_time(self.longest)}"
            facts.append(f"{_time(self.seconds)} in all ({each} each)")
            facts.append(_share([(f"{sr} Hz", n) for sr, n in self.rates]))
            facts.append(_share([(count(n_channels, "channel"), n) for n_channels, n in self.channels]))
        if self.n_unreadable:
            facts.append(f"{self.n_unreadable} unreadable")
        return f"{name}: {', '.join(facts)}"


def read_headers(clips: Sequence[Clip] | ClipTable, *, n_threads: int | None = None) -> list[Header]:
    """Read the header of each clip, in the clips' order; nothing is decoded.

    Args:
        clips: the clips.
        n_threads: None for one a core, at most 8.
    """

    def header(clip: Clip) -> Header:
        try:
            return read_info(clip.path) if clip.row is None else None
        except ClipError as error:
            return error

    def share(start: int) -> list[Header]:
        return [header(clips[i]) for i in range(start, min(start + _AT_ONCE, len(clips)))]

    with ThreadPoolExecutor(n_threads or min(n_cores(), 8)) as pool:
        return [item for part in pool.map(share, range(0, len(clips), _AT_ONCE)) for item in part]


def describe_table(clips: ClipTable, headers: Sequence[Header] | None = None) -> tuple[MachineSummary, ...]:
    """Count the clips of each machine and what their headers say.

    Args:
        clips: the table.
        headers: what `read_headers` returned for it; None: read now.

    Returns:
        One summary per machine, in the table's order.
    """
    headers = read_headers(clips) if headers is None else headers
    machines: dict[tuple[str, str], list[tuple[Clip, Header]]] = {}
    for clip, header in zip(clips, headers, strict=True):
        machines.setdefault((clip.machine_type, clip.machine_id), []).append((clip, header))
    return tuple(_summary(*machine, rows) for machine, rows in machines.items())


def lines(machines: Sequence[MachineSummary]) -> list[str]:
    """One line for each machine, and one for all of them if there are several."""
    out = [machine.line for machine in machines]
    if len(machines) > 1:
        train = count(sum(machine.n_train for machine in machines), "training clip")
        test = count(sum(machine.n_test for machine in machines), "test clip")
        seconds = sum(machine.seconds for machine in machines)
        time = f", {_time(seconds)} in all" if seconds else ""
        out.append(f"{len(machines)} machines: {train}, {test}{time}")
    return out


def _summary(machine_type: str, machine_id: str, rows: list[tuple[Clip, Header]]) -> MachineSummary:
    test = [clip for clip, _ in rows if clip.split == "test"]
    infos = [header for _, header in rows if isinstance(header, AudioInfo)]
    lengths = [info.n_samples / info.sr for info in infos]
    return MachineSummary(
        machine_type,
        machine_id,
        n_train=sum(clip.split == "train" for clip, _ in rows),
        n_test=len(test),
        n_normal=sum(clip.label == 0 for clip in test),
        n_anomalous=sum(clip.label == 1 for clip in test),
        n_unreadable=sum(isinstance(header, ClipError) for _, header in rows),
        seconds=sum(lengths),
        shortest=min(lengths, default=0.0),
        longest=max(lengths, default=0.0),
        rates=tuple(Counter(info.sr for info in infos).most_common()),
        channels=tuple(Counter(info.n_channels for info in infos).most_common()),
    )


def _share(counts: list[tuple[str, int]]) -> str:
    """Such as "16000 Hz", or "16000 Hz (90 clips) and 44100 Hz (3 clips)"."""
    if len(counts) == 1:
        return counts[0][0]
    return " and ".join(f"{what} ({count(n, 'clip')})" for what, n in counts)


def _time(seconds: float) -> str:
    """A length of time in the unit that suits it."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 6000 else f"{seconds / 3600:,.1f} h"
