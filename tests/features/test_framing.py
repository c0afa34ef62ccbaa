import jax
import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import numpy as jnp

from adjax.features import frame, frame_weights, get_window, n_frames
from adjax.types import SettingsError


@pytest.mark.parametrize("window", ["hann", "hamming", ("kaiser", 8.0)])
@pytest.mark.parametrize(("win_length", "n_fft"), [(400, 400), (400, 512), (401, 512), (1, 4)])
def test_window_is_librosas(window, win_length, n_fft):
    expected = librosa.util.pad_center(librosa.filters.get_window(window, win_length), size=n_fft)
    np.testing.assert_allclose(get_window(window, win_length, n_fft), expected, atol=1e-15)


def test_window_is_periodic():
    np.testing.assert_allclose(
        get_window("hann", 8, 8), 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(8) / 8), atol=1e-15
    )


@pytest.mark.parametrize(
    ("window", "win_length", "match"),
    [("hann", 0, "win_length=0"), ("hann", 9, "win_length=9"), ("hahn", 8, "hahn")],
)
def test_window_errors(window, win_length, match):
    with pytest.raises(SettingsError, match=match):
        get_window(window, win_length, 8)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize(("n_fft", "hop_length"), [(16, 5), (15, 7), (8, 20)])
def test_frames_are_those_of_the_padded_clip(center, pad_mode, n_fft, hop_length):
    y = np.random.default_rng(0).standard_normal(101).astype(np.float32)
    padded = np.pad(y, n_fft // 2, mode=pad_mode) if center else y
    expected = librosa.util.frame(padded, frame_length=n_fft, hop_length=hop_length).T
    sizes = {"n_fft": n_fft, "hop_length": hop_length, "center": center}
    frames = jax.jit(lambda y: frame(y, pad_mode=pad_mode, **sizes))(y)
    np.testing.assert_array_equal(frames, expected)
    assert frames.shape[0] == n_frames(101, **sizes)


@pytest.mark.parametrize("n_samples", [1, 2, 5, 8])
def test_reflection_of_a_clip_shorter_than_its_padding_is_numpys(n_samples):
    y = np.arange(1.0, n_samples + 1, dtype=np.float32)
    expected = np.pad(y, 8, mode="reflect")[:16]
    frames = jax.jit(lambda y: frame(y, n_fft=16, hop_length=8, pad_mode="reflect"))(y)
    np.testing.assert_array_equal(frames[0], expected)


@pytest.mark.parametrize(
    ("n_samples", "centred", "bare"),
    [(0, 0, 0), (1, 1, 0), (100, 1, 0), (1023, 2, 0), (1024, 3, 1), (160_000, 313, 311)],
)
def test_edge_lengths(n_samples, centred, bare):
    for center, expected in ((True, centred), (False, bare)):
        sizes = {"n_fft": 1024, "hop_length": 512, "center": center}
        assert n_frames(n_samples, **sizes) == expected
        assert jax.jit(lambda n, sizes=sizes: n_frames(n, **sizes))(n_samples) == expected
        if expected:
            assert jax.eval_shape(lambda y, sizes=sizes: frame(y, **sizes), jnp.ones(n_samples)).shape == (
                expected,
                1024,
            )
        else:
            with pytest.raises(SettingsError, match=f"a clip of {n_samples} samples has no frame"):
                frame(jnp.ones(n_samples), **sizes)


@pytest.mark.parametrize(
    ("y", "kwargs", "match"),
    [
        (np.ones((2, 50), np.float32), {}, "map_clips"),
        (np.ones(50, np.int16), {}, "int16"),
        (np.ones(50, np.float32), {"hop_length": 0}, "hop_length=0"),
        (np.ones(50, np.float32), {"n_fft": 0}, "n_fft=0"),
        (np.ones(50, np.float32), {"pad_mode": "edge"}, "edge"),
    ],
)
def test_frame_errors(y, kwargs, match):
    with pytest.raises(SettingsError, match=match):
        frame(y, **({"n_fft": 16, "hop_length": 8} | kwargs))


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
def test_padded_clip_has_the_frames_of_the_bare_clip_then_zeros(center, pad_mode):
    sizes = {"n_fft": 16, "hop_length": 6, "center": center, "pad_mode": pad_mode}
    y = np.random.default_rng(1).standard_normal(64).astype(np.float32)
    padded_frames = jax.jit(lambda y, n: frame(y, n_valid=n, **sizes))
    bare_frames = jax.jit(lambda y: frame(y, **sizes))
    for n_valid in (0, 1, 3, 15, 16, 50, 64):
        n_real = n_frames(n_valid, n_fft=16, hop_length=6, center=center)
        frames = padded_frames(np.where(np.arange(64) < n_valid, y, 99.0).astype(np.float32), n_valid)
        assert not np.asarray(frames[n_real:]).any()
        if n_real:
            np.testing.assert_array_equal(frames[:n_real], bare_frames(y[:n_valid]))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 5000), st.integers(1, 600), st.integers(1, 600), st.booleans())
def test_n_frames_counts_the_frames_that_fit(n_samples, n_fft, hop_length, center):
    length = n_samples + 2 * (n_fft // 2) * center
    fitting = len(range(0, length - n_fft + 1, hop_length)) if n_samples else 0
    assert n_frames(n_samples, n_fft=n_fft, hop_length=hop_length, center=center) == fitting


def test_frame_weights():
    np.testing.assert_array_equal(frame_weights(2, 4), [1, 1, 0, 0])
    np.testing.assert_array_equal(frame_weights(jnp.int32(-3), 2), [0, 0])
    np.testing.assert_array_equal(frame_weights(9, 2), [1, 1])
