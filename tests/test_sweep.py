"""Sweeps: every lane is the run it stands for, and neither a stop nor a failing lane costs the others."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from adjax.data.audio import write_wav
from adjax.data.clips import ClipTable
from adjax.data.index import index_folder
from adjax.detectors.autoencoder import AutoencoderConfig
from adjax.detectors.gmm import GmmConfig, GmmHyper
from adjax.evaluation.metrics import evaluate
from adjax.features.recipes import FeatureConfig
from adjax.pipeline import RunConfig, extract_splits, fit_and_score
from adjax.sweep import Progress, Sweep, SweepResult, grid, run, run_sweep, sample
from adjax.sweep.results import measure
from adjax.sweep.settings import change, static_part
from adjax.types import FitError, SettingsError

FEATURES = FeatureConfig(n_fft=256, hop_length=128, n_mels=6, pooling="gwrp")
BASE = RunConfig(
    features=FEATURES, gmm=GmmConfig(1, "diag"), gmm_hyper=GmmHyper(reg_covar=1e-2), standardize=True
)
AXES = {"features.gwrp_r": (0.2, 0.9), "gmm.n_components": (3, 4), "seed": (0, 5)}
SWEEP = grid(BASE, AXES)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> ClipTable:
    """Two machines with 14 and 11 training clips of different length; anomalies are louder now and then."""
    root = tmp_path_factory.mktemp("tree")
    rng = np.random.default_rng(0)
    for machine_id, n_train in (("id_00", 14), ("id_02", 11)):
        for split, label, n in (
            ("train", "normal", n_train),
            ("test", "normal", 6),
            ("test", "anomaly", 7),
        ):
            for i in range(n):
                y = 0.05 * rng.normal(size=int(rng.integers(3000, 6000)))
                y[1000:1200] *= 1 + 1.5 * (label == "anomaly") * rng.random()
                path = root / "fan" / split / f"{label}_{machine_id}_{i:08d}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_wav(path, y.astype(np.float32), 16000)
    return index_folder(root)


@pytest.fixture(scope="module")
def swept(clips: ClipTable, tmp_path_factory: pytest.TempPathFactory) -> tuple[SweepResult, Path]:
    folder = tmp_path_factory.mktemp("sweep")
    return run_sweep(clips, SWEEP, folder), folder


def test_a_lane_is_the_run_it_stands_for(clips: ClipTable, swept) -> None:
    place = 5  # of r, components (masked down from 4) and seed none is the first
    config = SWEEP.configs[place]
    assert (config.features.gwrp_r, config.gmm.n_components, config.seed) == (0.9, 3, 5)
    expected = fit_and_score(*extract_splits(clips, config), config)
    for number, machine_id in enumerate(("id_00", "id_02")):
        lane = swept[0].lanes[number * len(SWEEP.settings) + place]
        own, scores = expected.of("fan", machine_id)
        assert (lane.machine_id, lane.settings) == (machine_id, SWEEP.settings[place])
        assert swept[0].clips["fan", machine_id].names == own.names
        assert_allclose(
            lane.scores, scores, rtol=2e-3, atol=2e-3
        )  # float32, and the mask's other order of sums
        metrics = evaluate(own.labels, lane.scores)
        assert metrics is not None
        assert_allclose((lane.auc, lane.pauc), metrics[:2], atol=1e-6)
        assert lane.auc_low <= lane.auc <= lane.auc_high


def test_the_table_is_tidy_and_leads_to_every_score(swept) -> None:
    result, folder = swept
    with open(folder / run.TABLE, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(result.lanes) == 16
    for row, lane in zip(rows, result.lanes, strict=True):
        assert {name: row[name] for name in AXES} == {name: str(lane.settings[name]) for name in AXES}
        assert (row["status"], float(row["auc"])) == ("converged", lane.auc)
        with np.load(folder / run.CHUNKS / row["chunk"]) as arrays:
            assert_array_equal(arrays["scores"][int(row["row"])], lane.scores)
            assert arrays["clips"].tolist() == list(result.clips["fan", row["machine_id"]].names)


def test_an_interrupted_sweep_goes_on_where_it_was(
    clips: ClipTable, swept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "MAX_CHUNK", 3)
    seen: list[Progress] = []

    def stop(progress: Progress) -> None:
        seen.append(progress)
        if progress.n_done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sweep(clips, SWEEP, tmp_path, on_progress=stop)
    assert [progress.n_done for progress in seen] == [3, 6]
    assert seen[0].n_lanes == 16
    assert seen[0].seconds_left is not None
    damaged = min((tmp_path / run.CHUNKS).glob("*.npz"))
    damaged.write_bytes(damaged.read_bytes()[:100])
    again = run_sweep(clips, SWEEP, tmp_path)
    assert again.n_resumed == 3
    whole = run_sweep(clips, SWEEP, tmp_path)
    assert whole.n_resumed == 16
    for lane, other, first in zip(again.lanes, whole.lanes, swept[0].lanes, strict=True):
        assert_array_equal(lane.scores, other.scores)
        assert_allclose(lane.scores, first.scores, rtol=1e-4, atol=1e-4)  # another chunk size


def test_other_labels_or_clips_are_another_sweep(clips: ClipTable, swept) -> None:
    first, folder = swept
    flipped = ClipTable(tuple(replace(clip, label=1 - clip.label) for clip in clips if clip.split == "test"))
    relabelled = ClipTable((*clips.select(split="train"), *flipped))
    other = run_sweep(relabelled, SWEEP, folder)
    assert other.n_resumed == 0
    assert_allclose(other.lanes[0].auc, 1 - first.lanes[0].auc, atol=1e-6)


def test_failing_lanes_say_why_and_have_no_score(
    clips: ClipTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = ClipTable(tuple(clip for clip in clips if (clip.machine_id, clip.split) != ("id_02", "train")))
    settings = ({"gmm.n_components": 3}, {"gmm.n_components": 4, "gmm_hyper.reg_covar": np.nan})
    settings += ({"gmm.n_components": 16}, {"gmm.covariance_type": "tied"})
    compute = run._compute

    def fail(machine, static, *others):
        if static.gmm.covariance_type == "tied":
            raise FitError("out of memory")
        return compute(machine, static, *others)

    monkeypatch.setattr(run, "_compute", fail)
    result = run_sweep(lost, Sweep(BASE, settings), tmp_path)
    good, *bad = result.lanes
    assert not good.failed
    assert np.isfinite(good.auc)
    assert all(lane.failed and np.isnan([lane.auc, lane.pauc_low]).all() for lane in bad)
    assert [lane.status for lane in bad[:3]] == [
        "not finite",
        "14 vectors for 16 components",
        "out of memory",
    ]
    assert all("no train clips" in lane.status for lane in bad[3:])
    assert ["out of memory" in str(error) for error in result.failures] == [True, False]
    assert (tmp_path / run.TABLE).read_text().count(",,,,,,,") == 7


def test_frames_and_pooled_clips_go_side_by_side_and_as_in_a_run(clips: ClipTable, tmp_path: Path) -> None:
    base = replace(BASE, features=replace(FEATURES, pooling="none"), score_pooling="max")
    settings = (
        {"seed": 1},
        {"features.pooling": "gwrp", "features.gwrp_r": 0.0},
        {"features.pooling": "max"},
    )
    one_machine = clips.select(machine_id="id_02")
    result = run_sweep(one_machine, Sweep(base, settings), tmp_path)
    config = change(base, settings[0])
    expected = fit_and_score(*extract_splits(one_machine, config), config)
    assert_allclose(result.lanes[0].scores, expected.scores, rtol=1e-3)
    assert_allclose(result.lanes[1].scores, result.lanes[2].scores, rtol=1e-4)  # r = 0 is the maximum


def test_autoencoders_are_lanes_too(clips: ClipTable, tmp_path: Path) -> None:
    small = AutoencoderConfig(n_context=3, hidden=(8,), bottleneck=4, n_epochs=2, batch_size=64)
    features = replace(FEATURES, pooling="none")
    base = RunConfig("autoencoder", features, standardize=True, autoencoder=small)
    axes = {"autoencoder.bottleneck": (2, 4), "autoencoder_hyper.learning_rate": (1e-3, np.nan)}
    one_machine = clips.select(machine_id="id_00")
    result = run_sweep(one_machine, grid(base, axes), tmp_path)
    assert [lane.failed for lane in result.lanes] == [False, True, False, True]
    assert result.lanes[1].status == "not finite"
    assert not np.allclose(result.lanes[0].scores, result.lanes[2].scores)
    assert np.isfinite(result.lanes[0].auc)


def test_metrics_need_labels_of_both_kinds() -> None:
    scores = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    assert np.isnan(measure(scores, np.array([0, 0, 0, 0, -1, -1, -1, -1]), 10)).all()
    assert np.isfinite(measure(scores, np.array([0, 0, 0, 0, -1, -1, -1, 1]), 10)).all()


def test_lanes_that_share_a_compile() -> None:
    axes = {**AXES, "gmm.n_components": (1, 2, 3, 4, 5, 8), "gmm_hyper.reg_covar": (1e-3, 1e-2)}
    assert {static_part(c).gmm.n_components for c in grid(BASE, axes).configs} == {1, 2, 4, 8}
    assert len({static_part(c) for c in grid(BASE, axes).configs}) == 4
    widths = {
        "model": ("autoencoder",),
        "autoencoder.n_context": (1,),
        "autoencoder.bottleneck": (1, 2, 3),
        "seed": (0, 1),
    }
    assert len({static_part(c) for c in grid(BASE, widths).configs}) == 1


def test_samples_are_different_points_of_the_grid() -> None:
    drawn = sample(BASE, AXES, 6, seed=1)
    assert drawn == sample(BASE, AXES, 6, seed=1) != sample(BASE, AXES, 6, seed=2)
    assert len({tuple(settings.items()) for settings in drawn.settings}) == 6
    assert all(settings in SWEEP.settings for settings in drawn.settings)
    with pytest.raises(SettingsError, match="9 lanes"):
        sample(BASE, AXES, 9, seed=0)


@pytest.mark.parametrize(
    "settings",
    [
        {"gmm.components": 3},
        {"sead": 3},
        {"per": "type"},
        {"gmm.n_components": 0},
        {"features.gwrp_r": 1.5},
        {"autoencoder_hyper.noise": 0.1},
        {"score_pooling": "std"},
        {"gmm.covariance_type": "round"},
    ],
)
def test_settings_that_a_lane_cannot_have_are_refused(settings: dict) -> None:
    with pytest.raises(SettingsError):
        _ = Sweep(BASE, (settings,)).configs
