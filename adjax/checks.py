"""Checks of settings and weights where they come in: each fault is one `SettingsError` that names value and remedy.

A program that is being traced has no values to look at: checks let tracers pass, and a fit then ends with a status.
"""

from __future__ import annotations

import functools
import numbers
import types
import typing
from typing import Any, Literal, Union, get_args, get_origin

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from adjax.types import SettingsError

MAX_WHOLE = 2**31 - 1  # programs count in int32
MAX_SEED = 2**32 - 1
MAX_FLOAT = float(np.finfo(np.float32).max)  # and compute in float32


def check_number(
    name: str,
    value: Any,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    whole: bool = False,
) -> None:
    """Refuse what is no finite number in a range.

    Args:
        name: of the setting.
        value: a number, of Python or of an array's single element; a bool is none. A tracer passes.
        low: the least that is allowed.
        high: the largest; None: `MAX_FLOAT`, of whole numbers `MAX_WHOLE`.
        above: what it must exceed, in place of `low`.
        below: what it must stay below, in place of `high`.
        whole: whether it counts something: 2.0 is refused.

    Raises:
        SettingsError: it is none.
    """
    if isinstance(value, jax.core.Tracer):
        return
    value = value.item() if isinstance(value, np.generic | np.ndarray | Array) and value.ndim == 0 else value
    if high is None and below is None and (whole or (_fits(value, float) and value > MAX_FLOAT)):
        high = MAX_WHOLE if whole else MAX_FLOAT
    if (
        not _fits(value, int if whole else float)
        or (low is not None and value < low)
        or (above is not None and value <= above)
        or (high is not None and value > high)
        or (below is not None and value >= below)
    ):
        kind = "a whole number" if whole else "a number"
        raise SettingsError(f"{name}={shown(value)}: give {kind}{_range(low, high, above, below)}")


def check_numbers(name: str, values: Any, **limits: Any) -> None:
    """`check_number` of every element of an array, such as a setting of many lanes; a tracer passes.

    Raises:
        SettingsError: one of them is none.
    """
    if isinstance(values, jax.core.Tracer):
        return
    if isinstance(values, np.ndarray | Array) and values.ndim:
        for value in np.unique(np.asarray(values)):
            check_number(name, value, **limits)
    else:
        check_number(name, values, **limits)


def check_seed(seed: Any, name: str = "seed") -> None:
    """Refuse what is no seed, 0 to 2^32 - 1.

    Raises:
        SettingsError: it is none.
    """
    check_number(name, seed, low=0, high=MAX_SEED, whole=True)


def check_fields(settings: Any) -> None:
    """Refuse settings that are not of their declared types; a number must be finite.

    Args:
        settings: a dataclass or NamedTuple. Checked are fields declared as bool, int, float, str, `Literal`, arrays,
            tuples and unions of these; any other annotation is taken for "anything".

    Raises:
        SettingsError: the first field that is of another type, with what it should be.
    """
    owner: Any = type(settings)
    for name, hint in _hints(owner).items():
        value = getattr(settings, name)
        if not _fits(value, hint):
            raise SettingsError(f"{name}={shown(value)}: give {in_words(hint)}")


def check_weights(weight: Any, name: str = "weight") -> None:
    """Refuse weights of rows that no fit can use; a tracer passes.

    Args:
        weight: (..., n_rows) float; each row of it must hold a weight that is not 0.
        name: for the message.

    Raises:
        SettingsError: a weight is negative or not finite, or all are 0.
    """
    if isinstance(weight, jax.core.Tracer):
        return
    values = np.asarray(weight)
    bad = values[~(np.isfinite(values) & (values >= 0))]
    if bad.size:
        raise SettingsError(
            f"{name} holds {shown(bad[0].item())} ({bad.size} of {values.size}): give finite numbers of at least 0"
        )
    if not (values > 0).any(axis=-1).all():
        raise SettingsError(f"{name} is 0 for every row: give the rows to fit on a weight above 0")


def unit_weights(weight: Array) -> Array:
    """Weights whose largest is about 1, so that no result depends on their scale; pure, for use in programs.

    They are divided by a power of two, which costs no digits and leaves weights of 1 as they are.

    Args:
        weight: (..., n_rows) float.

    Returns:
        The same shape, in [0, 8); zeros stay zeros. All NaN where one is negative or not finite, so that whatever is
        computed of them says so.
    """
    weight = jnp.asarray(weight, jnp.result_type(weight, jnp.float32))
    usable = jnp.all((weight >= 0) & jnp.isfinite(weight), axis=-1, keepdims=True)
    top = jnp.max(weight, axis=-1, keepdims=True, initial=0)
    # The reciprocal of the scale, which compilers multiply by, must be no denormal number.
    top = jnp.where(usable & (top > 0), jnp.minimum(top, 0.25 * jnp.finfo(weight.dtype).max), 1)
    mantissa, _ = jnp.frexp(top)  # in [0.5, 1)
    return jnp.where(usable, weight / (top / (2 * mantissa)), jnp.nan)


def shown(value: Any) -> str:
    """A value for a message, of bounded length."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 256:
        return f"{'-' if value < 0 else ''}2^{value.bit_length() - 1} and more"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def in_words(hint: Any) -> str:
    """What an annotation asks for, for a message."""
    if get_origin(hint) is Literal:
        options = [option if isinstance(option, str) else repr(option) for option in get_args(hint)]
        return options[0] if len(options) == 1 else f"one of {', '.join(options)}"
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(in_words(one) for one in get_args(hint) if one is not Array)
    if get_origin(hint) is tuple:
        return f"several, each {in_words(get_args(hint)[0])}"
    words = {int: "a whole number", float: "a finite number", bool: "true or false", str: "a text"}
    return words.get(hint, "None" if hint is type(None) else getattr(hint, "__name__", str(hint)))


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotation's type; floats must be finite, an int is a float too, a bool neither."""
    origin, options = get_origin(hint), get_args(hint)
    if hint is bool:
        return isinstance(value, bool | np.bool_)
    if hint is int:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if hint is float:
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        return real and (isinstance(value, numbers.Integral) or bool(np.isfinite(value)))
    if origin is Literal:
        return any(type(value) is type(option) and value == option for option in options)
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in options)
    if origin is tuple and len(options) == 2 and options[1] is Ellipsis:
        return isinstance(value, tuple) and all(_fits(item, options[0]) for item in value)
    if hint in (str, type(None), Array):
        return isinstance(value, np.ndarray | Array if hint is Array else hint)
    return True


@functools.cache
def _hints(owner: Any) -> dict[str, Any]:
    return typing.get_type_hints(owner)


def _range(low: float | None, high: float | None, above: float | None, below: float | None) -> str:
    if low is not None and high is not None:
        return f" from {_text(low)} to {_text(high)}"
    if above is not None and below is not None:
        return f" above {_text(above)} and below {_text(below)}"
    lower = f" of at least {_text(low)}" if low is not None else ""
    lower = f" above {_text(above)}" if above is not None else lower
    upper = f" of at most {_text(high)}" if high is not None else ""
    upper = f" below {_text(below)}" if below is not None else upper
    return f"{lower} and{upper}" if lower and upper else lower + upper


def _text(bound: float) -> str:
    return f"{bound:,}" if isinstance(bound, int) else f"{bound:,g}"
