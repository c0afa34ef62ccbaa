"""Does an independent PyTorch version end where ours does? Loss and clip scores over several seeds.

Run:     python -m experiments.benchmarks.autoencoder_agreement [--data ROOT [--only-data]] [--recipes 2020 2023]
         [--starts own ours] [--seeds N] [--epochs N] [--quick] [--json FILE]
Work:    the 2020 and the 2023 recipe on the first machine of the small synthetic slide rail, and with --data on all
         slide rails of a real tree (one model, as the baselines have it). Start "own": nothing is shared but the
         clips, not the initial weights, not the order of the windows. Start "ours": PyTorch is given our initial
         weights and our orders, so that only the arithmetic differs.
Reads:   loss: the last epoch's mean training loss, a mean over seeds, theirs / ours, with its standard error. rank:
         Spearman's correlation of clip scores, each a mean over seeds. between seeds: the same between single seeds,
         ours against theirs and, for what luck alone does, ours against ours and theirs against theirs. rank by luck
         alone: what `rank` would be if both drew their seeds from one distribution (Spearman and Brown's formula).
Result:  README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from dataclasses import replace
from itertools import combinations, product
from operator import itemgetter
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

from adjax import simulator
from adjax.data.index import index_folder
from adjax.detectors.autoencoder import RECIPES, Lane, make_lanes
from adjax.detectors.autoencoder.network import cut_weights
from adjax.detectors.autoencoder.resume import LaneTable, jit_program, train_lanes
from adjax.detectors.autoencoder.training import epoch_keys, init_state
from adjax.detectors.autoencoder.windows import shuffle
from adjax.features.recipes import BASELINE_FLOORS
from adjax.model.extraction import ClipFeatures
from adjax.model.inputs import extract_splits
from adjax.model.named import make_spec
from adjax.sweep.models import pool_scores
from experiments._autoencoder_lanes import LaneSpec, make_table, score_lanes
from experiments.benchmarks._harness import describe_machine, find_peer
from experiments.benchmarks._torch_autoencoder import (
    build,
    clip_score,
    set_weights,
    stack_windows,
    train_epoch,
)

COUNTS = {"id_00": simulator.ClipCounts(train=30, test_normal=15, test_anomaly=15)}
STARTS = ("own", "ours")
Found = tuple[np.ndarray, np.ndarray]  # (n_seeds,) losses, (n_seeds, n_clips) scores


def main() -> int:
    """Both versions on both data sets; the exit code is 1 without torch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, metavar="ROOT", help="a tree of real slide rails")
    parser.add_argument(
        "--seeds", type=int, default=12, help="models of each version whose scores are averaged"
    )
    parser.add_argument("--epochs", type=int, default=100, help="the recipes' own number by default")
    parser.add_argument("--recipes", nargs="+", choices=BASELINE_FLOORS, default=tuple(BASELINE_FLOORS))
    parser.add_argument("--only-data", action="store_true", help="leave the synthetic slide rail out")
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=("own",), help="what they share")
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the epochs, 2 seeds: shows only that it runs"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args()
    torch = find_peer("torch")
    if torch is None:
        return 1
    if options.only_data and options.data is None:
        parser.error("--only-data needs --data")
    epochs, seeds = options.epochs, options.seeds
    if options.quick:
        epochs, seeds = max(1, epochs // 10), min(seeds, 2)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        trees = {"real": options.data} if options.data else {}
        if not options.only_data:
            simulator.write_tree(folder, counts=COUNTS)
            trees = {"synthetic": Path(folder)} | trees
        for tree, root in trees.items():
            clips = index_folder(root, machine_type="slider")
            for recipe in options.recipes:
                (train,), (test,) = extract_splits(clips, make_spec(f"autoencoder:{recipe}"))
                ours = train_ours(recipe, train, test, epochs, seeds)
                for start in options.starts:
                    theirs = train_torch(torch, recipe, train, test, epochs, seeds, start)
                    found.append({"data": tree, "recipe": recipe, "start": start, **compare(ours, theirs)})
                    Console().print(found[-1])
    report(found)
    if options.json:
        record = {"machine": describe_machine(("flax", "optax", "torch")), "rows": found}
        options.json.write_text(json.dumps(record, indent=2) + "\n")
    return 0


def make_lane_table(recipe: str, train: ClipFeatures, n_seeds: int) -> LaneTable:
    """A lane for each seed."""
    specs = [LaneSpec("slider", "", seed=seed) for seed in range(n_seeds)]
    return make_table(train, specs, RECIPES[recipe], validation=0.0)


def train_ours(recipe: str, train: ClipFeatures, test: ClipFeatures, epochs: int, n_seeds: int) -> Found:
    """All seeds as lanes."""
    config = replace(RECIPES[recipe], n_epochs=epochs)
    table = make_lane_table(recipe, train, n_seeds)
    trained = train_lanes(table, config)
    specs = [LaneSpec("slider", "", seed=seed) for seed in range(n_seeds)]
    scored = score_lanes(jit_program(make_lanes(config, table.sizes)), trained.params, specs, test)
    scores = [pool_scores(values, own.offsets, config.n_context, "mean") for own, values in scored]
    return np.asarray(trained.losses.train[-1]), np.stack(scores)


def train_torch(
    torch: Any, recipe: str, train: ClipFeatures, test: ClipFeatures, epochs: int, n_seeds: int, start: str
) -> Found:
    """One seed after another."""
    config = RECIPES[recipe]
    table = make_lane_table(recipe, train, n_seeds)
    first_rows = np.asarray(table.windows.train)  # a window begins at each
    rows = np.asarray(table.windows.x)
    windows = torch.from_numpy(
        rows[first_rows[:, None] + np.arange(config.n_context)].reshape(len(first_rows), -1)
    )
    tests = [torch.from_numpy(stack_windows(clip)) for clip in np.split(test.rows, test.offsets[1:-1])]
    losses, scores = [], []
    for seed in range(n_seeds):
        torch.manual_seed(seed)
        model, optimizer = build(torch, recipe)
        lane = jax.tree.map(itemgetter(seed), table.lanes)
        if start == "ours":
            weights = init_state(config, table.windows, lane).weights
            params = cut_weights(config, rows.shape[1], weights).params
            set_weights(
                torch, model, *([*map(np.asarray, jax.tree.leaves(params[n]))] for n in ("kernels", "biases"))
            )
        loss = float("nan")
        for epoch in range(epochs):
            order = _our_order(table, lane, epoch) if start == "ours" else None
            order = order if order is None else torch.from_numpy(order)
            loss = train_epoch(torch, model, optimizer, windows, config.batch_size, order)
        losses.append(loss)
        scores.append([clip_score(torch, model, clip) for clip in tests])
    return np.array(losses), np.array(scores)


def _our_order(table: LaneTable, lane: Lane, epoch: int) -> np.ndarray:
    """Places of the windows in the order in which our epoch takes them."""
    key, _ = epoch_keys(lane, epoch)
    rows, _, _ = shuffle(key, table.sizes.train, table.windows, lane.train)
    return np.searchsorted(np.asarray(table.windows.train), np.asarray(rows))


def compare(ours: Found, theirs: Found) -> dict[str, float]:
    """Ratios and rank correlations."""
    n = len(ours[0])

    def rank(a: np.ndarray, b: np.ndarray) -> float:
        return float(spearmanr(a, b).statistic)

    within = [
        max(0.0, float(np.mean([rank(a, b) for a, b in combinations(scores, 2)] or [1.0])))
        for scores in (ours[1], theirs[1])
    ]
    ratio = float(np.mean(theirs[0]) / np.mean(ours[0]))
    spread = [float(np.std(x, ddof=min(1, n - 1)) / np.mean(x)) for x in (ours[0], theirs[0])]
    return {
        "our_loss": float(np.mean(ours[0])),
        "loss_theirs_over_ours": ratio,
        "its_error": ratio * math.hypot(*spread) / math.sqrt(n),
        "rank": rank(ours[1].mean(axis=0), theirs[1].mean(axis=0)),
        "rank_by_luck_alone": math.sqrt(math.prod(n * r / (1 + (n - 1) * r) for r in within)),
        "rank_between_seeds": float(np.mean([rank(a, b) for a, b in product(ours[1], theirs[1])])),
        "rank_ours_between_seeds": within[0],
        "rank_theirs_between_seeds": within[1],
    }


def report(found: list[dict[str, Any]]) -> None:
    """A row for each data set and recipe."""
    table = Table(title="An independent PyTorch version beside ours", title_justify="left")
    for name in found[0]:
        table.add_column(name.replace("_", " "))
    for row in found:
        texts = [f"{value:.4f}" if isinstance(value, float) else str(value) for value in row.values()]
        table.add_row(*texts)
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
