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


def set_weights(torch: Any, model: Any, kernels: list[np.ndarray], biases: list[np.ndarray]) -> None:
    """Start from given weights: kernels (n_in, n_out) and biases (n_out,), layer by layer.

    Biases before BatchNorm, whose gradients are 0 but for rounding, stand still as ours do.
    """
    linear = [layer for layer in model if isinstance(layer, torch.nn.Linear)]
    with torch.no_grad():
        for layer, kernel, bias in zip(linear, kernels, biases, strict=True):
            layer.weight.copy_(torch.from_numpy(np.array(kernel.T)))
            layer.bias.copy_(torch.from_numpy(np.array(bias)))
    for layer in linear[:-1]:
        layer.bias.requires_grad_(False)


def train_epoch(
    torch: Any, model: Any, optimizer: Any, windows: Any, batch_size: int, order: Any | None = None
) -> float:
    """One epoch over (n, 640) windows, in a new order or in a given one; the mean loss of a window."""
    model.train()
    total = torch.zeros(())
    order = torch.randperm(len(windows)) if order is None else order
    for index in order.split(batch_size):
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
