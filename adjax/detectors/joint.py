"""One Gaussian over all numbers of a clip: every view of it at once, with what they do together.

Each column is made normal by a map of its machine's own (`adjax.detectors.marginals`; together a nonparanormal), then
the machine gets a Gaussian of the normal scores. Its correlations are those that the mates, the other machines of the
type, agree on, mixed with its own as far as it has clips, and shrunken towards the identity by the intensity of Ledoit
and Wolf (2004). With hundreds of clips one joint Gaussian beats the loudest of many narrow ones, because it knows which
numbers move together; with few it leans on the mates (`experiments/real_vectors.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from adjax.checks import check_fields, check_number
from adjax.detectors.joint_gaussian import Moments, covariance_of, deviations_of, moments_of
from adjax.detectors.joint_strengths import learn_strengths
from adjax.detectors.marginals import Marginals, Shape, fit_marginals, to_scores
from adjax.detectors.products import times, whitening_of
from adjax.detectors.rows import by_machine
from adjax.types import CONVERGED, NOT_FINITE, AnyArray, Detector, FitInfo, Kind, Training


@dataclass(frozen=True)
class JointConfig:
    """Static settings: each value is one compile.

    Attributes:
        marginals: columns are made "normal" first, or only centred and scaled: "linear".
    """

    marginals: Shape = "normal"


class JointHyper(NamedTuple):
    """Traced settings.

    Attributes:
        mates: >= 0, as many clips the deviations within all machines of the type count in a machine's own.
        correlation: >= 0, as many the mates' correlations do; they are more numbers to be learnt.
    """

    mates: Any = 8.0
    correlation: Any = 256.0


class Joint(NamedTuple):
    """One machine's normal clips.

    Attributes:
        marginals: what its columns go through.
        mean: (d,) float, of the normal scores.
        whitening: (d, d) float, lower triangle: inverse Cholesky factor of their covariance.
    """

    marginals: Marginals
    mean: AnyArray
    whitening: AnyArray


def make_joint(config: JointConfig = JointConfig(), hyper: JointHyper = JointHyper()) -> Detector:
    """Build the detector.

    It takes one row for each clip, of any numbers; a score is the log of the mean squared whitened deviation, around 0
    for the clips fitted on. Columns that are constant count nowhere. A fit must see all machines of a type. A machine
    without clips, or whose columns are all constant, has the status NOT_FINITE; so have all machines of the type if a
    row or a traced setting is not finite or out of its range. Parameters are a `Joint`, leaves (n_machines, ...).

    Raises:
        SettingsError: a setting out of its range.
    """
    check_fields(config)
    check_number("mates", hyper.mates, low=0)
    check_number("correlation", hyper.correlation, low=0)

    def fit(key: Array, training: Training, hyper: JointHyper = hyper) -> tuple[Joint, FitInfo]:
        rows, present = by_machine(training)
        mates, prior = (jnp.asarray(value, rows.dtype) for value in hyper)
        usable = jnp.all(jnp.isfinite(rows)) & (mates >= 0) & (prior >= 0) & jnp.isfinite(mates + prior)
        marginals, _ = fit_marginals(rows, present, mates, shape=config.marginals)
        moments = moments_of(marginals, rows, present)
        return _finished(marginals, rows, present, moments, prior, usable)

    def score(params: Joint, machine: Array, rows: Array, weight: Array) -> Array:
        own = jax.tree.map(lambda leaf: leaf[machine], params)
        deviation = (to_scores(own.marginals, rows[:1])[0] - own.mean)[:, None]
        moves = jnp.sum(own.marginals.factor > 0)  # columns that are left out have no say
        squares = jnp.sum(times(own.whitening, deviation) ** 2) / jnp.maximum(moves, 1)
        return jnp.where(weight[0] > 0, jnp.log(jnp.maximum(squares, 1e-12)), jnp.nan)[None]

    return Detector(fit, score, (KIND.name,), hyper)


def _finished(
    marginals: Marginals, rows: Array, present: Array, everyone: Moments, prior: Array, usable: Array
) -> tuple[Joint, FitInfo]:
    """The machines' Gaussians, and how their fits ended."""

    def one(own: tuple[Marginals, Array, Array]) -> tuple[Array, Array]:
        mean, moments = deviations_of(*own)
        return mean, whitening_of(covariance_of(own[0], moments, everyone, prior))

    mean, whitening = jax.lax.map(one, (marginals, rows, present))
    params = Joint(marginals, mean, whitening)
    good = usable & present.any(axis=1) & (marginals.factor > 0).any(axis=1)
    for leaf in jax.tree.leaves(params):
        good &= jnp.isfinite(leaf).reshape(len(rows), -1).all(axis=1)
    status = jnp.where(good, CONVERGED, NOT_FINITE).astype(jnp.int32)
    nothing = jnp.full(len(rows), jnp.nan, rows.dtype)  # no objective: the formulae are closed
    return params, FitInfo(nothing, jnp.ones(len(rows), jnp.int32), status)


def adapt_joint(
    config: JointConfig, hyper: JointHyper, key: Array, params: Joint, memory: Training, new: Training
) -> tuple[Joint, FitInfo]:
    """The Gaussian of one new machine, as the fit of all machines would have it; see `Kind.adapt`.

    The mates' columns and correlations come from their kept clips; they themselves are not fitted again.
    """
    rows, present = by_machine(memory)
    mates, prior = (jnp.asarray(value, rows.dtype) for value in hyper)
    marginals, agreed = fit_marginals(rows, present, mates, shape=config.marginals)
    moments = moments_of(marginals, rows, present)
    rows, present = by_machine(new)
    usable = jnp.all(jnp.isfinite(rows))
    marginals, _ = fit_marginals(rows, present, mates, shape=config.marginals, known=agreed)
    moments = jax.tree.map(jnp.add, moments, moments_of(marginals, rows, present))
    return _finished(marginals, rows, present, moments, prior, usable)


def learn_joint(config: JointConfig, hyper: JointHyper, memory: Training, n_clips: int) -> JointHyper:
    """The strengths by which the mates' clips would be most likely if each were a new machine; see `Kind.learn`."""
    strengths, known = learn_strengths(memory, n_clips, shape=config.marginals)
    return JointHyper(*(jnp.where(known, a, b) for a, b in zip(strengths, hyper, strict=True)))


KIND = Kind(
    name="joint",
    summary="one Gaussian over all numbers of a clip, each made normal first, with what the type's machines agree on",
    config=JointConfig,
    hyper=JointHyper,
    make=make_joint,
    rows="pooled",
    scales=True,
    scope="type",
    recipes={"linear": (JointConfig("linear"), {})},
    least=lambda config: 2,
    adapt=adapt_joint,
    learn=learn_joint,
)
