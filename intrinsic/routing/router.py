"""The seams of routing: a router, and the text encoder that some routers need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from intrinsic.card import AdapterCard
from intrinsic.selection import NO_CONTEXT, RouteContext, Selection

Vectors = npt.NDArray[np.float32]


@runtime_checkable
class Router(Protocol):
    """Decides which adapters fit a query."""

    async def route(
        self,
        query: str,
        *,
        candidates: Sequence[AdapterCard],
        top_k: int = 1,
        context: RouteContext = NO_CONTEXT,
    ) -> list[Selection]:
        """Return at most `top_k` selections, best first; empty means that none fits."""
        ...


@runtime_checkable
class RankingRouter(Router, Protocol):
    """A router that can also say what it thought of every candidate."""

    async def rank(
        self,
        query: str,
        *,
        candidates: Sequence[AdapterCard],
        context: RouteContext = NO_CONTEXT,
    ) -> list[Selection]:
        """Return every candidate with its confidence and reason, best first."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into unit vectors, `(n_texts, dimension)` float32, off the event loop."""

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector per text, in the order of the texts."""
        ...
