"""Merged mode: `W'` written into the layers, and the pristine weights copied back.

ΔW is accumulated in fp32 (fp64 for fp64 weights) from pristine values and rounded once. Restoring
is a copy, never a subtraction, which would drift. The pristine copies take as many bytes as the
layers that the mixture touches, and serve the next mixture too. There is no mode without them: a
merge that fails half way could not be undone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from intrinsic.engine.exact_sum import may_overflow, write_sum
from intrinsic.engine.ordinary import full_precision, ordinary
from intrinsic.engine.pristine import Place, PristineCopies, write
from intrinsic.engine.target import Target
from intrinsic.errors import UnsupportedAdapterError
from intrinsic.lora import Factors, MergeMethod, MergeOptions, delta, exact
from intrinsic.lora.merge_options import apply_checked, bound, name_of
from intrinsic.mixture import Mixture

Terms = list[tuple[Factors, float]]


class MergedMode:
    """At most one mixture written into the weights of a model's layers."""

    def __init__(self, pristine: Place = "device") -> None:
        self.mixture: Mixture | None = None
        self.pristine = PristineCopies(pristine)

    def merge(
        self,
        mixture: Mixture,
        layers: Iterable[tuple[Target, Terms]],
        method: MergeMethod = exact,
    ) -> None:
        """Write the mixture into all layers; where one fails, the weights are pristine again.

        What the former mixture wrote and this one does not is pristine too.
        """
        self.mixture = None
        written: list[nn.Parameter] = []
        try:
            with ordinary(), full_precision():
                for target, terms in layers:
                    written += self._merge_layer(target, terms, method)
                self.pristine.restore(keep=written)
        except BaseException:
            self.restore()
            raise
        self.mixture = mixture

    def restore(self) -> None:
        """Copy the pristine weights back; without a merge this does nothing."""
        self.pristine.restore()
        self.mixture = None

    def _merge_layer(
        self, target: Target, terms: Terms, method: MergeMethod
    ) -> Iterator[nn.Parameter]:
        weight = target.weight
        peak = self.pristine.save(weight)
        W = self.pristine.source(weight)
        if method is exact and all(factors.magnitude is None for factors, _ in terms):
            with _writable(weight):
                write_sum(weight.detach(), W, terms, transposed=target.transposed)
            if may_overflow(peak, terms, weight.dtype):
                _check_finite(target, weight)
        else:
            values = _by_method(target, W.T if target.transposed else W, terms, method)
            write(weight, values.T if target.transposed else values)
            _check_finite(target, weight)
        yield weight
        if any(factors.bias is not None for factors, _ in terms):
            yield self._merge_bias(target, terms)

    def _merge_bias(self, target: Target, terms: Terms) -> nn.Parameter:
        bias = target.bias
        if bias is None:
            raise UnsupportedAdapterError(
                f"{target.name} has no bias that a trained one could be merged into; "
                "use side-car mode"
            )
        self.pristine.save(bias)
        merged = self.pristine.source(bias).to(_wide(bias))
        for factors, weight in terms:
            if factors.bias is not None:
                merged = merged + weight * factors.scale * factors.bias.to(merged)
        write(bias, merged)
        _check_finite(target, bias)
        return bias


def _by_method(target: Target, W: torch.Tensor, terms: Terms, method: MergeMethod) -> torch.Tensor:
    """`W` and what a method makes of the adapters' deltas, `(out, in)`, before it is rounded."""
    dtype = _wide(W)
    deltas = [delta(factors, dtype=dtype, W=W).to(W.device) for factors, _ in terms]
    name = name_of(method)
    ready = bound(method, MergeOptions(), name=name, module=target.name)
    made = apply_checked(ready, deltas, [w for _, w in terms], name=name, module=target.name)
    return W.to(dtype) + made.to(W.device, dtype)


def _check_finite(target: Target, parameter: nn.Parameter) -> None:
    # A sum is finite only where all values are, and takes a tenth of the time to find.
    values = parameter.detach()
    total = values.sum(dtype=_wide(values))
    if not torch.isfinite(total) and not torch.isfinite(values).all():
        raise UnsupportedAdapterError(f"merging makes {target.name} infinite; lower the weights")


def _wide(tensor: torch.Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


@contextmanager
def _writable(parameter: nn.Parameter) -> Iterator[None]:
    """Parameters that were made in inference mode can be written in it only."""
    with torch.inference_mode(parameter.is_inference()), torch.no_grad():
        yield


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
