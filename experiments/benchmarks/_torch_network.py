"""An independent PyTorch version of the network that tells machines apart, written from the recipe, eager as theirs.

Import it where torch is installed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn

WIDTH, FIRST_BIN, N_FFT, HOP = 128, 13, 1024, 512


class Excite(nn.Module):
    """Squeeze-excitation."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.a = nn.Linear(n, max(1, n // 16), bias=False)
        self.b = nn.Linear(max(1, n // 16), n, bias=False)

    def forward(self, x: Any) -> Any:
        """Scale channels."""
        scale = torch.sigmoid(self.b(torch.relu(self.a(x.flatten(2).mean(2)))))
        return x * scale.view(*scale.shape, *[1] * (x.dim() - 2))


class Block(nn.Module):
    """A residual block."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.outer, self.inner = nn.BatchNorm2d(n_in, affine=False), nn.BatchNorm2d(n_out, affine=False)
        self.first = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.scale, self.pool = Excite(n_out), nn.MaxPool2d(3, 2, 1)
        self.skip = nn.Conv2d(n_in, n_out, 1, bias=False) if stride > 1 else None

    def forward(self, x: Any) -> Any:
        """(n, channels, bins, frames)."""
        x = self.outer(x)
        y = self.second(torch.relu(self.inner(self.first(torch.relu(x)))))
        return self.scale(y) + (x if self.skip is None else self.skip(self.pool(x)))


class Network(nn.Module):
    """Both branches and the loss of waves of `n_samples`."""

    def __init__(self, n_samples: int, n_machines: int, n_centres: int = 16, width: int = WIDTH) -> None:
        super().__init__()
        self.n_machines, self.n_centres = n_machines, n_centres
        sizes, length, layers = ((256, 64), (64, 32), (16, 4)), 1 + n_samples // 2, []
        for i, (kernel, stride) in enumerate(sizes):
            layers += [
                nn.Conv1d(width if i else 1, width, kernel, stride, bias=False),
                nn.ReLU(),
                Excite(width),
            ]
            length = 1 + (length - kernel) // stride
        layers.append(nn.Flatten())
        for i in range(6):
            layers.append(nn.Linear(width if i else width * length, width, bias=False))
            layers += [nn.BatchNorm1d(width, affine=False), nn.ReLU()] if i < 5 else []
        self.spectrum = nn.Sequential(*layers)
        n_bins, channels = 1 + N_FFT // 2 - FIRST_BIN, (width // 8, width // 4, width // 2, width)
        self.bins = nn.BatchNorm1d(n_bins, affine=False)
        self.stem = nn.Conv2d(1, channels[0], 7, 2, bias=False)
        self.stem_norm, self.stem_pool = nn.BatchNorm2d(channels[0], affine=False), nn.MaxPool2d(3, 2)
        blocks, n_in, size = [], channels[0], 1 + ((1 + (n_bins - 7) // 2) - 3) // 2
        for i, n in enumerate(channels):
            blocks += [Block(n_in, n, 2 if i else 1), Block(n, n, 1)]
            n_in, size = n, 1 + (size - 1) // (2 if i else 1)
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm1d(size * width, affine=False)
        self.dense = nn.Linear(size * width, width, bias=False)
        self.centres = nn.Parameter(torch.empty(2 * width, n_machines * n_centres))
        nn.init.xavier_uniform_(self.centres)

    def embed(self, waves: Any) -> Any:
        """(n, 2 width) of waves (n, n_samples)."""
        whole = self.spectrum(torch.fft.rfft(waves).abs()[:, None])
        window = torch.hann_window(N_FFT, dtype=waves.dtype)
        short = torch.stft(
            waves, N_FFT, HOP, window=window, center=True, pad_mode="constant", return_complex=True
        )
        x = self.bins(short.abs()[:, FIRST_BIN:] / window.square().sum().sqrt())
        x = self.stem_pool(torch.relu(self.stem_norm(self.stem(x[:, None]))))
        x = self.blocks(x).max(dim=3).values
        return torch.cat([whole, self.dense(self.norm(x.flatten(1)))], dim=1)

    def logits(self, vectors: Any) -> Any:
        """(n, n_machines) log-probabilities."""
        scale = math.sqrt(2) * math.log(self.n_machines * self.n_centres - 1)
        normalize = nn.functional.normalize
        cosines = normalize(vectors, dim=1) @ normalize(self.centres, dim=0)
        shares = torch.softmax(scale * cosines, dim=1)
        return shares.view(-1, self.n_machines, self.n_centres).sum(2).log()

    def loss(self, waves: Any, target: Any) -> Any:
        """() mean cross-entropy."""
        return -(target * self.logits(self.embed(waves))).sum(1).mean()


def pairs(model: Any, params: Any, centres: Any) -> list[tuple[Any, np.ndarray]]:
    """Each of PyTorch's parameters with ours as it lies there; of gradients, too.

    Args:
        model: a `Network`.
        params: our `Weights.params`, or what has its structure.
        centres: (n_machines, n_centres, 2 width).
    """
    width, spectrum, spectrogram = model.dense.out_features, params["spectrum"], params["spectrogram"]
    layers = list(model.spectrum)
    found: list[tuple[Any, Any]] = []

    def add(parameter: Any, ours: Any, *axes: int) -> None:
        found.append((parameter, np.asarray(ours).transpose(axes or None)))

    def add_scale(scale: Any, ours: Any) -> None:
        add(scale.a.weight, ours["squeeze"][...])
        add(scale.b.weight, ours["excite"][...])

    for i in range(3):
        add(layers[3 * i].weight, spectrum["kernels"][i][...], 2, 1, 0)
        add_scale(layers[3 * i + 2], spectrum["scales"][i])
    # Flattened, PyTorch has channels outside, we have them inside.
    for i in range(6):
        ours = np.asarray(spectrum["dense"][i][...])
        ours = ours.reshape(-1, width, width).transpose(1, 0, 2).reshape(-1, width) if i == 0 else ours
        add(layers[10 + 3 * i].weight, ours)
    add(model.stem.weight, spectrogram["stem"]["kernel"][...], 3, 2, 1, 0)
    for i, block in enumerate(model.blocks):
        ours = spectrogram["blocks"][i]
        add(block.first.weight, ours["first"][...], 3, 2, 1, 0)
        add(block.second.weight, ours["second"][...], 3, 2, 1, 0)
        add_scale(block.scale, ours["scale"])
        if block.skip is not None:
            add(block.skip.weight, np.asarray(ours["skip"][...])[None, None], 3, 2, 1, 0)
    dense = np.asarray(spectrogram["dense"][...])
    add(model.dense.weight, dense.reshape(-1, width, width).transpose(1, 0, 2).reshape(-1, width))
    add(model.centres, np.asarray(centres).reshape(-1, 2 * width))
    return found


def set_weights(model: Any, params: Any, centres: Any) -> None:
    """Start from given weights."""
    with torch.no_grad():
        for parameter, ours in pairs(model, params, centres):
            parameter.copy_(torch.from_numpy(np.array(ours)))


def train_epoch(model: Any, optimizer: Any, waves: Any, machine: Any, batch_size: int) -> float:
    """One epoch over (n, n_samples) waves in a new order, mixed by chance; the mean loss of a clip."""
    model.train()
    total = 0.0
    n_machines = int(machine.max()) + 1
    for index in torch.randperm(len(waves)).split(batch_size):
        batch, target = waves[index], nn.functional.one_hot(machine[index], n_machines).float()
        n = len(index)
        partner, share = torch.randperm(n), torch.rand(n, 1)
        other = (1 - share) * (torch.rand(n, 1) < 0.5)
        optimizer.zero_grad()
        loss = model.loss(
            (1 - other) * batch + other * batch[partner], (1 - other) * target + other * target[partner]
        )
        loss.backward()
        optimizer.step()
        total += float(loss.detach()) * n
    return total / len(waves)
