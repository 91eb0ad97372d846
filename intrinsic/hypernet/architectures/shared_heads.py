"""`shared_heads`: one pair of heads per kind of module, shared by all layers (Text-to-LoRA)."""

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


@register_architecture("shared_heads")
class SharedHeads(Written):
    """Text-to-LoRA's larger form (arXiv:2506.06105): a whole A and a whole B at a time.

    Its size does not grow with the depth of the model, but with `hidden_dim` times the size of one
    layer's factors.
    """

    def __init__(
        self, targets: Sequence[TargetShape], embed_dim: int, rank: int, *, hidden_dim: int = 64
    ) -> None:
        hidden = at_least_one("hidden_dim", hidden_dim)
        groups = groups_of(targets, lambda target: target.kind)
        super().__init__(targets, embed_dim, rank, groups)
        self.trunk = TargetTrunk(targets, groups, embed_dim, hidden)
        self.heads = nn.ModuleList(
            HeadPair(hidden, rank, group.in_features, group.out_features) for group in groups
        )

    def factors(self, embedding: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """One product per kind of module for A, and one for B, over all its layers."""
        features = self.trunk(embedding)
        return [head(f.squeeze(2)) for head, f in zip(self.heads, features, strict=True)]
