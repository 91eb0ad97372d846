"""A layer that LoRA can be applied to: `nn.Linear`, transformers' `Conv1D`, `nn.Embedding`."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import is_parametrized
from transformers.pytorch_utils import Conv1D

from intrinsic.errors import IncompatibleAdapterError
from intrinsic.lora import CoreFactors, Factors
from intrinsic.lora.delta import dora_stretch
from intrinsic.lora.tensors import peak_of

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_SLACK = 0.02
"""By how much of its largest number a product may be another; that of half precision is less."""


class Target:
    """One layer as a map from `in` to `out`, however it stores its weight.

    An embedding maps a one-hot id to its row. Raises `IncompatibleAdapterError` for any other
    layer, for quantised weights, and for an embedding that renormalises itself.
    """

    def __init__(self, name: str, layer: nn.Module) -> None:
        self.name = name
        self.layer = layer
        self.is_embedding = isinstance(layer, nn.Embedding)
        weight = _weight_of(name, layer)
        self.transposed = isinstance(layer, Conv1D | nn.Embedding)
        shape = tuple(weight.shape)
        self.in_features, self.out_features = shape if self.transposed else shape[::-1]

    @property
    def weight(self) -> nn.Parameter:
        """The base weight: `(out, in)`, or `(in, out)` where `transposed`."""
        return _parameter_of(self.name, self.layer)

    @property
    def matrix(self) -> torch.Tensor:
        """The base weight, seen as `(out, in)`."""
        weight = self.weight.detach()
        return weight.T if self.transposed else weight

    @property
    def bias(self) -> nn.Parameter | None:
        """The base bias `(out,)`, where there is one."""
        bias: nn.Parameter | None = getattr(self.layer, "bias", None)
        return bias

    def look_up(self, ids: torch.Tensor, At: torch.Tensor) -> torch.Tensor:
        """An embedding's `A x` for every id, scaled as the layer scales its own output.

        Shape: ids `(...)`, At `(in, R)`; to `(..., R)`.
        """
        hidden = F.embedding(ids, At)
        factor: Any = getattr(self.layer, "embed_scale", None)  # Gemma 3 scales its embeddings
        return hidden if factor is None else hidden * torch.as_tensor(factor).to(hidden)

    def misfit(self, factors: Factors) -> str | None:
        """Say how factors do not fit this layer, or None where they do."""
        if factors.embedding != self.is_embedding:
            kind = "an embedding" if factors.embedding else "a matrix"
            return f"{self.name} is {type(self.layer).__name__}, the adapter has factors of {kind}"
        found = (int(factors.A.shape[1]), factors.out_features)
        if found != (self.in_features, self.out_features):
            return (
                f"{self.name} maps {self.in_features} to {self.out_features}, "
                f"the adapter maps {found[0]} to {found[1]}"
            )
        dtype = self.weight.dtype
        limit = torch.finfo(dtype).max
        if factors.peak is not None and factors.peak <= limit:
            return None
        stored = factors.stored
        if isinstance(factors, CoreFactors) and limit < torch.finfo(torch.float32).max:
            stored = (*stored, factors.B_in(torch.float32))  # which passes work with, as it is
        if any(limit < torch.finfo(t.dtype).max and peak_of(t) > limit for t in stored):
            return f"{self.name} has factors too large for {dtype}"
        return None

    def stretch(self, factors: Factors, weight: torch.Tensor) -> torch.Tensor | None:
        """DoRA's factor per output `(out,)` in at least fp32, or None for a plain adapter.

        `weight` has the pristine values of the layer's own, stored as they are.

        Raises `IncompatibleAdapterError` where it is infinite.
        """
        if factors.magnitude is None:
            return None
        wide = torch.float64 if weight.dtype == torch.float64 else torch.float32
        W = weight.T if self.transposed else weight
        stretch = dora_stretch(factors, W.to(wide))
        if not torch.isfinite(stretch).all():
            raise IncompatibleAdapterError(f"{self.name}: DoRA divides by a row of zeros")
        return stretch


def _parameter_of(name: str, layer: nn.Module) -> nn.Parameter:
    """The layer's weight, stored as it is; a layer that works its tensors out is refused."""
    weight: Any = layer.weight
    if is_parametrized(layer) or not isinstance(weight, nn.Parameter):
        kinds = getattr(layer, "parametrizations", {}).values()
        by = ", ".join(type(part).__name__.strip("_") for kind in kinds for part in kind)
        raise IncompatibleAdapterError(
            f"{name} works its weight out at every pass (parametrised by "
            f"{by or 'a hook, as of weight_norm'}), which is not supported; remove the "
            "parametrisation first"
        )
    return weight


def _weight_of(name: str, layer: nn.Module) -> nn.Parameter:
    if not isinstance(layer, nn.Linear | Conv1D | nn.Embedding):
        raise IncompatibleAdapterError(
            f"{name} is {type(layer).__name__}; LoRA can be applied to nn.Linear, Conv1D and "
            "nn.Embedding"
        )
    weight = _parameter_of(name, layer)
    if weight.is_meta:
        raise IncompatibleAdapterError(
            f"{name} has its weight on the meta device (offloaded, or never loaded); load the "
            "model whole"
        )
    if weight.dtype not in _DTYPES or weight.dim() != 2:
        raise IncompatibleAdapterError(
            f"{name} holds {weight.dtype} of shape {tuple(weight.shape)}: "
            "quantised bases are not supported; use a matrix of fp16, bf16, fp32 or fp64"
        )
    if isinstance(layer, nn.Embedding):
        _check_embedding(name, layer)
    elif type(layer).forward not in (nn.Linear.forward, Conv1D.forward):
        _check_product(name, layer, weight)
    return weight


def _check_product(name: str, layer: nn.Linear | Conv1D, weight: nn.Parameter) -> None:
    """Refuse a kind of layer whose own forward is not `W x + b`, as one input shows."""
    W = weight.detach() if isinstance(layer, nn.Linear) else weight.detach().T
    x = torch.linspace(-1.0, 1.0, W.shape[1], dtype=W.dtype, device=W.device)[None]
    expected = F.linear(x, W, layer.bias)
    refusal = (
        f"{name} is {type(layer).__name__}, whose forward is not W x + b; LoRA can be applied to "
        "nn.Linear, Conv1D and layers that compute the same"
    )
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            found: object = type(layer).forward(layer, x)
    except MemoryError:
        raise
    except Exception as error:  # whatever a foreign forward raises, it does not take x alone
        raise IncompatibleAdapterError(f"{refusal} ({type(error).__name__}: {error})") from error
    slack = _SLACK * float(expected.abs().max())
    if (
        not isinstance(found, torch.Tensor)
        or found.shape != expected.shape
        or not torch.allclose(found, expected, 0.0, slack)
    ):
        raise IncompatibleAdapterError(refusal)


def _check_embedding(name: str, layer: nn.Embedding) -> None:
    """Refuse an embedding that is no plain lookup, but for one that scales its output."""
    if layer.max_norm is not None:
        raise IncompatibleAdapterError(f"{name} changes its own weights (max_norm); unset it")
    own_forward = type(layer).forward is not nn.Embedding.forward
    if own_forward and not hasattr(layer, "embed_scale"):
        raise IncompatibleAdapterError(
            f"{name} is {type(layer).__name__}, which looks ids up in a way of its own; "
            "LoRA can be applied to plain embeddings"
        )
