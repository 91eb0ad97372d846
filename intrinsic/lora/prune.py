"""The merge method `magnitude_prune`: the largest values of each delta, then the sum."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from intrinsic.lora.exact import exact, widened
from intrinsic.lora.merge_options import check_density


def magnitude_prune(
    deltas: Sequence[torch.Tensor], weights: Sequence[float], *, density: float = 0.5
) -> torch.Tensor:
    """`Σ wᵢ top(ΔWᵢ)`, where top keeps the share `density` of largest magnitude, of ΔW itself.

    Not of A and B apart: a small value of a factor may be part of a large value of the product.
    What is kept is not rescaled (Han et al. 2015, arXiv:1506.02626).
    """
    wide = widened(deltas, weights)
    return exact([keep_largest(delta, density) for delta in wide], weights)


def keep_largest(delta: torch.Tensor, density: float) -> torch.Tensor:
    """Zero all but the `round(density · n)` values of largest magnitude, at least one.

    Of values of one magnitude the first in order of rows stay, so that the number kept is exact
    and the same on every device. Raises `ConfigError` for a density outside (0, 1].
    """
    check_density(density)
    size = delta.abs().flatten()
    kept = max(1, round(density * size.numel()))
    threshold = size.kthvalue(size.numel() - kept + 1).values
    above, level = size > threshold, size == threshold
    mask = above | (level & (level.cumsum(0) <= kept - above.sum()))
    return torch.where(mask.view_as(delta), delta, 0.0)
