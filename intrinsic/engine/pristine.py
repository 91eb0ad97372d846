"""Copies of weights as they were before a merge."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from intrinsic.lora.tensors import peak_of

Place = Literal["device", "host"]
"""Where the copies lie: beside the weights, or in host memory, from where they return slower."""


@dataclass(frozen=True, slots=True)
class _Copy:
    values: torch.Tensor
    peak: float


class PristineCopies:
    """The weights that a merge has written or is about to write, copied before."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._copies: dict[nn.Parameter, _Copy] = {}

    @property
    def bytes_used(self) -> int:
        """Bytes of the copies on the model's device."""
        copies = self._copies.items()
        return sum(c.values.nbytes for p, c in copies if c.values.device == p.device)

    def values(self, parameter: torch.Tensor) -> torch.Tensor:
        """The values that a parameter has, or had before the merge."""
        kept = (copy.values for own, copy in self._copies.items() if own is parameter)
        return next(kept, parameter.detach())

    def source(self, parameter: nn.Parameter) -> torch.Tensor:
        """The pristine values on the parameter's device; the parameter itself may hold them."""
        copy = self._copies.get(parameter)
        if copy is None:
            return parameter.detach()
        if copy.values.device == parameter.device:
            return copy.values
        write(parameter, copy.values)
        return parameter.detach()

    def save(self, parameter: nn.Parameter) -> float:
        """Copy a parameter unless that was done before; returns its largest magnitude."""
        copy = self._copies.get(parameter)
        if copy is None:
            device = parameter.device if self.place == "device" else torch.device("cpu")
            values = torch.empty_like(parameter, device=device, requires_grad=False)
            values.copy_(parameter.detach())
            copy = self._copies[parameter] = _Copy(values, peak_of(parameter.detach()))
        return copy.peak

    def restore(self, keep: Collection[nn.Parameter] = ()) -> None:
        """Copy all weights back but those in `keep`, and forget their copies."""
        wanted = {id(parameter) for parameter in keep}
        for parameter, copy in list(self._copies.items()):
            if id(parameter) not in wanted:
                write(parameter, copy.values)
                del self._copies[parameter]


def write(parameter: nn.Parameter, values: torch.Tensor) -> None:
    """Copy values into a parameter, in whatever mode of torch it was made."""
    with torch.inference_mode(parameter.is_inference()), torch.no_grad():
        parameter.copy_(values)
