"""What a model is, in Markdown for people."""

from __future__ import annotations

import dataclasses

from adjax.detectors.kinds import kind_of
from adjax.model.model import RATES, Model
from adjax.types import STATUS_NAMES


def model_card(model: Model) -> str:
    """The model card that lies beside a kept model."""
    spec = model.spec
    lines = ["# Anomalous-sound model", ""]
    kinds = "; ".join(f"**{own.kind}**, {kind_of(own.kind).summary}" for own in spec.detectors)
    lines += [
        f"Made by adjax {model.record.versions.get('adjax', '?')} from normal recordings alone: {kinds}.",
        "",
    ]
    lines += ["## Machines", "", "| machine | training clips | held-out clips |", "|---|---|---|"]
    for number, machine in enumerate(model.machines):
        n = int(model.params.calibration.n_held_out[number])
        lines.append(f"| {machine.label} | {model.record.n_clips.get(machine.label, '?')} | {n} |")
    if model.calibrated:
        lines += [
            "",
            "## False alarms",
            "",
            "A clip whose score lies above the threshold is called anomalous. The model decides at a rate of "
            f"{model.false_alarm_rate:g}: about so many *normal* clips of these machines will be called anomalous. "
            "Thresholds marked with * lie beyond all held-out clips and rest on a fitted tail.",
            "",
        ]
        lines += ["| machine | " + " | ".join(f"{rate:.1%}" for rate in RATES) + " |"]
        lines += ["|---|" + "---|" * len(RATES)]
        for name, rows in model.thresholds().items():
            cells = [f"{limit:.2f}{'*' if beyond else ''}" for _, limit, beyond in rows]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "## Settings", "", "| setting | value |", "|---|---|"]
    lines += [f"| {name} | `{value}` |" for name, value in settings_of(model)]
    lines += ["", "## How each fit ended", "", "| detector | machine | clips | vectors | steps | ended |"]
    lines += ["|---|---|---|---|---|---|"]
    for fit in model.record.fits:
        name = " ".join(part for part in (fit.machine_type, fit.machine_id) if part)
        ended = STATUS_NAMES.get(fit.status, "failed")
        lines.append(f"| {fit.kind} | {name} | {fit.n_clips} | {fit.n_vectors} | {fit.n_steps} | {ended} |")
    remarks = remarks_of(model)
    if remarks:
        lines += ["", "## Remarks", "", *(f"- {remark}" for remark in remarks)]
    lines += [
        "",
        "## Versions",
        "",
        *(f"- {name} {value}" for name, value in model.record.versions.items()),
        "",
    ]
    return "\n".join(lines)


def settings_of(model: Model) -> list[tuple[str, str]]:
    """Name and value of everything that decides the model."""
    spec = model.spec
    found = [(f.name, str(getattr(spec, f.name))) for f in dataclasses.fields(spec) if f.name != "detectors"]
    for own in spec.detectors:
        found += [(f"{own.kind}: {f.name}", str(getattr(own, f.name))) for f in dataclasses.fields(own)]
    return found


def remarks_of(model: Model) -> list[str]:
    """Notes, failures, and training clips that stand apart."""
    apart = [
        f"{own.machine.label}: {name} stands apart from the other training clips (an anomaly, or another machine?)"
        for own in model.record.held_out
        for name in own.apart
    ]
    odd = [f"{name}: {finding}" for name, found in model.record.findings.items() for finding in found]
    caution = [model.caution] if model.caution else []
    return [*model.record.notes, *caution, *odd, *map(str, model.record.failures), *apart]
