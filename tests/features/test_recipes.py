"""Recipes: shapes whatever the padding, settings out of range, the floors of the baselines, the two halves."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from adjax.features import mel_spectrogram
from adjax.features.recipes import (
    BASELINE_FLOORS,
    ClipNorm,
    FeatureConfig,
    FeatureKind,
    Pooling,
    make_features,
    make_frames,
    make_rows,
)
from adjax.types import SettingsError

SMALL = FeatureConfig(n_fft=256, hop_length=128, n_mels=16, n_mfcc=5)


def hum(n: int = 4000) -> jax.Array:
    """A hum at 500 Hz in noise."""
    rng = np.random.default_rng(0)
    y = 0.1 * np.sin(2 * np.pi * 500 * np.arange(n) / 16000) + 0.02 * rng.normal(size=n)
    return jnp.asarray(y, jnp.float32)


@pytest.mark.parametrize(
    ("kind", "pooling"),
    [
        *((kind, pooling) for kind in get_args(FeatureKind) for pooling in ("none", "std")),
        *(("log-mel", pooling) for pooling in get_args(Pooling)[3:]),
    ],
)
@pytest.mark.parametrize("clip_norm", ["none", "level"])
def test_recipes_give_the_promised_shape_whatever_the_padding(
    kind: FeatureKind, pooling: Pooling, clip_norm: ClipNorm
) -> None:
    config = replace(SMALL, kind=kind, pooling=pooling, clip_norm=clip_norm, n_deltas=2)
    features = jax.jit(make_features(config))
    y = hum()
    alone, padded = features(y, 4000), features(jnp.pad(y, (0, 1000), constant_values=7.0), 4000)
    assert alone.shape == (config.n_rows(4000), config.n_features)
    assert int(config.count_rows(jnp.int32(4000))) == config.n_rows(4000)
    assert_allclose(padded[: config.n_rows(4000)], alone, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("n", [100, 1280, 4000])
def test_samples_are_the_wave_in_blocks_filled_up_from_its_beginning(n: int) -> None:
    config = FeatureConfig(kind="samples", hop_length=128)
    y = np.asarray(hum(n))
    rows = make_features(config)(jnp.pad(y, (0, 300), constant_values=7.0), jnp.int32(n))
    assert config.n_rows(n) == -(-n // 128) == int(config.count_rows(jnp.int32(n)))
    whole = np.resize(y, 128 * config.n_rows(n))
    assert_array_equal(rows[: config.n_rows(n)].reshape(-1), whole)


@pytest.mark.parametrize("pooled", [{"pooling": "mean"}, {"clip_norm": "level"}])
def test_samples_are_taken_as_they_are(pooled: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="samples"):
        FeatureConfig(kind="samples", **pooled).check()


@pytest.mark.parametrize(
    "bad",
    [
        {"kind": "chroma"},
        {"kind": "mfcc", "n_mfcc": 17},
        {"kind": "mfcc", "n_deltas": 3},
        {"pooling": "median"},
        {"pooling": "gwrp", "gwrp_r": 1.5},
        {"pooling": "percentiles", "percentiles": (50.0, 101.0)},
        {"pooling": "percentiles", "percentiles": ()},
        {"pooling": "views", "n_mels": 20},
        {"pooling": "views", "kind": "mfcc"},
        {"clip_norm": "loudness"},
        {"floor": "clip"},
    ],
)
def test_recipes_refuse_bad_settings(bad: dict) -> None:
    with pytest.raises(SettingsError):
        make_features(replace(SMALL, **bad))


@pytest.mark.parametrize("kind", get_args(FeatureKind))
def test_floors_are_those_of_the_baselines(kind: FeatureKind) -> None:
    """A sound so faint that its mel energies lie about eps: the logarithm tells the floors apart, nothing else does."""
    y = hum() * np.float32(1e-7)
    config = replace(SMALL, kind=kind)
    added, floored = (
        make_features(replace(config, floor=BASELINE_FLOORS[year]))(y, 4000) for year in ("2020", "2023")
    )
    if kind in ("spectrum", "pcen"):
        assert_array_equal(added, floored)
        return
    assert np.max(np.abs(added - floored)) > 1
    if kind == "log-mel":
        eps = np.finfo(np.float64).eps
        mel = np.asarray(mel_spectrogram(y, sr=16000, n_fft=256, hop_length=128, n_mels=16), np.float64)
        assert_allclose(added, 10 * np.log10(mel + eps), atol=1e-3)
        assert_allclose(floored, 10 * np.log10(np.maximum(mel, eps)), atol=1e-3)


@pytest.mark.parametrize("other", [{"kind": "mfcc"}, {"pooling": "views"}, {"clip_norm": "level"}])
def test_recipes_that_share_their_frames_say_so(other: dict) -> None:
    """What `make_frames` gives is the same for both; only the second half differs."""
    config = replace(SMALL, **other)
    assert config.same_frames(SMALL)
    y = hum()
    frames = make_frames(SMALL)(y, 4000)
    assert_array_equal(make_frames(config)(y, 4000), frames)
    assert_array_equal(make_rows(config)(frames, 4000), make_features(config)(y, 4000))
    for unlike in ({"kind": "pcen"}, {"n_mels": 8}, {"floor": "max"}, {"hop_length": 64}):
        assert not config.same_frames(replace(SMALL, **unlike))
