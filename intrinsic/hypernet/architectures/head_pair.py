"""Two linear heads that write both factors of a layer from features."""

from __future__ import annotations

import torch
from torch import nn


class HeadPair(nn.Module):
    """Features to ΔA and ΔB of layers of one shape; `count` of them at a time.

    The head of B is 0 at the start, weight and bias, so that ΔW is. The head of A starts as a
    usual LoRA's A in its bias, with a share of as much variance that the features decide
    (Hyperfan: Chang et al. 2020; a bias that is a good initialisation: Beck et al. 2022).
    """

    def __init__(
        self, hidden: int, rank: int, in_features: int, out_features: int, *, count: int = 1
    ) -> None:
        super().__init__()
        self._shape = (rank, in_features, out_features)
        self.A = nn.Linear(hidden, count * rank * in_features)
        self.B = nn.Linear(hidden, count * rank * out_features)
        nn.init.normal_(self.A.weight, std=(hidden * in_features) ** -0.5)
        nn.init.normal_(self.A.bias, std=in_features**-0.5)
        nn.init.zeros_(self.B.weight)
        nn.init.zeros_(self.B.bias)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Shape: `(n, h)` or `(n, g, h)` to `(n, g, r, in)` and `(n, g, out, r)`."""
        rank, into, out = self._shape
        n = len(features)
        return self.A(features).reshape(n, -1, rank, into), self.B(features).reshape(
            n, -1, out, rank
        )
