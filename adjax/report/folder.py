"""The folder of a run: DCASE files, scores of all clips, settings, report and figures."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from adjax.evaluation.dcase_files import file_name, score_file_name, write_results, write_scores
from adjax.features.recipes import FeatureConfig
from adjax.model.model import Model
from adjax.model.record import to_json, versions
from adjax.model.result import Result
from adjax.model.spec import ModelSpec
from adjax.model.spec import to_json as spec_to_json
from adjax.report.tables import Summary
from adjax.store import write_json
from adjax.types import STATUS_NAMES, AdjaxError, ClipError

SCORES, FAILURES = "scores.csv", "failures.csv"
COLUMNS = ("file", "machine_type", "machine_id", "score", "p_value", "decision", "part", "flags")


@contextmanager
def score_writer(path: Path) -> Iterator[Any]:
    """A CSV of scores that appears whole; `write_rows` fills it, as often as there are results."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            yield writer
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_rows(writer: Any, result: Result, *, full_path: bool = False) -> None:
    """A row for each clip, in order: COLUMNS. Numbers keep all their digits; a p-value that is not known is empty.

    Args:
        writer: of `score_writer`.
        result: what to write.
        full_path: whether "file" is the path as it was given, and not the clip's name.
    """
    for i, clip in enumerate(result.clips):
        p_value = result.p_values[i]
        flags = [str(flag) for flag in result.flags[i]]
        if result.extrapolated[i]:
            flags.append("extrapolated: the p-value lies beyond all held-out clips")
        writer.writerow(
            [
                str(clip.path) if full_path else clip.name,
                *clip.machine,
                repr(float(result.scores[i])),
                "" if np.isnan(p_value) else repr(float(p_value)),
                result.verdicts[i],
                result.loudest[i],
                "; ".join(flags),
            ]
        )


def write_failures(path: Path, failures: tuple[AdjaxError, ...]) -> Path | None:
    """`file,reason` of everything that could not be used; no file where there is nothing."""
    path.unlink(missing_ok=True)
    if not failures:
        return None
    with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", "reason"])
        for error in failures:
            writer.writerow([error.path, error.reason] if isinstance(error, ClipError) else ["", str(error)])
    return path


def write_run(
    out: Path,
    *,
    model: Model,
    result: Result,
    summaries: Mapping[str, Summary],
    data: Mapping[str, Any],
    seconds: Mapping[str, float],
) -> list[Path]:
    """Write everything that a run found out.

    Args:
        out: folder, made if missing; files of an earlier run of the same name are replaced.
        model: that was fitted.
        result: the scores of the test clips.
        summaries: metrics of the labelled machine types.
        data: where the clips came from.
        seconds: how long each step took.

    Returns:
        The files, settings first.
    """
    out.mkdir(parents=True, exist_ok=True)
    settings = {
        "data": data,
        "model": spec_to_json(model.spec),
        "false_alarm_rate": model.false_alarm_rate,
        "versions": versions(),
    }
    files = [write_json(out / "settings.json", settings), out / SCORES]
    with score_writer(files[-1]) as writer:
        write_rows(writer, result)
    for machine in result.clips.machines:
        clips, scores = result.of(*machine)
        files.append(out / score_file_name(*machine))
        write_scores(files[-1], clips.names, scores)
    (out / "parts.csv").unlink(missing_ok=True)  # of an earlier run of another model
    if len(result.part_names) > 1:
        files.append(write_parts(out / "parts.csv", result))
    (out / "result.csv").unlink(missing_ok=True)  # of an earlier run with labels
    if summaries:
        files.append(out / "result.csv")
        write_results(files[-1], {name: summary.by_id for name, summary in summaries.items()})
    failures = (*model.record.failures, *result.failures)
    report: dict[str, Any] = {
        "metrics": {name: asdict(summary) for name, summary in summaries.items()},
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
    files.append(write_json(out / "report.json", report))
    if written := write_failures(out / FAILURES, failures):
        files.append(written)
    return files


def write_parts(path: Path, result: Result) -> Path:
    """Write all parts of every clip's score."""
    with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", "machine_type", "machine_id", "score", "loudest", *result.part_names])
        for clip, score, loudest, parts in zip(
            result.clips, result.scores, result.loudest, result.parts, strict=True
        ):
            writer.writerow(
                [clip.name, *clip.machine, f"{score:.4f}", loudest, *(f"{one:.3f}" for one in parts)]
            )
    return path


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


def write_figures(out: Path, *, model: Model, result: Result, summaries: Mapping[str, Summary]) -> list[Path]:
    """Draw losses of what trains in epochs; of each type spectrograms, histograms and, with labels, ROC curves."""
    from adjax.report import figures  # matplotlib takes its time

    spec: ModelSpec = model.spec
    files = []
    trained = [fit for fit in model.record.fits if fit.losses]
    for machine_type in {fit.machine_type: None for fit in trained}:
        fits = [fit for fit in trained if fit.machine_type == machine_type]
        figure = figures.loss_curves(
            np.array([fit.losses for fit in fits]).T, None, [fit.machine_id or machine_type for fit in fits]
        )
        files.append(figures.save(figure, out / "figures" / f"{file_name(machine_type)}_losses.png"))
    front_end = spec.detectors[0].features
    rate = [model.false_alarm_rate]
    limits = {name: rows[0][1] for name, rows in model.thresholds(rate).items() if rows}
    for machine_type in result.clips.machine_types:
        drawn = {"scores": figures.score_histograms(result, machine_type, limits)}
        if machine_type in summaries:
            drawn["roc"] = figures.roc_curves(result, machine_type)
        if isinstance(front_end, FeatureConfig):
            first = {}
            for label, (name, _) in figures.LABELS.items():
                table = result.clips.select(machine_type=machine_type)
                own = [
                    clip for clip, value in zip(table, table.labels.tolist(), strict=True) if value == label
                ]
                if own:
                    first[f"{own[0].machine.label}, {name}"] = own[0]
            drawn["spectrograms"] = figures.spectrograms(first, front_end, channel=spec.channel)
        files += [
            figures.save(figure, out / "figures" / f"{file_name(machine_type)}_{name}.png")
            for name, figure in drawn.items()
        ]
    return files
