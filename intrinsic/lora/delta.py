"""The meaning of a mixture, computed slowly and plainly: `W' = W + Σ wᵢ sᵢ Bᵢ Aᵢ`."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from intrinsic.lora.checkpoint import Factors


def delta(
    factors: Factors,
    weight: float = 1.0,
    *,
    dtype: torch.dtype = torch.float64,
    W: torch.Tensor | None = None,
) -> torch.Tensor:
    """`ΔW = w s B A`, accumulated in `dtype`; for DoRA `ΔW = w (W_dora - W)`.

    DoRA (Liu et al. 2024, eq. 5) rescales each row of the changed weight to a trained length m:
    `W_dora = m (W + s B A) / ||W + s B A||`. Its ΔW is a fixed matrix like any other, so that
    mixtures with it are sums too. It needs the base weight `W`; ValueError where it is missing.

    Shape: `(out, in)`, W alike.
    """
    product = factors.B_in(dtype) @ factors.A.to(dtype)
    if factors.magnitude is None:
        return product * (weight * factors.scale)
    if W is None:
        raise ValueError("the delta of a DoRA adapter needs the base weight; pass W")
    W = W.detach().to(dtype)
    stretch = dora_stretch(factors, W)
    return weight * (stretch[:, None] * (W + factors.scale * product.to(W.device)) - W)


def dora_stretch(factors: Factors, W: torch.Tensor) -> torch.Tensor:
    """`m / ||W + s B A||` by row: what DoRA multiplies each output with, in the dtype of `W`.

    Shape: W `(out, in)` to `(out,)`.
    """
    assert factors.magnitude is not None
    A, B, m = (t.to(W.device, W.dtype) for t in (factors.A, factors.B, factors.magnitude))
    stretch: torch.Tensor = m / torch.linalg.vector_norm(W + factors.scale * (B @ A), dim=1)
    return stretch


def mixed_weight(
    W: torch.Tensor,
    terms: Iterable[tuple[Factors, float]],
    *,
    dtype: torch.dtype = torch.float64,
) -> torch.Tensor:
    """`W + Σ wᵢ ΔWᵢ`, accumulated in `dtype` and returned in it, unrounded.

    Shape: W `(out, in)` to `(out, in)`. W itself is not changed.
    """
    total = W.detach().to(dtype, copy=True)
    for factors, weight in terms:
        total += delta(factors, weight, dtype=dtype, W=W).to(total.device)
    return total
