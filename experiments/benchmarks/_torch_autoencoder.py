"""An independent PyTorch version of the baselines' autoencoders, written from the recipe, eager as theirs are."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

N_MELS, N_CONTEXT = 128, 5
WIDTHS = (N_CONTEXT * N_MELS, 128, 128, 128, 128, 8, 128, 128, 128, 128, N_CONTEXT * N_MELS)


def stack_windows(rows: np.ndarray) -> np.ndarray:
    """(n_rows - 4, 640) windows of one clip, or of rows without clips."""
    windows = np.lib.stride_tricks.sliding_window_view(rows, N_CONTEXT, axis=0)
    return np.array(windows.transpose(0, 2, 1).reshape(len(windows), -1))  # torch wants it writable


def build(torch: Any, recipe: str, learning_rate: float = 1e-3) -> tuple[Any, Any]:
    """Model and optimiser of the recipe "2020" (Keras's start and Adam) or "2023" (PyTorch's)."""
    layers: list[Any] = []
    for i, o in pairwise(WIDTHS[:-1]):
        layers += [torch.nn.Linear(i, o), torch.nn.BatchNorm1d(o, eps=1e-3, momentum=0.01), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers, torch.nn.Linear(WIDTHS[-2], WIDTHS[-1]))
    if recipe == "2020":
        for layer in model:
            if isinstance(layer, torch.nn.Linear):
                torch.nn.init.xavier_uniform_(layer.weight)
                torch.nn.init.zeros_(layer.bias)
    epsilon = {"2020": 1e-7, "2023": 1e-8}[recipe]
    return model, torch.optim.Adam(model.parameters(), lr=learning_rate, eps=epsilon)


def train_epoch(torch: Any, model: Any, optimizer: Any, windows: Any, batch_size: int) -> float:
    """One epoch over (n, 640) windows in a new order; the mean loss of a window."""
    model.train()
    total = torch.zeros(())
    for index in torch.randperm(len(windows)).split(batch_size):
        batch = windows[index]
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(batch), batch)
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(batch)
    return float(total / len(windows))


def clip_score(torch: Any, model: Any, windows: Any) -> float:
    """Mean squared error over a clip's windows."""
    model.eval()
    with torch.no_grad():
        return float(torch.nn.functional.mse_loss(model(windows), windows))
