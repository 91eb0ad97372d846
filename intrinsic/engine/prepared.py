"""One layer's factors as its bank stores them: DoRA and scaling worked in, and nothing infinite."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from intrinsic.engine.target import Target
from intrinsic.errors import IncompatibleAdapterError
from intrinsic.lora import CoreFactors, Factors


@dataclass(frozen=True, slots=True)
class Prepared:
    """`A (r, in)` and `B (out, r)`, stretched already where DoRA asks for it, and the scale s.

    `bias (out,)` is added, scaled already. `gain (out,)`, scaled too, multiplies the base layer's
    product `W x`, as DoRA does. With a `core (r, r)`, `A` and `B` are those that all prepared with
    an equal `shared` have, and `s B coreᵀ A` is what it adds.
    """

    A: torch.Tensor
    B: torch.Tensor
    scale: float
    bias: torch.Tensor | None = None
    gain: torch.Tensor | None = None
    core: torch.Tensor | None = None
    shared: object = None

    @property
    def rank(self) -> int:
        """r, the number of rows of A."""
        return int(self.A.shape[0])


def prepare(
    target: Target, factors: Factors, weight: torch.Tensor, *, scaling: float = 1.0
) -> Prepared:
    """What a layer's bank stores for an adapter; `scaling` multiplies all that it does.

    `weight` has the layer's pristine values. Raises `IncompatibleAdapterError` where a product
    does not fit the layer's dtype.
    """
    scale = factors.scale * scaling
    # The products of half precision take their numbers in fp32.
    widest = torch.promote_types(weight.dtype, torch.float32)
    if not abs(scale) <= torch.finfo(widest).max:
        raise IncompatibleAdapterError(f"{target.name} has the scale {scale}, too large to apply")
    if isinstance(factors, CoreFactors):  # whose values fit, as `misfit` has seen
        core, shared = factors.core.mT, factors.shared
        return Prepared(factors.A, factors.frame, scale, core=core, shared=shared)
    stretch = target.stretch(factors, weight)
    B, bias, gain = factors.B, None, None
    if stretch is not None:
        B = _stored(B.to(stretch) * stretch[:, None], target, weight)
        gain = _stored((stretch - 1) * scaling, target, weight)
    if factors.bias is not None:
        bias = _stored(factors.bias.double() * scale, target, weight)
    return Prepared(factors.A, B, scale, bias, gain)


def _stored(values: torch.Tensor, target: Target, weight: torch.Tensor) -> torch.Tensor:
    stored = values.to(weight.dtype).to(target.weight.device)
    if not torch.isfinite(stored).all():
        raise IncompatibleAdapterError(
            f"{target.name} gets values too large for {weight.dtype}; "
            "load the base in a wider dtype or the adapter with a lower scaling"
        )
    return stored
