"""How large the weights are that generated ones are added to."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from intrinsic.engine.target import Target
from intrinsic.errors import HypernetError, IncompatibleAdapterError
from intrinsic.hypernet.targets import TargetShape


def base_norms(model: nn.Module, targets: Sequence[TargetShape]) -> torch.Tensor:
    """`‖W‖` (Frobenius) of every target's weight, in float32: `(targets,)`.

    Raises `HypernetError` where the model has no such layer, or one of another shape.
    """
    modules = dict(model.named_modules())
    return torch.stack([_norm(modules, target) for target in targets])


def _norm(modules: dict[str, nn.Module], target: TargetShape) -> torch.Tensor:
    layer = modules.get(target.name)
    if layer is None:
        raise HypernetError(
            f"the model has no layer {target.name}, for which the hypernetwork generates weights; "
            "use it with the base model that it was trained on"
        )
    try:
        found = Target(target.name, layer)
    except IncompatibleAdapterError as error:
        raise HypernetError(f"weights cannot be generated for this model: {error}") from None
    if (found.in_features, found.out_features) != (target.in_features, target.out_features):
        raise HypernetError(
            f"{target.name} maps {found.in_features} to {found.out_features}, the hypernetwork "
            f"generates for {target.in_features} to {target.out_features}; use it with the base "
            "model that it was trained on"
        )
    norm: torch.Tensor = torch.linalg.vector_norm(found.weight.detach(), dtype=torch.float32)
    return norm.cpu()
