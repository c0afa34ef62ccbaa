"""Whose clips are these? Machines by the names that people, folders and files give them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adjax.data.clips import Clip
from adjax.data.layouts import canonical_type
from adjax.data.vectors import LONE
from adjax.types import ClipError, MachineId, SettingsError, readable


def machine_of(name: Any) -> MachineId:
    """A machine from its name: "pump", "pump/left", or (type, id).

    Raises:
        SettingsError: it is none.
    """
    parts = str(name).partition("/")[::2] if isinstance(name, str) else name
    if not (isinstance(parts, tuple) and 1 <= len(parts) <= 2 and all(isinstance(p, str) for p in parts)):
        raise SettingsError(f"machine {name!r} is no name: give text such as 'pump' or 'pump/left'")
    if not parts[0]:
        raise SettingsError(f"machine {name!r} has no type: give a name such as 'pump' or 'pump/left'")
    return MachineId(*parts)


def find_machine(known: Sequence[MachineId], name: str) -> MachineId:
    """The machine of that name: "slider id_00", or its id where only one has it.

    Raises:
        SettingsError: there is none, or several.
    """
    found = [m for m in known if name in (m.label, m.machine_id, "/".join(m))]
    if len(found) != 1:
        names = ", ".join(m.label for m in known[:20])
        raise SettingsError(
            f"machine {name!r}: {'several' if found else 'no'} machines of that name; there are {names}"
        )
    return found[0]


def clip_of(known: Sequence[MachineId], path: Path, machine: MachineId | None) -> Clip:
    """A file as a clip of a machine: the one that was named, the only known one, or what folders and name say.

    Raises:
        ClipError: they fit no known machine, or several.
    """
    if machine is not None or len(known) == 1:
        return Clip(path, *(machine or known[0]), key=readable(path.name))
    folders = [readable(folder) for folder in path.absolute().parent.parts]
    types = {canonical_type(folder) for folder in folders}
    several_types = len({one.machine_type for one in known}) > 1
    found = [
        one
        for one in known
        if _says_id(one.machine_id, folders, readable(path.stem))
        and (one.machine_type in types or not (several_types or one.machine_id in ("", ".")))
    ]
    longest = max((len(one.machine_id) for one in found), default=0)
    best = [one for one in found if len(one.machine_id) == longest]
    if len(best) != 1:
        names = ", ".join(one.label for one in known[:8])
        raise ClipError(
            path,
            f"its name and folders do not tell which machine it is of; say --machine NAME, one of: {names}"
            + (", ..." if len(known) > 8 else ""),
        )
    return Clip(path, *best[0], key=readable(path.name))


def _says_id(machine_id: str, folders: list[str], stem: str) -> bool:
    """Whether folders or name hold a machine's id: "id_00" in the name, "hall 1/pump 2" as folders."""
    if machine_id in ("", "."):
        return True
    parts = machine_id.split("/")
    inside = any(folders[i : i + len(parts)] == parts for i in range(len(folders)))
    return inside or re.search(rf"(?<![0-9A-Za-z]){re.escape(machine_id)}(?![0-9A-Za-z])", stem) is not None


def machines_of(machine: Any, known: Sequence[MachineId] | None, n: int) -> list[MachineId]:
    """One for each of n clips."""
    if machine is None:
        if known is not None and len(known) > 1:
            names = ", ".join(one.label for one in known[:8])
            raise SettingsError(f"whose clips are these? give machine=NAME, one of: {names}")
        return [known[0] if known else LONE] * n
    if isinstance(machine, (str, MachineId)):
        machine = [machine] * n
    if not hasattr(machine, "__len__"):
        raise SettingsError(f"machine {machine!r} is no name: give text such as 'pump' or 'pump/left'")
    if len(machine) != n:
        raise SettingsError(f"{len(machine)} machines for {n} clips: give one name, or one for each clip")
    if known is None:
        return [machine_of(one) for one in machine]
    return [
        one if one in known else find_machine(known, one if isinstance(one, str) else "/".join(one))
        for one in machine
    ]
