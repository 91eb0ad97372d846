"""Embeddings as rows of length 1, checked."""

from __future__ import annotations

import torch

from intrinsic.errors import HypernetError
from intrinsic.hypernet.network import Embedding

_UNIT = 1e-6


def unit_rows(rows: Embedding, name: str) -> torch.Tensor:
    """Rows of length 1 (or 0) in float32, on the CPU; a copy.

    Raises `HypernetError` for what is no matrix with rows, or not finite.
    """
    found = torch.as_tensor(rows).detach().to("cpu", torch.float32)
    if found.dim() != 2 or not found.numel():
        raise HypernetError(f"{name} has the shape {tuple(found.shape)}; it must be (n, d)")
    if not torch.isfinite(found).all():
        raise HypernetError(f"{name} holds NaN or infinite values; check the encoder and its input")
    lengths = found.norm(dim=1, keepdim=True)
    # What is of length 1 stays as it is, bit for bit, however often it comes here.
    lengths = torch.where((lengths - 1).abs() < _UNIT, 1.0, lengths)
    return found / lengths.clamp_min(torch.finfo(torch.float32).tiny)
