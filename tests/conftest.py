"""Shared fixtures: strict JAX settings, float64 on request, the real data beside the project when it is there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import jax
import matplotlib
import pytest

matplotlib.use("Agg")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Compiled programs, which are most of the suite's time: xdist workers, the processes that tests start and later runs
# share them. JAX finds one by the program, the flags, the versions and the machine, so none is ever stale.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "adjax-tests"
    CACHE.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(CACHE)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.05"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    jax.config.update("jax_compilation_cache_dir", str(CACHE))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

SHARED = Path(os.environ.get("ADJAX_SHARED", Path(__file__).resolve().parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real clips and reference scores; a user's clone has none, and the test says so."""
    if not (SHARED / "data").is_dir():
        pytest.skip("real clips are not here (set ADJAX_SHARED to their folder)")
    return SHARED


@pytest.fixture(autouse=True, scope="module")
def programs() -> Iterator[None]:
    """Let go of a module's compiled programs: each takes memory maps, of which Linux grants a process 65,530."""
    yield
    jax.clear_caches()


@pytest.fixture
def x64() -> Iterator[None]:
    """Run one test in float64."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty feature cache for each test: never the user's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ADJAX_CACHE", str(folder))
    return folder
