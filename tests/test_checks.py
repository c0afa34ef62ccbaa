"""Numbers, types and weights at the boundary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from numpy.testing import assert_array_equal

from adjax.checks import (
    check_fields,
    check_number,
    check_numbers,
    check_seed,
    check_weights,
    shown,
    unit_weights,
)
from adjax.types import SettingsError


@pytest.mark.parametrize(
    ("value", "limits", "message"),
    [
        (float("nan"), {"low": 0}, "r=nan: give a number of at least 0"),
        (float("inf"), {"low": 0, "high": 1}, "r=inf: give a number from 0 to 1"),
        (-0.1, {"low": 0, "high": 1}, "r=-0.1: give a number from 0 to 1"),
        (0.0, {"above": 0}, "r=0.0: give a number above 0"),
        (1e39, {"low": 0}, r"r=1e\+39: give a number from 0 to 3\.40282e\+38"),
        (1, {"above": 0, "below": 1}, "r=1: give a number above 0 and below 1"),
        (2.0, {"low": 1, "whole": True}, "r=2.0: give a whole number from 1 to 2,147,483,647"),
        (2**64, {"low": 1, "whole": True}, "r=18446744073709551616: give a whole number from 1 to"),
        (True, {"low": 0}, "r=True: give a number"),
        ("1", {"low": 0}, "r='1': give a number"),
        (None, {}, "r=None: give a number"),
        (np.float32("nan"), {}, "r=nan: give a number"),
        (jnp.array(-1), {"low": 0, "whole": True}, "r=-1: give a whole number"),
        (np.zeros(2), {}, "give a number"),
    ],
)
def test_a_number_that_is_refused(value: object, limits: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        check_number("r", value, **limits)


def test_a_number_too_long_to_be_printed_is_refused_in_a_line() -> None:
    with pytest.raises(
        SettingsError, match=r"r=2\^16000 and more: give a whole number of at most 2,147,483,647"
    ):
        check_number("r", 1 << 16000, whole=True)


def test_numbers_that_pass() -> None:
    for value in (0, 1, 0.5, np.float32(0.5), np.int64(1), jnp.array(0.5)):
        check_number("r", value, low=0, high=1)
    check_numbers("r", np.array([1, 2]), low=1, high=2, whole=True)
    check_seed(2**32 - 1)
    with pytest.raises(SettingsError, match=r"r=3: give a whole number from 1 to 2"):
        check_numbers("r", jnp.array([1, 3, 2]), low=1, high=2, whole=True)
    jax.jit(lambda r: check_number("r", r, low=5))(1.0)  # nobody knows its value yet
    jax.jit(lambda r: check_weights(r))(jnp.array([-1.0]))


@dataclass(frozen=True)
class Config:
    n: int = 1
    share: float = 0.5
    on: bool = False
    kind: Literal["a", "b"] = "a"
    widths: tuple[int, ...] = (1, 2)
    channel: int | Literal["mean"] = 0
    block: int | None = None


class Hyper(NamedTuple):
    rate: Array | float = 0.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Config(n=1.0), "n=1.0: give a whole number"),
        (Config(n=True), "n=True: give a whole number"),
        (Config(share=float("nan")), "share=nan: give a finite number"),
        (Config(share="x"), "share='x': give a finite number"),
        (Config(on=1), "on=1: give true or false"),
        (Config(kind="c"), "kind='c': give one of a, b"),
        (Config(widths=[1]), r"widths=\[1\]: give several, each a whole number"),
        (Config(widths=(1, 2.5)), r"widths=\(1, 2.5\)"),
        (Config(channel="min"), "channel='min': give a whole number or mean"),
        (Config(block="x" * 500), r"block='x+\.\.\.: give a whole number or None"),
        (Hyper(rate="x"), "rate='x': give a finite number"),
    ],
)
def test_a_field_of_another_type_is_refused(settings: object, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        check_fields(settings)


def test_fields_that_pass() -> None:
    check_fields(Config(np.int64(3), 1, True, "b", (), "mean", 5))
    check_fields(Hyper(jnp.array([0.1, 0.2])))
    assert len(shown("x" * 500)) == 80


@pytest.mark.parametrize("bad", [[1, -1], [1, np.nan], [1, np.inf], [0, 0]])
def test_weights_that_no_fit_can_use(bad: list[float]) -> None:
    weight = np.array(bad, np.float32)
    with pytest.raises(SettingsError, match="weight"):
        check_weights(weight)
    with pytest.raises(SettingsError, match="weight"):
        check_weights(np.stack([np.ones(2, np.float32), weight]))
    found = jax.jit(unit_weights)(weight)
    assert_array_equal(found, [0, 0] if not np.any(weight) else [np.nan, np.nan])


@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1.0, 3.0, 1e18, 1e38])
def test_unit_weights_have_no_scale_and_lose_no_digit(scale: float) -> None:
    weight = np.array([0, 1, 0.25, 3], np.float32) * np.float32(scale)
    found = np.asarray(unit_weights(jnp.asarray(weight)))
    assert 1 <= found.max() < 8
    factor = weight[3] / found[3]
    assert_array_equal(found * factor, weight)
    assert_array_equal(unit_weights(jnp.ones(3)), 1)
