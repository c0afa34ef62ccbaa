"""The few types that travel between the wings: pytrees, the detector protocol, and typed errors.

Pytrees hold device arrays only and check nothing (a check would break under `jax.vmap`); the boundaries that
build them do. Strings such as paths and labels stay in host tables (`adjax.data.clips.ClipTable`).
"""

from __future__ import annotations

import hashlib
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

AnyArray = Any  # NumPy's on the host, JAX's in a program: pytrees that live on both sides
Scope = Literal["machine", "type", "all"]

# Codes of `FitInfo.status`. A compiled fit cannot raise, so it reports.
CONVERGED = 0
MAX_ITER = 1
NOT_FINITE = 2
COLLAPSED = 3
REGULARIZED = 4

STATUS_NAMES = {
    CONVERGED: "converged",
    MAX_ITER: "made all its steps",
    NOT_FINITE: "not finite",
    COLLAPSED: "a component collapsed",
    REGULARIZED: "needed more regularisation",
}


class ClipBatch(NamedTuple):
    """Clips of one batch, padded with zeros to a common length.

    Attributes:
        samples: (n_clips, n_samples) float32, nominally in [-1, 1].
        n_valid: (n_clips,) int32, how many leading samples of each clip are real; the rest is padding.
    """

    samples: AnyArray
    n_valid: AnyArray


class FitInfo(NamedTuple):
    """How a fit ended; scalars, so that `jax.vmap` stacks them.

    Attributes:
        objective: () float, what the fit optimised, at its end (the detector says which quantity).
        n_steps: () int32, iterations or epochs made.
        status: () int32, one of CONVERGED, MAX_ITER, NOT_FINITE, COLLAPSED, REGULARIZED.
    """

    objective: AnyArray
    n_steps: AnyArray
    status: AnyArray


class MachineId(NamedTuple):
    """One machine: its type, such as "slider", and its id within the type, such as "id_00" ("" for a lone one)."""

    machine_type: str
    machine_id: str = ""

    @property
    def label(self) -> str:
        """For people: "slider id_00"."""
        return " ".join(part for part in self if part) or "(no name)"

    @property
    def seed(self) -> int:
        """A number in [0, 2^32) that depends on the name alone: a machine draws the same numbers in any company."""
        name = "\0".join(self).encode("utf-8", "surrogateescape")
        return int.from_bytes(hashlib.sha256(name).digest()[:4], "big")


class Training(NamedTuple):
    """Normal clips that one fit sees: those of one machine, of all machines of a type, or of all machines.

    Attributes:
        rows: (n_rows, n_features) float, clip after clip, in time order.
        weight: (n_rows,) float >= 0; a row of weight 0 is padding, or held out, and changes nothing.
        clip: (n_rows,) int32, whose each row is; padding belongs to the last clip.
        machine: (n_clips,) int32 in [0, n_machines), whose each clip is.
        domain: (n_clips,) int32, 1 for clips of a target domain, else 0.
        seed: (n_machines,) uint32, `MachineId.seed` of each machine.
        members: (n_machines, n) int32, the places of each machine's rows, n as many as the largest has, and then n_rows
            for none: the shape of what is kept of each machine. None: nobody has counted, it may be all rows.
    """

    rows: AnyArray
    weight: AnyArray
    clip: AnyArray
    machine: AnyArray
    domain: AnyArray
    seed: AnyArray
    members: AnyArray | None = None


class Shared(NamedTuple):
    """Numbers that all machines of a fit have in common, within its parameters: one copy, no axis of machines.

    Attributes:
        value: leaves (n_fits, ...); (1, ...) of what one fit leaves behind.
        fit: (n_machines,) int32, which of them is each machine's.
    """

    value: Any
    fit: AnyArray

    def of(self, machine: Any) -> Any:
        """The numbers of one machine's fit."""
        return jax.tree.map(lambda leaf: leaf[self.fit[machine]], self.value)


def shared(value: Any, n_machines: int) -> Shared:
    """What the machines of one fit have in common."""
    return Shared(jax.tree.map(lambda leaf: leaf[None], value), jnp.zeros(n_machines, jnp.int32))


def is_shared(tree: Any) -> bool:
    """Whether a pytree is `Shared`, for functions that take it as a leaf."""
    return isinstance(tree, Shared)


def of_machines(params: Any, index: Any) -> Any:
    """Parameters of some machines only: `index` is a slice or an integer array."""
    return jax.tree.map(
        lambda leaf: leaf._replace(fit=leaf.fit[index]) if is_shared(leaf) else leaf[index],
        params,
        is_leaf=is_shared,
    )


class RowDetector(NamedTuple):
    """A detector that knows one machine's rows and scores rows: pure functions built by a factory over static settings.

    `adjax.model.lift.per_machine` makes a `Detector` of it.

    Attributes:
        fit: (key, x, weight, hyper) -> (params, FitInfo). `x` is (n_rows, n_features) float, `weight` (n_rows,)
            float >= 0; a row of weight 0 is padding and changes nothing. `hyper` is a pytree of traced numbers.
        score: (params, x) -> (n_rows,) float, higher = more anomalous.
        hyper: the default traced settings.
        n_context: consecutive rows of `x` that make up one scored window. A detector with `n_context=5` scores
            the window that *starts* at each row; give weight 0 to the rows where no whole window starts.
        uses_domain: whether `fit` takes `domain`, (n_rows,) int32, too.
    """

    fit: Callable[..., tuple[Any, FitInfo]]
    score: Callable[[Any, Array], Array]
    hyper: Any
    n_context: int = 1
    uses_domain: bool = False


class Detector(NamedTuple):
    """A detector that sees all machines of a fit, so that it may borrow or contrast, and scores one clip.

    Attributes:
        fit: (key, training, hyper) -> (params, FitInfo); both with the leading axis n_machines, but for what is
            `Shared`.
        score: (params, machine, rows, weight) -> (n_parts,) float, higher = more anomalous. One clip: `rows`
            (n_rows, n_features), `weight` (n_rows,) 1 for its rows and then 0 for padding, `machine` () int whose it
            is. NaN where the clip has too few rows for a score.
        parts: names of the numbers that `score` gives.
        hyper: the default traced settings.
    """

    fit: Callable[[Array, Training, Any], tuple[Any, FitInfo]]
    score: Callable[[Any, Array, Array, Array], Array]
    parts: tuple[str, ...]
    hyper: Any


class Fitted(NamedTuple):
    """What an engine gives back: one model for each lane, and what there is to say of the fits.

    Attributes:
        params: of the detector, stacked over lanes.
        info: how each fit ended, (n_lanes,) each.
        losses: (n_lanes, n_epochs) of a detector that trains in epochs; (n_lanes, 0) of others.
        remarks: such as from where an interrupted training went on.
    """

    params: Any
    info: FitInfo
    losses: Any
    remarks: tuple[str, ...] = ()


class Kind(NamedTuple):
    """A family of detectors, as all rooms above know it; `adjax.detectors.kinds.KINDS` lists them by name.

    Attributes:
        name: for people and commands.
        summary: what it is, in a line.
        config: frozen dataclass of static settings.
        hyper: NamedTuple of traced settings.
        make: (config, hyper) -> `RowDetector`, or `Detector` if it sees several machines.
        rows: what it takes: "any" rows; "pooled", one row for each clip (views of a log-mel unless told otherwise,
            moments of other frames); the "views" of a log-mel alone (`adjax.features.views`); or the "samples" of the
            wave in blocks.
        scope: whose clips one fit sees: one "machine", all of a "type", or "all"; or (config) -> one of these.
        least_machines: that a fit must see. A model of several detectors leaves out one that sees fewer.
        scales: whether it brings columns to one scale itself, by all that it sees. Rows then come as they are: without
            its own mean, a machine cannot be told from others.
        parts: names of a row detector's one part, or of a detector's.
        axes: settings that a sweep tries by default, "config.<field>" or "hyper.<field>" -> values. None: it has
            nothing to sweep.
        calibrate: "folds" where fits are cheap, "split" where training is long; see `adjax.model.spec.Calibrating`.
        recipes: published settings by name: config, and settings of the front end.
        engine: (config, keys, x, weight, hyper, data, fold, options) -> `Fitted`: many fits of a row detector from the
            host, on all cores; each is `make(config).fit` of its own key, rows and weights to rounding (its luck, such
            as the order in which rows are taken, included), whatever fits are beside it. `x` (n_sets, n_rows,
            n_features), `weight` (n_folds, n_rows), and for each lane a key, hyper, and which set and weights. None:
            one compiled call.
        fit_all: (config, keys, training, weight, hyper, options) -> `Fitted`: the same for a detector that sees several
            machines and whose training is long, or its rows too many to copy: for each lane a key and `weight`
            (n_lanes, n_rows); leaves (n_lanes, n_machines, ...), of what is `Shared` (n_lanes, ...).
        widen: (configs) -> the config that serves all of them with one compile; `narrow` tells it which.
        adapt: (config, hyper, key, params, memory, new) -> (params, FitInfo): one further machine of a fitted model.
            Pure, like a fit, unless the kind has an engine or `fit_all`: then from the host. `params` are those of the
            machines that were fitted together, its mates; `memory`, a `Training`, some of their normal clips; `new`, a
            `Training` of one machine, its clips, of weight 0 those held out; weights are those of the windows that
            start at each row (`RowDetector.n_context`). The parameters that come back are the new machine's, leaves
            (1, ...), but for what is `Shared`. A mate whose clips in `memory` all have weight 0 lends nothing. What has
            as much room as its machine has clips ends in zeros, which change nothing. None: a model of this kind cannot
            be adapted.
        learn: (config, hyper, memory, n_clips) -> hyper, for `adapt` to a machine of so many clips: strengths by which
            it leans on its mates, learnt from the mates alone, from the host; `hyper` itself where they say nothing.
            Asked only if `hyper` is the kind's default, what a person has set stays, and only of a model of one
            detector. None: nothing is learnt.
        for_clips: (config) -> the config for rows that are whole clips, where windows of rows make no sense.
        for_vectors: (config) -> the config for one vector from elsewhere for each clip.
        group: (config) -> what must be equal for lanes to share a compile; each is then the fit that it is alone.
        narrow: (config, hyper) -> hyper that narrows the widened model to this config.
        least: (config) -> rows of weight > 0 that a fit needs at least.
        n_floats: (config, n_features, n_train, n_test) -> floats that one lane of a sweep takes, about.
        max_lanes: of a sweep's chunk: what an interruption can cost.
        remedy: what to do about a fit that did not stay finite, in its settings' own names.
    """

    name: str
    summary: str
    config: type
    hyper: type
    make: Callable[[Any, Any], RowDetector | Detector]
    rows: Literal["any", "pooled", "views", "samples"] = "any"
    scope: Scope | Callable[[Any], Scope] = "machine"
    least_machines: int = 1
    scales: bool = False
    axes: Mapping[str, tuple[Any, ...]] | None = None
    calibrate: Literal["folds", "split"] = "folds"
    recipes: Mapping[str, tuple[Any, Mapping[str, Any]]] = MappingProxyType({})
    engine: Callable[..., Fitted] | None = None
    fit_all: Callable[..., Fitted] | None = None
    adapt: Callable[..., tuple[Any, FitInfo]] | None = None
    learn: Callable[[Any, Any, Training, int], Any] | None = None
    for_clips: Callable[[Any], Any] = lambda config: config
    for_vectors: Callable[[Any], Any] = lambda config: config
    widen: Callable[[Sequence[Any]], Any] = operator.itemgetter(0)
    group: Callable[[Any], Any] = lambda config: config
    narrow: Callable[[Any, Any], Any] = lambda config, hyper: hyper
    least: Callable[[Any], int] = lambda config: 1
    n_floats: Callable[[Any, int, int, int], int] = lambda config, d, n_train, n_test: (
        d * d + n_train + n_test
    )
    max_lanes: int = 512
    remedy: str = "its clips may be all alike, or hold numbers too large for float32; give others"

    def scope_of(self, config: Any) -> Scope:
        """`scope` with these settings."""
        return self.scope if isinstance(self.scope, str) else self.scope(config)


class EngineOptions(NamedTuple):
    """What the host asks of an engine beside the fits.

    Attributes:
        folder: for checkpoints of long trainings; None: none are written.
        on_step: called with a number of lanes' epochs done and a loss, for progress; None: nobody listens.
        domain: (n_rows,) int32, 1 for rows of target-domain clips; None: nobody asked.
    """

    folder: Path | None = None
    on_step: Callable[[int, float], None] | None = None
    domain: Any = None


# Control characters, which move a cursor or end a line; those that turn the direction of writing; bytes of a file's
# name that are no UTF-8.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def readable(text: str) -> str:
    r"""A name that can be printed and written in one line: an escape character becomes `\x1b`, an odd byte `\udcff`."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


class AdjaxError(Exception):
    """Base of every error that adjax raises on purpose: what happened, where, and what to do about it."""

    def __str__(self) -> str:
        return "\n".join(map(readable, super().__str__().split("\n")))


class DataError(AdjaxError):
    """A data folder or a set of clips that cannot be used (missing, empty, in no known layout)."""


class ClipError(DataError):
    """One clip that cannot be used. The message names the file and the remedy.

    Attributes:
        path: the clip's file.
        reason: what is wrong and what to do, without the path.
    """

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{readable(str(path))}: {reason}")
        self.path = str(path)
        self.reason = reason


class FitError(AdjaxError, ValueError):
    """A model that could not be fitted to the data it was given."""


class StoreError(AdjaxError):
    """A model or checkpoint that cannot be written, or cannot be trusted."""


class SettingsError(AdjaxError, ValueError):
    """Settings that contradict each other or the data."""
