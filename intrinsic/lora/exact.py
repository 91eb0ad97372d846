"""The merge method `exact`, and what every merge method does with its input first."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from intrinsic.errors import MixtureError
from intrinsic.lora.wording import named


def exact(deltas: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """`Σ wᵢ ΔWᵢ`, the meaning of a mixture.

    Shape: deltas `(out, in)` each, to `(out, in)`; the result is fp32, or fp64 for fp64 deltas.
    Raises `MixtureError` where deltas and weights do not belong together.
    """
    wide = widened(deltas, weights)
    total = torch.zeros_like(wide[0])
    for delta, weight in zip(wide, weights, strict=True):
        # Not add_(alpha=...), whose fused rounding keeps w x - w x from being 0.
        total += weight * delta
    return total


def widened(deltas: Sequence[torch.Tensor], weights: Sequence[float]) -> list[torch.Tensor]:
    """The deltas in fp32 at least, so that sums lose nothing of half precision.

    Raises `MixtureError` where there is no delta, not one weight for each, or shapes differ.
    """
    if not deltas or len(deltas) != len(weights):
        raise MixtureError(
            f"{len(deltas)} deltas and {len(weights)} weights; pass one weight for each delta"
        )
    shapes = sorted({tuple(delta.shape) for delta in deltas})
    if len(shapes) > 1:
        raise MixtureError(
            f"deltas of one layer have shapes {named(shapes)}; they must be of one shape"
        )
    dtype = torch.float64 if any(d.dtype == torch.float64 for d in deltas) else torch.float32
    return [delta.to(dtype) for delta in deltas]
