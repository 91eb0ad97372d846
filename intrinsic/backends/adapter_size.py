"""What an adapter takes on the device, known before it is there."""

from __future__ import annotations

import torch
from torch import nn

from intrinsic.lora import Factors, LoraCheckpoint


def bytes_once_loaded(checkpoint: LoraCheckpoint, model: nn.Module) -> int:
    """Bytes of the factors in the dtypes of the layers that they change, in which they will lie.

    A layer that the model does not have counts as the file has it.
    """
    return sum(
        _values(factors) * _item_bytes(model, name, factors)
        for name, factors in checkpoint.factors.items()
    )


def _values(factors: Factors) -> int:
    """Of DoRA the engine keeps one number per output; the magnitude has as many.

    What adapters share counts for each of them: it is there as long as any of them is.
    """
    magnitude = 0 if factors.magnitude is None else factors.magnitude.numel()
    return sum(tensor.numel() for tensor in factors.stored) + magnitude


def _item_bytes(model: nn.Module, name: str, factors: Factors) -> int:
    try:
        weight = getattr(model.get_submodule(name), "weight", None)
    except AttributeError:
        weight = None
    return (weight if isinstance(weight, torch.Tensor) else factors.A).element_size()
