"""Peak memory of one large mixture above its data, in a process of its own (Linux); see `gmm`.

    python -m experiments.benchmarks._gmm_memory N_ROWS

Prints MiB: the peak while compiling and fitting, minus what the process held when it had the data.
"""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp

from adjax.detectors.gmm import GmmConfig, GmmHyper, fit_split
from experiments.benchmarks._memory import forget_peak, held_mib, peak_mib

N_FEATURES, N_COMPONENTS, N_ITERATIONS = 128, 8, 3


def main() -> None:
    """Make the rows, fit them."""
    n_rows = int(sys.argv[1])
    x = jax.block_until_ready(
        jax.jit(lambda key: jax.random.normal(key, (n_rows, N_FEATURES)))(jax.random.key(0))
    )
    weight = jax.block_until_ready(jnp.ones(n_rows))
    forget_peak()
    held = held_mib()
    config = GmmConfig(N_COMPONENTS, "full", max_iter=N_ITERATIONS)
    jax.block_until_ready(fit_split(config, jax.random.key(1), x, weight, GmmHyper(tol=0.0)))
    print(peak_mib() - held)


if __name__ == "__main__":
    main()
