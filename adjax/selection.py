"""The model "auto": many small detectors, calibrated on held-out normal clips, the loudest decides. No label is used.

Every machine gets the same 14 lanes: five views of a clip (`adjax.features.views`), four of them also with
neighbouring mel bands averaged, each with a Gaussian that borrows from the other machines of the type
(`adjax.detectors.mahalanobis`), and the mean spectrum once more without correlations. Nobody knows beforehand in which
view a fault will show, and picking one by a criterion on normal clips (their spread, tails, other machines or
simulated faults as stand-ins for anomalies) cost .05 to .17 AUC against the best lane. So none is picked:
each lane's score is brought to the scale of what normal clips score when they are left out of its fit, and the
largest is the clip's score. Every lane then has about the same rate of false alarms, and a fault need show in only one.

Where the constants come from: rule, views, resolutions and priors were chosen on simulated machines of seven kinds
(adjax's slide rail is one), and tried on three made later, whose scores had a say in the cut to 14
lanes. Real clips were looked at eight times meanwhile: that
real fans need the averages of 16 bands and the diagonal lane was learnt there (on simulated machines they make no
difference), and that the spread should be the upper side's, from their normal clips alone.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import Precision
from threadpoolctl import threadpool_limits

from adjax.data.clips import ClipTable
from adjax.detectors.mahalanobis import Covariance, Gaussian, fit_gaussian, log_distance
from adjax.extraction import ClipFeatures
from adjax.features.views import VIEWS
from adjax.results import Fit, LaneScores, Result, group_of
from adjax.types import CONVERGED, AdjaxError, ClipError, FitError

MIN_CLIPS = 3  # a machine: with one held out, two are left
MAX_BLOCKS = 10  # a machine; contiguous, because clips come in recording order and neighbours are alike
MIN_SPREAD = 1e-3  # of a lane whose normal clips are all alike


class LaneGroup(NamedTuple):
    """Lanes that are fitted in one batch: some views, so many neighbouring bands averaged, one kind of covariance."""

    views: tuple[str, ...]
    n_averaged: int
    covariance: Covariance


# Rhythm is not averaged: its neighbours are different frequencies. The diagonal lane over-counts what all bands do
# together, which is a fault in the mean and mere noise in the other views.
GROUPS = (
    LaneGroup(VIEWS, 1, "full"),
    LaneGroup(VIEWS[:4], 4, "full"),
    LaneGroup(VIEWS[:4], 16, "full"),
    LaneGroup(("mean",), 1, "diag"),
)
LANES = tuple(
    view
    + {1: ""}.get(group.n_averaged, f" /{group.n_averaged}")
    + {"full": ""}.get(group.covariance, " diagonal")
    for group in GROUPS
    for view in group.views
)
BANDS_MULTIPLE = max(group.n_averaged for group in GROUPS)


class TypeModel(NamedTuple):
    """All machines of one type.

    Attributes:
        gaussians: a `Gaussian` a group, its arrays (n_machines, n_views, ...).
        centre: (n_machines, n_lanes) mean held-out distance of the machine's normal clips.
        spread: (n_lanes,) their root mean square above it, all machines together.
    """

    gaussians: tuple[Gaussian, ...]
    centre: Array
    spread: Array


def fit_lanes(
    views: Array, weight: Array, machine: Array, own: Array, *, n_machines: int
) -> tuple[Gaussian, ...]:
    """Fit all lanes of one machine.

    Args:
        views: (n, n_views, d) float, of the normal clips of all machines of the type.
        weight: (n,) float, 1 for the clips to fit on, else 0.
        machine: (n,) int, whose each clip is.
        own: () int, the machine to fit.
        n_machines: static.

    Returns:
        A Gaussian a group, stacked over its views.
    """

    def fit(x: Array, covariance: Covariance) -> Gaussian:
        return fit_gaussian(x, weight, machine, own, n_machines=n_machines, covariance=covariance)

    return tuple(
        jax.vmap(functools.partial(fit, covariance=group.covariance))(_vectors(views, group))
        for group in GROUPS
    )


def lane_distances(gaussians: tuple[Gaussian, ...], views: Array) -> Array:
    """(n_clips, n_lanes) log distances of clips, (n_clips, n_views, d), from one machine."""
    parts = [
        jax.vmap(log_distance)(gaussian, _vectors(views, group))
        for gaussian, group in zip(gaussians, GROUPS, strict=True)
    ]
    return jnp.concatenate(parts).T


def held_out_blocks(machine: np.ndarray, n_machines: int) -> tuple[np.ndarray, np.ndarray]:
    """What to hold out: each clip once, alone if its machine has at most MAX_BLOCKS, else in contiguous blocks.

    Args:
        machine: (n,) int, whose each clip is.
        n_machines: how many there are.

    Returns:
        (n_blocks, n) bool, the clips of each block, and (n_blocks,) int32, their machine. The last `n_machines`
        blocks are empty: what is fitted without them is the machine's model.
    """
    blocks, owners = [], []
    for own in range(n_machines):
        clips = np.flatnonzero(machine == own)
        for block in np.array_split(clips, min(len(clips), MAX_BLOCKS)):
            blocks.append(np.isin(np.arange(len(machine)), block))
            owners.append(own)
    nothing = np.zeros((n_machines, len(machine)), bool)
    return np.concatenate([blocks, nothing]), np.array([*owners, *range(n_machines)], np.int32)


def calibrate(distances: Array, machine: Array, *, n_machines: int) -> tuple[Array, Array]:
    """Centre a machine and spread a lane of held-out distances.

    The spread is the upper semi-deviation, pooled over machines: only the upper side makes false alarms.

    Args:
        distances: (n, n_lanes) float, each clip's from a fit without it.
        machine: (n,) int.
        n_machines: static.

    Returns:
        (n_machines, n_lanes) centre and (n_lanes,) spread > 0.
    """
    member = (machine[None, :] == jnp.arange(n_machines)[:, None]).astype(distances.dtype)
    count = member.sum(axis=1)
    centre = jnp.matmul(member, distances, precision=Precision.HIGHEST) / count[:, None]
    above = jnp.maximum(distances - centre[machine], 0.0)
    spread = jnp.sqrt(jnp.sum(above**2, axis=0) / (count - 1.0).sum())
    return centre, jnp.maximum(spread, MIN_SPREAD)


@functools.partial(jax.jit, static_argnames="n_machines")
def fit_type(
    views: Array, machine: Array, held_out: Array, owner: Array, *, n_machines: int
) -> tuple[TypeModel, Array]:
    """Fit and calibrate all machines of one type.

    Args:
        views: (n, n_views, d) float, of the normal clips of all its machines.
        machine: (n,) int, whose each clip is; at least MIN_CLIPS each.
        held_out: (n_blocks, n) bool, from `held_out_blocks`.
        owner: (n_blocks,) int.
        n_machines: static.

    Returns:
        The model, and (n, n_lanes) calibrated held-out scores of the clips.
    """

    def step(distances: Array, block: tuple[Array, Array]) -> tuple[Array, tuple[Gaussian, ...]]:
        left_out, own = block
        weight = jnp.where(left_out, 0.0, 1.0).astype(views.dtype)
        gaussians = fit_lanes(views, weight, machine, own, n_machines=n_machines)
        return jnp.where(left_out[:, None], lane_distances(gaussians, views), distances), gaussians

    start = jnp.zeros((len(views), len(LANES)), views.dtype)
    distances, fitted = jax.lax.scan(step, start, (held_out, owner))  # each clip is held out once
    centre, spread = calibrate(distances, machine, n_machines=n_machines)
    whole = jax.tree.map(lambda leaf: leaf[-n_machines:], fitted)
    return TypeModel(whole, centre, spread), (distances - centre[machine]) / spread[None, :]


@jax.jit
def score_type(model: TypeModel, views: Array, machine: Array) -> Array:
    """(n, n_lanes) calibrated scores of clips, (n, n_views, d), each from its own machine, (n,) int."""

    def scores(one: tuple[Any, Array]) -> Array:
        gaussians, centre = one
        return (lane_distances(gaussians, views) - centre[None, :]) / model.spread[None, :]

    of_all = jax.lax.map(scores, (model.gaussians, model.centre))
    return of_all[machine, jnp.arange(len(machine))]


def fuse(z: Any) -> Any:
    """(n,) scores of clips from the (n, n_lanes) calibrated scores of their lanes: the largest."""
    return z.max(axis=1)


def select_and_score(
    train: ClipFeatures,
    test: ClipFeatures,
    *,
    per: str = "machine",
    on_model: Callable[[str], None] | None = None,
) -> Result:
    """Fit the lanes of every machine on normal clips, calibrate them, and score the test clips by the loudest.

    A machine with fewer than MIN_CLIPS training clips is reported in `Result.failures`, its clips get no score and
    no other machine borrows from it.

    Args:
        train: views of normal clips (`FeatureConfig(pooling="views")`), in recording order.
        test: views of the clips to score.
        per: "machine", or "type": all ids of a type are one machine.
        on_model: called with the name of each machine when its test clips are scored.
    """
    failures: list[AdjaxError] = [*train.failures, *test.failures]
    notes = tuple(dict.fromkeys((*train.notes, *test.notes)))
    train, test = (_finite(features, failures) for features in (train, test))
    names = sorted({group_of(clip, per) for clip in test.clips})
    owners = [group_of(clip, per) for clip in train.clips]
    n_clips = Counter(owners)
    failures += [
        FitError(
            f"{' '.join(name).strip()} has {n_clips[name]} training clips, the model auto needs at least {MIN_CLIPS} "
            "of each machine: add normal clips of it, or fit one model a type"
        )
        for name in names
        if n_clips[name] < MIN_CLIPS
    ]
    z = np.full((len(test.clips), len(LANES)), np.nan)
    held_out: dict[tuple[str, str], np.ndarray] = {}
    fits: list[Fit] = []
    for machine_type in dict.fromkeys(name[0] for name in names):
        # Mates need no test clips of their own.
        machines = sorted(name for name, n in n_clips.items() if name[0] == machine_type and n >= MIN_CLIPS)
        judged = [name for name in names if name in machines]
        if not judged:
            continue
        place = {name: i for i, name in enumerate(machines)}
        own_train = [i for i, name in enumerate(owners) if name in place]
        own_test = [i for i, clip in enumerate(test.clips) if group_of(clip, per) in place]
        machine = np.array([place[owners[i]] for i in own_train])
        of_test = np.array([place[group_of(test.clips[i], per)] for i in own_test])
        normal, z[own_test] = judge_type(train.rows[own_train], machine, test.rows[own_test], of_test)
        for name in judged:
            normals, own_z = fuse(normal[machine == place[name]]), z[own_test][of_test == place[name]]
            if not (np.isfinite(normals).all() and np.isfinite(own_z).all()):
                reason = "scores are not finite; look for odd clips among the training clips of its type"
                failures.append(FitError(f"{' '.join(name).strip()}: {reason}"))
                continue
            held_out[name] = normals
            n, n_blocks = n_clips[name], min(n_clips[name], MAX_BLOCKS)
            fits.append(Fit(*name, n, n, float(np.mean(normals)), n_blocks + 1, CONVERGED))
            if on_model:
                on_model(" ".join(name).strip())
    scored = np.isfinite(z).all(axis=1)  # the clips of machines that could be fitted
    clips = ClipTable(tuple(clip for clip, ok in zip(test.clips, scored, strict=True) if ok))
    lanes = LaneScores(LANES, z[scored], held_out)
    return Result(clips, fuse(lanes.z), tuple(fits), tuple(failures), notes, lanes)


def judge_type(
    train: np.ndarray, train_machine: np.ndarray, test: np.ndarray, test_machine: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Fit and score all machines of one type, on the host's arrays.

    Args:
        train: (n, n_views * d) float, views of normal clips.
        train_machine: (n,) int, whose; 0 to the number of machines less one, at least MIN_CLIPS each.
        test: (m, n_views * d) float.
        test_machine: (m,) int.

    Returns:
        (n, n_lanes) calibrated held-out scores of the normal clips and (m, n_lanes) of the test clips, float64.
    """
    n_machines = int(train_machine.max()) + 1
    held_out, owner = held_out_blocks(train_machine, n_machines)
    views = [rows.reshape(len(rows), len(VIEWS), -1) for rows in (train, test)]
    with threadpool_limits(1, user_api="blas"):  # LAPACK's threads only wait for each other on a covariance
        model, normal = fit_type(views[0], train_machine, held_out, owner, n_machines=n_machines)
        z = score_type(model, views[1], test_machine)
        return np.asarray(normal, np.float64), np.asarray(z, np.float64)


def _finite(features: ClipFeatures, failures: list[AdjaxError]) -> ClipFeatures:
    """The clips with finite features; the others, one of which would spoil a whole type, are added to `failures`."""
    good = np.isfinite(features.rows).all(axis=1)
    reason = "its features are not finite: scale the samples to [-1, 1]"
    failures += [ClipError(features.clips[i].path, reason) for i in np.flatnonzero(~good).tolist()]
    return features if good.all() else features.at(np.flatnonzero(good).tolist())


def _vectors(views: Array, group: LaneGroup) -> Array:
    """(n_views, n, d / n_averaged) vectors of a group's lanes."""
    chosen = views[:, np.array([VIEWS.index(view) for view in group.views]), :]
    n, n_views, d = chosen.shape
    return chosen.reshape(n, n_views, d // group.n_averaged, group.n_averaged).mean(axis=3).transpose(1, 0, 2)
