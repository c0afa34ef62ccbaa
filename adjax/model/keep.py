"""A model in a folder: safetensors, JSON, a card for people, and the hashes of all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adjax.features.normalize import Standardizer
from adjax.model import memory as memories
from adjax.model import record as records
from adjax.model import spec_json
from adjax.model.calibration import Calibration
from adjax.model.card import model_card
from adjax.model.evidence import N_KNOTS, Evidence
from adjax.model.extraction import ClipFeatures
from adjax.model.model import Model
from adjax.model.score import DetectorParams, ModelParams
from adjax.model.spec import DetectorSpec, ModelSpec
from adjax.store import load_model as load_arrays
from adjax.store import put_back, read_settings
from adjax.store import save_model as save_arrays
from adjax.types import Detector, MachineId, SettingsError, StoreError, Training

FORMAT = 3  # of the folder; raised when an older adjax could not read it
CARD = "README.md"
MEMORY = "memory"
_ROWS = 8  # of the abstract training that tells the shapes


def save_model(model: Model, folder: Path | str) -> Path:
    """Write a model into a folder of its own; one that was there before is replaced, at once and whole.

    Raises:
        StoreError: it cannot be written, or the folder holds something that is not a model.
    """
    folder = Path(folder)
    settings = {
        "format": FORMAT,
        "machines": [list(machine) for machine in model.machines],
        "spec": spec_json.to_json(model.spec),
        "shapes": _shapes(model),
        "record": records.to_json(model.record),
    }
    more = {}
    if model.memory:
        settings["memory"] = memories.to_json(model.memory, model.machines)
        more[MEMORY] = memories.arrays_of(model.memory)
    save_arrays(folder, model.params, settings, {CARD: model_card(model)}, more)
    return folder


def load_model(folder: Path | str) -> Model:
    """Read a model, its shapes and hashes checked; nothing is unpickled.

    Raises:
        StoreError: there is none, it is damaged, or of a newer version of adjax.
    """
    folder = Path(folder)
    put_back(folder)
    if not folder.is_dir():
        raise StoreError(f"{folder}: no such model; make one with adjax train, or check the path")
    settings = read_settings(folder)
    if not isinstance(settings.get("format"), int) or "spec" not in settings:
        raise StoreError(f"{folder}: is no model of adjax; give a folder that adjax train has written")
    if settings["format"] > FORMAT:
        theirs = settings.get("record", {}).get("versions", {}).get("adjax", "a newer version")
        raise StoreError(
            f"{folder}: was written by adjax {theirs} in format {settings['format']}, this version reads up "
            f"to {FORMAT}; update adjax (pip install --upgrade adjax)"
        )
    try:
        spec = spec_json.from_json(settings["spec"])
        if settings["format"] == 1 and spec.fusion == "fisher":
            raise SettingsError("fusion='fisher' has another meaning since format 2")
        machines = tuple(MachineId(*machine) for machine in settings["machines"])
        params = _params_of(folder, settings, spec, len(machines))
        memory: tuple[ClipFeatures, ...] = ()
        if (kept := settings.get("memory")) is not None:
            arrays = load_arrays(folder, memories.template_of(kept), name=MEMORY)
            memory = memories.from_json(kept, arrays, machines)
        return Model(spec, params, machines, records.from_json(settings["record"]), memory)
    except (SettingsError, KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"{folder}: its settings cannot be used ({error}); take a sound copy, or train it anew"
        ) from error


def _params_of(folder: Path, settings: dict[str, Any], spec: ModelSpec, n_machines: int) -> ModelParams:
    """The model's numbers.

    Raises:
        StoreError: they are damaged, or those of an earlier version whose detectors kept other ones.
    """
    template = _template(spec, settings["shapes"], n_machines)
    try:
        return load_arrays(folder, template)
    except StoreError as error:
        if settings["format"] == FORMAT:
            raise
        theirs = settings.get("record", {}).get("versions", {}).get("adjax", "an earlier version")
        raise StoreError(
            f"{folder}: was written by adjax {theirs} in format {settings['format']}, and a kind of detector in it "
            f"keeps other numbers since ({error}); train it anew"
        ) from error


def _shapes(model: Model) -> dict[str, Any]:
    """The few sizes that settings and machines do not tell."""
    return {
        "n_held_out": int(model.params.calibration.scores.shape[1]),
        "n_models": [1 + int(own.model.max()) for own in model.params.detectors],
        "n_bands": [int(own.typical.shape[1]) for own in model.params.detectors],
        "n_parts": len(model.part_names),
        "n_evidence": int(model.params.calibration.evidence is not None) * len(model.spec.detectors),
        # Sizes that only the clips decide, such as that of a bank of neighbours.
        "by_clips": [
            _differing(_abstract_fit(spec, 1 + int(own.model.max())), own.params)
            for spec, own in zip(model.spec.detectors, model.params.detectors, strict=True)
        ],
    }


def _template(spec: ModelSpec, shapes: dict[str, Any], n_machines: int) -> ModelParams:
    """Shapes and dtypes of all numbers, from the settings alone: what the folder's arrays must be."""

    def array(*shape: int, dtype: Any = np.float32) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype)

    detectors = []
    by_clips = shapes.get("by_clips", [{} for _ in spec.detectors])  # earlier versions had no such kind
    for own, n_models, n_bands, sizes in zip(
        spec.detectors, shapes["n_models"], shapes["n_bands"], by_clips, strict=True
    ):
        n_features = own.features.n_features
        standardizer = (
            Standardizer(array(n_models, n_features), array(n_models, n_features))
            if own.standardize
            else None
        )
        detectors.append(
            DetectorParams(
                array(n_machines, dtype=np.int32),
                standardizer,
                _resized(_abstract_fit(own, n_models), sizes),
                array(n_machines, n_bands),
            )
        )
    k, n = shapes["n_parts"], shapes["n_held_out"]
    calibration = Calibration(
        array(n_machines, k), array(n_machines, k), array(n_machines, n, k), array(n_machines, n),
        array(n_machines, dtype=np.int32), array(n_machines), array(n_machines, k), array(),
    )  # fmt: skip
    if n := shapes.get("n_evidence", 0):
        curves = array(n_machines, n, N_KNOTS)
        evidence = Evidence(array(k, dtype=np.int32), curves, curves, array(n_machines, n))
        calibration = calibration._replace(evidence=evidence)
    return ModelParams(tuple(detectors), calibration)


def _differing(abstract: Any, params: Any) -> dict[str, list[int]]:
    """Shapes of the leaves that are not as the settings have them, by their names."""
    found = _shapes_of(params)
    return {name: list(found[name]) for name, shape in _shapes_of(abstract).items() if found[name] != shape}


def _shapes_of(tree: Any) -> dict[str, tuple[int, ...]]:
    """The shape of each leaf by the path that leads to it."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): tuple(leaf.shape) for path, leaf in leaves}


def _resized(abstract: Any, sizes: dict[str, list[int]]) -> Any:
    """The abstract parameters with the shapes that `_differing` found."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: jax.ShapeDtypeStruct(
            tuple(sizes.get(jax.tree_util.keystr(path), leaf.shape)), leaf.dtype
        ),
        abstract,
    )


def _abstract_fit(spec: DetectorSpec, n_models: int) -> Any:
    """Shapes of a detector's parameters, without computing any."""
    made = spec.make()
    rows = jax.ShapeDtypeStruct((_ROWS, spec.features.n_features), jnp.float32)
    weight = jax.ShapeDtypeStruct((_ROWS,), jnp.float32)
    key = jax.random.key(0)
    hyper = jax.tree.map(jnp.asarray, spec.hyper)
    if isinstance(made, Detector):
        n = jax.ShapeDtypeStruct((_ROWS,), jnp.int32)
        training = Training(rows, weight, n, n, n, jax.ShapeDtypeStruct((n_models,), jnp.uint32))
        return jax.eval_shape(lambda key, training: made.fit(key, training, hyper)[0], key, training)
    params = jax.eval_shape(
        lambda key, rows, weight: made.fit(key, rows, weight, hyper)[0], key, rows, weight
    )
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((n_models, *leaf.shape), leaf.dtype), params)
