"""All of it in three functions: fit, score (of the model), load."""

from __future__ import annotations

from adjax.model.keep import load_model as load

__all__ = ["load"]
