"""`adjax score`: verdicts on new recordings by a kept model."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console

from adjax.app.console import print_failures, print_flags, print_table, say
from adjax.app.options import check_source
from adjax.app.progress import make_progress
from adjax.data.cache import default_folder
from adjax.data.clips import ClipTable, count
from adjax.files import FAILURE_COLUMNS, check_table, write_failures
from adjax.model.inputs import expand
from adjax.model.keep import load_model
from adjax.model.machines import find_machine
from adjax.model.model import ANY
from adjax.model.result import NOT_COMPARABLE, Result
from adjax.model.spec import check_rate
from adjax.model.vectors import read_vectors
from adjax.report.folder import COLUMNS, FAILURES, score_writer, write_rows
from adjax.report.tables import scores_table
from adjax.types import AdjaxError, DataError, StoreError

AT_ONCE = 256  # clips: memory does not grow with their number
_SHOWN = 20


@dataclass(frozen=True)
class Score:
    """Judge recordings by a model: score, p-value, decision, the part that spoke, and flags, worst first.

    Exit code: 0 fine, 1 something could not be scored, 2 usage; 3 an anomaly was found, with --fail-on-anomaly.
    """

    model: tyro.conf.Positional[Path]
    """Folder of a model, from `adjax train`."""
    files: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Recordings, or folders of them."""
    vectors: Path | None = None
    """In place of FILES: a table of vectors (see `adjax train --vectors`) with the columns that the model was trained
    on; all rows are scored, whatever their split."""
    machine: str | None = None
    """Whose recordings these are, as `adjax info` names the machines; any: nobody knows, and the machine that finds a
    recording most normal judges it. Default: by folder and name; the model's only machine."""
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
    if command.false_alarm_rate is not None:
        check_rate(command.false_alarm_rate)
    check_source(command)
    model = load_model(command.model)
    if command.false_alarm_rate is not None:
        model = model.with_false_alarm_rate(command.false_alarm_rate)
    machine: Any = command.machine
    if machine not in (None, ANY):
        machine = find_machine(tuple(dict.fromkeys((*model.names, *model.machines))), machine)
    if command.out:
        check_table(command.out, COLUMNS)
        if command.out.resolve().is_relative_to(command.model.resolve()):
            raise StoreError(
                f"{command.out}: lies in the folder of the model, which holds that alone; give another"
            )
        beside = command.out.with_name(f"{command.out.stem}_{FAILURES}")
        check_table(beside, FAILURE_COLUMNS)
    failures: list[AdjaxError] = []
    files = list(expand(command.files, failures))
    vectors = None if command.vectors is None else read_vectors(command.vectors)
    if vectors is None and not files and not failures:
        raise DataError(
            "there are no recordings to score; give files, folders that hold some, or --vectors TABLE"
        )
    cache = default_folder() if command.cache else None
    worst: Result | None = None
    counts = dict.fromkeys(("normal", "anomalous", "undecided", NOT_COMPARABLE), 0)
    with ExitStack() as stack:
        writer = stack.enter_context(score_writer(command.out)) if command.out else None
        progress = stack.enter_context(make_progress(console))
        batches: list[Any] = [files[start : start + AT_ONCE] for start in range(0, len(files), AT_ONCE)]
        total = len(files) if vectors is None else len(vectors.clips) + len(vectors.failures)
        task = progress.add_task("Scoring", total=total)
        for some in batches if vectors is None else [vectors]:
            result = model.score(some, machine=machine, cache=cache)
            failures += result.failures
            if writer:
                write_rows(writer, result, full_path=True)
            for verdict in result.verdicts:
                counts[verdict] += 1
            worst = _worst(worst, result)
            progress.advance(task, len(result.clips) + len(result.failures))
    assert worst is not None or failures
    written = write_failures(beside, tuple(failures)) if command.out else None
    n = sum(counts.values())
    if worst is not None and n:
        print_table(console, scores_table(f"{count(n, 'clip')}, worst first", worst, most=_SHOWN, total=n))
        print_flags(console, worst)
    told = ", ".join(f"{number:,} {verdict}" for verdict, number in counts.items() if number)
    rate = f" at a false-alarm rate of {model.false_alarm_rate:g}" if model.calibrated else ""
    say(console, f"{told or 'no clip has a score'}{rate}; {len(failures):,} could not be scored.")
    where = f"all in {written}" if written else "--out FILE lists all of them"
    print_failures(console, [str(error) for error in failures], where)
    for path in filter(None, (command.out, written)):
        say(console, f"  {path}")
    return Verdict(not failures, counts["anomalous"])


def _worst(first: Result | None, second: Result) -> Result:
    """The worst clips of both, so that a table needs no more than those."""
    parts = [second] if first is None else [first, second]
    clips = [clip for part in parts for clip in part.clips]
    numbers: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("scores", "p_values", "extrapolated", "decisions", "parts", "comparable", "spoke")
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
