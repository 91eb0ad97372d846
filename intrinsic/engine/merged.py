"""Merged mode: `W'` written into the layers, and the pristine weights copied back.

ΔW is accumulated in fp32 (fp64 for fp64 weights) from pristine values and rounded once. Restoring
is a copy, never a subtraction, which would drift. The pristine copies take as many bytes as the
layers that the mixture touches.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from intrinsic.engine.ordinary import full_precision, ordinary
from intrinsic.engine.target import Target
from intrinsic.errors import UnsupportedAdapterError
from intrinsic.lora import Factors, MergeMethod, MergeOptions, delta, exact
from intrinsic.lora.merge_options import apply_checked, bound, name_of
from intrinsic.mixture import Mixture

Terms = list[tuple[Factors, float]]


@dataclass(frozen=True, slots=True)
class _Pristine:
    parameter: nn.Parameter
    values: torch.Tensor


class MergedMode:
    """At most one mixture written into the weights of a model's layers."""

    def __init__(self) -> None:
        self.mixture: Mixture | None = None
        self._pristine: list[_Pristine] = []

    @property
    def bytes_used(self) -> int:
        """Bytes of the pristine copies."""
        return sum(p.values.numel() * p.values.element_size() for p in self._pristine)

    def pristine(self, parameter: torch.Tensor) -> torch.Tensor:
        """The values that a parameter has, or had before the merge."""
        kept = (p.values for p in self._pristine if p.parameter is parameter)
        return next(kept, parameter.detach())

    def merge(
        self,
        mixture: Mixture,
        layers: Iterable[tuple[Target, Terms]],
        method: MergeMethod = exact,
    ) -> None:
        """Write the mixture into all layers, or, where one fails, into none."""
        assert self.mixture is None
        try:
            with ordinary(), full_precision():
                for target, terms in layers:
                    self._merge_layer(target, terms, method)
        except BaseException:
            self.restore()
            raise
        self.mixture = mixture

    def restore(self) -> None:
        """Copy the pristine weights back; without a merge this does nothing."""
        for pristine in reversed(self._pristine):
            _write(pristine.parameter, pristine.values)
        self._pristine.clear()
        self.mixture = None

    def _merge_layer(self, target: Target, terms: Terms, method: MergeMethod) -> None:
        weight = target.weight
        dtype = _sum_dtype(weight)
        W = target.matrix
        if method is exact and all(factors.magnitude is None for factors, _ in terms):
            merged = _exactly(W.to(dtype), terms)
        else:
            deltas = [delta(factors, dtype=dtype, W=W).to(W.device) for factors, _ in terms]
            name = name_of(method)
            ready = bound(method, MergeOptions(), name=name, module=target.name)
            weights = [w for _, w in terms]
            made = apply_checked(ready, deltas, weights, name=name, module=target.name)
            merged = W.to(dtype) + made.to(W.device, dtype)
        self._replace(target, weight, merged.T if target.transposed else merged)
        if any(factors.bias is not None for factors, _ in terms):
            self._write_bias(target, terms)

    def _write_bias(self, target: Target, terms: Terms) -> None:
        bias = target.bias
        if bias is None:
            raise UnsupportedAdapterError(
                f"{target.name} has no bias that a trained one could be merged into; "
                "use side-car mode"
            )
        merged = bias.detach().to(_sum_dtype(bias))
        for factors, weight in terms:
            if factors.bias is not None:
                merged = merged + weight * factors.scale * factors.bias.to(merged)
        self._replace(target, bias, merged)

    def _replace(self, target: Target, parameter: nn.Parameter, values: torch.Tensor) -> None:
        rounded = values.to(parameter.dtype)
        # A sum is finite only where all values are, and takes a tenth of the time to find.
        total = rounded.sum(dtype=_sum_dtype(parameter))
        if not torch.isfinite(total) and not torch.isfinite(rounded).all():
            raise UnsupportedAdapterError(
                f"merging makes {target.name} infinite; lower the weights"
            )
        self._pristine.append(_Pristine(parameter, parameter.detach().clone()))
        _write(parameter, rounded)


def refuse_shared(model: nn.Module, layers: Sequence[tuple[Target, Terms]]) -> None:
    """Raise `UnsupportedAdapterError` where a merge would write what another module has too."""
    owners: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(parameter.data_ptr(), []).append(name)
    written = [target.weight for target, _ in layers]
    written += [
        target.bias
        for target, terms in layers
        if target.bias is not None and any(factors.bias is not None for factors, _ in terms)
    ]
    for parameter in written:
        names = owners.get(parameter.data_ptr(), [])
        if len(names) > 1:
            raise UnsupportedAdapterError(
                f"{' and '.join(names)} share one weight: merging would change both; "
                "use side-car mode"
            )


def _write(parameter: nn.Parameter, values: torch.Tensor) -> None:
    # Parameters that were made in inference mode can be written in it only.
    with torch.inference_mode(parameter.is_inference()), torch.no_grad():
        parameter.copy_(values)


def _exactly(W: torch.Tensor, terms: Terms) -> torch.Tensor:
    """`W + Σ w s B A` in the dtype of W `(out, in)`, as one product of the stacked factors."""
    A = torch.cat([factors.A.to(W) for factors, _ in terms])  # (R, in)
    B = torch.cat([factors.B.to(W) * (w * factors.scale) for factors, w in terms], 1)  # (out, R)
    return torch.addmm(W, B, A)


def _sum_dtype(parameter: nn.Parameter) -> torch.dtype:
    return torch.float64 if parameter.dtype == torch.float64 else torch.float32
