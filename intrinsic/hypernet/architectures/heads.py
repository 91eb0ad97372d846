"""`heads`: a shared trunk, and for every target a head for A and a head for B.

The obvious design, with the remedies that make it work: the embedding is normalised, A's heads
start as a usual LoRA's A, and B's heads start at 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from intrinsic.hypernet.architecture import at_least_one, register_architecture
from intrinsic.hypernet.architectures.head_pair import HeadPair
from intrinsic.hypernet.architectures.written import Written
from intrinsic.hypernet.groups import groups_of
from intrinsic.hypernet.targets import TargetShape


@register_architecture("heads")
class Heads(Written):
    """Heads of their own for every target; `hidden_dim` is the width of the trunk.

    It has about `hidden_dim` parameters for each number that it writes.
    """

    def __init__(
        self, targets: Sequence[TargetShape], embed_dim: int, rank: int, *, hidden_dim: int = 64
    ) -> None:
        hidden = at_least_one("hidden_dim", hidden_dim)
        groups = groups_of(targets)
        super().__init__(targets, embed_dim, rank, groups)
        self.trunk = nn.Sequential(
            nn.LayerNorm(embed_dim), nn.Linear(embed_dim, hidden), nn.GELU(), nn.LayerNorm(hidden)
        )
        self.heads = nn.ModuleList(
            HeadPair(hidden, rank, group.in_features, group.out_features, count=len(group))
            for group in groups
        )

    def factors(self, embedding: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """One product per shape for A, and one for B."""
        features = self.trunk(embedding)
        return [head(features) for head in self.heads]
