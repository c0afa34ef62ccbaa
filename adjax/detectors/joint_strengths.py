"""How far a new machine should lean on its mates: learnt from the mates, by the likelihood of what they left out.

Each mate plays the new machine in turn, where they are few several times. Only as many of its clips are heard as the
new machine has, the other mates lend, and the likelihood of further clips of it says how well the two were mixed: once
for every pair of strengths of a small grid. The likelihood is that of the clips as they came: of the Gaussian of the
normal scores, times the slopes of the maps that made them normal. The mean of k clips is off by a k-th of the
covariance, which widens the Gaussian.

Wild clips do not decide: against a pair of strengths a clip counts at most as MOST_REGRET for each column less than for
the pair that it likes best. One thing is shared between the players, for the sake of speed: a mate that lends is scaled
beside all the others, the player among them.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from adjax.detectors.joint_gaussian import Moments, covariance_of, deviations_of
from adjax.detectors.marginals import Agreed, Marginals, Shape, fit_marginals, to_scores, without
from adjax.detectors.products import times, whitening_of
from adjax.detectors.rows import by_machine
from adjax.types import Training

MATES = (2.0, 8.0, 32.0, 128.0)
CORRELATION = (4.0, 16.0, 64.0, 256.0, 1024.0)
MOST_PLAYS = 8  # of few mates, each plays several times
MOST_JUDGED = 64  # clips of each play
MOST_REGRET = 1.0  # nats
LEAST_SLOPE = 1e-3  # in standard deviations: where a map is flat, a clip is unlikely, not impossible


class Play(NamedTuple):
    """What a mate shows as the new machine.

    Attributes:
        heard: (room, d) clips, and (room,) bool which are there.
        judged: (MOST_JUDGED, d) others, and (MOST_JUDGED,) bool which are there.
    """

    heard: tuple[Array, Array]
    judged: tuple[Array, Array]


class Player(NamedTuple):
    """A mate in the part of the new machine.

    Attributes:
        machine: () int, which one.
        able: () bool, whether it has clips enough.
        plays: leaves (n_plays, ...): other clips are heard each time.
    """

    machine: Array
    able: Array
    plays: Play


def learn_strengths(memory: Training, n_clips: int, *, shape: Shape) -> tuple[tuple[Array, Array], Array]:
    """Learn the strengths for a machine of so many clips.

    Args:
        memory: normal clips of its mates, one row for each.
        n_clips: >= 1.
        shape: of the marginal maps.

    Returns:
        `mates` and `correlation`, () float each and both from the grid; and () bool, whether they are known: not where
        no two mates have clips, where none has n_clips + 2, or where no pair is finite for every player.
    """
    room = max(8, 1 << (n_clips - 1).bit_length())  # few shapes are compiled
    return _learn(memory, jnp.int32(n_clips), shape=shape, room=room)


@functools.partial(jax.jit, static_argnames=("shape", "room"))
def _learn(memory: Training, n_clips: Array, *, shape: Shape, room: int) -> Any:
    rows, present = by_machine(memory)
    likelihood, columns, there = log_likelihoods(rows, present, n_clips, shape=shape, room=room)
    (first, second), known = choose(likelihood, columns, there)
    grid = jnp.asarray(MATES, rows.dtype)[first], jnp.asarray(CORRELATION, rows.dtype)[second]
    return grid, known & (present.any(axis=1).sum() > 1)


def choose(likelihood: Array, columns: Array, there: Array) -> tuple[tuple[Array, Array], Array]:
    """The pair of strengths that the players' clips regret least; see `log_likelihoods` for the arguments.

    Returns:
        () int each, the places of the two; and () bool, whether there is such a pair: every clip's number is finite.
    """
    best = jnp.max(jnp.where(jnp.isfinite(likelihood), likelihood, -jnp.inf), axis=(0, 1), keepdims=True)
    most = MOST_REGRET * jnp.broadcast_to(columns[None, None, :, None], likelihood.shape)
    regret = jnp.where(there[None, None], jnp.minimum(best - likelihood, most), 0)  # NaN stays
    counts = jnp.maximum(there.sum(axis=1), 1)[None, None]
    total = jnp.sum(regret.sum(axis=3) / counts, axis=2)
    total = jnp.where(jnp.isfinite(total), total, jnp.inf)
    first, second = jnp.unravel_index(jnp.argmin(total), total.shape)
    return (first, second), there.any() & jnp.isfinite(total.min())


def log_likelihoods(
    rows: Array, present: Array, n_clips: Array, *, shape: Shape, room: int
) -> tuple[Array, Array, Array]:
    """Of the clips that each player's part leaves out, in nats.

    Args:
        rows: (n_machines, n, d) float, the clips of each machine.
        present: (n_machines, n) bool, which are there.
        n_clips: () int >= 1, as many of a player's clips are heard, evenly chosen.
        shape: static.
        room: >= n_clips; static.

    Returns:
        (len(MATES), len(CORRELATION), n_plays, MOST_JUDGED) float; (n_plays,) columns that count; and (n_plays,
        MOST_JUDGED) bool, which clips are there.
    """
    players = _cast(rows, present, n_clips, room)
    mates, correlation = (jnp.asarray(grid, rows.dtype) for grid in (MATES, CORRELATION))

    def by_mates(strength: Array) -> tuple[Array, Array]:
        marginals, agreed = fit_marginals(rows, present, strength, shape=shape)
        everyone, own = _moments(marginals, rows, present, players)

        def by_player(one: tuple[Player, Moments]) -> tuple[Array, Array]:
            player, theirs = one
            known, others = without(agreed, player.machine), jax.tree.map(jnp.subtract, everyone, theirs)
            return jax.lax.map(
                lambda play: _judged(play, known, others, strength, correlation, shape), player.plays
            )

        return jax.lax.map(by_player, (players, own))

    likelihood, columns = jax.lax.map(by_mates, mates)
    there = players.plays.judged[1] & players.able[:, None, None]
    n_plays = there.shape[0] * there.shape[1]
    likelihood = likelihood.transpose(0, 3, 1, 2, 4).reshape(len(mates), len(correlation), n_plays, -1)
    return likelihood, columns[0].reshape(n_plays), there.reshape(n_plays, -1)


def _judged(
    play: Play, agreed: Agreed, others: Moments, mates: Array, correlation: Array, shape: Shape
) -> tuple[Array, Array]:
    """(len(CORRELATION), MOST_JUDGED) log-likelihoods of a play's clips, and () how many columns count."""
    rows, present = play.heard[0][None], play.heard[1][None]
    bare = agreed._replace(knots=agreed.knots[:, :0])

    def moves_by(strength: Array) -> Array:
        return fit_marginals(rows, present, strength, shape="linear", known=bare)[0].factor[0] > 0

    # A column that is left out by some strengths is left out by all: likelihoods of other columns do not compare.
    moves = jax.vmap(moves_by)(jnp.asarray(MATES, rows.dtype)).all(axis=0)
    marginals = jax.tree.map(
        lambda leaf: leaf[0], fit_marginals(rows, present, mates, shape=shape, known=agreed)[0]
    )
    marginals = marginals._replace(factor=jnp.where(moves, marginals.factor, 0))
    mean, own = deviations_of(marginals, *play.heard)
    everyone = jax.tree.map(jnp.add, others, own)
    scores, slopes = _scores_and_slopes(marginals, play.judged[0])
    wider = 1 + 1 / play.heard[1].sum().astype(mean.dtype)
    deviations, columns = (scores - mean[None]).T, moves.sum()

    def one(strength: Array) -> Array:
        whitening = whitening_of(covariance_of(marginals, own, everyone, strength))
        squares = jnp.sum(times(whitening, deviations) ** 2, axis=0)
        volume = -jnp.sum(jnp.where(moves, jnp.log(jnp.diag(whitening)), 0))
        constant = -columns / 2 * jnp.log(2 * jnp.pi * wider)
        return constant - volume - squares / (2 * wider) + slopes

    return jax.lax.map(one, correlation), columns


def _scores_and_slopes(marginals: Marginals, x: Array) -> tuple[Array, Array]:
    """(n, d) normal scores of clips (n, d), and (n,) sums of the logarithms of the maps' slopes there."""
    moves = (marginals.factor > 0)[None]
    deviation = jnp.where(moves, 1 / jnp.where(moves, marginals.factor[None], 1), 0)
    step = jnp.broadcast_to(deviation, x.shape)
    # A map is elementwise: its derivative along all columns at once holds the slope of each.
    scores, slopes = jax.jvp(functools.partial(to_scores, marginals), (x,), (step,))
    logs = jnp.log(jnp.maximum(slopes, LEAST_SLOPE)) - jnp.log(jnp.where(moves, deviation, 1))
    return scores, jnp.sum(jnp.where(moves, logs, 0), axis=1)


def _moments(marginals: Marginals, rows: Array, present: Array, players: Player) -> tuple[Moments, Moments]:
    """Of all machines together, and of each player: one after the other, so that few d x d exist."""
    n_machines, d, n_players = len(rows), rows.shape[2], len(players.machine)
    machine = jnp.where(players.able, players.machine, n_machines)
    place = jnp.full(n_machines, n_players).at[machine].set(jnp.arange(n_players), mode="drop")

    def add(so_far: tuple[Moments, Moments], own: Any) -> tuple[tuple[Moments, Moments], None]:
        _, moments = deviations_of(*own[1:])
        total = jax.tree.map(jnp.add, so_far[0], moments)
        kept = jax.tree.map(lambda all_, one: all_.at[own[0]].set(one, mode="drop"), so_far[1], moments)
        return (total, kept), None

    zero = jnp.zeros((), rows.dtype)
    start = Moments(jnp.zeros((d, d), rows.dtype), zero, zero)
    each = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (n_players, *leaf.shape)), start)
    return jax.lax.scan(add, (start, each), (place, marginals, rows, present))[0]


def _cast(rows: Array, present: Array, n_clips: Array, room: int) -> Player:
    """The players, leaves (n_players, ...)."""
    n_players = min(len(rows), MOST_PLAYS)
    machine, able = _places(
        _some(present.sum(axis=1) >= n_clips + 2, jnp.int32(n_players), jnp.float32(0)), n_players
    )
    n_plays = MOST_PLAYS // n_players

    def player(own: tuple[Array, Array]) -> Player:
        which, there = own

        def rows_at(chosen: Array, size: int) -> tuple[Array, Array]:
            places, found = _places(chosen, size)
            return jnp.where(found[:, None], rows[which][places], 0), found

        def play(start: Array) -> Play:
            heard = _some(present[which], n_clips, start)
            judged = _some(present[which] & ~heard, jnp.int32(MOST_JUDGED), start)
            return Play(rows_at(heard, room), rows_at(judged, MOST_JUDGED))

        return Player(which, there, jax.lax.map(play, jnp.arange(n_plays, dtype=jnp.float32) / n_plays))

    return jax.lax.map(player, (machine, able))


def _some(there: Array, n: Array, start: Array) -> Array:
    """(m,) bool, n of those that are there, (m,) bool, evenly chosen; all of them if there are no more.

    `start` in [0, 1) says which of them: each is that share of a step earlier.
    """
    # Whole numbers: a quotient of floats may be rounded to the next lower one.
    place = jnp.cumsum(there).astype(jnp.uint32)
    count = jnp.maximum(place[-1], 1)
    n = jnp.minimum(n.astype(jnp.uint32), count)
    ahead = jnp.floor(start * count).astype(jnp.uint32)
    return there & ((place * n + ahead) // count > ((place - 1) * n + ahead) // count)


def _places(chosen: Array, size: int) -> tuple[Array, Array]:
    """(size,) int places of those chosen, then 0; and (size,) bool, which are places."""
    places = jnp.nonzero(chosen, size=size, fill_value=0)[0]
    return places, jnp.arange(size) < chosen.sum()
