"""Multinomial logistic regression: which class a row is of, as scikit-learn's `LogisticRegression` has it.

The objective is convex, and with its penalty strictly so in the coefficients: neither luck nor a start matters. Rows
that are almost told apart make it badly conditioned (L-BFGS takes hundreds of steps on real vectors), so the steps are
Newton's, each solved by conjugate gradients from products alone, preconditioned by one matrix of all classes (Lin,
Weng and Keerthi 2008, "Trust region Newton method for logistic regression", with a line search in place of the region).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from adjax.detectors.products import times
from adjax.types import CONVERGED, MAX_ITER, NOT_FINITE, AnyArray, FitInfo

GAP = 1e-6  # share of the objective that it may be above its least
FORCING = 0.25  # residual of a Newton step at which conjugate gradients stop, as a share of the first
MAX_PRODUCTS = 100  # of one Newton step
MAX_HALVINGS = 12  # of one line search
ARMIJO = 1e-4  # share of the promised decrease that a step must keep
NOISE = 2e-6  # relative rounding of an objective in float32


class Multinomial(NamedTuple):
    """What tells the classes apart.

    Attributes:
        coefficients: (n_classes, d) float; 0 of a class that no row is of.
        intercepts: (n_classes,) float.
        present: (n_classes,) bool, whether any row was of the class.
    """

    coefficients: AnyArray
    intercepts: AnyArray
    present: AnyArray


class State(NamedTuple):
    """Of the search: leaves `b` and `slope` are (d + 1, n_classes), the intercepts in the last row."""

    b: Array
    value: Array
    slope: Array
    share: Array
    n_steps: Array
    stuck: Array


def fit_multinomial(
    x: Array, owner: Array, weight: Array, c: Array, *, n_classes: int, max_iter: int
) -> tuple[Multinomial, FitInfo]:
    """Least of c * sum of weight * cross-entropy + |coefficients|^2 / 2; intercepts cost nothing.

    Args:
        x: (n, d) float, columns of about one scale.
        owner: (n,) int in [0, n_classes), whose each row is.
        weight: (n,) float >= 0; a row of weight 0 changes nothing.
        c: () float > 0, as scikit-learn's.
        n_classes: static; those without a row are left out.
        max_iter: Newton steps; static.

    Returns:
        The coefficients; and the objective, steps and status. CONVERGED: the objective is proven to be within `GAP` of
        its least, but for the intercepts (with a penalty of 1/2 |w|^2, half the squared gradient bounds the rest).
    """
    d = x.shape[1]
    counts = weight > 0
    x = jnp.where(counts[:, None], jnp.pad(x, ((0, 0), (0, 1)), constant_values=1), 0)
    own = jax.nn.one_hot(owner, n_classes, dtype=x.dtype)
    present = times(weight[None, :], own)[0] > 0
    weight = c * weight
    penalty = jnp.ones((d + 1, 1), x.dtype).at[d].set(0)
    ridge = jnp.eye(d + 1, dtype=x.dtype) * penalty

    def look(b: Array) -> tuple[Array, Array, Array]:
        """Objective, gradient, and the (n, n_classes) share of each class in each row."""
        logits = jnp.where(present[None, :], times(x, b), -jnp.inf)
        log_share = jax.nn.log_softmax(logits, axis=1)
        share = jnp.exp(log_share)
        loss = -jnp.sum(jnp.where(own > 0, log_share, 0), axis=1)
        value = jnp.sum(jnp.where(counts, weight * loss, 0)) + jnp.sum(penalty * b**2) / 2
        return value, times(x.T, weight[:, None] * (share - own)) + penalty * b, share

    def step(state: State) -> State:
        spread = weight * jnp.sum(state.share * (1 - state.share), axis=1) / 2
        precondition = _preconditioner(x, spread, ridge)

        def curve(v: Array) -> Array:
            t = times(x, v)
            t = state.share * (t - jnp.sum(state.share * t, axis=1, keepdims=True))
            return times(x.T, weight[:, None] * t) + penalty * v

        way = _solve(curve, precondition, -state.slope)
        return _search(look, state, way)

    def go_on(state: State) -> Array:
        return ~_close(state) & (state.n_steps < max_iter) & ~state.stuck & jnp.isfinite(state.value)

    start = jnp.zeros((d + 1, n_classes), x.dtype)
    first = State(start, *look(start), n_steps=jnp.int32(0), stuck=jnp.bool_(False))
    end = jax.lax.while_loop(go_on, step, first)
    finite = jnp.isfinite(end.value) & jnp.isfinite(end.b).all() & jnp.isfinite(x).all()
    status = jnp.where(finite, jnp.where(_close(end), CONVERGED, MAX_ITER), NOT_FINITE)
    found = Multinomial(end.b[:d].T, end.b[d], present)
    return found, FitInfo(end.value, end.n_steps, status.astype(jnp.int32))


def _close(state: State) -> Array:
    return jnp.sum(state.slope**2) / 2 <= GAP * state.value


def _preconditioner(x: Array, spread: Array, ridge: Array) -> Any:
    """Divide by ridge + x' diag(spread) x, one matrix for all classes."""
    gram = ridge + times(x.T, spread[:, None] * x)
    # Rounding must not make it indefinite: it need only be about right.
    safe = 4 * jnp.finfo(x.dtype).eps * jnp.trace(gram)
    factor = jnp.linalg.cholesky(gram + safe * jnp.eye(len(gram), dtype=x.dtype))
    return lambda r: jax.scipy.linalg.cho_solve((factor, True), r)


def _solve(curve: Any, precondition: Any, target: Array) -> Array:
    """About the v of curve(v) = target, by preconditioned conjugate gradients."""

    def dot(a: Array, b: Array) -> Array:
        return jnp.sum(a * b)

    def step(state: Any) -> Any:
        v, r, way, size, count = state
        curved = curve(way)
        length = size / dot(way, curved)
        v, r = v + length * way, r - length * curved
        divided = precondition(r)
        new = dot(r, divided)
        return v, r, divided + new / size * way, new, count + 1

    divided = precondition(target)
    first = dot(target, divided)

    def go_on(state: Any) -> Array:
        return (state[3] > FORCING**2 * first) & (state[4] < MAX_PRODUCTS)

    return jax.lax.while_loop(go_on, step, (jnp.zeros_like(target), target, divided, first, jnp.int32(0)))[0]


def _search(look: Any, state: State, way: Array) -> State:
    """Half of the way, a quarter, ... until the objective falls as it should."""
    promised = jnp.sum(way * state.slope)

    def enough(length: Array, value: Array) -> Array:
        return value <= state.value + ARMIJO * length * promised + NOISE * jnp.abs(state.value)

    def halve(found: Any) -> Any:
        length = found[0] / 2
        return length, found[1] + 1, *look(state.b + length * way)

    def go_on(found: Any) -> Array:
        return ~enough(found[0], found[2]) & (found[1] < MAX_HALVINGS)

    whole = jnp.ones((), state.value.dtype)
    length, _, *there = jax.lax.while_loop(go_on, halve, (whole, jnp.int32(0), *look(state.b + way)))
    good = enough(length, there[0])
    value, slope, share = there
    return State(state.b + length * way, value, slope, share, state.n_steps + 1, ~good)


def logits(found: Multinomial, x: Array) -> Array:
    """(n, n_classes) of rows (n, d): the logarithm of each class's share, but for a constant; 0 of one without rows."""
    return jnp.where(found.present[None], times(x, found.coefficients.T) + found.intercepts[None], 0)
