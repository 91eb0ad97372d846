"""`core`: learned factors per target, and a small core between them that the query decides.

ΔA_k = A_k          (r, in)   learned, the same for every query
ΔB_k = B_k C_k(q)   (out, r)  only the core C_k (r, r) is generated
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from intrinsic.hypernet.architecture import (
    Architecture,
    FrameFactors,
    Payload,
    TargetFactors,
    at_least_one,
    register_architecture,
)
from intrinsic.hypernet.groups import groups_of, in_target_order
from intrinsic.hypernet.targets import TargetShape


@register_architecture("core")
class Core(Architecture):
    """A full `r × r` core per target; the payload is `(n, targets, r, r)`.

    The cores start at 0, the factors at random: `A` so that `A x` has the variance of `x`, `B` so
    that `B h` has that of `h`. `hidden_dim` is the width of the one hidden layer. It is `linear`:
    what words say adds up, which carries over better to combinations never seen than a GELU does.
    """

    def __init__(
        self,
        targets: Sequence[TargetShape],
        embed_dim: int,
        rank: int,
        *,
        hidden_dim: int = 128,
        linear: bool = True,
    ) -> None:
        super().__init__(targets, embed_dim, rank)
        hidden = at_least_one("hidden_dim", hidden_dim)
        self._groups = groups_of(targets)
        self._order = [place for group in self._groups for place in group.places]
        self._kept: tuple[object, tuple[torch.Tensor, torch.Tensor]] | None = None
        self.A = nn.ParameterList(
            torch.randn(len(group), rank, group.in_features) / group.in_features**0.5
            for group in self._groups
        )
        self.B = nn.ParameterList(
            torch.randn(len(group), group.out_features, rank) / rank**0.5 for group in self._groups
        )
        bend = nn.Identity() if linear else nn.GELU()
        self.trunk = nn.Sequential(nn.LayerNorm(embed_dim), nn.Linear(embed_dim, hidden), bend)
        self.cores = nn.Linear(hidden, len(targets) * self._core_size)
        nn.init.zeros_(self.cores.weight)
        nn.init.zeros_(self.cores.bias)

    @property
    def _core_size(self) -> int:
        return self.rank * self.rank

    @property
    def payload_bytes(self) -> int:
        """Bytes of all cores of a query in float32."""
        return 4 * len(self.targets) * self._core_size

    def forward(self, embedding: torch.Tensor) -> Payload:
        """The cores, grouped by the targets' shapes: `(n, targets, r, r)`."""
        cores = self.cores(self.trunk(embedding))
        return (cores.view(-1, len(self.targets), self.rank, self.rank),)

    def expand(self, payload: Payload) -> TargetFactors:
        """Multiply the cores into the learned B; A is a view of what was learned."""
        (cores,) = payload
        found, start = [], 0
        for group, A, B in zip(self._groups, self.A, self.B, strict=True):
            own = cores[:, start : start + len(group)]  # (n, g, r, r)
            start += len(group)
            generated = self._product(B, own).unbind(1)
            found.append(list(zip(A.unsqueeze(1).unbind(0), generated, strict=True)))
        return in_target_order(self._groups, found)

    def frames(self) -> FrameFactors:
        """A and B of every target, as views of what was learned."""
        pairs = [
            list(zip(A.unbind(0), B.unbind(0), strict=True))
            for A, B in zip(self.A, self.B, strict=True)
        ]
        return in_target_order(self._groups, pairs)

    def cores_of(self, payload: Payload) -> torch.Tensor:
        """The full cores, `(n, targets, r, r)`, in the targets' order."""
        grouped = self._full(payload[0])
        ordered = torch.empty_like(grouped)
        ordered[:, self._order] = grouped
        return ordered

    def norms(self, payload: Payload) -> torch.Tensor:
        """As in `Architecture`, from the learned factors' Gram matrices: `tr(Cᵀ BᵀB C AAᵀ)`."""
        grams_a, grams_b = self._grams()
        C = self._full(payload[0])
        squares = ((C.mT @ grams_b @ C) * grams_a).sum((-1, -2))
        norms = squares.clamp_min(0).sqrt()
        ordered = torch.empty_like(norms)
        ordered[:, self._order] = norms
        return ordered

    def _grams(self) -> tuple[torch.Tensor, torch.Tensor]:
        """`AAᵀ` and `BᵀB` of all targets, `(targets, r, r)`; kept while nothing is learned."""
        learned = [*self.A, *self.B]
        needs_grad = torch.is_grad_enabled() and any(factor.requires_grad for factor in learned)
        if needs_grad or any(factor.is_inference() for factor in learned):
            return self._fresh_grams()
        state = tuple((factor.data_ptr(), factor._version) for factor in learned)
        if self._kept is None or self._kept[0] != state:
            with torch.inference_mode(False), torch.no_grad():
                self._kept = (state, self._fresh_grams())
        return self._kept[1]

    def _fresh_grams(self) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.cat([A @ A.mT for A in self.A]), torch.cat([B.mT @ B for B in self.B])

    @staticmethod
    def _product(B: torch.Tensor, cores: torch.Tensor) -> torch.Tensor:
        """Shape: B `(g, out, r)` and cores `(n, g, r, r)` to `(n, g, out, r)`."""
        return B @ cores

    @staticmethod
    def _full(cores: torch.Tensor) -> torch.Tensor:
        return cores


@register_architecture("core_diagonal")
class DiagonalCore(Core):
    """A diagonal core: r numbers per target scale the columns of B."""

    @property
    def _core_size(self) -> int:
        return self.rank

    def forward(self, embedding: torch.Tensor) -> Payload:
        """The diagonals, grouped by the targets' shapes: `(n, targets, r)`."""
        cores = self.cores(self.trunk(embedding))
        return (cores.view(-1, len(self.targets), self.rank),)

    @staticmethod
    def _product(B: torch.Tensor, cores: torch.Tensor) -> torch.Tensor:
        return B * cores.unsqueeze(-2)

    @staticmethod
    def _full(cores: torch.Tensor) -> torch.Tensor:
        return torch.diag_embed(cores)
