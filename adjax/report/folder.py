"""The folder of a run: DCASE files, scores of all clips, settings, report and figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from adjax.evaluation.dcase_files import score_file_name, write_results, write_scores
from adjax.evaluation.metrics import arithmetic_mean, domain_means, harmonic_mean, official_score
from adjax.features.recipes import FeatureConfig
from adjax.files import csv_table, file_name, make_folder, write_failures, write_json
from adjax.model.leaning import leanings
from adjax.model.model import Model
from adjax.model.record import to_json, versions
from adjax.model.result import Result
from adjax.model.spec import ModelSpec
from adjax.model.spec_json import to_json as spec_to_json
from adjax.report.tables import Summary
from adjax.types import STATUS_NAMES, MachineId

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Drawing = tuple[str, Callable[[Path], object]]  # name below the run's folder, and what draws it into a file
Writer = Callable[[Iterable[object]], None]  # of a row
SETTINGS, SCORES, FAILURES = "settings.json", "scores.csv", "failures.csv"
PARTS, RESULT, REPORT = "parts.csv", "result.csv", "report.json"
FILES = (SETTINGS, SCORES, FAILURES, PARTS, RESULT, REPORT)  # besides those that machines give their names
MOST_PANELS = 8  # machines of a figure of bars
COLUMNS = ("file", "machine_type", "machine_id", "score", "p_value", "decision", "part", "flags")


@contextmanager
def score_writer(path: Path) -> Iterator[Writer]:
    """A CSV of scores that appears whole; `write_rows` fills it, as often as there are results.

    Raises:
        StoreError: it cannot be written.
    """
    make_folder(path.parent)
    with csv_table(path, COLUMNS) as write:
        yield write


def write_rows(write: Writer, result: Result, *, full_path: bool = False) -> None:
    """A row for each clip, in order: COLUMNS. Numbers keep all their digits; a p-value that is not known is empty.

    Args:
        write: of `score_writer`.
        result: what to write.
        full_path: whether "file" is the path as it was given, and not the clip's name. A table's is as written there.
    """
    for i, clip in enumerate(result.clips):
        flags = [str(flag) for flag in result.flags[i]]
        if result.extrapolated[i]:
            flags.append("extrapolated: the p-value lies beyond all held-out clips")
        write(
            [
                str(clip.path) if full_path and clip.row is None else clip.name,
                *clip.machine,
                float(result.scores[i]),
                float(result.p_values[i]),
                result.verdicts[i],
                result.loudest[i],
                "; ".join(flags),
            ]
        )


def write_run(
    out: Path,
    *,
    model: Model,
    result: Result,
    summaries: Mapping[str, Summary],
    data: Mapping[str, Any],
    seconds: Mapping[str, float],
) -> None:
    """Write everything that a run found out.

    Args:
        out: folder, made if missing.
        model: that was fitted.
        result: the scores of the test clips.
        summaries: metrics of the labelled machine types.
        data: where the clips came from.
        seconds: how long each step took.

    Raises:
        StoreError: it cannot be written.
    """
    make_folder(out)
    settings = {
        "data": data,
        "model": spec_to_json(model.spec),
        "false_alarm_rate": model.false_alarm_rate,
        "versions": versions(),
    }
    write_json(out / SETTINGS, settings)
    with score_writer(out / SCORES) as write:
        write_rows(write, result)
    for machine, file in score_files(result.clips.machines).items():
        clips, scores = result.of(*machine)
        write_scores(out / file, clips.names, scores)
    if len(result.part_names) > 1:
        write_parts(out / PARTS, result)
    if summaries:
        write_results(
            out / RESULT,
            {name: summary.by_id for name, summary in summaries.items()},
            {name: summary.by_domain for name, summary in summaries.items() if summary.by_domain},
        )
    failures = (*model.record.failures, *result.failures)
    report: dict[str, Any] = {
        "metrics": {name: describe_summary(summary) for name, summary in summaries.items()},
        "fits": [
            {**fit, "status": STATUS_NAMES.get(fit["status"], "failed")}
            for fit in to_json(model.record)["fits"]
        ],
        "failures": [str(failure) for failure in failures],
        "notes": list(dict.fromkeys((*model.record.notes, *result.notes))),
        "held_out": describe_held_out(model),
        "training recordings": dict(model.record.findings),
        "flagged test clips": {
            clip.name: [str(flag) for flag in flags]
            for clip, flags in zip(result.clips, result.flags, strict=True)
            if flags
        },
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
    }
    if len(result.part_names) > 1:
        report["loudest part"] = {name: result.loudest.count(name) for name in result.part_names}
    write_json(out / REPORT, report)
    write_failures(out / FAILURES, failures)


def describe_summary(summary: Summary) -> dict[str, Any]:
    """All metrics of a machine type; by domain, with means and one number, only where there are domains."""
    found = asdict(summary)
    sections = found.pop("by_domain")
    if sections:
        means = {"arithmetic mean": arithmetic_mean, "harmonic mean": harmonic_mean}
        rows = sections | {name: domain_means(sections.values(), mean) for name, mean in means.items()}
        found["by_domain"] = {
            name: {which: metrics._asdict() for which, metrics in row._asdict().items()}
            for name, row in rows.items()
        }
        found["official"] = official_score(sections.values())
    return found


def score_files(machines: Iterable[MachineId]) -> dict[MachineId, str]:
    """The file of each machine's scores; "a_b" and machine "b" of type "a" do not share one."""
    found: dict[MachineId, str] = {}
    for machine in machines:
        file = score_file_name(*machine)
        if file in found.values():
            file = score_file_name(machine.machine_type, f"{machine.machine_id}~{machine.seed:08x}")
        found[machine] = file
    return found


def write_parts(path: Path, result: Result) -> None:
    """Write all parts of every clip's score."""
    header = ["file", "machine_type", "machine_id", "score", "loudest", *result.part_names]
    with csv_table(path, header) as write:
        for clip, score, loudest, parts in zip(
            result.clips, result.scores, result.loudest, result.parts, strict=True
        ):
            write([clip.name, *clip.machine, f"{score:.4f}", loudest, *(f"{one:.3f}" for one in parts)])


def describe_held_out(model: Model) -> dict[str, Any]:
    """Quantiles of what normal clips score when they are held out of the fit, and which of them stand apart."""
    levels = (0.5, 0.9, 0.95, 0.99, 1.0)
    return {
        own.machine.label: {
            "clips": len(own.scores),
            "quantiles": {str(level): float(np.quantile(own.scores, level)) for level in levels},
            "apart": list(own.apart),
        }
        for own in model.record.held_out
    }


def draw_figures(
    place: str, *, model: Model, result: Result, summaries: Mapping[str, Summary]
) -> Iterator[Drawing]:
    """Losses of what trains in epochs; of each type what its machines lean on, histograms, spectrograms, ROC curves.

    Args:
        place: the folder of the model's files below the run's; "" for the run's own.
        model: that was fitted.
        result: the scores of the test clips.
        summaries: metrics of the labelled machine types.

    Yields:
        The name below the run's folder, and what draws it into a file.
    """
    from adjax.report import figures  # matplotlib takes its time

    spec: ModelSpec = model.spec

    def named(machine_type: str, what: str, draw: Callable[[], Figure]) -> Drawing:
        name = str(PurePosixPath(place, "figures", f"{file_name(machine_type)}_{what}.png"))
        return name, lambda path: figures.save(draw(), path)

    trained = [fit for fit in model.record.fits if fit.losses]
    for machine_type in {fit.machine_type: None for fit in trained}:
        fits = [fit for fit in trained if fit.machine_type == machine_type]
        losses = np.array([fit.losses for fit in fits]).T
        titles = [fit.machine_id or machine_type for fit in fits]
        yield named(machine_type, "losses", partial(figures.loss_curves, losses, None, titles))
    leaning = leanings(model, model.memory) if model.memory else ()
    for machine_type in dict.fromkeys(own.machine.machine_type for own in leaning):
        some = [own for own in leaning if own.machine.machine_type == machine_type][:MOST_PANELS]
        yield named(machine_type, "leaning", partial(figures.leaning_bars, some))
    front_end = spec.detectors[0].features
    limits = {name: rows[0][1] for name, rows in model.thresholds([model.false_alarm_rate]).items() if rows}
    for machine_type in result.clips.machine_types:
        yield named(machine_type, "scores", partial(figures.score_histograms, result, machine_type, limits))
        if machine_type in summaries:
            yield named(machine_type, "roc", partial(figures.roc_curves, result, machine_type))
        if isinstance(front_end, FeatureConfig):
            first = {}
            for label, (name, _) in figures.LABELS.items():
                table = result.clips.select(machine_type=machine_type)
                own = [
                    clip for clip, value in zip(table, table.labels.tolist(), strict=True) if value == label
                ]
                if own:
                    first[f"{own[0].machine.label}, {name}"] = own[0]
            draw = partial(figures.spectrograms, first, front_end, channel=spec.channel)
            yield named(machine_type, "spectrograms", draw)
