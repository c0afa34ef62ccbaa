"""Which form of the same computation pays on which platform; chosen here, overridden by a static argument.

Measured on two CPU cores (10 s clips, 1024 / 512 / 128): the FFT beats the DFT as a matrix product, and two real
frames in one complex FFT, or one in a complex FFT of half the length, cost more in shuffling than they save. Of the
mel filterbank's 128 x 513 entries 1,000 are not zero: products of groups of neighbouring bands with the bins that
they hold take half the time of the whole product. No accelerator has been measured yet: there the FFT and the
whole product are the default on a GPU, and on a TPU, whose FFT is slow, products alone.
"""

from __future__ import annotations

from typing import Literal

import jax

from adjax.types import SettingsError

Dft = Literal["auto", "fft", "matmul"]
Filterbank = Literal["auto", "banded", "dense"]

_CHOICES = {"dft": ("fft", "matmul"), "filterbank": ("banded", "dense")}
_BEST = {
    "cpu": {"dft": "fft", "filterbank": "banded"},
    "gpu": {"dft": "fft", "filterbank": "dense"},
    "tpu": {"dft": "matmul", "filterbank": "dense"},
}


def choose(what: str, wanted: str) -> str:
    """The form to use: the wanted one, or for "auto" what suits JAX's default backend.

    Args:
        what: "dft" or "filterbank".
        wanted: "auto" or one of its forms.

    Raises:
        SettingsError: an unknown form.
    """
    if wanted != "auto" and wanted not in _CHOICES[what]:
        raise SettingsError(f"{what}={wanted!r} is not one of {('auto', *_CHOICES[what])}")
    return _BEST.get(jax.default_backend(), _BEST["gpu"])[what] if wanted == "auto" else wanted
