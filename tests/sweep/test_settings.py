"""What a sweep tries, which trials share a compile, and what no trial can have."""

from __future__ import annotations

import pytest

from adjax.model.named import make_spec
from adjax.sweep import Sweep, grid, sample
from adjax.sweep.settings import check_trial, static_part, sweepable
from adjax.types import SettingsError
from tests.sweep.made import AXES, BASE, FEATURES, SWEEP


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
        check_trial(make_spec("gaussians"))
    with pytest.raises(SettingsError, match="models of one detector"):
        check_trial(make_spec("gmm+autoencoder"))
