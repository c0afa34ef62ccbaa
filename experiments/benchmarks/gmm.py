"""Gaussian mixtures by EM: one large fit, and the 612 small ones of TWFR-GMM, against scikit-learn and gmmx.

Run:     python -m experiments.benchmarks.gmm [--quick] [--json FILE]
Works:   full_large  full covariance, 98,304 x 64, 16 components, 10 iterations from the same responsibilities
         diag_large  diagonal, 100,000 x 64, 16 components, 20 iterations, likewise
         twfr_grid   51 values of r x {1, 2, 4, 8} components x 3 machines of 968/968/434 clips x 128 bands, full,
                     k-means starts included; scikit-learn in float64 (in float32 it refuses singular fits)
         growth      time against rows, features, components and lanes, with slopes and a figure
         memory      741,810 x 128, 8 full components, 3 iterations: peak above the data (Linux)
Peers:   scikit-learn at its default threads and with one, gmmx; each in a process of its own with a time limit.
Ours:    `fit_split`, which uses all cores, beside `fit_gmm` inside one jit.
Limit:   the products' floating-point operations (both halves of what is symmetric) at the rate of a
         2048 x 2048 product: limit / ours may exceed 1.
Result:  README.md beside this file.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from adjax.detectors.gmm import CovarianceType, GmmConfig, GmmHyper, fit_gmm, fit_lanes, fit_split
from adjax.features import gwrp
from experiments.benchmarks._harness import Case, PeerStopped, Row, SubprocessPeer, find_peer, main

LIMIT_S = 90.0  # for one run of a peer; gmmx 0.7 took over 400 on the large fit
FIGURE = Path("experiments/figures/gmm_growth.png")
N_COMPONENTS = (1, 2, 4, 8)
N_CLIPS = (968, 968, 434)


def clusters(n: int, d: int, k: int, seed: int = 0) -> np.ndarray:
    """(n, d) float32: k overlapping Gaussians."""
    rng = np.random.default_rng(seed)
    centres = 2 * rng.normal(size=(k, d))
    return (centres[rng.integers(k, size=n)] + rng.normal(size=(n, d))).astype(np.float32)


def nearest_of_first(x: np.ndarray, k: int) -> np.ndarray:
    """(n, k) float32: which of the first k rows is nearest; the start that everybody gets."""
    distances = np.stack([np.square(x - x[j]).sum(axis=1) for j in range(k)], axis=1)
    return np.eye(k, dtype=np.float32)[distances.argmin(axis=1)]


def make_peers(work: str, data: dict[str, Any], names: tuple[str, ...]) -> dict[str, Callable[[], Any]]:
    """Processes of the peers that are installed, with the data in a file."""
    folder = tempfile.mkdtemp(prefix="adjax-benchmark-")
    path = os.path.join(folder, "data.npz")
    np.savez(path, **data)
    peers: dict[str, Callable[[], Any]] = {}
    for name in names:
        if name == "gmmx" and find_peer("gmmx") is None:
            continue
        try:
            peer = SubprocessPeer("experiments.benchmarks._gmm_peer", work, name, path, limit_s=LIMIT_S)
        except PeerStopped as reason:
            print(f"{work}: {name} is left out: {reason}")
            continue
        peers[name] = peer
    return peers


def make_limit(n_operations: float) -> Callable[[], Any]:
    """So many floating-point operations as products of 2048 x 2048."""
    n = 2048
    n_products = max(1, round(n_operations / (2 * n**3)))
    a = jnp.ones((n, n))
    products = jax.jit(lambda a: jax.lax.fori_loop(0, n_products, lambda _, b: (a @ b) / n, a))
    return lambda: products(a)


def large_case(kind: CovarianceType, n: int, n_iter: int, rounds: int) -> Case:
    """One fit of a fixed number of iterations."""
    d, k = 64, 16
    x = clusters(n, d, k)
    resp = nearest_of_first(x, k)
    config = GmmConfig(k, kind, max_iter=n_iter)
    args = (jax.random.key(0), jnp.asarray(x), jnp.ones(n), GmmHyper(tol=0.0), jnp.asarray(resp))
    work = f"{kind}_large"
    alone = jax.jit(partial(fit_gmm, config))
    peers = {"fit_gmm (ours, one jit)": lambda: alone(*args)} | make_peers(
        work, {"x": x, "resp": resp, "n_iter": n_iter}, ("scikit-learn", "scikit-learn-1", "gmmx")
    )
    per_row = 4 * k * d * (d if kind == "full" else 2)

    def facts(row: Row) -> dict[str, float]:
        ours = float(fit_split(config, *args)[1].objective)
        rates = {"GFLOP/s (both halves counted)": 1e-9 * n * n_iter * per_row / row.ours_s}
        return rates | _compared(row, peers, ours)

    return Case(
        work, lambda: fit_split(config, *args), peers, make_limit(n * n_iter * per_row), rounds, facts
    )


def _compared(row: Row, peers: dict[str, Any], ours: float) -> dict[str, float]:
    """Ratios to scikit-learn at its best and to who was stopped, and differences of the mean log-likelihood."""
    sklearn = [seconds for name, seconds in row.peers.items() if name.startswith("scikit-learn")]
    found = {"scikit-learn at its best / ours": min(sklearn) / row.ours_s} if sklearn else {}
    timed_out = [name for name, peer in peers.items() if getattr(peer, "timed_out", False)]
    found |= {f"{name} (stopped) / ours, at least": LIMIT_S / row.ours_s for name in timed_out}
    return found | {
        f"log-likelihood, ours - {name} (nats)": ours - float(peers[name].said)
        for name in row.peers
        if isinstance(peers[name], SubprocessPeer)
    }


def make_pooled(r: np.ndarray, n_frames: int = 96) -> np.ndarray:
    """(3 · n_r, 968, 128) float32: clips' pooled log-mels, machine after machine for each r; zeros behind 434."""
    rng = np.random.default_rng(0)
    basis = np.cumsum(rng.normal(size=(24, 128)), axis=1) / 8  # neighbouring bands move together
    pooled = np.zeros((len(r), 3, max(N_CLIPS), 128), np.float32)

    @jax.jit
    def pool(clips: jax.Array) -> jax.Array:
        return jax.lax.map(lambda x: jax.vmap(gwrp, in_axes=(None, 0))(x, jnp.asarray(r, jnp.float32)), clips)

    for machine, n_clips in enumerate(N_CLIPS):
        clips = rng.normal(size=(n_clips, 1, 24)) + 2 * rng.normal(size=(n_clips, n_frames, 24))
        frames = -40 + clips @ basis + 3 * rng.normal(size=(n_clips, n_frames, 128))
        pooled[:, machine, :n_clips] = np.asarray(pool(frames.astype(np.float32))).transpose(1, 0, 2)
    return pooled.reshape(-1, *pooled.shape[2:])


def grid_case(quick: bool) -> Case:
    """All settings of TWFR-GMM as lanes of one call; components by mask."""
    r = np.linspace(0, 1, 3 if quick else 51)
    x = make_pooled(r)
    n_rows = np.tile(N_CLIPS, len(r))
    weight = jnp.asarray(np.arange(x.shape[1])[None, :] < n_rows[:, None], jnp.float32)
    data = jnp.repeat(jnp.arange(len(x)), len(N_COMPONENTS))
    counts = np.tile(N_COMPONENTS, len(x))
    keys = jax.random.split(jax.random.key(0), len(data))
    hyper = GmmHyper(reg_covar=1e-6, tol=1e-6, n_components=jnp.asarray(counts))
    config = GmmConfig(max(N_COMPONENTS), "full", scoring="max_component")
    on_device = jnp.asarray(x)

    def ours() -> Any:
        return fit_lanes(config, keys, on_device, weight, hyper, data=data)

    peers = make_peers(
        "twfr_grid",
        {"x": x, "n_rows": n_rows, "n_components": np.array(N_COMPONENTS)},
        ("scikit-learn", "scikit-learn-1"),
    )

    def facts(row: Row) -> dict[str, float]:
        info = ours()[1]
        found = {"lanes": float(len(data)), "mean iterations": float(np.mean(info.n_steps))}
        for code, name in ((2, "not finite"), (3, "collapsed"), (4, "needed more than reg_covar")):
            found[f"lanes that {name}" if code == 4 else f"lanes {name}"] = float(np.sum(info.status == code))
        return found | _compared(row, peers, float(np.mean(info.objective)))

    jax.block_until_ready(ours())  # compiled before the one round
    return Case("twfr_grid", ours, peers, rounds=3 if quick else 1, facts=facts)


def growth_case(quick: bool) -> Case:
    """Five iterations from a base size, and how the time grows from there."""
    base = {"rows": 32_768, "features": 32, "components": 8, "lanes": 2}
    factors = (1, 2, 4) if quick else (1, 2, 4, 8)

    def prepare(rows: int, features: int, components: int, lanes: int) -> Callable[[], Any]:
        x = jnp.asarray(clusters(rows, features, components))[None]
        resp_free = GmmConfig(components, "full", max_iter=5, n_kmeans_iter=1)
        keys = jax.random.split(jax.random.key(0), lanes)
        return lambda: fit_lanes(
            resp_free, keys, x, jnp.ones(x.shape[:2]), GmmHyper(tol=0.0), data=jnp.zeros(lanes, int)
        )

    def facts(row: Row) -> dict[str, float]:
        figure = Figure(figsize=(5.6, 4.2), layout="constrained")
        axis = figure.subplots()
        slopes = {}
        for name in base:
            runs = [prepare(**{**base, name: base[name] * factor}) for factor in factors]
            seconds = np.array([_best_of_three(run) for run in runs])
            slopes[f"slope of {name}"] = float(np.polyfit(np.log(factors), np.log(seconds), 1)[0])
            axis.loglog(factors, seconds, "o-", label=f"{name}: slope {slopes[f'slope of {name}']:.2f}")
        axis.set_xlabel("times the base: " + ", ".join(f"{value:,} {name}" for name, value in base.items()))
        axis.set_ylabel("seconds (best of 3)")
        axis.legend()
        if not quick:
            figure.savefig(FIGURE, dpi=110)
        return slopes

    return Case("growth", prepare(**base), {}, rounds=3, facts=facts)


def memory_case(quick: bool) -> Case:
    """All frames of the slide rails' training clips, 128 features, 8 full components; what that takes beyond them."""
    n_rows = 741_810 // (8 if quick else 1)
    said: list[str] = []

    def measure() -> None:
        command = [sys.executable, "-m", "experiments.benchmarks._gmm_memory", str(n_rows)]
        said.append(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    def facts(row: Row) -> dict[str, float]:
        return {"rows": float(n_rows), "MiB above the data, compilation included": float(said[-1])}

    return Case("memory", measure, {}, rounds=1, facts=facts)


def _best_of_three(run: Callable[[], Any]) -> float:
    jax.block_until_ready(run())
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def make_cases(quick: bool) -> list[Case]:
    """The five works; `--quick` takes an eighth of the rows, 3 values of r and fewer sizes."""
    share = 8 if quick else 1
    return [
        large_case("full", 98_304 // share, 10, rounds=3),
        large_case("diag", 100_000 // share, 20, rounds=3),
        grid_case(quick),
        growth_case(quick),
        memory_case(quick),
    ]


if __name__ == "__main__":
    main("Gaussian mixtures", make_cases, packages=("scikit-learn", "gmmx", "threadpoolctl"), rounds=3)
