"""Architectures whose every factor is written per query: the payload is the factors themselves."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch

from intrinsic.hypernet.architecture import Architecture, Payload, TargetFactors
from intrinsic.hypernet.groups import Group, in_target_order
from intrinsic.hypernet.targets import TargetShape


class Written(Architecture):
    """Writes ΔA and ΔB of whole groups of targets; a subclass says how in `factors`."""

    def __init__(
        self,
        targets: Sequence[TargetShape],
        embed_dim: int,
        rank: int,
        groups: Sequence[Group],
    ) -> None:
        super().__init__(targets, embed_dim, rank)
        self._groups = tuple(groups)

    @abstractmethod
    def factors(self, embedding: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Per group ΔA `(n, g, r, in)` and ΔB `(n, g, out, r)`."""

    @property
    def payload_bytes(self) -> int:
        """Bytes of all factors of a query in float32."""
        return 4 * self.rank * sum(t.in_features + t.out_features for t in self.targets)

    def forward(self, embedding: torch.Tensor) -> Payload:
        """The factors, two tensors per group."""
        return tuple(factor for pair in self.factors(embedding) for factor in pair)

    def expand(self, payload: Payload) -> TargetFactors:
        """The same factors, target by target."""
        found = [
            list(zip(A.unbind(1), B.unbind(1), strict=True))
            for A, B in zip(payload[::2], payload[1::2], strict=True)
        ]
        return in_target_order(self._groups, found)

    def norms(self, payload: Payload) -> torch.Tensor:
        """As in `Architecture`, a group at a time."""
        squares = [
            list(((B.mT @ B) * (A @ A.mT)).sum((-1, -2)).unbind(1))
            for A, B in zip(payload[::2], payload[1::2], strict=True)
        ]
        return torch.stack(in_target_order(self._groups, squares), 1).clamp_min(0).sqrt()
