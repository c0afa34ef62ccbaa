import jax
import numpy as np
import pytest
from jax import numpy as jnp

from adjax.features import stack_frames
from adjax.types import SettingsError


@pytest.mark.parametrize("n_context", [1, 2, 5, 7])
def test_rows_are_consecutive_frames(n_context):
    x = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)
    expected = np.stack([x[t : t + n_context].ravel() for t in range(7 - n_context + 1)])
    np.testing.assert_array_equal(stack_frames(jnp.asarray(x), n_context), expected)


def test_dcase_autoencoder_input():
    assert stack_frames(jnp.ones((313, 128)), 5).shape == (309, 640)


@pytest.mark.parametrize("n_context", [0, -1, 8])
def test_errors(n_context):
    with pytest.raises(SettingsError, match=f"n_context={n_context}"):
        stack_frames(jnp.ones((7, 3)), n_context)


def test_gradient_counts_the_windows_of_a_frame():
    gradient = jax.grad(lambda x: stack_frames(x, 3).sum())(jnp.ones((5, 1)))
    np.testing.assert_array_equal(gradient[:, 0], [1, 2, 3, 2, 1])
