"""`per_rank`: one pair of heads per kind of module, which writes one rank at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from intrinsic.hypernet.architecture import at_least_one, register_architecture
from intrinsic.hypernet.architectures.head_pair import HeadPair
from intrinsic.hypernet.architectures.target_trunk import TargetTrunk
from intrinsic.hypernet.architectures.written import Written
from intrinsic.hypernet.groups import groups_of
from intrinsic.hypernet.targets import TargetShape


@register_architecture("per_rank")
class PerRank(Written):
    """Text-to-LoRA's smallest form (arXiv:2506.06105): a row of A and a column of B at a time.

    Its size grows neither with the model's depth nor with the rank, but for one embedding a rank.
    """

    def __init__(
        self, targets: Sequence[TargetShape], embed_dim: int, rank: int, *, hidden_dim: int = 128
    ) -> None:
        hidden = at_least_one("hidden_dim", hidden_dim)
        groups = groups_of(targets, lambda target: target.kind)
        super().__init__(targets, embed_dim, rank, groups)
        self.trunk = TargetTrunk(targets, groups, embed_dim, hidden, ranks=rank)
        self.heads = nn.ModuleList(
            HeadPair(hidden, 1, group.in_features, group.out_features) for group in groups
        )

    def factors(self, embedding: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """One product per kind of module for A, and one for B, over all its layers and ranks."""
        found = []
        for head, features in zip(self.heads, self.trunk(embedding), strict=True):
            n, g, r, _ = features.shape
            A, B = head(features.flatten(1, 2))  # (n, g * r, 1, in), (n, g * r, out, 1)
            found.append((A.reshape(n, g, r, -1), B.reshape(n, g, r, -1).mT))
        return found
