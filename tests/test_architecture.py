"""The floors of the house: an import goes down, never up or across, and in no folder in a circle."""

from __future__ import annotations

import ast
import functools
import graphlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from adjax.detectors.kinds import KINDS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "adjax"

# Folder or file -> floor. Rooms of one floor never import each other, but for those in SEES.
FLOORS = {
    "types": 0,
    "checks": 0,
    "files": 0.5,
    "evaluation": 1,
    "store": 1,
    "batching": 1,
    "data": 2,
    "features": 2,
    "detectors": 2,
    "model": 3,
    "simulator": 3,
    "sweep": 4,
    "report": 5,
    "app": 5,
    "": 6,  # adjax/__init__.py only re-exports
}
SEES = {
    ("app", "report"),  # the command line shows reports; a report knows no command
    ("checks", "types"),  # a check raises an error that types have
}
# Packages that have one room.
ONLY_IN = {
    "soundfile": {"data"},
    "soxr": {"data"},
    "flax": {"detectors"},
    "safetensors": {"store"},
    "filelock": {"store"},
    "pyarrow": {"data"},
    "tyro": {"app"},
    "matplotlib": {"report"},
}
# Imports inside a function that close a circle, with the reason.
LATE = {
    (
        "adjax.model.model",
        "adjax.model.keep",
    ): "Model.save is there for people; the room that keeps needs the class",
    ("adjax.model.model", "adjax.model.adapt"): "Model.adapt likewise",
}
KIND_NAMES = {"gmm", "autoencoder", "gaussians", "joint", "neighbours", "identity", "network"}


def room(module: str) -> str:
    """`adjax.data.audio` -> `data`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def imports(tree: ast.AST, path: object = "") -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:  # `from adjax import simulator` imports adjax.simulator
                inner = f"{node.module}.{alias.name}"
                yield inner if node.module == "adjax" else str(node.module)


def may_import(importer: str, imported: str) -> bool:
    if importer == imported or (importer, imported) in SEES:
        return True
    return FLOORS[imported] < FLOORS[importer]


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def graph() -> dict[str, set[str]]:
    """Module -> modules of adjax that its file imports; `from adjax.store import hold` imports the package."""
    paths = {module_name(path): path for path in PACKAGE.rglob("*.py")}
    found: dict[str, set[str]] = {}
    for name, path in paths.items():
        found[name] = set()
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names} & paths.keys()
            elif isinstance(node, ast.ImportFrom):
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                modules = inner & paths.keys()
                if modules != inner and node.module in paths:  # something of the package's own
                    modules = modules | {str(node.module)}
                found[name] |= modules
    for importer, imported in LATE:
        found[importer].remove(imported)  # a KeyError: strike it from the list
    return found


def circle(edges: Mapping[str, set[str]]) -> list[str]:
    """The nodes of a circle, [] if there is none."""
    try:
        graphlib.TopologicalSorter(edges).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    importer = path.relative_to(PACKAGE).with_suffix("").parts[0]
    importer = "" if importer == "__init__" else importer
    for module in imports(parsed(path), path):
        package = module.split(".")[0]
        if package == "adjax":
            assert may_import(importer, room(module)), f"{path} must not import {module}"
        assert importer in ONLY_IN.get(package, {importer}), f"{path} must not import {package}"


def test_every_room_has_a_floor() -> None:
    rooms = {
        path.stem
        for path in PACKAGE.iterdir()
        if (path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").exists()
    }
    assert rooms == FLOORS.keys() - {""}


def test_late_imports_are_late() -> None:
    for importer, imported in LATE:
        tree = parsed(ROOT.joinpath(*importer.split(".")).with_suffix(".py"))
        at_the_top = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
        assert imported not in at_the_top


def test_rules_refuse_what_they_should() -> None:
    refused = [("features", "data"), ("detectors", "features"), ("data", "model"), ("evaluation", "features")]
    refused += [("simulator", "model"), ("model", "sweep"), ("report", "app"), ("sweep", "report")]
    refused += [("types", "checks"), ("types", "batching"), ("batching", "store")]
    allowed = [("model", "detectors"), ("report", "model"), ("app", "report"), ("sweep", "model")]
    allowed += [("simulator", "data"), ("app", "simulator"), ("", "app"), ("features", "types")]
    assert not any(may_import(*pair) for pair in refused)
    assert all(may_import(*pair) for pair in allowed)


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    """Neither within a folder nor across: each module can be read after those that it stands on."""
    edges = graph()
    assert edges["adjax.model.lift"] >= {"adjax.model.spec", "adjax.batching"}
    assert circle(edges) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})


@pytest.mark.parametrize("folder", sorted({p.parent for p in PACKAGE.rglob("*.py")}), ids=lambda p: p.name)
def test_no_folder_has_a_circle(folder: Path) -> None:
    """A sub-folder counts as one: `gmm` as a whole lies above or below `kinds`."""
    prefix = module_name(folder / "__init__.py")
    edges: dict[str, set[str]] = {}

    def part(module: str) -> str | None:
        inside = module.removeprefix(prefix + ".")
        return inside.split(".")[0] if inside != module else None

    for module, imported in graph().items():
        if (own := part(module)) is not None:
            others = {other for name in imported if (other := part(name)) is not None}
            edges.setdefault(own, set()).update(others - {own})
    assert circle(edges) == []


def strings(tree: ast.AST) -> Iterator[ast.Constant]:
    """String literals that a program works with: all but docstrings."""
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node


def test_no_code_outside_the_detectors_names_a_kind() -> None:
    """So that a new kind is a file and a line in `adjax.detectors.kinds`, and works everywhere."""
    named = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if not path.is_relative_to(PACKAGE / "detectors")
        for node in strings(parsed(path))
        if node.value in KIND_NAMES
    ]
    assert named == []
    assert KINDS.keys() == KIND_NAMES
    found = strings(ast.parse('"""gmm"""\nx = "gmm"\ndef f():\n    "gmm"\n'))
    assert [node.lineno for node in found] == [2]


def test_experiments_are_not_imported_by_the_package() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert not {"experiments", "tests"} & {module.split(".")[0] for module in imports(parsed(path))}
