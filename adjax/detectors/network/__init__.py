"""A small network that learns to tell all machines apart from their waves: two branches, sub-cluster AdaCos.

`make_network` is the `Detector`; trained from the host it needs no second copy of the waves (`KIND.fit_all`).
"""

from adjax.detectors.network.config import NetworkConfig, NetworkHyper
from adjax.detectors.network.detector import NetworkParams, make_network
from adjax.detectors.network.kind import KIND

__all__ = ["KIND", "NetworkConfig", "NetworkHyper", "NetworkParams", "make_network"]
