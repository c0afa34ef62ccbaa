"""Command lines that several tests use."""

from __future__ import annotations

from pathlib import Path


def arguments(tree: Path, out: Path, *more: str) -> list[str]:
    gmm = ["--model", "gmm", "--n-mels", "16", "--set", "covariance_type=diag", "n_components=2"]
    return ["run", "--data", str(tree), "--out", str(out), *gmm, *more]
