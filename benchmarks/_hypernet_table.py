"""A plain LoRA per task, many trained side by side: an "architecture" that looks factors up.

With one entry it is one LoRA for all tasks; with one per task, the oracles, the stored adapters,
and what few examples make of a start that is given.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from intrinsic.hypernet.architecture import (
    Architecture,
    Payload,
    TargetFactors,
    register_architecture,
)
from intrinsic.hypernet.encoders import Embeddings
from intrinsic.hypernet.network import HyperNetwork
from intrinsic.hypernet.targets import TargetShape


@register_architecture("table")
class Table(Architecture):
    """Entry i of the table where the embedding is the i-th unit vector; B starts at 0."""

    def __init__(self, targets: Sequence[TargetShape], embed_dim: int, rank: int) -> None:
        super().__init__(targets, embed_dim, rank)
        self.A = nn.ParameterList(
            torch.randn(embed_dim, rank, t.in_features) / t.in_features**0.5 for t in targets
        )
        self.B = nn.ParameterList(torch.zeros(embed_dim, t.out_features, rank) for t in targets)

    @property
    def payload_bytes(self) -> int:
        """Bytes of one entry."""
        return 4 * self.rank * sum(t.in_features + t.out_features for t in self.targets)

    def forward(self, embedding: torch.Tensor) -> Payload:
        """All A, then all B, of the entries that are asked for."""
        return tuple(torch.tensordot(embedding, factor, 1) for factor in (*self.A, *self.B))

    def expand(self, payload: Payload) -> TargetFactors:
        """The same, as pairs."""
        half = len(self.targets)
        return list(zip(payload[:half], payload[half:], strict=True))


class Names:
    """Encodes each known name as a unit vector of its own."""

    def __init__(self, names: Sequence[str]) -> None:
        self._places = {name: place for place, name in enumerate(names)}

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return "names"

    @property
    def dimension(self) -> int:
        """How many names there are."""
        return len(self._places)

    def encode(self, texts: Sequence[str]) -> Embeddings:
        """One unit vector per name."""
        return np.eye(self.dimension, dtype=np.float32)[[self._places[text] for text in texts]]


class Same:
    """Encodes every text as the same number, so that nothing depends on it."""

    name = "same"
    dimension = 1

    def encode(self, texts: Sequence[str]) -> Embeddings:
        """One 1 per text."""
        return np.ones((len(texts), 1), np.float32)


def table_of(
    pairs: Sequence[tuple[torch.Tensor, torch.Tensor]], like: HyperNetwork
) -> HyperNetwork:
    """A table that starts with generated factors: per target A `(n, r, in)` and B `(n, out, r)`."""
    entries = len(pairs[0][1])
    table = HyperNetwork(like.targets, entries, like.rank, like.alpha, architecture="table")
    body = table.body
    assert isinstance(body, Table)
    with torch.no_grad():
        for at, (A, B) in enumerate(pairs):
            body.A[at].copy_(A)
            body.B[at].copy_(B)
    return table
