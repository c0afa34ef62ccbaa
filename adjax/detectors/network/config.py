"""Settings of the network that tells machines apart: what is compiled in, and what is traced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from jax import Array

from adjax.checks import check_fields, check_number, check_numbers
from adjax.types import SettingsError

STEM = (7, 2)  # of the spectrogram's first convolution: length and stride in time and frequency
WIDEST = 2**12  # channels, at most


@dataclass(frozen=True)
class NetworkConfig:
    """Static settings: each value is one compile. The defaults are those of `dis_spec_scac_trainable`.

    Source: TakuyaFujimura/dcase-asd-toolkit, `config/train/experiments/dis_spec_scac_trainable.yaml` and
    `config/train/frontend/dis_multiresnet_1024.yaml`, 16 epochs as in its results; score: `config/score`, neighbours
    rescaled by their local density.

    Attributes:
        n_samples: of a clip that the network hears: 10 s at 16 kHz. Shorter clips are repeated to that length; of
            longer ones training hears another part each time, scoring the beginning.
        n_fft: frame of the spectrogram in samples, a multiple of hop_length.
        hop_length: samples between its frames.
        first_bin: the first of its bins that is used; 13 is 200 Hz at 16 kHz.
        width: numbers that each branch puts out; channels of the spectrum's convolutions, and of the spectrogram's
            last ones.
        kernels: lengths of the convolutions over the spectrum, each a multiple of its stride.
        strides: of them.
        n_dense: dense layers behind them.
        n_pairs: pairs of residual blocks over the spectrogram, each with twice the channels of the one before.
        n_centres: centres for each machine.
        n_epochs: passes over the clips; the last one counts.
        batch_size: clips a step, at most; the batches of an epoch are of equal size, or one apart.
        n_neighbours: K, clips that tell how dense a machine's normal clips lie about each of them.
    """

    n_samples: int = 160_000
    n_fft: int = 1024
    hop_length: int = 512
    first_bin: int = 13
    width: int = 128
    kernels: tuple[int, ...] = (256, 64, 16)
    strides: tuple[int, ...] = (64, 32, 4)
    n_dense: int = 6
    n_pairs: int = 4
    n_centres: int = 16
    n_epochs: int = 16
    batch_size: int = 64
    n_neighbours: int = 4

    @property
    def channels(self) -> tuple[int, ...]:
        """Of the spectrogram's pairs of residual blocks."""
        return tuple(self.width >> i for i in reversed(range(self.n_pairs)))

    @property
    def spectrum_length(self) -> int:
        """What the convolutions leave of the whole clip's spectrum; 0 or less: they do not fit."""
        length = 1 + self.n_samples // 2
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            length = 1 + (length - kernel) // stride
        return length

    @property
    def spectrogram_size(self) -> tuple[int, int]:
        """Frames and bins of the spectrogram."""
        return 1 + self.n_samples // self.hop_length, 1 + self.n_fft // 2 - self.first_bin

    @property
    def map_size(self) -> tuple[int, int]:
        """What the first convolution and its pooling leave of the spectrogram; 0 or less: they do not fit."""
        frames, bins = (
            1 + (1 + (size - STEM[0]) // STEM[1] - 3) // 2 for size in self.spectrogram_size
        )  # fmt: skip
        return frames, bins


class NetworkHyper(NamedTuple):
    """Traced settings.

    Attributes:
        learning_rate: () of AdamW.
        weight_decay: () of AdamW, decoupled, on every number that is trained.
        mixup: () chance that a clip is mixed with another of its batch.
    """

    learning_rate: Array | float = 1e-3
    weight_decay: Array | float = 1e-2
    mixup: Array | float = 0.5


def check_config(config: NetworkConfig, hyper: NetworkHyper | None = None) -> None:
    """Refuse what cannot be built, or trained.

    Raises:
        SettingsError: a static or traced setting out of its range, or two that contradict each other.
    """
    check_fields(config)
    for name in (
        "n_samples",
        "n_fft",
        "hop_length",
        "n_dense",
        "n_pairs",
        "n_epochs",
        "batch_size",
        "n_neighbours",
    ):
        check_number(name, getattr(config, name), low=1, whole=True)
    check_number("n_centres", config.n_centres, low=2, whole=True)
    check_number("width", config.width, low=1, high=WIDEST, whole=True)
    check_number("first_bin", config.first_bin, low=0, high=config.n_fft // 2, whole=True)
    for name in ("kernels", "strides"):
        for value in getattr(config, name):
            check_number(name, value, low=1, whole=True)
    if config.width % 2 ** (config.n_pairs - 1):
        raise SettingsError(
            f"width={config.width}: give a multiple of 2^(n_pairs - 1)={2 ** (config.n_pairs - 1)}"
        )
    if config.n_fft % config.hop_length:
        raise SettingsError(f"n_fft={config.n_fft}: give a multiple of hop_length={config.hop_length}")
    if len(config.kernels) != len(config.strides) or not config.kernels:
        raise SettingsError(
            f"kernels={config.kernels} and strides={config.strides}: give one of each for each layer"
        )
    if any(kernel % stride for kernel, stride in zip(config.kernels, config.strides, strict=True)):
        raise SettingsError(f"kernels={config.kernels}: give multiples of strides={config.strides}")
    if config.spectrum_length < 1 or min(config.map_size) < 1:
        raise SettingsError(
            f"n_samples={config.n_samples}: too few for kernels={config.kernels}, strides={config.strides} and frames "
            f"of n_fft={config.n_fft}; give more (shorter clips are repeated to that length)"
        )
    if hyper is not None:
        check_numbers("learning_rate", hyper.learning_rate, low=0)
        check_numbers("weight_decay", hyper.weight_decay, low=0)
        check_numbers("mixup", hyper.mixup, low=0, high=1)
