"""Synthetic clips by the plan: which ones, made on all cores, and written as a DCASE 2020 tree."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

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
from adjax.simulator.truth import (
    GROUND_TRUTH,
    HOP_LENGTH,
    N_MELS,
    TruthRow,
    fault_mask,
    fault_spans,
    write_ground_truth,
)
from adjax.store import check_folder, write_folder
from adjax.types import SettingsError, StoreError

SETTINGS = "settings.json"
SNR_RANGE_DB = (-20.0, 20.0)
MAX_DURATION_S = 3600
SEVERITIES = (0.3, 1.0)  # the anomalies' range
_CHUNK = 8  # clips in a simulator call; always padded to this, so that there is one compile and one result


@dataclass(frozen=True)
class ClipCounts:
    """How many clips of one machine id.

    Attributes:
        train: normal training clips.
        test_normal: normal test clips.
        test_anomaly: anomalous test clips, the faults taken in turn.
    """

    train: int
    test_normal: int
    test_anomaly: int


FULL: Mapping[str, ClipCounts] = {  # the slide rails of DCASE 2020 Task 2, development set, ids of the study
    "id_00": ClipCounts(968, 100, 356),
    "id_02": ClipCounts(968, 100, 267),
    "id_04": ClipCounts(434, 100, 178),
}
SMALL: Mapping[str, ClipCounts] = {machine_id: ClipCounts(60, 45, 45) for machine_id in FULL}


@dataclass(frozen=True)
class ClipPlan:
    """One clip to be made.

    Attributes:
        machine_id: for example "id_00".
        split: "train" or "test".
        index: number within machine, split and label.
        fault: one of `FAULTS`, or "" for a normal clip.
        severity: 0 for a normal clip.
    """

    machine_id: str
    split: Literal["train", "test"]
    index: int
    fault: str = ""
    severity: float = 0.0

    @property
    def name(self) -> str:
        """File name of DCASE 2020."""
        return f"{'anomaly' if self.fault else 'normal'}_{self.machine_id}_{self.index:08d}.wav"


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


def plan_clips(
    counts: Mapping[str, ClipCounts], *, seed: int = 0, severities: tuple[float, float] = SEVERITIES
) -> list[ClipPlan]:
    """List the clips of a data set: the faults in turn, severities drawn evenly from a range.

    Args:
        counts: by machine id, written "id_00".
        seed: of the severities.
        severities: lowest and highest, in [0, 1].

    Returns:
        Plans by machine: training, normal test, anomalous test.

    Raises:
        SettingsError: nothing asked for, a negative count, a machine id of another form, a bad range or seed.
    """
    low, high = severities
    check_number("severities", high, low=0, high=1)
    check_number("severities", low, low=0, high=high)
    check_seed(seed)
    plans: list[ClipPlan] = []
    for machine_id, count in counts.items():
        number = _id_number(machine_id)
        for name in ("train", "test_normal", "test_anomaly"):
            check_number(f"{machine_id}: {name}", getattr(count, name), low=0, whole=True)
        drawn = np.random.default_rng([seed, number]).uniform(low, high, count.test_anomaly)
        plans += [ClipPlan(machine_id, "train", i) for i in range(count.train)]
        plans += [ClipPlan(machine_id, "test", i) for i in range(count.test_normal)]
        plans += [
            ClipPlan(machine_id, "test", i, FAULTS[i % len(FAULTS)], round(float(severity), 3))
            for i, severity in enumerate(drawn)
        ]
    if not plans:
        raise SettingsError(f"counts={dict(counts)} ask for no clip")
    return plans


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
    first, *rest = (plans[start : start + _CHUNK] for start in range(0, len(plans), _CHUNK))
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
    clips = make_clips(plans, snr_db=snr_db, seed=seed, duration=duration)
    home = Path(root) / "slider"
    settings = {
        "counts": {name: asdict(count) for name, count in counts.items()},
        "snr_db": snr_db, "seed": seed, "severities": list(severities), "duration": duration,
        "versions": {name: metadata.version(name) for name in ("adjax", "jax", "jaxlib", "numpy")},
    }  # fmt: skip
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


def _id_number(machine_id: str) -> int:
    prefix, _, number = machine_id.partition("_")
    if prefix != "id" or not (number.isascii() and number.isdigit()):
        raise SettingsError(f"machine id {machine_id!r}: write it as id_00")
    return int(number)


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
    groups = {("train", False): 0, ("test", False): 1, ("test", True): 2}
    codes = [(_id_number(p.machine_id), groups[p.split, bool(p.fault)], p.index) for p in filled]
    each = [make_machine(number) for number, _, _ in codes]
    machines = Machine._make(np.stack(values) for values in zip(*each, strict=True))
    severities = Severity._make(
        np.array([p.severity * (p.fault == fault) for p in filled], np.float32) for fault in FAULTS
    )
    keys = _keys(np.uint32(seed), np.array(codes, np.uint32))
    clips = simulate_batch(keys, machines, severities, snr_db, n_samples=n_samples)
    return jax.tree.map(np.asarray, clips)
