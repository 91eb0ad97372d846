"""The merge method `svd`, and how a delta becomes two factors of a given rank."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from intrinsic.lora.exact import exact
from intrinsic.lora.merge_options import check_rank

_LARGE, _SPARE, _PASSES = 1024, 16, 4
"""From which size subspace iteration pays, and its oversampling and number of passes."""


def svd(
    deltas: Sequence[torch.Tensor], weights: Sequence[float], *, rank: int = 16
) -> torch.Tensor:
    """The matrix of rank `rank` nearest to the exact sum: `U_k S_k V_kᵀ` of `Σ wᵢ ΔWᵢ = U S Vᵀ`.

    No matrix of that rank is nearer in the Frobenius or the spectral norm (Eckart and Young
    1936, Mirsky 1960). Raises `ConfigError` for a rank below 1.
    """
    B, A = truncated(exact(deltas, weights), rank)
    return B @ A


def truncated(delta: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Factors B and A whose product is the nearest of that rank; both carry `sqrt(S)`.

    Shape: delta `(out, in)` to B `(out, k)` and A `(k, in)`, where k is `rank`, or what the shape
    allows.
    """
    U, S, Vh = torch.linalg.svd(delta, full_matrices=False)
    return _cut(U, S, Vh, rank)


def truncated_product(
    B: torch.Tensor, A: torch.Tensor, rank: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """`truncated(B @ A, rank)` without making the product: its cost grows with the rank of B.

    With `B = Q R` and `Aᵀ = P T` the decomposition of the product is that of the small `R Tᵀ`.
    Shape: B `(out, R)` and A `(R, in)` to B `(out, k)` and A `(k, in)`.
    """
    Q, R = torch.linalg.qr(B)
    P, T = torch.linalg.qr(A.T)
    U, S, Vh = torch.linalg.svd(R @ T.T, full_matrices=False)
    return _cut(Q @ U, S, Vh @ P.T, rank)


def near_truncated(delta: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`truncated`, in seconds instead of minutes where a layer is large and the rank small.

    There the leading directions come from subspace iteration with a fixed start (Halko et al.
    2011, arXiv:0909.4061, algorithm 4.4): within a percent of the nearest matrix, not it itself.
    """
    width = rank + _SPARE
    if min(delta.shape) < _LARGE or 4 * width > min(delta.shape):
        return truncated(delta, rank)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(delta.shape[1], width, generator=generator, dtype=delta.dtype)
    Q = start.to(delta.device)  # (in, width)
    for _ in range(_PASSES):
        Q = torch.linalg.qr(delta.T @ torch.linalg.qr(delta @ Q).Q).Q
    return truncated_product(delta @ Q, Q.T, rank)


def _cut(
    U: torch.Tensor, S: torch.Tensor, Vh: torch.Tensor, rank: int
) -> tuple[torch.Tensor, torch.Tensor]:
    check_rank(rank)
    root = S[:rank].sqrt()
    return U[:, :rank] * root, root[:, None] * Vh[:rank]
