"""Machines that a model tells its own apart from, and what there is where none can be told apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from adjax.data.clips import Clip, ClipTable
from adjax.model.extraction import ClipFeatures
from adjax.model.fit import fit_model
from adjax.model.keep import load_model, save_model
from adjax.model.model import Model
from adjax.model.named import make_spec
from adjax.model.spec import ModelSpec, VectorConfig
from adjax.types import CONVERGED, FitError, SettingsError

D = 6
VECTORS = VectorConfig(D)
FANS = (("fan", "id_00"), ("fan", "id_02"))
PUMPS = (("pump", "id_00"), ("pump", "id_02"))


def clips_of(*names: tuple[str, str], n: int = 8, seed: int = 0, spoilt: int = 0) -> ClipFeatures:
    """Vectors of machines whose place depends on their names alone."""
    clips, rows = [], []
    for name in names:
        rng = np.random.default_rng([seed, *"".join(name).encode()])
        centre = 2 * np.random.default_rng([*"".join(name).encode()]).normal(size=D)
        for i in range(n):
            clips.append(Clip(Path(f"{name[0]}/{name[1]}_{i}.wav"), *name, split="train", label=0))
            rows.append(centre + rng.normal(size=D))
    found = np.array(rows, np.float32)
    found[:spoilt] = np.nan
    return ClipFeatures(ClipTable(tuple(clips)), found, np.arange(len(clips) + 1))


def spec_of(name: str = "identity", **settings: object) -> ModelSpec:
    return make_spec(name, features=VECTORS, settings=settings, n_folds=3)


def scores(model: Model, *names: tuple[str, str]) -> np.ndarray:
    result = model.score_features(clips_of(*names, seed=7))
    assert not result.failures
    return result.scores


def test_a_contrast_is_told_apart_from_and_not_in_the_model() -> None:
    train, contrast = clips_of(*FANS), clips_of(*PUMPS, n=5)
    model = fit_model(spec_of(), train, contrast=contrast)
    everyone = fit_model(spec_of(), clips_of(*FANS, *PUMPS))
    assert model.machines == train.clips.machines
    assert {(fit.machine_type, fit.machine_id) for fit in model.record.fits} == set(FANS)
    assert model.record.n_clips == {"fan id_00": 8, "fan id_02": 8}
    assert {own.machine.machine_type for own in model.record.held_out} == {"fan"}
    assert not model.record.failures
    assert model.params.detectors[0].params.common.value[1].coefficients.shape == (1, 4, D)
    alone = fit_model(spec_of(), train)
    assert np.abs(scores(model, *FANS) - scores(alone, *FANS)).max() > 0.01
    # The same clips, whether they are judged or not.
    same = fit_model(spec_of(), train, contrast=clips_of(*PUMPS))
    raw, expected = (own.params.detectors[0].params.common.value[1] for own in (same, everyone))
    assert_allclose(raw.coefficients, expected.coefficients, atol=1e-3)
    stranger = model.score_features(clips_of(PUMPS[0], n=1))
    assert not len(stranger.scores)
    assert "not in the model" in str(stranger.failures[0])


def test_a_model_with_a_contrast_is_kept(tmp_path: Path) -> None:
    model = fit_model(spec_of(), clips_of(*FANS), contrast=clips_of(*PUMPS))
    save_model(model, tmp_path / "model")
    kept = load_model(tmp_path / "model")
    assert kept.machines == model.machines
    assert_array_equal(scores(kept, *FANS), scores(model, *FANS))


def test_detectors_that_look_at_one_type_do_not_see_it() -> None:
    train, contrast = clips_of(*FANS), clips_of(*PUMPS)
    for spec in (spec_of("gaussians"), spec_of(contrast="type")):
        with_it, alone = fit_model(spec, train, contrast=contrast), fit_model(spec, train)
        assert_array_equal(scores(with_it, *FANS), scores(alone, *FANS))
    both = fit_model(spec_of("gaussians+identity"), train, contrast=(None, contrast))
    assert both.part_names[-1] == "identity"
    assert both.params.detectors[1].params.common.value[1].coefficients.shape == (1, 4, D)


def test_one_machine_and_a_contrast() -> None:
    model = fit_model(spec_of(), clips_of(FANS[0]), contrast=clips_of(*PUMPS))
    assert np.ptp(scores(model, FANS[0])) > 0


def test_a_contrast_that_cannot_be_used() -> None:
    train = clips_of(*FANS)
    some = fit_model(spec_of(), train, contrast=clips_of(*PUMPS, spoilt=2))
    assert not some.record.failures
    assert "2 clips of other types" in some.record.notes[0]
    none = fit_model(spec_of(), train, contrast=clips_of(*PUMPS, spoilt=16))
    assert_array_equal(scores(none, *FANS), scores(fit_model(spec_of(), train), *FANS))
    with pytest.raises(SettingsError, match="fan id_02 is among"):
        fit_model(spec_of(), train, contrast=clips_of(FANS[1], *PUMPS))
    wide = ClipFeatures(train.clips, np.zeros((16, D + 1), np.float32), train.offsets)
    with pytest.raises(SettingsError, match="rows of 6 numbers, these have 7"):
        fit_model(spec_of(), train, contrast=wide)
    with pytest.raises(SettingsError, match="2 sets of features for 1 detectors"):
        fit_model(spec_of(), train, contrast=(None, None))


@pytest.mark.parametrize("contrast", ["all", "type"])
def test_one_machine_alone_cannot_be_told_apart(contrast: str) -> None:
    with pytest.raises(
        FitError, match=r"needs clips of at least two machines.*fan id_00.*Add normal clips of another"
    ):
        fit_model(spec_of(contrast=contrast), clips_of(FANS[0]))


def test_no_type_with_two_machines() -> None:
    with pytest.raises(FitError, match="at least two machines of one type"):
        fit_model(spec_of(contrast="type"), clips_of(FANS[0], PUMPS[0]))


def test_among_several_detectors_it_is_left_out_and_the_model_says_so(tmp_path: Path) -> None:
    train = clips_of(FANS[0])
    model = fit_model(spec_of("gaussians+identity"), train)
    assert [own.kind for own in model.spec.detectors] == ["gaussians"]
    assert any("identity" in note and "left out" in note for note in model.record.notes)
    assert not model.record.failures
    assert_array_equal(scores(model, FANS[0]), scores(fit_model(spec_of("gaussians"), train), FANS[0]))
    save_model(model, tmp_path / "model")
    assert load_model(tmp_path / "model").spec == model.spec


def test_the_only_machine_of_its_type_scores_nothing_and_the_others_as_ever() -> None:
    """Types of different sizes are fits of their own: their tables of classes are padded, which changes nothing."""
    spec = spec_of(contrast="type")
    model = fit_model(spec, clips_of(*FANS, PUMPS[0], ("valve", "a"), ("valve", "b"), ("valve", "c")))
    assert [note for note in model.record.notes if "only machine of its type" in note]
    assert all(fit.status == CONVERGED for fit in model.record.fits)
    raw = model.params.detectors[0].params
    assert raw.common.value[1].coefficients.shape == (3, 3, D)
    assert_array_equal(raw.common.fit, [0, 0, 1, 2, 2, 2])
    assert_array_equal(scores(model, PUMPS[0]), 0)
    fans = fit_model(spec, clips_of(*FANS))
    assert_allclose(scores(model, *FANS), scores(fans, *FANS), rtol=1e-4, atol=1e-4)


def test_the_contrast_of_a_specification() -> None:
    assert make_spec("gaussians+identity", contrast="type").detectors[1].config.contrast == "type"
    assert (
        make_spec("identity", contrast="type", settings={"contrast": "all"}).detectors[0].config.contrast
        == "all"
    )
    left = make_spec("gaussians+identity", contrast="none")
    assert [own.kind for own in left.detectors] == ["gaussians"]
    with pytest.raises(SettingsError, match="take another model"):
        make_spec("identity", contrast="none")
    with pytest.raises(SettingsError, match="contrast='most'"):
        make_spec("identity", contrast="most")


def test_columns_are_never_standardized_by_the_machine_that_they_tell_of() -> None:
    spec = make_spec("gaussians+identity", features=VECTORS, standardize=True)
    assert [own.standardize for own in spec.detectors] == [True, False]


def test_rows_are_one_for_each_clip() -> None:
    assert make_spec("identity").front_ends[0].pooling == "views"
    assert make_spec("identity", features={"kind": "mfcc"}).front_ends[0].pooling == "moments"
    with pytest.raises(SettingsError, match="one row for each clip"):
        make_spec("identity", features=VectorConfig(3, "none"))


def test_the_shapes_of_shared_numbers_are_those_of_the_fits() -> None:
    """One copy for all machines of a fit, however many there are."""
    model = fit_model(spec_of(), clips_of(*FANS, *PUMPS))
    common = model.params.detectors[0].params.common
    assert common.value.regression.coefficients.shape == (1, 4, D)
