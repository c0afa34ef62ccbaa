"""Trees of files for the tests of the index."""

from __future__ import annotations

from pathlib import Path

from adjax.data.clips import ClipTable


def touch(root: Path, *names: str) -> Path:
    """Files without content: the index never opens one."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def rows(table: ClipTable) -> list[tuple]:
    return [(c.machine_type, c.machine_id, c.domain, c.split, c.label, c.attributes, c.name) for c in table]
