"""The floors of the house: an import goes down, never up or across."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "adjax"

# Folder or file -> (floor, wing). Wings of one floor never import each other.
FLOORS = {
    "types": (0, "types"),
    "evaluation": (1, "evaluation"),
    "store": (1, "store"),
    "batching": (1, "batching"),
    "data": (2, "data"),
    "features": (2, "features"),
    "detectors": (2, "detectors"),
    "simulator": (3, "simulator"),
    "model": (3, "model"),
    "extraction": (3, "pipeline"),
    "results": (3, "pipeline"),
    "selection": (3, "pipeline"),
    "pipeline": (3, "pipeline"),
    "lanes": (3, "pipeline"),
    "resumable": (3, "pipeline"),
    "sweep": (3, "pipeline"),
    "report": (5, "person"),
    "app": (5, "person"),
    "": (6, "package"),  # adjax/__init__.py only re-exports
}
# Packages that have one room.
ONLY_IN = {
    "soundfile": {"data"},
    "soxr": {"data"},
    "flax": {"detectors"},
    "orbax": {"store"},
    "safetensors": {"store"},
    "filelock": {"store"},
    "tyro": {"app"},
    "matplotlib": {"report"},
}


def room(module: str) -> str:
    """`adjax.data.audio` -> `data`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:  # `from adjax import simulator` imports adjax.simulator
                inner = f"{node.module}.{alias.name}"
                yield inner if node.module == "adjax" else node.module


def may_import(importer: str, imported: str) -> bool:
    (floor, wing), (other_floor, other_wing) = FLOORS[importer], FLOORS[imported]
    if wing == other_wing:
        return True
    return other_floor < floor


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    importer = path.relative_to(PACKAGE).with_suffix("").parts[0]
    importer = "" if importer == "__init__" else importer
    for module in imports(path):
        package = module.split(".")[0]
        if package == "adjax":
            assert may_import(importer, room(module)), f"{path} must not import {module}"
        assert importer in ONLY_IN.get(package, {importer}), f"{path} must not import {package}"


def test_rules_refuse_what_they_should() -> None:
    assert not may_import("features", "data")
    assert not may_import("detectors", "features")
    assert not may_import("data", "pipeline")
    assert not may_import("evaluation", "features")
    assert may_import("pipeline", "detectors")
    assert may_import("report", "pipeline")


def test_experiments_are_not_imported_by_the_package() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert not {"experiments", "tests"} & {module.split(".")[0] for module in imports(path)}
