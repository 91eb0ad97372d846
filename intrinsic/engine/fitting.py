"""Which layers an adapter changes, or in words why it does not fit the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from intrinsic.engine.active import Activity
from intrinsic.engine.merged import MergedMode
from intrinsic.engine.sidecar import SideCar
from intrinsic.engine.target import Target
from intrinsic.errors import IncompatibleAdapterError
from intrinsic.lora import LoraCheckpoint


@dataclass(frozen=True, slots=True)
class Fitting:
    """What an adapter is fitted to: a model's modules, the side-cars on them, its pristine weights.

    Changes none of them.
    """

    modules: Mapping[str, nn.Module]
    sidecars: Mapping[str, SideCar]
    merged: MergedMode
    activity: Activity

    def fit(self, checkpoint: LoraCheckpoint) -> dict[str, SideCar]:
        """The side-car of every layer that the checkpoint changes, new where there is none yet.

        Raises `IncompatibleAdapterError` naming what does not fit.
        """
        fitting: dict[str, SideCar] = {}
        problems = self._uncovered(checkpoint) + self._other_base(checkpoint)
        for name, factors in checkpoint.factors.items():
            try:
                sidecar = self._sidecar(name)
            except IncompatibleAdapterError as error:
                problems.append(str(error))
                continue
            misfit = sidecar.outdated() or sidecar.target.misfit(factors)
            if misfit:
                problems.append(misfit)
            fitting[name] = sidecar
        if problems:
            more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
            raise IncompatibleAdapterError(
                f"{checkpoint.path} does not fit {type(self.modules['']).__name__}: "
                f"{'; '.join(problems[:3])}{more}"
            )
        return fitting

    def _sidecar(self, name: str) -> SideCar:
        layer = self.modules.get(name)
        if layer is None:
            raise IncompatibleAdapterError(f"the model has no layer {name}")
        return self.sidecars.get(name) or SideCar(Target(name, layer), self.activity)

    def _uncovered(self, checkpoint: LoraCheckpoint) -> list[str]:
        """Layers that the config declares as targets but the file has no factors for."""
        return [
            f"{name} is a declared target without tensors in the file"
            for name in self.modules
            if name not in checkpoint.factors and checkpoint.config.targets(name)
        ]

    def _other_base(self, checkpoint: LoraCheckpoint) -> list[str]:
        """Parameters which the file brings along and which are not the model's own."""
        return [
            f"the file's copy of {name} has other values: it was resized or trained"
            for name, values in checkpoint.base_copies.items()
            if not self._holds(name, values)
        ]

    def _holds(self, name: str, values: torch.Tensor) -> bool:
        module, _, own = name.rpartition(".")
        weight = getattr(self.modules.get(module), own, None)
        if not isinstance(weight, torch.Tensor):
            return False
        pristine = self.merged.pristine.values(weight)  # which may lie elsewhere than the weight
        return torch.equal(values.to(pristine), pristine)
