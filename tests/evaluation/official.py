"""The baselines' published files, as their evaluators wrote them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from adjax.data.layouts import recognise
from adjax.evaluation.dcase_files import read_scores


def told(file: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, domains and scores of a file of scores, (n_clips,) each; names are read as those of recordings."""
    scores = read_scores(file)
    clips = [recognise(Path("/data/slider/test", name), Path("/data")).clip for name in scores]
    return (
        np.array([clip.label for clip in clips]),
        np.array([clip.domain for clip in clips]),
        np.array(list(scores.values())),
    )


def tables(file: Path) -> dict[str, list[list[str]]]:
    """The tables of a `result.csv` by the machine type above each; "" for the last one, over all types."""
    found: dict[str, list[list[str]]] = {}
    with open(file, newline="") as lines:
        name = None
        for row in csv.reader(lines):
            if name is None:
                name = row[0]
                found[name] = [row] if len(row) > 1 else []
            elif row:
                found[name].append(row)
            else:
                name = None
    return found
