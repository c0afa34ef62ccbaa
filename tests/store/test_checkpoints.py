"""Checkpoints come back, or the one before does; what was there before survives every failure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from adjax.store import (
    drop_checkpoints,
    latest_checkpoint,
    save_checkpoint,
)
from adjax.types import StoreError
from tests.store.made import make_params, tampered, template


def test_the_newest_sound_checkpoint_is_found_and_two_are_kept(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path, template, "run") == (0, None, ())
    for epoch in (10, 20, 30):
        save_checkpoint(tmp_path, epoch, make_params(epoch), "run")
    found = latest_checkpoint(tmp_path, template, "run")
    assert (found.epoch, found.remarks) == (30, ())
    jax.tree.map(assert_array_equal, found.state, make_params(30))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch_000020", "epoch_000030"]
    with pytest.raises(StoreError, match="other settings, data or versions"):
        latest_checkpoint(tmp_path, template, "another run")


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    for epoch in (1, 2):
        save_checkpoint(tmp_path, epoch, make_params(epoch), "run")
    largest = max(
        (tmp_path / "epoch_000002").rglob("*"), key=lambda path: path.stat().st_size * path.is_file()
    )
    largest.write_bytes(largest.read_bytes()[:-1] + b"?")
    found = latest_checkpoint(tmp_path, template, "run")
    assert (found.epoch, int(found.state.count)) == (1, 1)
    assert "damaged" in found.remarks[0]
    save_checkpoint(tmp_path, 2, make_params(2), "run")  # made anew in its place
    assert latest_checkpoint(tmp_path, template, "run").epoch == 2


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    """A real limit on file size, in a process of its own: one line, no traceback, nothing left beside."""
    script = (
        "import resource, sys, numpy as np\n"
        "from adjax.store import save_checkpoint\n"
        "from adjax.types import StoreError\n"
        "from pathlib import Path\n"
        "save_checkpoint(Path(sys.argv[1]), 1, {'a': np.ones(9)}, 'run')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))\n"
        "try: save_checkpoint(Path(sys.argv[1]), 2, {'a': np.random.default_rng(0).normal(size=99_999)}, 'run')\n"
        "except StoreError as error: print('refused:', error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "refused:" in done.stdout
    assert done.stderr == ""
    assert "run the same command again" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["epoch_000001"]
    assert latest_checkpoint(tmp_path, lambda _: {"a": np.ones(9)}, "run").epoch == 1


@pytest.mark.parametrize("content", [b"{}", b'{"epoch": 2}', b"no JSON"])
def test_a_checkpoint_that_does_not_say_whose_it_is_is_passed_over(tmp_path: Path, content: bytes) -> None:
    for epoch in (1, 2):
        save_checkpoint(tmp_path, epoch, make_params(epoch), "run")
    tampered(tmp_path / "epoch_000002", "about.json", content)
    found = latest_checkpoint(tmp_path, template, "run")
    assert (found.epoch, len(found.remarks)) == (1, 1)


def test_only_checkpoints_are_dropped(tmp_path: Path) -> None:
    place = tmp_path / "net" / "checkpoints"
    for epoch in (1, 2):
        save_checkpoint(place, epoch, make_params(epoch), "run")
    (place / "epoch_000001" / "mine.txt").write_text("a person's")
    drop_checkpoints(tmp_path / "net")
    assert [path.relative_to(place).as_posix() for path in sorted(place.rglob("*"))] == [
        "epoch_000001",
        "epoch_000001/mine.txt",
    ]
    (place / "epoch_000001" / "mine.txt").unlink()
    save_checkpoint(tmp_path / "other" / "checkpoints", 1, make_params(1), "run")
    drop_checkpoints(tmp_path / "other")
    assert not (tmp_path / "other").exists()
