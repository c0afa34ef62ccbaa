"""The folder of a run: DCASE files, settings, report and figures."""

from __future__ import annotations

import csv
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from adjax.evaluation.dcase_files import score_file_name, write_results, write_scores
from adjax.pipeline import ClipFeatures, Result, RunConfig
from adjax.report import figures
from adjax.report.tables import Summary
from adjax.results import LaneScores
from adjax.types import STATUS_NAMES, ClipError

PACKAGES = ("adjax", "jax", "jaxlib", "flax", "optax", "numpy", "scipy", "scikit-learn", "soundfile", "soxr")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on, and the device."""
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "device": f"{device.platform}: {device.device_kind}",
    }


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Write a mapping as indented JSON."""
    path.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
    return path


def write_run(
    out: Path,
    *,
    result: Result,
    summaries: Mapping[str, Summary],
    config: RunConfig,
    data: Mapping[str, Any],
    seconds: Mapping[str, float],
) -> list[Path]:
    """Write everything that a run found out.

    Args:
        out: folder, made if missing; files of an earlier run of the same name are replaced.
        result: the scores.
        summaries: metrics of the labelled machine types.
        config: the settings.
        data: where the clips came from.
        seconds: how long each step took.

    Returns:
        The files, settings first.
    """
    out.mkdir(parents=True, exist_ok=True)
    settings = {"data": data, "settings": asdict(config), "versions": versions()}
    files = [write_json(out / "settings.json", settings)]
    for machine_type in result.clips.machine_types:
        for machine_id in result.of(machine_type)[0].machine_ids:
            clips, scores = result.of(machine_type, machine_id)
            files.append(out / score_file_name(machine_type, machine_id))
            write_scores(files[-1], clips.names, scores)
    (out / "lanes.csv").unlink(missing_ok=True)  # of an earlier run of another model
    if result.lanes:
        files.append(out / "lanes.csv")
        write_lanes(files[-1], result)
    (out / "result.csv").unlink(missing_ok=True)  # of an earlier run with labels
    if summaries:
        files.append(out / "result.csv")
        write_results(files[-1], {name: summary.by_id for name, summary in summaries.items()})
    report: dict[str, Any] = {
        "metrics": {name: asdict(summary) for name, summary in summaries.items()},
        "fits": [{**asdict(fit), "status": STATUS_NAMES[fit.status]} for fit in result.fits],
        "failures": [str(failure) for failure in result.failures],
        "notes": list(result.notes),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
    }
    if result.lanes:
        report["lanes"] = describe_lanes(result.lanes)
    files.append(write_json(out / "report.json", report))
    (out / "failures.csv").unlink(missing_ok=True)
    if result.failures:
        files.append(out / "failures.csv")
        with open(files[-1], "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["file", "reason"])
            for error in result.failures:
                writer.writerow(
                    [error.path, error.reason] if isinstance(error, ClipError) else ["", str(error)]
                )
    return files


def write_lanes(path: Path, result: Result) -> None:
    """Write which of the fused detectors spoke for each clip, and what all of them said."""
    assert result.lanes is not None
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", "machine_type", "machine_id", "score", "loudest", *result.lanes.names])
        columns = (result.clips, result.scores, result.lanes.loudest, result.lanes.z)
        for clip, score, loudest, z in zip(*columns, strict=True):
            machine = (clip.machine_type, clip.machine_id)
            writer.writerow([clip.name, *machine, f"{score:.4f}", loudest, *(f"{one:.3f}" for one in z)])


def describe_lanes(lanes: LaneScores) -> dict[str, Any]:
    """How often each lane spoke, and quantiles of what normal clips score when they are held out of the fit."""
    levels = (0.5, 0.9, 0.95, 0.99, 1.0)
    return {
        "clips it was the loudest of": {name: lanes.loudest.count(name) for name in lanes.names},
        "held-out normal clips": {
            " ".join(machine).strip(): {
                "clips": len(scores),
                "quantiles": {str(level): float(np.quantile(scores, level)) for level in levels},
            }
            for machine, scores in lanes.held_out.items()
        },
    }


def write_figures(
    out: Path, *, result: Result, summaries: Mapping[str, Summary], test: ClipFeatures, config: RunConfig
) -> list[Path]:
    """Draw an autoencoder's losses and, of labelled machine types, spectrograms, score histograms, ROC curves."""
    files = []
    for machine_type in {fit.machine_type: None for fit in result.fits if fit.losses}:
        fits = [fit for fit in result.fits if fit.machine_type == machine_type]
        figure = figures.loss_curves(
            np.array([fit.losses for fit in fits]).T, None, [fit.machine_id or machine_type for fit in fits]
        )
        files.append(figures.save(figure, out / "figures" / f"{machine_type}_losses.png"))
    for machine_type in summaries:
        first = {}
        for label, name in ((0, "normal"), (1, "anomalous")):
            clip = next(c for c in test.clips if c.machine_type == machine_type and c.label == label)
            first[f"{machine_type} {clip.machine_id}, {name}"] = clip
        drawn = {
            "spectrograms": figures.spectrograms(first, config.features, channel=config.channel),
            "scores": figures.score_histograms(result, machine_type),
            "roc": figures.roc_curves(result, machine_type),
        }
        files += [
            figures.save(figure, out / "figures" / f"{machine_type}_{name}.png")
            for name, figure in drawn.items()
        ]
    return files
