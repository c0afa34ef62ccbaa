"""Dense autoencoders of the DCASE baselines, and many of them at once; the score is what cannot be reconstructed.

`make_autoencoder` is one of them as a `Detector`, `make_lanes` a whole study as one compiled program, `RECIPES` the
published settings by name.
"""

from adjax.detectors.autoencoder.config import RECIPES, AutoencoderConfig, AutoencoderHyper
from adjax.detectors.autoencoder.detector import make_autoencoder
from adjax.detectors.autoencoder.kind import KIND
from adjax.detectors.autoencoder.lanes import LaneProgram, Strategy, make_lanes
from adjax.detectors.autoencoder.residuals import AutoencoderParams
from adjax.detectors.autoencoder.training import Lane, Losses, Sizes, TrainState, one_lane
from adjax.detectors.autoencoder.windows import Span, Windows

__all__ = [
    "KIND",
    "RECIPES",
    "AutoencoderConfig",
    "AutoencoderHyper",
    "AutoencoderParams",
    "Lane",
    "LaneProgram",
    "Losses",
    "Sizes",
    "Span",
    "Strategy",
    "TrainState",
    "Windows",
    "make_autoencoder",
    "make_lanes",
    "one_lane",
]
