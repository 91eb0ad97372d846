"""The side-car of one layer: `y = W x + Σ wᵢ sᵢ Bᵢ (Aᵢ x)` beside untouched weights.

            ┌────────── W (out, in), never written ──────────┐
      x ────┤                                                + ──── y
            └── A (R, in) ── × w s per row ── B (R, out) ────┘

The layer's `forward` is shadowed on the instance; its class, its parameters and the module tree
stay as they are, and detaching deletes the shadow. Without an active mixture the layer's own
result is returned as it is, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from intrinsic.engine.active import ACTIVE, Active
from intrinsic.engine.bank import FactorBank
from intrinsic.errors import IncompatibleAdapterError, MixtureError
from intrinsic.lora import Factors

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class SideCar:
    """LoRA beside one `nn.Linear` or transformers `Conv1D`.

    Raises `IncompatibleAdapterError` for any other layer and for quantised weights.
    """

    def __init__(self, name: str, layer: nn.Module) -> None:
        self.name = name
        self.layer = layer
        weight = _weight_of(name, layer)
        self.transposed = isinstance(layer, Conv1D)
        shape = tuple(weight.shape)
        self.in_features, self.out_features = shape if self.transposed else shape[::-1]
        self.bank = FactorBank(
            self.in_features, self.out_features, dtype=weight.dtype, device=weight.device
        )
        self._attached = False
        self._own_forward: Callable[[torch.Tensor], torch.Tensor] | None = None
        self._base_forward: Callable[[torch.Tensor], torch.Tensor] = layer.forward

    @property
    def weight(self) -> nn.Parameter:
        """The base weight: `(out, in)`, or `(in, out)` where `transposed`."""
        weight: Any = self.layer.weight
        assert isinstance(weight, nn.Parameter)
        return weight

    def misfit(self, factors: Factors) -> str | None:
        """Say how factors do not fit this layer, or None where they do."""
        found = (int(factors.A.shape[1]), int(factors.B.shape[0]))
        if found != (self.in_features, self.out_features):
            return (
                f"{self.name} maps {self.in_features} to {self.out_features}, "
                f"the adapter maps {found[0]} to {found[1]}"
            )
        dtype = self.weight.dtype
        limit = torch.finfo(dtype).max
        for factor in (factors.A, factors.B):
            if limit < torch.finfo(factor.dtype).max and factor.abs().max() > limit:
                return f"{self.name} has factors too large for {dtype}"
        return None

    def attach(self) -> None:
        """Shadow the layer's forward; doing it twice is doing it once."""
        if not self._attached:
            self._own_forward = vars(self.layer).get("forward")
            self._base_forward = self.layer.forward
            self.layer.forward = self._forward
            self._attached = True

    def detach(self) -> None:
        """Give the layer back the forward that it had; a pass that is under way may still end."""
        if self._attached:
            if self._own_forward is None:
                del self.layer.forward
            else:
                self.layer.forward = self._own_forward
            self._attached = False

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self._base_forward(x)
        active = ACTIVE.get()
        if active is None:
            return y
        return self._rows(x, y, active) if active.rows else self._shared(x, y, active)

    def _shared(self, x: torch.Tensor, y: torch.Tensor, active: Active) -> torch.Tensor:
        """One mixture for all rows: two products per adapter, on views, whatever else is loaded."""
        flat = x.reshape(-1, self.in_features)  # (tokens, in)
        out = y.reshape(-1, self.out_features)  # (tokens, out)
        for adapter, weight in active.shared.entries:
            view = self.bank.get(adapter)
            if view is not None:
                out = torch.addmm(out, F.linear(flat, view.A), view.B, alpha=weight * view.scale)
        return out.view(y.shape)

    def _rows(self, x: torch.Tensor, y: torch.Tensor, active: Active) -> torch.Tensor:
        """A mixture per row: two products with the stack of the adapters in use."""
        views = [(a, v) for a in active.adapters if (v := self.bank.get(a)) is not None]
        if not views:
            return y
        A = torch.cat([view.A for _, view in views])  # (R, in)
        B = torch.cat([view.B for _, view in views])  # (R, out)
        weights = torch.tensor(
            [
                [active.weight(row, a) * v.scale for a, v in views for _ in range(v.rank)]
                for row in range(len(active.rows))
            ],
            dtype=x.dtype,
            device=x.device,
        )  # (rows, R)
        hidden = F.linear(x, A)  # (rows, ..., R)
        weights = self._spread(weights, hidden)
        # A row that does not use an adapter must not see its overflow either: inf * 0 is NaN.
        hidden = (hidden * weights).masked_fill(weights == 0, 0.0)
        return y + hidden @ B

    def _spread(self, weights: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """Give every token of a row its row's weights.

        Shape: weights `(rows, R)`, hidden `(rows, ..., R)` or `(rows * tokens, R)`.
        """
        rows, first = weights.shape[0], hidden.shape[0]
        if ".experts." in self.name or first % rows or (hidden.dim() > 2 and first != rows):
            raise MixtureError(
                f"{self.name} got {first} inputs for {rows} mixtures and cannot tell which input "
                "belongs to which; run these requests one mixture at a time"
            )
        if hidden.dim() == 2:
            return weights.repeat_interleave(first // rows, dim=0)
        return weights.view(rows, *[1] * (hidden.dim() - 2), -1)


def _weight_of(name: str, layer: nn.Module) -> nn.Parameter:
    if not isinstance(layer, nn.Linear | Conv1D):
        raise IncompatibleAdapterError(
            f"{name} is {type(layer).__name__}; LoRA can be applied to nn.Linear and Conv1D"
        )
    weight: Any = layer.weight
    assert isinstance(weight, nn.Parameter)
    if weight.dtype not in _DTYPES or weight.dim() != 2:
        raise IncompatibleAdapterError(
            f"{name} holds {weight.dtype} of shape {tuple(weight.shape)}: "
            "quantised bases are not supported; use a matrix of fp16, bf16, fp32 or fp64"
        )
    return weight
