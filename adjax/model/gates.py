"""Weights of columns, and r of a pooling, learnt by gradient from normal clips of several machines without labels.

A likelihood alone is no aim: scaled down to nothing, or left with the dullest columns, every clip is likely. What is
asked for instead is that held-out clips of a machine look normal to it beside clips that are not its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from adjax.detectors.gmm import GmmConfig, GmmHyper, fit_implicit, log_joint
from adjax.detectors.products import times
from adjax.features.pooling import gwrp
from adjax.model.selection import alike, held_out_logs

Density = Literal["alone", "together"]

PENALTY = 0.02  # nats for all gates open
NOISE = 0.3  # standard deviation added to gated columns, which have 1: what a gate lets through must rise above it
MIXTURE, HYPER = GmmConfig(1, "diag"), GmmHyper(reg_covar=1e-2, tol=1e-5)  # that r is learnt through
_START = 0.1  # of the gates of "alone": ten columns count as one, since they are not independent


class Learnt(NamedTuple):
    """What gradient descent found.

    Attributes:
        value: the weights (d,), or r ().
        losses: (n_steps,) nats.
        values: of r: (n_steps,) on the way; of gates None.
    """

    value: Array
    losses: Array
    values: Array | None = None


def learn_gates(
    rows: Array,
    machine: Array,
    *,
    n_machines: int,
    density: Density = "alone",
    n_folds: int = 2,
    n_steps: int = 300,
    rate: float = 0.05,
    penalty: float = PENALTY,
) -> Learnt:
    """One gate for each column, by what tells a held-out clip's machine from the others.

    The aim is the least mean of -log p(own machine | clip), plus `penalty` times the mean gate. The model is fitted to
    the other folds, and the odds between its machines are those of

    - "alone": independent Gaussians, the log-likelihood of each column times its gate (.5 counts a column half);
    - "together": Gaussians with one covariance within all machines, on columns times their gates, in noise of
      `NOISE`: columns that say the same are not needed twice.

    Args:
        rows: see `adjax.model.selection.alike`.
        machine: see there.
        n_machines: at least 2; static.
        density: see above; static.
        n_folds: static.
        n_steps: of Adam; static.
        rate: of learning.
        penalty: nats.

    Returns:
        Gates in [0, 1], 0 of constant columns.
    """
    x = alike(rows, machine, n_machines=n_machines)
    moves = jnp.any(x != 0, axis=0)
    if density == "alone":
        logs = held_out_logs(rows, machine, n_machines=n_machines, n_folds=n_folds)[:, :-1]
        start = jnp.full(x.shape[1], _START, x.dtype)

        def log_odds(gates: Array) -> Array:
            return jnp.einsum("nmd,d->nm", logs, gates, precision=jax.lax.Precision.HIGHEST)

    else:
        start = jnp.full(x.shape[1], 0.5, x.dtype)

        def log_odds(gates: Array) -> Array:
            return _joint_logs(x * gates[None], machine, n_machines, n_folds)

    def loss(free: Array) -> Array:
        gates = jnp.where(moves, jax.nn.sigmoid(free), 0)
        own = jnp.take_along_axis(jax.nn.log_softmax(log_odds(gates), axis=1), machine[:, None], axis=1)
        return -jnp.mean(own) + penalty * jnp.mean(gates)

    free, losses, _ = _descend(loss, jax.scipy.special.logit(start), n_steps, rate)
    return Learnt(jnp.where(moves, jax.nn.sigmoid(free), 0), losses)


def _joint_logs(z: Array, machine: Array, n_machines: int, n_folds: int) -> Array:
    """(n_clips, n_machines) log densities of held-out clips, but for what all machines have in common."""
    own = jax.nn.one_hot(machine, n_machines, dtype=z.dtype)
    fold = (jnp.sum((jnp.cumsum(own, axis=0) - 1) * own, axis=1)).astype(jnp.int32) % n_folds
    found = jnp.zeros((len(z), n_machines), z.dtype)
    for number in range(n_folds):
        kept = own * (fold != number)[:, None]
        means = times(kept.T, z) / jnp.maximum(kept.sum(axis=0), 1)[:, None]
        residual = kept.sum(axis=1, keepdims=True) * (z - means[machine])
        covariance = times(residual.T, residual) / kept.sum() + NOISE**2 * jnp.eye(z.shape[1], dtype=z.dtype)
        factor = jnp.linalg.cholesky(covariance)
        slopes = jax.scipy.linalg.cho_solve((factor, True), means.T)  # (d, n_machines)
        # |clip - mean|^2 without what is the clip's alone.
        logs = times(z, slopes) - 0.5 * jnp.sum(means.T * slopes, axis=0)[None]
        found = jnp.where((fold == number)[:, None], logs, found)
    return found


def learn_ratio(
    key: Array,
    frames: Array,
    weight: Array,
    machine: Array,
    foreign: Array,
    foreign_weight: Array,
    foreign_machine: Array,
    *,
    n_machines: int,
    config: GmmConfig = MIXTURE,
    hyper: GmmHyper = HYPER,
    start: float = 0.9,
    n_steps: int = 40,
    rate: float = 0.1,
) -> Learnt:
    """The r of GWRP by which a machine's held-out clips score lower than foreign ones, through pooling and EM.

    Every other clip of a machine fits its mixture (`fit_implicit`), the rest is held out. The loss is the mean over
    pairs of a held-out clip and a foreign one of softplus(difference of their scores, in standard deviations of the
    held-out ones): a smooth 1 - AUC. What foreign clips are decides what is learnt: clips of other machines, or a
    machine's own with something put into them.

    Args:
        key: of the starts.
        frames: (n_clips, n_frames, n_bands) float, of normal clips.
        weight: (n_clips, n_frames) 1, 0 for padding.
        machine: (n_clips,) int, whose they are.
        foreign: (n_foreign, n_frames, n_bands).
        foreign_weight: (n_foreign, n_frames).
        foreign_machine: (n_foreign,) int, which machine's model judges each.
        n_machines: static.
        config: of the mixture; static.
        hyper: of the mixture.
        start: r in (0, 1).
        n_steps: of Adam; static.
        rate: of learning, of the logit of r.

    Returns:
        r in (0, 1), with the way there.
    """
    own = jax.nn.one_hot(machine, n_machines, dtype=frames.dtype)
    place = jnp.sum((jnp.cumsum(own, axis=0) - 1) * own, axis=1).astype(jnp.int32)
    fits, held_out = own * (place % 2 == 0)[:, None], own * (place % 2 == 1)[:, None]
    theirs = jax.nn.one_hot(foreign_machine, n_machines, dtype=frames.dtype)

    def loss(free: Array) -> Array:
        r = jax.nn.sigmoid(free)

        def pool(clip: tuple[Array, Array]) -> Array:
            return gwrp(clip[0], r, clip[1])

        normal, other = (jax.lax.map(pool, own) for own in ((frames, weight), (foreign, foreign_weight)))
        total = jnp.zeros((), frames.dtype)
        for number in range(n_machines):
            params, _ = fit_implicit(config, key, normal, fits[:, number], hyper)
            mine, strange = (
                -jax.nn.logsumexp(log_joint(config.covariance_type, params, x), axis=1)
                for x in (normal, other)
            )
            on, against = held_out[:, number], theirs[:, number]
            mean = jnp.sum(on * mine) / jnp.sum(on)
            deviation = jnp.sqrt(jnp.sum(on * (mine - mean) ** 2) / jnp.sum(on) + 1e-6)
            pairs = jax.nn.softplus((mine[:, None] - strange[None, :]) / deviation)
            total += on @ pairs @ against / (jnp.sum(on) * jnp.sum(against))
        return total / n_machines

    free, losses, way = _descend(
        loss, jax.scipy.special.logit(jnp.asarray(start, frames.dtype)), n_steps, rate
    )
    return Learnt(jax.nn.sigmoid(free), losses, jax.nn.sigmoid(way))


def _descend(
    loss: Callable[[Array], Array], start: Array, n_steps: int, rate: float
) -> tuple[Array, Array, Array]:
    """Adam: where it ends, (n_steps,) losses, and (n_steps, ...) where each was."""
    optimiser = optax.adam(rate)

    def step(
        state: tuple[Array, optax.OptState], _: None
    ) -> tuple[tuple[Array, optax.OptState], tuple[Array, Array]]:
        free, memory = state
        value, slope = jax.value_and_grad(loss)(free)
        change, memory = optimiser.update(slope, memory)
        return (free + change, memory), (value, free)

    (free, _), (losses, way) = jax.lax.scan(step, (start, optimiser.init(start)), length=n_steps)
    return free, losses, way
