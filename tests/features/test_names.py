"""Every column has a name of its own, which says where it is."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from adjax.features.names import column_names
from adjax.features.recipes import FeatureConfig, make_features


@pytest.mark.parametrize("kind", ["log-mel", "mfcc", "spectrum", "pcen"])
@pytest.mark.parametrize("pooling", ["none", "mean", "percentiles", "moments", "modulation", "flux", "gwrp"])
def test_a_name_for_each_column(kind: str, pooling: str) -> None:
    config = FeatureConfig(kind=kind, pooling=pooling, n_mels=32, n_mfcc=12, n_deltas=1)
    assert len({*column_names(config)}) == config.n_features


def test_narrow_bins_keep_their_names_apart() -> None:
    assert len({*column_names(FeatureConfig(kind="spectrum", n_fft=65536))}) == 32769
    assert column_names(FeatureConfig(kind="samples", n_fft=1, hop_length=512)) == ()


def test_a_tone_is_heard_where_its_name_says() -> None:
    """Of a tone at 1 kHz that comes and goes four times a second."""
    config = FeatureConfig(pooling="views")
    names = column_names(config)
    assert len({*names}) == config.n_features == len(names)
    time = np.arange(160_000) / 16_000
    noise = 0.3 * np.random.default_rng(0).normal(size=len(time))
    tone = noise + (np.sin(2 * np.pi * 4 * time) > 0) * np.sin(2 * np.pi * 1000 * time)
    compute = make_features(config)
    change = np.asarray(compute(jnp.float32(tone), 160_000) - compute(jnp.float32(noise), 160_000))[0]
    mean = names[int(np.argmax(change[:128]))]
    assert abs(float(mean.removeprefix("mean ").removesuffix(" Hz")) - 1000) < 60
    rhythm = names[512 + int(np.argmax(change[512:]))]
    low, high, slow, fast = (float(word) for word in rhythm.split() if word.replace(".", "").isdigit())
    assert low < 1000 < high
    assert slow <= 4 <= fast + 0.25
