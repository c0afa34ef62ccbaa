"""`adjax info`: what a kept model is, and the rate of false alarms that it decides at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from adjax.app.console import MAX_LISTED, print_table, say
from adjax.model.card import remarks_of, settings_of
from adjax.model.keep import CARD, load_model, save_model
from adjax.model.leaning import leanings
from adjax.model.spec import check_rate
from adjax.report.tables import fits_table, leaning_table, thresholds_table
from adjax.types import readable


@dataclass(frozen=True)
class Info:
    """Show a model: its machines, settings, how each fit ended, and its false alarms; change their rate."""

    model: tyro.conf.Positional[Path]
    """Folder of a model, from `adjax train`."""
    false_alarm_rate: float | None = None
    """Decide at this share of false alarms from now on; nothing is fitted again."""


def info(command: Info, console: Console) -> None:
    """`adjax info`."""
    if command.false_alarm_rate is not None:
        check_rate(command.false_alarm_rate)
    model = load_model(command.model)
    if command.false_alarm_rate is not None:
        model = model.with_false_alarm_rate(command.false_alarm_rate)
        save_model(model, command.model)
        say(console, f"From now on it decides at a false-alarm rate of {model.false_alarm_rate:g}.")
    table = Table(title="Settings", title_justify="left", show_header=False)
    for name, value in settings_of(model):
        table.add_row(name, readable(value))
    print_table(console, fits_table("Fits", model.record.fits))
    if model.calibrated:
        print_table(console, thresholds_table(model))
    if leaning := leanings(model, model.memory) if model.memory else ():
        print_table(console, leaning_table(leaning[:MAX_LISTED]))
    print_table(console, table)
    for remark in remarks_of(model):
        say(console, f"Note: {remark}")
    written = ", ".join(
        f"{name} {model.record.versions[name]}" for name in ("adjax", "jax") if name in model.record.versions
    )
    say(console, f"Written by {written}; all of this and more is in {command.model / CARD}.")
