"""Sweeps: every trial is the run it stands for, and neither a stop nor a failing trial costs the others."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.testing import assert_allclose, assert_array_equal

from adjax.data.audio import write_wav
from adjax.data.clips import ClipTable
from adjax.data.index import index_folder
from adjax.evaluation.metrics import evaluate
from adjax.features.recipes import FeatureConfig
from adjax.files import sha256
from adjax.model.fit import fit_model
from adjax.model.inputs import extract_splits
from adjax.model.result import Result
from adjax.model.spec import ModelSpec, make_spec
from adjax.store.folder import HASHES, files_in, write_hashes
from adjax.sweep import Progress, Sweep, SweepResult, data, grid, run, run_sweep, sample
from adjax.sweep.models import pool_scores
from adjax.sweep.results import measure
from adjax.sweep.settings import change, check_trial, static_part, sweepable
from adjax.types import DataError, FitError, SettingsError, StoreError

FEATURES = FeatureConfig(n_fft=256, hop_length=128, n_mels=6, pooling="gwrp")
BASE = make_spec(
    "gmm",
    settings={"n_components": 1, "covariance_type": "diag", "reg_covar": 1e-2},
    features=FEATURES,
    standardize=True,
    calibration="none",
)
AXES = {"features.gwrp_r": (0.2, 0.9), "config.n_components": (3, 4), "seed": (0, 5)}
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


def run_alone(clips: ClipTable, spec: ModelSpec) -> Result:
    train, test = extract_splits(clips, spec)
    return fit_model(spec, train).score_features(test)


def test_a_trial_is_the_run_it_stands_for(clips: ClipTable, swept) -> None:
    place = 5  # of r, components (masked down from 4) and seed none is the first
    spec = SWEEP.specs[place]
    own = spec.detectors[0]
    assert (own.features.gwrp_r, own.config.n_components, spec.seed) == (0.9, 3, 5)
    expected = run_alone(clips, spec)
    for number, machine_id in enumerate(("id_00", "id_02")):
        trial = swept[0].trials[number * len(SWEEP.settings) + place]
        own, scores = expected.of("fan", machine_id)
        assert (trial.machine_id, trial.settings) == (machine_id, SWEEP.settings[place])
        assert trial.clips.names == own.names
        assert_allclose(
            trial.scores, scores, rtol=2e-3, atol=2e-3
        )  # float32, and the mask's other order of sums
        metrics = evaluate(own.labels, trial.scores)
        assert metrics is not None
        assert_allclose((trial.auc, trial.pauc), metrics[:2], atol=1e-6)
        assert trial.auc_low <= trial.auc <= trial.auc_high


def test_the_table_is_tidy_and_leads_to_every_score(swept) -> None:
    result, folder = swept
    with open(folder / run.TABLE, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(result.trials) == 16
    for row, trial in zip(rows, result.trials, strict=True):
        assert {name: row[name] for name in AXES} == {name: str(trial.settings[name]) for name in AXES}
        assert (row["status"], float(row["auc"])) == ("converged", trial.auc)
        with np.load(folder / run.CHUNKS / row["chunk"]) as arrays:
            assert_array_equal(arrays["scores"][int(row["row"])], trial.scores)
            assert arrays["clips"].tolist() == list(trial.clips.names)


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
    assert seen[0].n_trials == 16
    assert seen[0].seconds_left is not None
    damaged = min((tmp_path / run.CHUNKS).glob("*.npz"))
    damaged.write_bytes(damaged.read_bytes()[:100])
    again = run_sweep(clips, SWEEP, tmp_path)
    assert again.n_resumed == 3
    whole = run_sweep(clips, SWEEP, tmp_path)
    assert whole.n_resumed == 16
    for trial, other, first in zip(again.trials, whole.trials, swept[0].trials, strict=True):
        assert_array_equal(trial.scores, other.scores)
        assert_allclose(trial.scores, first.scores, rtol=1e-4, atol=1e-4)  # another chunk size


@pytest.mark.parametrize("how", ["flipped", "forged", "another"])
def test_a_chunk_that_was_changed_is_computed_again_and_told(
    clips: ClipTable, tmp_path: Path, how: str
) -> None:
    """A flipped byte of the scores, or a file that is whole and says another AUC."""
    sweep = Sweep(BASE, SWEEP.settings[:2])
    first = run_sweep(clips, sweep, tmp_path)
    assert first.notes == ()
    path = tmp_path / run.CHUNKS / first.trials[0].chunk
    if how == "flipped":
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 1
        path.write_bytes(content)
    elif how == "another":  # whole, listed, and of other clips
        with np.load(path) as arrays:
            others = {name: arrays[name] for name in arrays}
        others["clips"] = others["clips"][::-1]
        np.savez(path, **others)
        hashes = {name: sha256(tmp_path / name) for name in files_in(tmp_path) if name != HASHES}
        write_hashes(tmp_path, "results", hashes)
    else:
        with np.load(path) as arrays:
            forged = {name: arrays[name] for name in arrays}
        forged["measures"][:, 0] = 0.999
        np.savez(path, **forged)
    again = run_sweep(clips, sweep, tmp_path)
    assert again.n_resumed == 2
    assert again.notes == (
        f"chunks/{path.name} was damaged, or changed since it was written; it was computed again",
    )
    assert [trial.auc for trial in again.trials] == [trial.auc for trial in first.trials]


def test_a_folder_holds_one_sweep(clips: ClipTable, tmp_path: Path) -> None:
    run_sweep(clips, SWEEP, tmp_path)
    result = run_sweep(clips, Sweep(BASE, SWEEP.settings[:2]), tmp_path)
    assert {path.name for path in (tmp_path / run.CHUNKS).iterdir()} == {
        trial.chunk for trial in result.trials
    }
    assert not list(tmp_path.glob("failures*"))
    (tmp_path / run.TABLE).write_text("notes of a person")
    with pytest.raises(StoreError, match=r"trials\.csv: was changed since adjax wrote it, and would be lost"):
        run_sweep(clips, SWEEP, tmp_path)


def test_a_clip_that_no_trial_can_score_is_named_and_costs_the_others_nothing(
    clips: ClipTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features that are not finite, of a training and of a test clip."""
    bad = [
        next(clip.path for clip in clips.select(split=split, machine_id="id_00"))
        for split in ("train", "test")
    ]
    extract = data.extract

    def spoilt(table: ClipTable, *arguments, **options):
        features = extract(table, *arguments, **options)
        for i, clip in enumerate(features.clips):
            if clip.path in bad:
                features.rows[features.offsets[i]] = np.inf
        return features

    monkeypatch.setattr(data, "extract", spoilt)
    result = run_sweep(clips, Sweep(BASE, SWEEP.settings[:2]), tmp_path)
    assert [str(error) for error in result.failures] == [
        f"{path}: its features are not finite: scale the samples to [-1, 1]" for path in bad
    ]
    assert not any(trial.failed for trial in result.trials)
    assert [len(trial.scores) for trial in result.trials] == [12, 12, 13, 13]
    assert len((tmp_path / "failures.csv").read_text().splitlines()) == 3


def test_front_ends_that_read_different_clips(tmp_path: Path) -> None:
    """One test clip has no second channel: the trials on that one do without it, the others keep it."""
    rng = np.random.default_rng(0)
    for split, n in (("train", 5), ("test", 4)):
        (tmp_path / "data/fan" / split).mkdir(parents=True)
        for i in range(n):
            y = 0.05 * rng.normal(size=(4000, 1 if (split, i) == ("test", 0) else 2))
            soundfile.write(tmp_path / "data/fan" / split / f"normal_id_00_{i:08d}.wav", y, 16000)
    base = change(BASE, {"config.n_components": 1})
    result = run_sweep(index_folder(tmp_path / "data"), grid(base, {"channel": (0, 1)}), tmp_path / "out")
    assert [len(trial.scores) for trial in result.trials] == [4, 3]
    assert [trial.clips.names[0][-5] for trial in result.trials] == ["0", "1"]
    assert ["has no channel 1" in str(error) for error in result.failures] == [True]


def test_other_labels_or_clips_are_another_sweep(clips: ClipTable, swept) -> None:
    first, folder = swept
    flipped = ClipTable(tuple(replace(clip, label=1 - clip.label) for clip in clips if clip.split == "test"))
    relabelled = ClipTable((*clips.select(split="train"), *flipped))
    other = run_sweep(relabelled, SWEEP, folder)
    assert other.n_resumed == 0
    assert_allclose(other.trials[0].auc, 1 - first.trials[0].auc, atol=1e-6)


def test_failing_trials_say_why_and_have_no_score(
    clips: ClipTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = ClipTable(tuple(clip for clip in clips if (clip.machine_id, clip.split) != ("id_02", "train")))
    singular = {"config.n_components": 4, "config.covariance_type": "full", "hyper.reg_covar": 0.0}
    settings = ({"config.n_components": 3}, singular)
    settings += ({"config.n_components": 16}, {"config.covariance_type": "tied"})
    compute = run._compute

    def fail(machine, specs, *others):
        if specs[0].detectors[0].config.covariance_type == "tied":
            raise FitError("out of memory")
        return compute(machine, specs, *others)

    monkeypatch.setattr(run, "_compute", fail)
    result = run_sweep(lost, Sweep(BASE, settings), tmp_path)
    good, *bad = result.trials
    assert not good.failed
    assert np.isfinite(good.auc)
    assert all(trial.failed and np.isnan([trial.auc, trial.pauc_low]).all() for trial in bad)
    assert [trial.status for trial in bad[:3]] == [
        "not finite",
        "14 vectors, at least 16 are needed",
        "out of memory",
    ]
    assert all("no train clips" in trial.status for trial in bad[3:])
    assert ["out of memory" in str(error) for error in result.failures] == [True, False]
    assert (tmp_path / run.TABLE).read_text().count(",,,,,,,") == 7


def test_frames_and_pooled_clips_go_side_by_side_and_as_in_a_run(clips: ClipTable, tmp_path: Path) -> None:
    own = replace(BASE.detectors[0], features=replace(FEATURES, pooling="none"), pooling="max")
    base = replace(BASE, detectors=(own,))
    settings = (
        {"seed": 1},
        {"features.pooling": "gwrp", "features.gwrp_r": 0.0},
        {"features.pooling": "max"},
    )
    one_machine = clips.select(machine_id="id_02")
    result = run_sweep(one_machine, Sweep(base, settings), tmp_path)
    expected = run_alone(one_machine, change(base, settings[0]))
    assert_allclose(result.trials[0].scores, expected.scores, rtol=1e-3)
    assert_allclose(result.trials[1].scores, result.trials[2].scores, rtol=1e-4)  # r = 0 is the maximum


def test_autoencoders_are_trials_too(clips: ClipTable, tmp_path: Path) -> None:
    small = {"n_context": 3, "hidden": (8,), "bottleneck": 4, "n_epochs": 2, "batch_size": 64}
    features = replace(FEATURES, pooling="none")
    base = make_spec("autoencoder", settings=small, features=features, standardize=True, calibration="none")
    axes = {"config.bottleneck": (2, 4), "hyper.learning_rate": (1e-3, 1e30)}
    one_machine = clips.select(machine_id="id_00")
    result = run_sweep(one_machine, grid(base, axes), tmp_path)
    assert [trial.failed for trial in result.trials] == [False, True, False, True]
    assert result.trials[1].status == "not finite"
    assert not np.allclose(result.trials[0].scores, result.trials[2].scores)
    assert np.isfinite(result.trials[0].auc)
    assert static_part(change(base, {"config.bottleneck": 16})) == static_part(base)
    assert static_part(change(base, {"config.bottleneck": 17})) != static_part(
        base
    )  # products of another shape


@pytest.mark.parametrize("residual", ["mean_square", "mahalanobis"])
def test_a_trial_of_an_autoencoder_is_the_run_it_stands_for(
    clips: ClipTable, tmp_path: Path, residual: str
) -> None:
    """Over many steps: it is the same training, windows, order, standardised rows and domains; scores to rounding."""
    own = {"n_context": 3, "hidden": (8,), "bottleneck": 4, "n_epochs": 20, "batch_size": 64}
    if residual == "mahalanobis":
        own |= {"residual": residual, "n_domains": 2}
    features = replace(FEATURES, pooling="none")
    base = make_spec("autoencoder", settings=own, features=features, standardize=True, calibration="none")
    two = ClipTable(
        tuple(
            replace(clip, domain="target" if i % 4 == 0 else "source")
            for i, clip in enumerate(clips.select(machine_id="id_00"))
        )
    )
    result = run_sweep(two, grid(base, {"config.bottleneck": (2, 4, 16), "seed": (0, 3)}), tmp_path)
    for trial in (result.trials[0], result.trials[3])[residual == "mahalanobis" :]:
        expected = run_alone(two, change(base, trial.settings))
        assert_allclose(trial.scores, expected.scores, rtol=1e-4 if residual == "mahalanobis" else 1e-5)


@pytest.mark.parametrize("pooling", ["mean", "std", "max", "percentile"])
def test_scores_of_windows_are_pooled_by_clip(pooling: str) -> None:
    """No window runs over the end of its clip; a clip shorter than one has no score."""
    values = np.random.default_rng(0).normal(size=12).astype(np.float32)
    found = pool_scores(values, np.array([0, 5, 7, 12]), 3, pooling, percentile=80.0)
    pool = getattr(np, pooling) if pooling != "percentile" else lambda own: np.percentile(own, 80)
    assert_allclose(found, [pool(values[:3]), np.nan, pool(values[7:10])], rtol=1e-6)


def test_metrics_need_labels_of_both_kinds() -> None:
    scores = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    assert np.isnan(measure(scores, np.array([0, 0, 0, 0, -1, -1, -1, -1]), 10)).all()
    assert np.isfinite(measure(scores, np.array([0, 0, 0, 0, -1, -1, -1, 1]), 10)).all()


def test_trials_that_share_a_compile() -> None:
    axes = {**AXES, "config.n_components": (1, 2, 3, 4, 5, 8), "hyper.reg_covar": (1e-3, 1e-2)}
    parts = [static_part(spec) for spec in grid(BASE, axes).specs]
    assert {part.detectors[0].config.n_components for part in parts} == {1, 2, 4, 8}
    assert len(set(parts)) == 4
    network = make_spec("autoencoder", features=FEATURES, calibration="none")
    axes = {"config.bottleneck": (1, 2, 3), "hyper.learning_rate": (1e-3, 1e-4), "seed": (0, 1)}
    assert len({static_part(spec) for spec in grid(network, axes).specs}) == 1


def test_samples_are_different_points_of_the_grid() -> None:
    drawn = sample(BASE, AXES, 6, seed=1)
    assert drawn == sample(BASE, AXES, 6, seed=1) != sample(BASE, AXES, 6, seed=2)
    assert len({tuple(settings.items()) for settings in drawn.settings}) == 6
    assert all(settings in SWEEP.settings for settings in drawn.settings)
    with pytest.raises(SettingsError, match="sample=9: give a whole number from 1 to 8"):
        sample(BASE, AXES, 9, seed=0)


@pytest.mark.parametrize(
    "settings",
    [
        {"config.components": 3},
        {"sead": 3},
        {"per": "type"},
        {"config.n_components": 0},
        {"hyper.n_components": 2},
        {"features.gwrp_r": 1.5},
        {"features.pooling": "median"},
        {"hyper.noise": 0.1},
        {"pooling": "std"},
        {"config.covariance_type": "round"},
        {"kind": "nearest"},
    ],
)
def test_settings_that_a_trial_cannot_have_are_refused(settings: dict) -> None:
    with pytest.raises(SettingsError):
        _ = Sweep(BASE, (settings,)).specs


def test_models_that_no_sweep_takes_are_refused() -> None:
    assert sweepable() == ("gmm", "autoencoder")
    assert check_trial(BASE) is BASE
    with pytest.raises(SettingsError, match="has nothing to sweep; these have: gmm, autoencoder"):
        check_trial(make_spec("auto"))
    with pytest.raises(SettingsError, match="models of one detector"):
        check_trial(make_spec("gmm+autoencoder"))


def test_a_folder_without_test_clips_is_refused(clips: ClipTable, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no test clips"):
        run_sweep(clips.select(split="train"), SWEEP, tmp_path)
