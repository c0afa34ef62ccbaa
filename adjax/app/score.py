"""`adjax score`: verdicts on new recordings by a kept model."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console

from adjax.app.console import print_failures
from adjax.app.progress import make_progress
from adjax.data.cache import default_folder
from adjax.data.clips import Clip, ClipTable
from adjax.data.index import list_audio
from adjax.data.layouts import canonical_type
from adjax.model.keep import load_model
from adjax.model.model import Model, extract_for
from adjax.model.result import NOT_COMPARABLE, Result
from adjax.report.folder import FAILURES, score_writer, write_failures, write_rows
from adjax.report.tables import scores_table
from adjax.types import AdjaxError, ClipError, DataError, MachineId, SettingsError, readable

AT_ONCE = 256  # clips: memory does not grow with their number
_SHOWN = 20


@dataclass(frozen=True)
class Score:
    """Judge recordings by a model: score, p-value, decision, the part that spoke, and flags, worst first.

    Exit code: 0 fine, 1 something could not be scored, 2 usage; 3 an anomaly was found, with --fail-on-anomaly.
    """

    model: tyro.conf.Positional[Path]
    """Folder of a model, from `adjax train`."""
    files: tyro.conf.Positional[tuple[Path, ...]]
    """Recordings, or folders of them."""
    machine: str | None = None
    """Whose recordings these are, as `adjax info` names the machines. Default: by folder and name; the model's only
    machine."""
    out: Path | None = None
    """CSV for all scores, in the order given; failures are listed beside it. Default: the table alone."""
    false_alarm_rate: float | None = None
    """Decide at another share of false alarms than the model's own, this time."""
    fail_on_anomaly: bool = False
    """Exit with code 3 if a clip is anomalous."""
    cache: bool = False
    """Keep features on disk and reuse them (see `adjax cache`)."""


@dataclass(frozen=True)
class Verdict:
    """What came of it: whether every clip has a score, and how many are anomalous."""

    fine: bool
    n_anomalous: int


def score(command: Score, console: Console) -> Verdict:
    """Score all files, a few at a time."""
    model = load_model(command.model)
    if command.false_alarm_rate is not None:
        model = model.with_false_alarm_rate(command.false_alarm_rate)
    machine = find_machine(model, command.machine) if command.machine else None
    failures: list[AdjaxError] = []
    files = list(_expand(command.files, failures))
    if not files and not failures:
        raise DataError("there are no recordings to score; give files, or folders that hold some")
    worst: Result | None = None
    counts = dict.fromkeys(("normal", "anomalous", "undecided", NOT_COMPARABLE), 0)
    with ExitStack() as stack:
        writer = stack.enter_context(score_writer(command.out)) if command.out else None
        progress = stack.enter_context(make_progress(console))
        task = progress.add_task("Scoring", total=len(files))
        for start in range(0, len(files), AT_ONCE):
            some = files[start : start + AT_ONCE]
            result = score_files(model, some, machine, cache=default_folder() if command.cache else None)
            failures += result.failures
            if writer:
                write_rows(writer, result, full_path=True)
            for verdict in result.verdicts:
                counts[verdict] += 1
            worst = _worst(worst, result)
            progress.advance(task, len(some))
    assert worst is not None or failures
    n = sum(counts.values())
    if worst is not None and n:
        console.print(scores_table(f"{n:,} clips, worst first", worst, most=_SHOWN))
    told = ", ".join(f"{count:,} {verdict}" for verdict, count in counts.items() if count)
    rate = f" at a false-alarm rate of {model.false_alarm_rate:g}" if model.calibrated else ""
    console.print(f"{told or 'no clip has a score'}{rate}; {len(failures):,} could not be scored.")
    print_failures(console, [str(error) for error in failures])
    if command.out:
        beside = command.out.with_name(f"{command.out.stem}_{FAILURES}")
        written = write_failures(beside, tuple(failures))
        for path in filter(None, (command.out, written)):
            console.print(f"  {path}", highlight=False, soft_wrap=True, markup=False)
    return Verdict(not failures, counts["anomalous"])


def score_files(
    model: Model, files: Sequence[Path], machine: MachineId | None, *, cache: Path | None = None
) -> Result:
    """Score files by path; those of a machine that the model does not know are failures."""
    clips: list[Clip] = []
    strangers: list[AdjaxError] = []
    for path in files:
        try:
            clips.append(clip_of(model, path, machine))
        except ClipError as error:
            strangers.append(error)
    features = extract_for(model.spec, ClipTable(tuple(clips)), cache=cache, none_is_fine=True)
    result = model.score_features(features)
    return replace(result, failures=(*strangers, *result.failures))


def clip_of(model: Model, path: Path, machine: MachineId | None) -> Clip:
    """A file as a clip of a machine: the one that was named, the model's only one, or what folders and name say.

    Raises:
        ClipError: they fit no machine of the model, or several.
    """
    if machine is not None or len(model.machines) == 1:
        return Clip(path, *(machine or model.machines[0]), key=readable(path.name))
    folders = [readable(folder) for folder in path.absolute().parent.parts]
    types = {canonical_type(folder) for folder in folders}
    several_types = len({known.machine_type for known in model.machines}) > 1
    found = [
        known
        for known in model.machines
        if _says_id(known.machine_id, folders, readable(path.stem))
        and (known.machine_type in types or not (several_types or known.machine_id in ("", ".")))
    ]
    longest = max((len(known.machine_id) for known in found), default=0)
    best = [known for known in found if len(known.machine_id) == longest]
    if len(best) != 1:
        names = ", ".join(known.label for known in model.machines[:8])
        raise ClipError(
            path,
            f"its name and folders do not tell which machine it is of; say --machine NAME, one of: {names}"
            + (", ..." if len(model.machines) > 8 else ""),
        )
    return Clip(path, *best[0], key=readable(path.name))


def _says_id(machine_id: str, folders: list[str], stem: str) -> bool:
    """Whether folders or name hold a machine's id: "id_00" in the name, "hall 1/pump 2" as folders."""
    if machine_id in ("", "."):
        return True
    parts = machine_id.split("/")
    inside = any(folders[i : i + len(parts)] == parts for i in range(len(folders)))
    return inside or re.search(rf"(?<![0-9A-Za-z]){re.escape(machine_id)}(?![0-9A-Za-z])", stem) is not None


def find_machine(model: Model, name: str) -> MachineId:
    """The machine of that name: "slider id_00", or its id where only one has it.

    Raises:
        SettingsError: there is none, or several.
    """
    found = [m for m in model.machines if name in (m.label, m.machine_id, "/".join(m))]
    if len(found) != 1:
        known = ", ".join(m.label for m in model.machines[:20])
        raise SettingsError(
            f"--machine {name}: {'several' if found else 'no'} machines of that name; there are {known}"
        )
    return found[0]


def _expand(paths: Sequence[Path], failures: list[AdjaxError]) -> Iterator[Path]:
    """Files as given, and all recordings in folders, sorted."""
    for path in paths:
        if os.path.isdir(path):
            inside = list_audio(path)
            if not inside:
                failures.append(ClipError(path, "holds no recordings; give a folder with some"))
            yield from inside
        else:
            yield path


def _worst(first: Result | None, second: Result) -> Result:
    """The worst clips of both, so that a table needs no more than those."""
    parts = [second] if first is None else [first, second]
    clips = [clip for part in parts for clip in part.clips]
    numbers = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("scores", "p_values", "extrapolated", "decisions", "parts", "comparable")
    }
    flags = [flag for part in parts for flag in part.flags]
    p_values = np.where(np.isfinite(numbers["p_values"]), numbers["p_values"], np.inf)
    keep = np.lexsort((-numbers["scores"], p_values))[: _SHOWN + 1]
    return replace(
        second,
        clips=ClipTable(tuple(clips[i] for i in keep)),
        flags=tuple(flags[i] for i in keep),
        failures=(),
        **{name: value[keep] for name, value in numbers.items()},
    )
