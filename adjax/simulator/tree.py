"""Synthetic clips by the plan, made on all cores, and written as a DCASE tree of 2020 or, with domains, of 2022."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from itertools import groupby
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array

from adjax.batching import n_cores
from adjax.checks import check_number, check_seed
from adjax.data.audio import write_wav
from adjax.files import read_json, write_json
from adjax.simulator.clips import (
    DURATION_S,
    FAULTS,
    SR,
    Machine,
    Severity,
    SimulatedClip,
    make_machine,
    simulate_batch,
)
from adjax.simulator.conditions import Condition
from adjax.simulator.plans import (
    FULL,
    FULL_DOMAINS,
    SEVERITIES,
    ClipCounts,
    ClipPlan,
    DomainCounts,
    machine_number,
    plan_clips,
    plan_domains,
)
from adjax.simulator.truth import (
    GROUND_TRUTH,
    HOP_LENGTH,
    N_MELS,
    TruthRow,
    fault_mask,
    fault_spans,
    write_attributes,
    write_ground_truth,
)
from adjax.store import check_folder, write_folder
from adjax.types import StoreError

SETTINGS = "settings.json"
SNR_RANGE_DB = (-20.0, 20.0)
MAX_DURATION_S = 3600
_CHUNK = 8  # clips in a simulator call; always padded to this, so that there is one compile and one result


@dataclass(frozen=True)
class MadeClip:
    """A clip that has been made.

    Attributes:
        plan: what was asked for.
        samples: (n_samples,) float32 in [-1, 1].
        mask: (n_frames, N_MELS) bool, the cells that the fault touches; all False for a normal clip.
    """

    plan: ClipPlan
    samples: np.ndarray
    mask: np.ndarray


def make_clips(
    plans: Sequence[ClipPlan], *, snr_db: float = -6.0, seed: int = 0, duration: float = DURATION_S
) -> Iterator[MadeClip]:
    """Make clips, a few at a time on all cores; memory does not grow with their number. Settings are checked at once.

    Args:
        plans: what to make. A clip depends on its own plan, the SNR and the seed, not on its neighbours.
        snr_db: healthy machine over background, dB; MIMII has 6, 0 and -6.
        seed: of the whole data set.
        duration: seconds a clip.

    Returns:
        The clips, in the order of `plans`, made as they are asked for.

    Raises:
        SettingsError: an SNR at which clips would overload or the machine vanish, no seed, or a duration below 1 s or
            above an hour.
    """
    check_number("snr_db", snr_db, low=SNR_RANGE_DB[0], high=SNR_RANGE_DB[1])
    check_number("duration", duration, low=1, high=MAX_DURATION_S)  # a stroke at least
    check_seed(seed)
    return _make_clips(
        plans, partial(_simulate_chunk, snr_db=snr_db, seed=seed, n_samples=int(duration * SR))
    )


def _make_clips(
    plans: Sequence[ClipPlan], make: Callable[[Sequence[ClipPlan]], SimulatedClip]
) -> Iterator[MadeClip]:
    if not plans:
        return
    # With and without conditions are two programs: no clip may come out of the other for its neighbours' sake.
    alike = [list(group) for _, group in groupby(plans, key=lambda plan: plan.condition is None)]
    first, *rest = (own[start : start + _CHUNK] for own in alike for start in range(0, len(own), _CHUNK))
    yield from _finish(first, make(first))  # alone, or every worker would compile
    n_workers = n_cores()
    waiting: deque[tuple[Sequence[ClipPlan], Future[SimulatedClip]]] = deque()
    with ThreadPoolExecutor(n_workers) as pool:
        for chunk in rest:
            waiting.append((chunk, pool.submit(make, chunk)))
            if len(waiting) > n_workers + 1:
                done, clips = waiting.popleft()
                yield from _finish(done, clips.result())
        for done, clips in waiting:
            yield from _finish(done, clips.result())


def write_tree(
    root: str | os.PathLike[str],
    *,
    counts: Mapping[str, ClipCounts] = FULL,
    snr_db: float = -6.0,
    seed: int = 0,
    severities: tuple[float, float] = SEVERITIES,
    duration: float = DURATION_S,
    on_clip: Callable[[Path], None] | None = None,
) -> Path:
    """Write a data set in DCASE 2020's layout, with the ground truth of its anomalies.

    The tree appears whole (the columns of its `ground_truth.csv`: `write_ground_truth`), with its settings and the
    SHA-256 of every file, and nothing is done where the same one is there already. Another one of this simulator is
    replaced; where anything else lies, also a single changed file, nothing is touched.

    Args:
        root: folder to write `slider/` into; made if missing.
        counts: clips by machine id; `FULL` (2,370 training, 1,101 test clips, 1.1 GB) or `SMALL`.
        snr_db: see `make_clips`.
        seed: see `make_clips`.
        severities: see `plan_clips`.
        duration: seconds a clip.
        on_clip: called with each file's path once it is written, for progress.

    Returns:
        The machine type's folder, `<root>/slider`.

    Raises:
        SettingsError: see `plan_clips` and `make_clips`.
        StoreError: it cannot be written, or files that others wrote would be lost.
    """
    plans = plan_clips(counts, seed=seed, severities=severities)
    settings = {
        "counts": {name: asdict(count) for name, count in counts.items()},
        "snr_db": snr_db, "seed": seed, "severities": list(severities), "duration": duration,
    }  # fmt: skip
    return _write(root, plans, settings, on_clip)


def write_domains(
    root: str | os.PathLike[str],
    *,
    counts: Mapping[str, DomainCounts] = FULL_DOMAINS,
    shift: float = 1.0,
    snr_db: float = -6.0,
    seed: int = 0,
    severities: tuple[float, float] = SEVERITIES,
    duration: float = DURATION_S,
    on_clip: Callable[[Path], None] | None = None,
) -> Path:
    """Write a data set with a source and a target domain in the layout of DCASE 2022, as `write_tree` does.

    Beside `ground_truth.csv` there is `attributes_00.csv` for each section, with every clip's condition.

    Args:
        root: folder to write `slider/` into; made if missing.
        counts: clips by section; `FULL_DOMAINS` (3,000 training, 600 test clips, 1.2 GB) or `SMALL_DOMAINS`.
        shift: of the target domain, in [0, 1]; 0 is none. See `plan_domains`.
        snr_db: see `make_clips`; of the source, whose conditions are near the nominal one.
        seed: see `make_clips`; the same random numbers whatever the shift.
        severities: see `plan_domains`.
        duration: seconds a clip.
        on_clip: called with each file's path once it is written, for progress.

    Returns:
        The machine type's folder, `<root>/slider`.

    Raises:
        SettingsError: see `plan_domains` and `make_clips`.
        StoreError: it cannot be written, or files that others wrote would be lost.
    """
    plans = plan_domains(counts, shift=shift, seed=seed, severities=severities)
    settings = {
        "counts": {name: asdict(count) for name, count in counts.items()}, "shift": shift,
        "snr_db": snr_db, "seed": seed, "severities": list(severities), "duration": duration,
    }  # fmt: skip
    return _write(root, plans, settings, on_clip)


def _write(
    root: str | os.PathLike[str],
    plans: Sequence[ClipPlan],
    settings: dict[str, Any],
    on_clip: Callable[[Path], None] | None,
) -> Path:
    """Make the clips of a data set and write them, whole or not at all."""
    clips = make_clips(plans, **{name: settings[name] for name in ("snr_db", "seed", "duration")})
    settings["versions"] = {name: metadata.version(name) for name in ("adjax", "jax", "jaxlib", "numpy")}
    home = Path(root) / "slider"
    tell = on_clip or (lambda path: None)

    def fill(place: Path) -> None:
        for split in {plan.split for plan in plans}:
            (place / split).mkdir()
        rows: list[tuple[str, TruthRow]] = []
        for clip in clips:
            plan = clip.plan
            write_wav(place / plan.split / plan.name, clip.samples, SR)
            if plan.fault:
                rows.append((plan.name, TruthRow(plan.fault, plan.severity, fault_spans(clip.mask))))
            tell(home / plan.split / plan.name)
        write_ground_truth(place / GROUND_TRUTH, rows)
        for section in dict.fromkeys(plan.machine_id for plan in plans if plan.condition):
            own = [plan for plan in plans if plan.machine_id == section]
            write_attributes(
                place / f"attributes_{section.partition('_')[2]}.csv",
                ((f"{home.name}/{p.split}/{p.name}", p.condition) for p in own if p.condition),
            )
        write_json(place / SETTINGS, settings)

    if _is_there(home, settings):
        for plan in plans:
            tell(home / plan.split / plan.name)
    else:
        write_folder(home, "simulation", fill)
    return home


def _is_there(home: Path, settings: Mapping[str, Any]) -> bool:
    """Whether the very same tree was written before, and is whole."""
    try:
        check_folder(home)
        return read_json(home / SETTINGS) == settings
    except StoreError:
        return False


@jax.jit
def _keys(seed: Array, codes: Array) -> Array:
    """One key a clip from (machine, group, index): (n_clips, 3) -> (n_clips,)."""

    def one(code: Array) -> Array:
        return jax.random.fold_in(
            jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), code[0]), code[1]), code[2]
        )

    return jax.vmap(one)(codes)


_mask = jax.jit(fault_mask)


def _finish(plans: Sequence[ClipPlan], clips: SimulatedClip) -> Iterator[MadeClip]:
    """Add the masks. Only the consumer's thread does this: see `adjax.simulator.sound_synthesis` on transforms."""
    n_frames = 1 + clips.samples.shape[1] // HOP_LENGTH
    for plan, samples, fault in zip(plans, clips.samples, clips.fault, strict=False):
        mask = np.asarray(_mask(samples, fault)) if plan.fault else np.zeros((n_frames, N_MELS), bool)
        yield MadeClip(plan, samples, mask)


def _simulate_chunk(plans: Sequence[ClipPlan], *, snr_db: float, seed: int, n_samples: int) -> SimulatedClip:
    """Simulate up to _CHUNK clips in one call; the last plan is repeated to fill it."""
    filled = [*plans, *[plans[-1]] * (_CHUNK - len(plans))]
    each = [make_machine(machine_number(p.machine_id)) for p in filled]
    machines = Machine._make(np.stack(values) for values in zip(*each, strict=True))
    severities = Severity._make(
        np.array([p.severity * (p.fault == fault) for p in filled], np.float32) for fault in FAULTS
    )
    own = [p.condition for p in filled if p.condition is not None]
    conditions = (
        Condition._make(np.array(values, np.float32) for values in zip(*own, strict=True)) if own else None
    )
    keys = _keys(np.uint32(seed), np.array([p.stream for p in filled], np.uint32))
    clips = simulate_batch(keys, machines, severities, snr_db, conditions, n_samples=n_samples)
    return jax.tree.map(np.asarray, clips)
