"""The merge method `ties`: trim, elect a sign, merge what agrees with it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from intrinsic.lora.exact import exact, widened
from intrinsic.lora.prune import keep_largest


def ties(
    deltas: Sequence[torch.Tensor], weights: Sequence[float], *, density: float = 0.2
) -> torch.Tensor:
    """TIES-merging (Yadav et al. 2023, arXiv:2306.01708) of deltas, with weights.

        τ̂ᵢ = top(ΔWᵢ)                          the share `density` of largest magnitude
        γ  = sgn Σ wᵢ τ̂ᵢ                        the sign of each value, elected by mass
        A  = {i : sgn wᵢ τ̂ᵢ = γ}                who agrees, per value
        ΔW = Σ|wᵢ| · Σ_A wᵢ τ̂ᵢ / Σ_A |wᵢ|       their mean, times the weight of all

    With equal weights λ/n this is the paper's `λ · mean over A`. Where all agree and nothing is
    trimmed it is the exact sum. The paper trims a task's values all together, this each layer.
    """
    wide = widened(deltas, weights)
    return disjoint_merge([keep_largest(delta, density) for delta in wide], weights)


def disjoint_merge(deltas: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """Elect the sign of each value, and merge those that agree; the last three lines of `ties`."""
    sign = exact(deltas, weights).sign()
    total, agreeing = torch.zeros_like(sign), torch.zeros_like(sign)
    for delta, weight in zip(deltas, weights, strict=True):
        term = weight * delta
        agrees = (term.sign() == sign) & (sign != 0)
        total += torch.where(agrees, term, 0.0)
        agreeing += abs(weight) * agrees
    everyone = sum(abs(weight) for weight in weights)
    return torch.where(agreeing > 0, everyone * total / agreeing, 0.0)
