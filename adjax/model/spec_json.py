"""The specification of a model as JSON, and back."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, get_args

from adjax.detectors.kinds import kind_of
from adjax.features.recipes import FeatureConfig
from adjax.model.spec import DetectorSpec, ModelSpec, VectorConfig
from adjax.types import Kind, SettingsError


def to_json(spec: ModelSpec) -> dict[str, Any]:
    """A mapping that JSON can hold and `from_json` reads back."""
    found = dataclasses.asdict(spec)
    found["detectors"] = [
        {
            **{
                f.name: getattr(d, f.name) for f in dataclasses.fields(d) if f.name not in ("config", "hyper")
            },
            "config": dataclasses.asdict(d.config),
            "hyper": {
                key: value if value is None or isinstance(value, int) else float(value)
                for key, value in d.hyper._asdict().items()
            },
            "features": {"from": type(d.features).__name__, **dataclasses.asdict(d.features)},
        }
        for d in spec.detectors
    ]
    return found


def from_json(found: Mapping[str, Any]) -> ModelSpec:
    """What `to_json` wrote.

    Raises:
        SettingsError: unknown or missing fields (a newer version?), or settings out of range.
    """
    try:
        detectors = tuple(_detector_from(one) for one in found["detectors"])
        return _build(ModelSpec, {**found, "detectors": detectors}).check()
    except (KeyError, TypeError, AttributeError) as error:
        raise SettingsError(f"these are no settings of a model that this version knows ({error})") from error


def _detector_from(found: Mapping[str, Any]) -> DetectorSpec:
    kind = kind_of(found["kind"])
    features = dict(found["features"])
    front_end = {"FeatureConfig": FeatureConfig, "VectorConfig": VectorConfig}[features.pop("from")]
    own = {
        **found,
        "config": _build(kind.config, found["config"]),
        "hyper": kind.hyper(**{name: _whole(kind, name, value) for name, value in found["hyper"].items()}),
        "features": _build(front_end, features),
    }
    return _build(DetectorSpec, own)


def _whole(kind: Kind, name: str, value: Any) -> Any:
    """A traced setting that counts, as the int that it is: earlier versions wrote all of them as floats."""
    hint = typing.get_type_hints(kind.hyper).get(name)
    counts = isinstance(getattr(kind.hyper(), name, None), int) or {int, float} & {*get_args(hint)} == {int}
    return int(value) if counts and isinstance(value, float) and value.is_integer() else value


def _build(owner: Any, found: Mapping[str, Any]) -> Any:
    """A frozen dataclass from a mapping; JSON's lists become tuples again."""
    return owner(**{key: _tuples(value) for key, value in found.items()})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
