"""The meaning of a mixture, computed slowly and plainly: `W' = W + Σ wᵢ sᵢ Bᵢ Aᵢ`."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from intrinsic.lora.checkpoint import Factors


def delta(
    factors: Factors, weight: float = 1.0, *, dtype: torch.dtype = torch.float64
) -> torch.Tensor:
    """`ΔW = w s B A`, accumulated in `dtype`.

    Shape: `(out, in)`.
    """
    product = factors.B.to(dtype) @ factors.A.to(dtype)
    return product * (weight * factors.scale)


def mixed_weight(
    W: torch.Tensor,
    terms: Iterable[tuple[Factors, float]],
    *,
    dtype: torch.dtype = torch.float64,
) -> torch.Tensor:
    """`W + Σ wᵢ sᵢ Bᵢ Aᵢ`, accumulated in `dtype` and returned in it, unrounded.

    Shape: W `(out, in)` to `(out, in)`. W itself is not changed.
    """
    total = W.detach().to(dtype, copy=True)
    for factors, weight in terms:
        total += delta(factors, weight, dtype=dtype).to(total.device)
    return total
