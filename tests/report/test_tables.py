"""Tables and figures of a result made by hand."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from adjax.data.clips import Clip, ClipTable
from adjax.evaluation.metrics import official_score
from adjax.model.calibration import calibrate
from adjax.model.comparable import Flag
from adjax.model.leaning import Leaning
from adjax.model.model import Model
from adjax.model.named import make_spec
from adjax.model.record import Record
from adjax.model.result import ANOMALOUS, NORMAL, UNDECIDED, Fit, Result
from adjax.model.score import ModelParams
from adjax.report import figures
from adjax.report.sweep_figures import heat_maps
from adjax.report.tables import (
    decisions_table,
    fits_table,
    leaning_table,
    results_table,
    scores_table,
    summarise,
    thresholds_table,
)
from adjax.sweep import TrialResult
from adjax.types import MachineId

FITS = (
    Fit("gmm", "slider", "id_00", 5, 1565, -1.5, 3, 0),
    Fit("gmm", "slider", "id_02", 5, 1565, -2.5, 100, 1),
)


def made_result() -> Result:
    """Machine id_00 separates its clips, id_02 does not; its scores are a hundred times higher."""
    clips, scores = [], []
    for machine_id, offset, gap in (("id_00", 0.0, 5.0), ("id_02", 100.0, 0.0)):
        for label in (0, 1):
            for i in range(10):
                name = f"{('normal', 'anomaly')[label]}_{machine_id}_{i:08d}.wav"
                clips.append(Clip(Path(name), "slider", machine_id, split="test", label=label))
                scores.append(offset + gap * label + i / 10)
    values = np.array(scores)
    called = (values > 4) & (values < 100)
    return Result(
        ClipTable(tuple(clips)),
        values,
        np.where(called, 0.01, 0.5),
        called,
        np.where(called, ANOMALOUS, NORMAL),
        ("gmm",),
        values[:, None],
        ((),) * 40,
        np.ones(40, bool),
    )


def printed(table) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(table)
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


def with_domains(result: Result) -> Result:
    """The same, every second clip of each kind in the target domain."""
    clips = tuple(replace(c, domain=("source", "target")[i % 2]) for i, c in enumerate(result.clips))
    return replace(result, clips=ClipTable(clips))


def test_a_set_with_domains_is_judged_by_domain() -> None:
    summary = summarise(with_domains(made_result()), seed=0)["slider"]
    assert summary.by_domain["id_00"].source.auc == summary.by_domain["id_00"].target.auc == 1.0
    # Of id_02 the target's normal clips lie a tenth above the source's; all ten anomalies count for both.
    assert summary.by_domain["id_02"].source.auc == pytest.approx(0.55)
    assert summary.by_domain["id_02"].target.auc == pytest.approx(0.45)
    assert summary.by_domain["id_02"].both == summary.by_id["id_02"]
    text = printed(results_table("slider", summary))
    assert "AUC source" in text
    assert "0.4500" in text
    assert (
        f"harmonic mean of all AUC source, AUC target and pAUC: {official_score(summary.by_domain.values()):.4f}"
        in text
    )
    (mean,) = [line for line in text.splitlines() if line.startswith("│ mean")]
    assert "0.7750" in mean
    assert "0.7250" in mean


def test_domains_of_some_machines_only_are_not_averaged_with_others() -> None:
    result = with_domains(made_result())
    clips = tuple(c if c.machine_id == "id_00" else replace(c, domain="") for c in result.clips)
    summary = summarise(replace(result, clips=ClipTable(clips)), seed=0)["slider"]
    assert summary == summarise(made_result(), seed=0)["slider"]
    assert not summary.by_domain


def test_table_shows_published_systems_beside() -> None:
    summary = summarise(made_result(), seed=0)["slider"]
    text = printed(
        results_table("slider", summary, {"2020 baseline": {"id_00": (0.963, 0.818), "mean": (0.9, 0.7)}})
    )
    assert "0.963 / 0.818" in text
    assert "0.900 / 0.700" in text
    assert "1.0000" in text


def test_fits_table_says_how_each_fit_ended() -> None:
    text = printed(fits_table("models", FITS))
    assert "converged" in text
    assert "made all its steps" in text
    assert "gmm" in text
    assert "1,565" in text


def test_decisions_are_counted_for_each_label() -> None:
    result = made_result()
    text = printed(decisions_table("decisions", result))
    (one,) = [line for line in text.splitlines() if "id_00" in line]
    assert "0 of 10" in one
    assert "10 of 10" in one
    (two,) = [line for line in text.splitlines() if "id_02" in line]
    assert two.count("0 of 10") == 2
    unlabelled = replace(result, clips=ClipTable(tuple(replace(c, label=None) for c in result.clips)))
    assert "10 of 20" in printed(decisions_table("decisions", unlabelled))


def test_the_worst_clips_come_first_with_what_speaks_against_them() -> None:
    result = made_result()
    text = printed(scores_table("worst", result, most=3))
    shown = [line for line in text.splitlines() if ".wav" in line]
    assert [line.split()[1] for line in shown] == [f"anomaly_id_00_{i:08d}.wav" for i in (9, 8, 7)]
    assert all("0.01*" in line and "anomalous" in line for line in shown)
    assert "and 37 more" in text
    assert "flags" not in text
    flag = Flag("level", "20 dB louder", comparable=False)
    flagged = replace(
        result,
        flags=((flag,), *result.flags[1:]),
        comparable=np.arange(40) > 0,
        decisions=np.where(np.arange(40) > 0, result.decisions, UNDECIDED),
        p_values=np.where(np.arange(40) > 0, np.nan, 1e-9),
    )
    (first, *_) = [line for line in printed(scores_table("x", flagged)).splitlines() if ".wav" in line]
    assert "normal_id_00_00000000.wav" in first
    assert "not comparable" in first
    assert "level" in first


def test_thresholds_are_the_scores_that_so_many_clips_exceed() -> None:
    """The rate in force in brackets; a star where fewer clips than that were held out."""
    own = [np.random.default_rng(seed).normal(size=(40, 1)) for seed in (0, 1)]
    calibration, held_out = calibrate(own, np.zeros((2, 1), int), "max", 0.05)
    machines = (MachineId("slider", "id_00"), MachineId("slider", "id_02"))
    model = Model(make_spec("gmm"), ModelParams((), calibration), machines, Record())
    for number, rows in enumerate(model.thresholds((0.01, 0.05, 0.25)).values()):
        scores = np.sort(held_out[number]).astype(np.float32)
        for rate, limit, beyond in rows:
            assert beyond == (rate < 1 / 41)
            if beyond:
                assert limit > scores[-1]
            else:
                # As many held-out scores as the rate allows lie at or above the limit: n p <= rate (n + 1).
                assert np.sum(scores >= np.float32(limit)) == math.floor(rate * 41)
    text = printed(thresholds_table(model, (0.01, 0.05)))
    assert "[.05]" in text
    assert text.count("*") == 2 + 1  # one for each machine, and the caption's
    assert text.count("40") >= 2


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


def made_leaning(machine_id: str = "id_00") -> Leaning:
    """Of a column with a sign that moves a cursor, one that does without effect, and a constant."""
    columns = ("a\x1b", "b$", "idle", "still")
    shares, constant = np.array([0.3, 0.7, 0.0, 0.0]), np.array([False, False, False, True])
    return Leaning(MachineId("pump", machine_id), columns, shares, constant)


def test_what_a_machine_leans_on_and_does_without() -> None:
    text = printed(leaning_table([made_leaning(), made_leaning("id_02")]))
    (line,) = [line for line in text.splitlines() if "id_02" in line]
    assert "b$ 70.0%, a\\x1b 30.0%" in line
    assert "still (constant); idle (no effect near normal clips)" in line
    flat = made_leaning()._replace(shares=np.zeros(4))
    assert "nothing" in printed(leaning_table([flat]))


def test_bars_of_what_machines_lean_on(tmp_path: Path) -> None:
    figure = figures.leaning_bars([made_leaning(), made_leaning("id_02")], most=3)
    assert figures.save(figure, tmp_path / "leaning.png").exists()
    assert [bar.get_width() for bar in figure.axes[1].patches] == [0.7, 0.3, 0.0]


def test_a_heat_map_leaves_out_what_has_no_auc() -> None:
    def trial(r: float, n: int, auc: float) -> TrialResult:
        settings = {"features.gwrp_r": r, "config.n_components": n}
        known = (auc,) * 6
        clips = ClipTable(())
        return TrialResult("fan", "id_00", settings, "converged", 0.0, 1, *known, "", 0, np.zeros(3), clips)

    trials = [trial(0.2, 1, 0.6), trial(0.9, 1, 0.7), trial(0.2, 2, 0.8), trial(0.9, 2, float("nan"))]
    figure = heat_maps(trials, "features.gwrp_r", "config.n_components")
    (image,) = figure.axes[0].get_images()
    np.testing.assert_allclose(image.get_array().filled(np.nan), [[0.6, 0.7], [0.8, np.nan]])
    assert "best 0.800" in figure.axes[0].get_title()
