"""Stored adapters as factors for a hypernetwork's targets: what its warm-up is to reproduce."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from intrinsic.errors import IncompatibleAdapterError
from intrinsic.hypernet.targets import TargetShape
from intrinsic.lora import Factors, read_checkpoint


def stored_factors(
    targets: Sequence[TargetShape], adapters: Mapping[str, Path]
) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """Per task the `A (r, in)`, and `B (out, r)` with its scale in it, for every target.

    A layer that an adapter leaves alone has factors of zeros. Raises `IncompatibleAdapterError`
    for an adapter that changes other layers, or is more than `B A`.
    """
    return {task: _factors(targets, folder) for task, folder in adapters.items()}


def stacked(chosen: Sequence[Sequence[tuple[Tensor, Tensor]]]) -> list[tuple[Tensor, Tensor]]:
    """Factors of several adapters, per target `(n, r, in)` and `(n, out, r)`, r the largest."""
    found = []
    for pairs in zip(*chosen, strict=True):
        rank = max(len(A) for A, _ in pairs)
        As = [torch.nn.functional.pad(A, (0, 0, 0, rank - len(A))) for A, _ in pairs]
        Bs = [torch.nn.functional.pad(B, (0, rank - B.shape[1])) for _, B in pairs]
        found.append((torch.stack(As), torch.stack(Bs)))
    return found


def _factors(targets: Sequence[TargetShape], folder: Path) -> list[tuple[Tensor, Tensor]]:
    factors = read_checkpoint(folder).factors
    others = sorted(factors.keys() - {target.name for target in targets})
    if others:
        raise IncompatibleAdapterError(
            f"{folder} changes {others[0]}, which is no target of the hypernetwork; "
            "give it the layers of the adapters (--targets)"
        )
    return [_of(target, factors.get(target.name), folder) for target in targets]


def _of(target: TargetShape, found: Factors | None, folder: Path) -> tuple[Tensor, Tensor]:
    if found is None:
        return torch.zeros(1, target.in_features), torch.zeros(target.out_features, 1)
    shape = (found.A.shape[1], found.out_features)
    if not found.is_plain or shape != (target.in_features, target.out_features):
        raise IncompatibleAdapterError(
            f"{folder}: {target.name} maps {shape[0]} to {shape[1]}, or has more than A and B; "
            f"the target maps {target.in_features} to {target.out_features}"
        )
    return found.A.float(), found.B.float() * found.scale
