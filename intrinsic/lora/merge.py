"""Merge methods: how the deltas of several adapters become one; all defined on ΔW."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

MergeMethod = Callable[[Sequence[torch.Tensor], Sequence[float]], torch.Tensor]
"""A function from deltas `ΔWᵢ = sᵢ Bᵢ Aᵢ`, each `(out, in)`, and weights wᵢ to one delta."""


def exact(deltas: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """`Σ wᵢ ΔWᵢ`, the meaning of a mixture."""
    total = torch.zeros_like(deltas[0])
    for delta, weight in zip(deltas, weights, strict=True):
        total += weight * delta
    return total
