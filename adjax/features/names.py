"""What each column of a front end's matrix is, for people."""

from __future__ import annotations

from itertools import pairwise

from adjax.features.mel import mel_edges
from adjax.features.modulation import OCTAVES
from adjax.features.recipes import FeatureConfig
from adjax.features.views import EDGES, GROUP, VIEWS, WINDOW


def column_names(config: FeatureConfig) -> tuple[str, ...]:
    """(config.n_features,) different names, such as "431 Hz" or "loud 431 Hz"; () of samples, which are no features.

    A mel band has its centre. An MFCC's derivatives are "change of" and "change of change of" a coefficient.
    """
    if config.kind == "samples":
        return ()
    if config.kind == "mfcc":
        orders = ("", "change of ", "change of change of ")[: 1 + config.n_deltas]
        columns = [f"{order}coefficient {i}" for order in orders for i in range(config.n_mfcc)]
    elif config.kind == "spectrum":
        columns = _hz([i * config.sr / config.n_fft for i in range(1 + config.n_fft // 2)])
    else:
        columns = _hz(_edges(config)[1:-1])
    if config.pooling == "views":
        bands = [f"{view} {name}" for view in VIEWS[:-1] for name in columns]
        return (*bands, *_rhythms(config))
    if config.pooling == "percentiles":
        several = [f"{q:g}th percentile of" for q in config.percentiles]
    elif config.pooling == "moments":
        several = [f"{moment} of" for moment in ("mean", "standard deviation", "skewness", "kurtosis")]
    elif config.pooling == "modulation":
        several = [f"{low:g} to {high:g} swings a frame of" for low, high in pairwise(OCTAVES)]
    else:
        return tuple(columns)
    return tuple(f"{name} {column}" for name in several for column in columns)


def _rhythms(config: FeatureConfig) -> list[str]:
    """Of `envelope_spectrum`: the groups' lowest modulation band, then the next one."""
    edges, rate = _edges(config), config.sr / config.hop_length / WINDOW
    groups = [(edges[i], edges[i + GROUP + 1]) for i in range(0, config.n_mels, GROUP)]
    return [
        f"rhythm of {low:.0f} to {high:.0f} Hz at {_span(first * rate, (last - 1) * rate)} per second"
        for first, last in pairwise(EDGES)
        for low, high in groups
    ]


def _edges(config: FeatureConfig) -> list[float]:
    return mel_edges(sr=config.sr, n_fft=config.n_fft, n_mels=config.n_mels).tolist()


def _hz(values: list[float]) -> list[str]:
    """As few decimals as tell them apart."""
    for digits in range(9):
        names = [f"{value:.{digits}f} Hz" for value in values]
        if len({*names}) == len(names):
            break
    return names


def _span(low: float, high: float) -> str:
    """One number where both are the same, such as 0.49; else 0.73 to 0.98."""
    first, last = f"{low:.2g}", f"{high:.2g}"
    return first if first == last else f"{first} to {last}"
