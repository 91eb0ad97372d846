"""A router that says what a test writes down."""

from __future__ import annotations

from collections.abc import Sequence

from intrinsic.card import AdapterCard
from intrinsic.selection import NO_CONTEXT, RouteContext, Selection


class ScriptedRouter:
    """A `RankingRouter`; a test overrides `chosen` and `ranked`."""

    async def chosen(self, candidates: Sequence[AdapterCard]) -> list[Selection]:
        """What `route` returns; those of `ranked` that are at least as likely as not."""
        return [one for one in await self.ranked(candidates) if one.confidence >= 0.5]

    async def ranked(self, candidates: Sequence[AdapterCard]) -> list[Selection]:
        """What `rank` returns."""
        raise NotImplementedError

    async def route(
        self,
        query: str,
        *,
        candidates: Sequence[AdapterCard],
        top_k: int = 1,
        context: RouteContext = NO_CONTEXT,
    ) -> list[Selection]:
        return await self.chosen(candidates)

    async def rank(
        self,
        query: str,
        *,
        candidates: Sequence[AdapterCard],
        context: RouteContext = NO_CONTEXT,
    ) -> list[Selection]:
        return await self.ranked(candidates)
