"""Vectors from elsewhere through fit, score, keep: by name of column, row by row, in the order written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import adjax
from adjax.model.card import settings_of
from adjax.model.extraction import ClipFeatures
from adjax.model.inputs import gather
from adjax.model.machines import machine_of
from adjax.model.named import make_spec
from adjax.model.spec import VectorConfig
from adjax.model.vectors import LONE, config_of
from adjax.types import ClipError, DataError, MachineId, SettingsError

SETTINGS = {"n_components": 1, "covariance_type": "diag"}
FAN, PUMP = MachineId("fan", "id_00"), MachineId("pump")


def numbers(n: int = 24, d: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).round(4)


def written(path: Path, values: np.ndarray, columns: str = "a,b,c", **words: list[str]) -> Path:
    rows = [columns if i is None else ",".join(map(str, values[i])) for i in (None, *range(len(values)))]
    for name, texts in {"file": [f"{i}.wav" for i in range(len(values))], **words}.items():
        rows = [f"{text},{row}" for text, row in zip([name, *texts], rows, strict=True)]
    path.write_text("\n".join(rows))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> adjax.Model:
    return adjax.fit(written(tmp_path_factory.mktemp("t") / "t.csv", numbers()), "gmm", settings=SETTINGS)


def test_a_table_is_the_array_that_it_holds(model: adjax.Model, tmp_path: Path) -> None:
    values = numbers()
    plain = adjax.fit(values, "gmm", settings=SETTINGS)
    assert plain.machines == model.machines == (LONE,)
    (own,) = model.spec.detectors
    assert own.features == VectorConfig(3, columns=("a", "b", "c"))
    assert own.standardize
    assert_array_equal(plain.params.calibration.scores, model.params.calibration.scores)
    new = numbers(5, seed=1)
    expected = plain.score(new)
    table = written(tmp_path / "new.csv", new)
    for what in (table, str(table), adjax.read_vectors(table), new, new.tolist(), jnp.asarray(new)):
        found = model.score(what)
        assert_array_equal(found.scores, expected.scores)
        assert_array_equal(found.p_values, expected.p_values)
    assert model.score(table).clips.names == tuple(f"{i}.wav" for i in range(5))


def test_auto_takes_a_table(tmp_path: Path) -> None:
    fitted = adjax.fit(written(tmp_path / "t.csv", numbers()))
    result = fitted.score(numbers(4, seed=1) + np.array([[0], [0], [0], [50]]))
    assert not result.failures
    assert np.argmax(result.scores) == 3


def test_columns_go_by_name_in_any_order(model: adjax.Model, tmp_path: Path) -> None:
    new = numbers(5, seed=1)
    expected = model.score(new)
    mixed = written(tmp_path / "mixed.csv", new[:, [2, 0, 1]], "c,a,b")
    assert_array_equal(model.score(mixed).scores, expected.scores)
    for columns, message in (
        ("a,b,x", "'c' missing; 'x' too many"),
        ("a,b,x,y", "'c' missing; 'x', 'y' too many"),
    ):
        wrong = written(tmp_path / "wrong.csv", numbers(5, len(columns.split(","))), columns)
        with pytest.raises(DataError, match=f"other columns than those of the model: {message}"):
            model.score(wrong)
    with pytest.raises(DataError, match="'c' missing"):
        adjax.fit_model(model.spec, adjax.read_vectors(written(tmp_path / "ab.csv", numbers(8, 2), "a,b")))
    with pytest.raises(SettingsError, match="the gmm takes rows of 3 numbers, these have 2"):
        model.score(new[:, :2])


def test_columns_are_kept_with_the_model_and_told_by_their_number(model: adjax.Model, tmp_path: Path) -> None:
    kept = adjax.load(model.save(tmp_path / "m"))
    assert kept.spec == model.spec
    names = tuple(f"e{i}" for i in range(2000))
    spec = replace(
        model.spec, detectors=(replace(model.spec.detectors[0], features=VectorConfig(2000, columns=names)),)
    )
    told = dict(settings_of(replace(model, spec=spec)))
    assert told["gmm: features"] == "2000 columns of vectors: e0, e1, e2, ..., e1999"
    for wrong in (("a", "b"), ("a", "a", "b")):
        with pytest.raises(SettingsError, match="give 3 different names, or none"):
            make_spec("gmm", features=VectorConfig(3, columns=wrong))


def test_test_rows_are_never_trained_on(tmp_path: Path) -> None:
    splits = ["train"] * 20 + ["test"] * 4
    path = written(tmp_path / "t.csv", numbers(), split=splits, label=["0"] * 20 + ["0", "0", "1", "1"])
    for what in (path, adjax.read_vectors(path)):
        fitted = adjax.fit(what, "gmm", settings=SETTINGS)
        assert fitted.record.n_clips == {"machine": 20}
    result = fitted.score(path)  # all rows
    assert result.clips.labels.tolist() == [0] * 22 + [1, 1]


def test_rows_belong_to_the_machines_that_they_name(tmp_path: Path) -> None:
    types = ["fan"] * 12 + ["pump"] * 12
    path = written(tmp_path / "t.csv", numbers(), machine_type=types, machine_id=["id_00"] * 12 + [""] * 12)
    fitted = adjax.fit(path, "gmm", settings=SETTINGS)
    assert fitted.machines == (FAN, PUMP)
    new = numbers(3, seed=1)
    by_array = fitted.score(new, machine=["fan/id_00", "pump", "id_00"])
    of_table = written(
        tmp_path / "n.csv", new, machine_type=["fan", "pump", "fan"], machine_id=["id_00", "", "id_00"]
    )
    assert_array_equal(fitted.score(of_table).scores, by_array.scores)
    assert by_array.clips.machines == (FAN, PUMP)
    nameless = written(tmp_path / "nameless.csv", new)
    assert fitted.score(nameless, machine="pump").clips.machines == (PUMP,)
    with pytest.raises(SettingsError, match="whose clips are these"):
        fitted.score(nameless)
    alone = adjax.fit(numbers(), "gmm", settings=SETTINGS, machine="fan/id_00")
    assert alone.score(nameless).clips.machines == (FAN,)  # the model's only one
    with pytest.raises(SettingsError, match="2 machines for 24 clips"):
        adjax.fit(numbers(), "gmm", machine=["a", "b"])
    assert machine_of("fan/id_00") == FAN


def test_rows_that_are_not_finite_are_listed_and_the_others_go_on(model: adjax.Model, tmp_path: Path) -> None:
    values = numbers()
    values[3, 1], values[5, 0] = np.nan, 1e31
    fitted = adjax.fit(values, "gmm", settings=SETTINGS)
    assert [str(error) for error in fitted.record.failures] == [
        "vector 3: column 1 holds nan: give a finite number, or leave the row out",
        "vector 5: column 0 holds 1e+31, beyond 1e+30, too large to sum: scale the column",
    ]
    assert fitted.record.n_clips == {"machine": 22}
    result = model.score(values)
    assert [error.path for error in result.failures if isinstance(error, ClipError)] == [
        "vector 3",
        "vector 5",
    ]
    assert len(result.scores) == 22
    result = model.score(written(tmp_path / "t.csv", values))
    assert ["row 5 of t.csv: column 'b'" in str(error) for error in result.failures] == [True, False]
    assert "row 7 of t.csv: column 'a'" in str(result.failures[1])
    far = model.score(np.full((1, 3), 9e29))
    assert "too far from those of the training" in str(far.failures[0])


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (np.ones(3), r"shape \(3,\).*a vector alone is vector\[None\]"),
        (np.ones((2, 2, 3)), r"shape \(2, 2, 3\)"),
        (np.ones((2, 3)) * 1j, "vectors of complex128.*all of them real"),
        (np.array([["a", "b", "c"]]), "vectors of str"),
        (np.zeros((3, 0)), r"shape \(3, 0\)"),
        (np.array(5.0), r"shape \(\)"),
    ],
    ids=str,
)
def test_arrays_that_are_no_vectors_say_what_to_give(model: adjax.Model, what: object, message: str) -> None:
    for call in (model.score, adjax.fit):
        with pytest.raises(SettingsError, match=f"{message}"):
            call(what)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ([[1.0, 2.0, 3.0], [1.0, 2.0]], "different widths: row 1 has 2, row 0 has 3; give"),
        ([[1.0, 2.0, 3.0], 5.0], "different widths: row 1 has 1, row 0 has 3"),
        ([["a", "b", "c"]], "vectors of str"),
        ([None], "vectors of object"),
        ([], r"shape \(0,\)"),
        ("recordings", "this model takes vectors from elsewhere, no str nor recordings"),
        (["a.wav", "b.wav"], "this model takes vectors"),
        ({"a": 1}, "no dict nor recordings"),
    ],
    ids=str,
)
def test_lists_that_are_no_vectors_say_what_to_give(model: adjax.Model, what: object, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        model.score(what)
    assert len(model.score(np.zeros((0, 3))).scores) == 0


def test_a_model_of_sound_takes_no_table(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", numbers())
    with pytest.raises(SettingsError, match="is a table of vectors; this model takes recordings"):
        gather(make_spec("gmm"), path)
    with pytest.raises(SettingsError, match="the gmm takes recordings, not vectors"):
        adjax.fit_model(make_spec("gmm", features={"n_mels": 3}), adjax.read_vectors(path))


@pytest.mark.parametrize("units", [(1e-6, 1.0, 1e9), (1e-30, 1.0, 1e29)])
def test_wild_scales_and_constant_columns_do_no_harm(units: tuple[float, ...]) -> None:
    values = numbers(40)
    wild = np.concatenate([values * units, np.full((40, 1), 7.0)], axis=1)
    plain, other = (adjax.fit(own[:30], "gmm", settings=SETTINGS) for own in (values, wild))
    scores = [model.score(own[30:]).scores for model, own in ((plain, values), (other, wild))]
    assert_allclose(np.diff(scores[1]), np.diff(scores[0]), rtol=1e-3, atol=1e-4)


def test_several_rows_of_a_clip_are_frames() -> None:
    features = ClipFeatures(adjax.ClipTable(()), np.zeros((4, 2), np.float32), np.array([0, 3, 4]))
    assert config_of(features) == VectorConfig(2, "none")


@pytest.mark.parametrize("machine", [0, [0] * 24, "", [("pump", 1)] * 24, [None] * 24])
def test_a_machine_has_a_name(machine: object) -> None:
    with pytest.raises(SettingsError, match="such as 'pump'"):
        adjax.fit(numbers(), "gmm", machine=machine, settings=SETTINGS)


def test_names_of_an_array_are_text() -> None:
    found = adjax.fit(numbers(), "gmm", machine=np.array(["a"] * 12 + ["b/c"] * 12), settings=SETTINGS)
    assert found.machines == (MachineId("a"), MachineId("b", "c"))
    assert {type(name) for machine in found.machines for name in machine} == {str}


@pytest.mark.parametrize("group", [[0, 1], np.zeros((24, 1), int)])
def test_a_group_for_each_vector(group: object) -> None:
    with pytest.raises(SettingsError, match="for 24 clips: give one number for each clip"):
        adjax.fit(numbers(), "gmm", group=group, settings=SETTINGS)
    bad = numbers()
    bad[3, 1] = np.nan
    with pytest.raises(SettingsError, match="for 23 clips"):  # nobody knows whose number is left over
        adjax.fit(bad, "gmm", group=np.arange(24) // 4, settings=SETTINGS)


def test_lists_of_vectors_are_not_taken_for_sounds() -> None:
    for vectors in (numbers().tolist(), list(numbers())):
        with pytest.raises(SettingsError, match=r"up to 3 samples; vectors are one array"):
            adjax.fit(vectors)
