"""Settings of the autoencoder: what is compiled in, what is traced, and the published recipes by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from jax import Array

from adjax.checks import check_fields, check_number, check_numbers
from adjax.types import SettingsError


@dataclass(frozen=True)
class AutoencoderConfig:
    """Static settings: each value is one compile. The defaults are the 2020 baseline's.

    Attributes:
        n_context: consecutive rows in a window.
        hidden: widths of the encoder's layers; the decoder's are the same, reversed.
        bottleneck: width of the layer between them; `AutoencoderHyper.width` can use fewer of its units.
        n_epochs: passes over the windows; there is no early stopping.
        batch_size: windows a step.
        constants: "keras" or "torch": whose initial weights, running variance and Adam's epsilon (see CONSTANTS).
        predict: "window": the window itself; "middle": its middle row, from the others (IDNN).
        residual: what becomes a window's score: the "mean_square" of its residual, or its squared "mahalanobis"
            norm under the covariance of the training residuals, divided by its length.
        n_domains: covariances of residual "mahalanobis", one a domain; the smallest norm is the score.
        denoising: whether `AutoencoderHyper.noise` is added to the input while training.
        block_size: windows scored at once; memory and speed, not the result.
        compute_dtype: of the layers' products and of what passes between layers, in training and in scoring:
            "float32", the precision of the rows, or "bfloat16" (3 significant digits: for accelerators; a CPU gains
            nothing). Parameters, Adam's state, BatchNorm and losses are float32 with either.
    """

    n_context: int = 5
    hidden: tuple[int, ...] = (128, 128, 128, 128)
    bottleneck: int = 8
    n_epochs: int = 100
    batch_size: int = 512
    constants: Literal["keras", "torch"] = "keras"
    predict: Literal["window", "middle"] = "window"
    residual: Literal["mean_square", "mahalanobis"] = "mean_square"
    n_domains: int = 1
    denoising: bool = False
    block_size: int = 2048
    compute_dtype: Literal["float32", "bfloat16"] = "float32"


class AutoencoderHyper(NamedTuple):
    """Traced settings, swept without a new compile.

    Attributes:
        learning_rate: () of Adam.
        weight_decay: () decoupled (AdamW), on the kernels.
        width: () int, units of the bottleneck in use; None: all. The model is the one that was built so narrow.
        noise: () standard deviation of the noise that a denoising autoencoder sees, in units of `x`.
        ridge: () added to the covariance of residuals, relative to its mean variance.
    """

    learning_rate: Array | float = 1e-3
    weight_decay: Array | float = 0.0
    width: Array | int | None = None
    noise: Array | float = 1.0
    ridge: Array | float = 1e-3


class Constants(NamedTuple):
    """What the frameworks of the baselines do without being asked.

    Attributes:
        initial: "glorot": kernels uniform within sqrt(6 / (fan_in + fan_out)), biases 0; "fan_in": both uniform
            within 1 / sqrt(fan_in).
        adam_epsilon: of Adam's denominator.
        unbiased_variance: whether BatchNorm's running variance is that of n - 1.
    """

    initial: Literal["glorot", "fan_in"]
    adam_epsilon: float
    unbiased_variance: bool


CONSTANTS: Mapping[str, Constants] = {
    "keras": Constants("glorot", 1e-7, False),
    "torch": Constants("fan_in", 1e-8, True),
}
# The same numbers in both baselines (in PyTorch's reading: momentum .01).
BATCH_NORM_MOMENTUM, BATCH_NORM_EPSILON = 0.99, 1e-3

# Sources: y-kawagu/dcase2020_task2_baseline `keras_model.py` and `baseline.yaml`;
# nttcslab/dcase2023_task2_baseline_ae `networks/dcase2023t2_ae` (used 2023 to 2026), whose score "MSE" is residual
# "mean_square" and whose "MAHALA" is "mahalanobis" with two domains.
RECIPES: Mapping[str, AutoencoderConfig] = {
    "2020": AutoencoderConfig(),
    "2023": AutoencoderConfig(batch_size=256, constants="torch"),
    "2023-mahalanobis": AutoencoderConfig(
        batch_size=256, constants="torch", residual="mahalanobis", n_domains=2
    ),
}

WIDEST = 2**16  # units of a layer, at most
BOTTLENECK_STEP = 16  # units; a whole number of the vectors that processors compute with


def in_training(config: AutoencoderConfig) -> AutoencoderConfig:
    """The config of the network that is trained: its bottleneck is whole steps wide, and cut afterwards.

    Products of one shape round alike: within a step, a lane that is masked down from a wider bottleneck makes the same
    bits as one that was configured so narrow. Products of two shapes would differ by a rounding, which training lets
    grow.
    """
    return replace(config, bottleneck=-(-config.bottleneck // BOTTLENECK_STEP) * BOTTLENECK_STEP)


def check_config(config: AutoencoderConfig, hyper: AutoencoderHyper | None = None) -> None:
    """Refuse what cannot be built, or trained.

    Raises:
        SettingsError: a static or traced setting out of its range, or two that contradict each other.
    """
    check_fields(config)
    for name in ("n_context", "n_epochs", "batch_size", "n_domains", "block_size"):
        check_number(name, getattr(config, name), low=1, whole=True)
    for name, widths in (("bottleneck", (config.bottleneck,)), ("hidden", config.hidden)):
        for width in widths:
            check_number(name, width, low=1, high=WIDEST, whole=True)
    if hyper is not None:
        for name in ("learning_rate", "weight_decay", "noise", "ridge"):
            check_numbers(name, getattr(hyper, name), low=0)
        if hyper.width is not None:
            check_numbers("width", hyper.width, low=1, high=config.bottleneck, whole=True)
    if config.predict == "middle" and (config.n_context < 3 or config.n_context % 2 == 0):
        raise SettingsError(f"n_context={config.n_context} has no middle row between others: take 3, 5, 7, …")
    if config.n_domains > 1 and config.residual != "mahalanobis":
        raise SettingsError('domains have covariances only with residual="mahalanobis"')
