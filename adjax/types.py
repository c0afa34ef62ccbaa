"""The few types that travel between the wings: pytrees, the detector protocol, and typed errors.

Pytrees hold device arrays only and check nothing (a check would break under `jax.vmap`); the boundaries that
build them do. Strings such as paths and labels stay in host tables (`adjax.data.clips.ClipTable`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array

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

    samples: Array
    n_valid: Array


class FitInfo(NamedTuple):
    """How a fit ended; scalars, so that `jax.vmap` stacks them.

    Attributes:
        objective: () float, what the fit optimised, at its end (the detector says which quantity).
        n_steps: () int32, iterations or epochs made.
        status: () int32, one of CONVERGED, MAX_ITER, NOT_FINITE, COLLAPSED, REGULARIZED.
    """

    objective: Array
    n_steps: Array
    status: Array


class Detector(NamedTuple):
    """A pair of pure functions, built by a factory that closes over static settings.

    Attributes:
        fit: (key, x, weight, hyper) -> (params, FitInfo). `x` is (n_vectors, n_features) float, `weight`
            (n_vectors,) float >= 0; a row of weight 0 is padding and changes nothing. `hyper` is a pytree of
            traced numbers.
        score: (params, x) -> (n_vectors,) float, higher = more anomalous.
        hyper: the default traced settings.
        n_context: consecutive rows of `x` that make up one scored vector. A detector with `n_context=5` scores
            the window that *starts* at each row; give weight 0 to the rows where no whole window starts.
    """

    fit: Callable[..., tuple[Any, FitInfo]]
    score: Callable[[Any, Array], Array]
    hyper: Any
    n_context: int = 1


def readable(text: str) -> str:
    r"""Text that can be printed and written: a file name's bytes that are no UTF-8 become `\udcff` and the like."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class AdjaxError(Exception):
    """Base of every error that adjax raises on purpose: what happened, where, and what to do about it."""

    def __str__(self) -> str:
        return readable(super().__str__())


class DataError(AdjaxError):
    """A data folder or a set of clips that cannot be used (missing, empty, in no known layout)."""


class ClipError(DataError):
    """One clip that cannot be used. The message names the file and the remedy.

    Attributes:
        path: the clip's file.
        reason: what is wrong and what to do, without the path.
    """

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason


class FitError(AdjaxError, ValueError):
    """A model that could not be fitted to the data it was given."""


class StoreError(AdjaxError):
    """A model or checkpoint that cannot be written, or cannot be trusted."""


class SettingsError(AdjaxError, ValueError):
    """Settings that contradict each other or the data."""
