"""`W + Σ w s B A` written block by block, so that what is worked on stays in the cache."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from intrinsic.lora import Factors
from intrinsic.lora.tensors import peak_of

Terms = Sequence[tuple[Factors, float]]
"""An adapter's factors of one layer, and its weight in the mixture."""

_CPU_BLOCK = 2**21
_BLOCK = 2**25
"""Elements of a block, on CPU and elsewhere."""


def write_sum(into: torch.Tensor, W: torch.Tensor, terms: Terms, *, transposed: bool) -> None:
    """Write `W + Σ w s B A` into `into`, which may be W: summed in fp32, rounded once.

    fp64 stays fp64. Shape: into and W `(out, in)`, or `(in, out)` where `transposed`.
    """
    wide = torch.promote_types(W.dtype, torch.float32)
    A = torch.cat([f.A.to(W.device, wide) for f, _ in terms])  # (R, in)
    B = _scaled(terms, W.device, wide)  # (out, R)
    left, right = (A.T, B.T) if transposed else (B, A)
    rows, columns = W.shape
    on_cpu, is_wide = W.device.type == "cpu", W.dtype == wide
    step = max(1, (_CPU_BLOCK if on_cpu else _BLOCK) // max(1, columns))
    scratch = W.new_empty(min(step, rows), columns, dtype=wide) if on_cpu or not is_wide else None
    for start in range(0, rows, step):
        block = slice(start, start + step)
        if scratch is None:
            torch.addmm(W[block], left[block], right, out=into[block])
            continue
        wide_block = scratch[: into[block].shape[0]]
        if is_wide:  # what is written is written once, as `addmm` copies W there first
            torch.mm(left[block], right, out=wide_block)
            torch.add(W[block], wide_block, out=into[block])
            continue
        wide_block.copy_(W[block])
        wide_block.addmm_(left[block], right)
        into[block].copy_(wide_block)


def may_overflow(peak: float, terms: Terms, dtype: torch.dtype) -> bool:
    """Whether the sum can leave the dtype's range, where no weight of W is larger than `peak`.

    By `|Σ w s B A| <= Σ |w s| r max|B| max|A|`; it says yes too often rather than too seldom.
    """
    change = sum(abs(w * f.scale) * f.rank * _peaks(f) for f, w in terms)
    return not peak + change <= torch.finfo(dtype).max


def _scaled(terms: Terms, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """`w s B` of all terms beside one another, in one pass over each."""
    ranks = [f.rank for f, _ in terms]
    B = torch.empty(terms[0][0].out_features, sum(ranks), dtype=dtype, device=device)
    for (f, weight), part in zip(terms, torch.split(B, ranks, 1), strict=True):
        torch.mul(f.B_in(dtype).to(device), weight * f.scale, out=part)
    return B


def _peaks(factors: Factors) -> float:
    """`max|A| max|B|`, or more."""
    if factors.peak is not None:
        return factors.peak * factors.peak
    return peak_of(factors.A) * peak_of(factors.B)
