"""A checkpoint in page-locked memory, which a device copies from without a stop on the way."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch

from intrinsic.lora import CoreFactors, Factors, LoraCheckpoint

logger = logging.getLogger("intrinsic.backends")


def page_locked(checkpoint: LoraCheckpoint) -> LoraCheckpoint:
    """The same checkpoint with its factors page-locked; as it is where the system has no more.

    Needs CUDA. Base weights that came along are compared once and stay where they are.
    """
    try:
        factors = {module: _locked(factors) for module, factors in checkpoint.factors.items()}
    except RuntimeError as error:
        logger.warning("%s stays in pageable memory: %s", checkpoint.path, error)
        return checkpoint
    checkpoint.content.hexdigest()  # which lets go of the bytes that the factors were views of
    return replace(checkpoint, factors=factors)


def _locked(factors: Factors) -> Factors:
    if isinstance(factors, CoreFactors):  # a core is little, and the rest is copied once for all
        return factors
    return replace(
        factors,
        A=factors.A.pin_memory(),
        B=factors.B.pin_memory(),
        bias=_pinned(factors.bias),
        magnitude=_pinned(factors.magnitude),
    )


def _pinned(vector: torch.Tensor | None) -> torch.Tensor | None:
    return None if vector is None else vector.pin_memory()
