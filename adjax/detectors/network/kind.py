"""The network as a kind."""

from __future__ import annotations

from adjax.detectors.network.adapt import adapt
from adjax.detectors.network.config import NetworkConfig, NetworkHyper
from adjax.detectors.network.detector import make_network
from adjax.detectors.network.host import fit_all
from adjax.types import Kind

KIND = Kind(
    name="network",
    summary="a small network that learns which machine a clip is of; the score is the distance to its normal clips",
    config=NetworkConfig,
    hyper=NetworkHyper,
    make=make_network,
    rows="samples",
    scope="all",
    least_machines=2,
    scales=True,
    calibrate="split",
    fit_all=fit_all,
    adapt=adapt,
    max_lanes=1,
    remedy="lower learning_rate",
)
