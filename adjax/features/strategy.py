"""Which form of the same computation pays on which platform; chosen where a program is lowered, or by the caller.

Measured on two CPU cores (10 s clips, 1024 / 512 / 128): the FFT beats the DFT as a matrix product, and two real
frames in one complex FFT, or one in a complex FFT of half the length, cost more in shuffling than they save. Of the
mel filterbank's 128 x 513 entries 1,000 are not zero: products of groups of neighbouring bands with the bins that
they hold take half the time of the whole product. No accelerator has been measured yet: there the FFT and the
whole product are the default on a GPU, and on a TPU, whose FFT is slow, products alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
from jax import Array, lax
from jax import numpy as jnp

from adjax.types import SettingsError

Dft = Literal["auto", "fft", "matmul"]
Filterbank = Literal["auto", "banded", "dense"]

# By the platform that a program is lowered for, which need not be the one that lowers it (see `jax.export`).
_BEST = {
    "dft": {"tpu": "matmul", "default": "fft"},
    "filterbank": {"cpu": "banded", "default": "dense"},
}


def compute(what: str, wanted: str, forms: Mapping[str, Callable[..., Any]], *arguments: Any) -> Any:
    """One of the forms of the arguments: the wanted one, or for "auto" what suits the platform.

    Args:
        what: "dft" or "filterbank".
        wanted: "auto" or the name of a form; static.
        forms: name -> function of the arguments; all return the same shapes.
        *arguments: arrays.

    Raises:
        SettingsError: an unknown form.
    """
    if wanted == "auto":
        return lax.platform_dependent(
            *arguments, **{platform: forms[name] for platform, name in _BEST[what].items()}
        )
    if wanted not in forms:
        raise SettingsError(f"{what}={wanted!r} is not one of {('auto', *forms)}")
    return forms[wanted](*arguments)


def real_dft(x: Array, *, axis: int = -1, dft: Dft = "auto") -> Array:
    """`jnp.fft.rfft(x, axis=axis)`, by an FFT or by a product with a matrix of cosines and sines in full float32."""
    forms = {"fft": partial(jnp.fft.rfft, axis=axis), "matmul": partial(_real_dft_by_product, axis=axis)}
    return compute("dft", dft, forms, x)


def _real_dft_by_product(x: Array, axis: int) -> Array:
    x = jnp.moveaxis(x, axis, -1)
    real, imaginary = (
        jnp.matmul(x, wave, precision=lax.Precision.HIGHEST) for wave in _waves(x.shape[-1], x.dtype)
    )
    return jnp.moveaxis(lax.complex(real, imaginary), -1, axis)


def _waves(n: int, dtype: Any) -> tuple[Array, Array]:
    """(n, 1 + n // 2) cosines, and minus the sines.

    Computed, not a NumPy constant: megabytes of it would lie in the programs of the platforms that do without.
    """
    times, bins = (jnp.arange(size, dtype=jnp.uint32) for size in (n, 1 + n // 2))
    # Turns as integers, and less than half a turn either way: the angle then rounds to the last place.
    turns = ((times[:, None] * bins[None, :]) % n).astype(jnp.int32)
    angles = jnp.where(2 * turns > n, turns - n, turns).astype(dtype) * (2 * np.pi / n)
    return jnp.cos(angles), -jnp.sin(angles)
