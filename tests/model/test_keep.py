"""A model in a folder: read by later versions, refused when it cannot be trusted."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from adjax.model.keep import FORMAT, load_model, save_model
from adjax.model.model import Model
from adjax.store.folder import HASHES
from adjax.types import StoreError

HERE = Path(__file__).parent
frozen = runpy.run_path(str(HERE / "frozen.py"))


@pytest.mark.parametrize("name", list(frozen["SPECS"]))
def test_a_model_of_an_earlier_version_is_read_and_scores_the_same(name: str) -> None:
    """The folder was written once (see `frozen.py`) and must be readable for ever."""
    model = load_model(HERE / "frozen" / "format_1" / name)
    expected = json.loads((HERE / "frozen" / "format_1" / "scores.json").read_text())[name]
    result = model.score_features(frozen["clips_of"](model.spec.front_ends[0], 6, first=50))
    assert_allclose(result.scores, expected["scores"], rtol=1e-5, atol=1e-5)
    assert_allclose(result.p_values, expected["p_values"], rtol=1e-4)
    assert [machine.label for machine in model.machines] == ["fan id_00", "fan id_01"]


@pytest.fixture
def kept(tmp_path: Path) -> tuple[Model, Path]:
    model = load_model(HERE / "frozen" / "format_1" / "auto")
    return model, save_model(model, tmp_path / "model")


def rewrite(folder: Path, **changes: object) -> None:
    """Change the settings, with a hash that fits."""
    import hashlib

    path = folder / "settings.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    lines = (folder / HASHES).read_text().splitlines()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    lines = [f"{digest}  settings.json" if line.endswith("  settings.json") else line for line in lines]
    (folder / HASHES).write_text("".join(f"{line}\n" for line in lines))


def test_what_cannot_be_trusted_is_refused_with_the_remedy(kept: tuple[Model, Path], tmp_path: Path) -> None:
    _, folder = kept
    with pytest.raises(StoreError, match="no such model"):
        load_model(tmp_path / "nothing")
    rewrite(folder, format=FORMAT + 1)
    with pytest.raises(StoreError, match="update adjax"):
        load_model(folder)
    rewrite(folder, format="a letter")
    with pytest.raises(StoreError, match="no model of adjax"):
        load_model(folder)
    spec = json.loads((folder / "settings.json").read_text())["spec"]
    rewrite(folder, format=FORMAT, spec={**spec, "colour": "blue"})
    with pytest.raises(StoreError, match="cannot be used"):
        load_model(folder)
    rewrite(folder, spec=spec, machines=[["fan", "id_00"]])
    with pytest.raises(StoreError, match="the settings ask for"):
        load_model(folder)
    arrays = folder / "model.safetensors"
    arrays.write_bytes(arrays.read_bytes()[:-1] + b"\x01")
    with pytest.raises(StoreError, match="damaged"):
        load_model(folder)


def test_numbers_of_an_earlier_version_say_so(kept: tuple[Model, Path], tmp_path: Path) -> None:
    folder = kept[0].save(tmp_path / "old")
    settings = json.loads((folder / "settings.json").read_text())
    settings["shapes"]["n_bands"] = [own + 1 for own in settings["shapes"]["n_bands"]]
    rewrite(folder, format=FORMAT - 1, shapes=settings["shapes"])
    with pytest.raises(StoreError, match=r"keeps other numbers since .* train it anew"):
        load_model(folder)


def test_a_model_never_takes_the_place_of_something_else(kept: tuple[Model, Path], tmp_path: Path) -> None:
    model, folder = kept
    save_model(model, folder)  # itself it may
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(StoreError, match=r"thesis\.txt, which would be lost"):
        save_model(model, tmp_path / "mine")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="is no folder"):
        save_model(model, tmp_path / "file")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"


def test_the_rate_of_false_alarms_is_kept(kept: tuple[Model, Path]) -> None:
    model, folder = kept
    save_model(model.with_false_alarm_rate(0.2), folder)
    assert load_model(folder).false_alarm_rate == 0.2
    assert "0.2" in (folder / "README.md").read_text()
    thresholds = model.thresholds([0.01, 0.2])["fan id_00"]
    assert thresholds[0][1] > thresholds[1][1]
    assert np.isfinite(thresholds[0][1])


def test_a_threshold_decides_as_the_p_value_does(kept: tuple[Model, Path]) -> None:
    """Also where rate * (n + 1) is a whole number that a float misses by its last digit."""
    model, _ = kept
    calibration = model.params.calibration
    scores = np.arange(99, dtype=np.float32)
    wide = calibration._replace(
        scores=np.stack([scores, scores]), n_held_out=np.full(2, 99, np.int32), tail=np.ones(2, np.float32)
    )
    model = replace(model, params=model.params._replace(calibration=wide))
    for rate in (0.01, 0.07, 0.29, 0.57, 0.58):
        ((_, limit, _),) = model.thresholds([rate])["fan id_00"]
        above = [(1 + np.sum(scores >= value)) / 100 <= rate + 1e-9 for value in scores]
        assert [value > limit for value in scores] == above
