"""Tables and figures of a result made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console

from adjax.data.clips import Clip, ClipTable
from adjax.pipeline import Fit, Result
from adjax.report import figures
from adjax.report.tables import fits_table, results_table, summarise


def made_result() -> Result:
    """Machine id_00 separates its clips, id_02 does not; its scores are a hundred times higher."""
    clips, scores = [], []
    for machine_id, offset, gap in (("id_00", 0.0, 5.0), ("id_02", 100.0, 0.0)):
        for label in (0, 1):
            for i in range(10):
                name = f"{('normal', 'anomaly')[label]}_{machine_id}_{i:08d}.wav"
                clips.append(Clip(Path(name), "slider", machine_id, split="test", label=label))
                scores.append(offset + gap * label + i / 10)
    fits = (Fit("slider", "id_00", 5, 1565, -1.5, 3, 0), Fit("slider", "id_02", 5, 1565, -2.5, 100, 1))
    return Result(ClipTable(tuple(clips)), np.array(scores), fits)


def printed(table) -> str:
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table)
    console.file.close()
    return console.export_text()


def test_summary_has_means_and_the_pooled_auc() -> None:
    summary = summarise(made_result(), seed=0)["slider"]
    assert summary.by_id["id_00"].auc == 1.0
    assert summary.by_id["id_02"].auc == 0.5
    assert summary.mean.auc == 0.75
    assert abs(summary.harmonic.auc - 2 / 3) < 1e-12
    # One threshold for both: half of the pairs lie within a machine, half across.
    assert abs(summary.pooled.auc - (0.25 * 1.0 + 0.25 * 0.5 + 0.5 * 0.5)) < 1e-12
    low, high = summary.intervals["id_02"]
    assert low < 0.5 < high


def test_table_shows_published_systems_beside() -> None:
    summary = summarise(made_result(), seed=0)["slider"]
    text = printed(
        results_table("slider", summary, {"2020 baseline": {"id_00": (0.963, 0.818), "mean": (0.9, 0.7)}})
    )
    assert "0.963 / 0.818" in text
    assert "0.900 / 0.700" in text
    assert "1.0000" in text


def test_fits_table_says_how_each_fit_ended() -> None:
    text = printed(fits_table("models", made_result().fits))
    assert "converged" in text
    assert "made all its steps" in text


def test_figures_are_drawn(tmp_path: Path) -> None:
    result = made_result()
    for name, figure in (
        ("scores", figures.score_histograms(result, "slider")),
        ("roc", figures.roc_curves(result, "slider")),
    ):
        path = figures.save(figure, tmp_path / f"{name}.png")
        assert path.read_bytes().startswith(b"\x89PNG")
        panels = [axis for axis in figure.axes if axis.has_data()]
        assert len(panels) == (2 if name == "scores" else 1)
