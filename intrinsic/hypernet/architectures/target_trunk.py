"""Features of a query for each target: one trunk that is told which layer it writes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from intrinsic.hypernet.groups import Group
from intrinsic.hypernet.targets import TargetShape

_BLOCKS = 2


class TargetTrunk(nn.Module):
    """Query, kind of module, depth and rank, each embedded, added and mixed (Text-to-LoRA).

    A group is one kind of module in one shape. `ranks` above 1 asks for features per rank.
    Text-to-LoRA: Charakorn et al. 2025, arXiv:2506.06105.
    """

    depths: torch.Tensor

    def __init__(
        self,
        targets: Sequence[TargetShape],
        groups: Sequence[Group],
        embed_dim: int,
        hidden: int,
        *,
        ranks: int = 1,
    ) -> None:
        super().__init__()
        numbers = sorted({target.layer for target in targets})
        depths = [numbers.index(targets[p].layer) for group in groups for p in group.places]
        self.register_buffer("depths", torch.tensor(depths), persistent=False)
        self._sizes = [len(group) for group in groups]
        self.query = nn.Sequential(nn.LayerNorm(embed_dim), nn.Linear(embed_dim, hidden))
        self.kind = nn.Embedding(len(groups), hidden)
        self.depth = nn.Embedding(len(numbers), hidden)
        self.rank = nn.Embedding(ranks, hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(hidden),
                nn.Linear(hidden, hidden),
                nn.GELU(),
                nn.Linear(hidden, hidden),
            )
            for _ in range(_BLOCKS)
        )
        self.norm = nn.LayerNorm(hidden)

    def forward(self, embedding: torch.Tensor) -> list[torch.Tensor]:
        """Shape: `(n, d)` to `(n, g, ranks, hidden)` per group."""
        kinds = torch.cat(
            [
                self.kind.weight[i].expand(size, -1)  # one row per target of the group
                for i, size in enumerate(self._sizes)
            ]
        )
        places = kinds + self.depth.weight[self.depths]  # (targets, hidden)
        mixed = (
            self.query(embedding)[:, None, None]
            + places[None, :, None]
            + self.rank.weight[None, None]
        )
        for block in self.blocks:
            mixed = mixed + block(mixed)
        return list(self.norm(mixed).split(self._sizes, dim=1))
