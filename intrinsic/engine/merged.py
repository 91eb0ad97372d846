"""Merged mode: `W'` written into the layers, and the pristine weights copied back.

ΔW is accumulated in fp32 (fp64 for fp64 weights) from pristine values and rounded once. Restoring
is a copy, never a subtraction, which would drift. The pristine copies take as many bytes as the
layers that the mixture touches.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from intrinsic.engine.sidecar import SideCar
from intrinsic.errors import UnsupportedAdapterError
from intrinsic.lora import Factors, MergeMethod, delta, exact
from intrinsic.mixture import Mixture

Terms = list[tuple[Factors, float]]


@dataclass(frozen=True, slots=True)
class _Pristine:
    sidecar: SideCar
    weight: torch.Tensor


class MergedMode:
    """At most one mixture written into the weights of a model's layers."""

    def __init__(self) -> None:
        self.mixture: Mixture | None = None
        self._pristine: list[_Pristine] = []

    @property
    def bytes_used(self) -> int:
        """Bytes of the pristine copies."""
        return sum(p.weight.numel() * p.weight.element_size() for p in self._pristine)

    def merge(
        self,
        mixture: Mixture,
        layers: Iterable[tuple[SideCar, Terms]],
        method: MergeMethod = exact,
    ) -> None:
        """Write the mixture into all layers, or, where one fails, into none."""
        assert self.mixture is None
        try:
            for sidecar, terms in layers:
                self._write(sidecar, terms, method)
        except BaseException:
            self.restore()
            raise
        self.mixture = mixture

    def restore(self) -> None:
        """Copy the pristine weights back; without a merge this does nothing."""
        with torch.no_grad():
            for pristine in self._pristine:
                pristine.sidecar.weight.copy_(pristine.weight)
        self._pristine.clear()
        self.mixture = None

    def _write(self, sidecar: SideCar, terms: Terms, method: MergeMethod) -> None:
        weight = sidecar.weight
        dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
        pristine = weight.detach().clone()
        W = pristine.T if sidecar.transposed else pristine
        deltas = [delta(factors, dtype=dtype).to(W.device) for factors, _ in terms]
        change = method(deltas, [w for _, w in terms])
        merged = (W.to(dtype) + change).to(weight.dtype)
        if not torch.isfinite(merged).all():
            raise UnsupportedAdapterError(
                f"merging makes {sidecar.name} infinite; lower the weights"
            )
        self._pristine.append(_Pristine(sidecar, pristine))
        with torch.no_grad():
            weight.copy_(merged.T if sidecar.transposed else merged)
