"""A router that lets plugins decide first, adjust afterwards, and hear of the outcome."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeGuard, TypeVar

from intrinsic.card import AdapterCard
from intrinsic.errors import RoutingError
from intrinsic.routing.card_router import CardRouter
from intrinsic.routing.router import RankingRouter, Router
from intrinsic.selection import NO_CONTEXT, RouteContext, Selection

if TYPE_CHECKING:
    from intrinsic.plugins import PluginManager


logger = logging.getLogger("intrinsic.wiring")


class PluginRouter:
    """Asks `select_adapters`, then `router`, then `adjust_selections`, then tells `on_route`.

    A plugin that raises or hangs is passed over. `top_k` is what a call without it gets.
    """

    def __init__(self, router: Router, plugins: PluginManager, *, top_k: int = 1) -> None:
        self.router = router
        self.plugins = plugins
        self.top_k = top_k
        self._asked = False
        self._ranks = isinstance(router, RankingRouter)

    @property
    def can_rank(self) -> bool:
        """Whether the router ranks at all, and is in use: plugins do not always decide."""
        return self._asked and self._ranks

    async def route(
        self,
        query: str,
        *,
        candidates: Sequence[AdapterCard],
        top_k: int | None = None,
        context: RouteContext = NO_CONTEXT,
    ) -> list[Selection]:
        """Return at most `top_k` selections, best first; empty means that none fits."""
        count = self.top_k if top_k is None else top_k
        chosen = await self._choose(query, candidates, count, context)
        if self.plugins.has("adjust_selections"):
            outcome = await self.plugins.call_chain(
                "adjust_selections", "selections", chosen, query=query, context=context
            )
            chosen = _selections(outcome.value, "adjust_selections", chosen)[:count]
        if self.plugins.has("on_route"):
            await self.plugins.notify("on_route", query=query, selections=chosen, context=context)
        return chosen

    async def rank(
        self,
        query: str,
        *,
        candidates: Sequence[AdapterCard],
        context: RouteContext = NO_CONTEXT,
    ) -> list[Selection]:
        """Every candidate as the router alone sees it; what it selects, where it cannot rank."""
        if isinstance(self.router, RankingRouter):
            return await self.router.rank(query, candidates=candidates, context=context)
        return await self.router.route(
            query, candidates=candidates, top_k=len(candidates), context=context
        )

    async def runners_up(
        self,
        query: str,
        *,
        candidates: Sequence[AdapterCard],
        context: RouteContext,
        chosen: Sequence[Selection],
        count: int,
    ) -> list[Selection]:
        """The `count` best candidates that were not chosen and are not out of the question.

        Empty unless `can_rank`.
        """
        if not self.can_rank or not isinstance(self.router, RankingRouter):
            return []
        first = count + len(chosen)
        if isinstance(self.router, CardRouter):
            ranked = await self.router.rank(
                query, candidates=candidates, context=context, first=first
            )
        else:
            ranked = await self.router.rank(query, candidates=candidates, context=context)
        names = {selection.adapter for selection in chosen}
        left = [s for s in ranked[:first] if s.adapter not in names and s.confidence > 0.0]
        return left[:count]

    async def warm_up(self, candidates: Sequence[AdapterCard] = ()) -> None:
        """Load what the router needs and embed the candidates, without its deadlines.

        A router that needs no warming up is left alone.
        """
        warm = getattr(self.router, "warm_up", None)
        if warm is not None:
            await warm(candidates)

    async def _choose(
        self, query: str, candidates: Sequence[AdapterCard], top_k: int, context: RouteContext
    ) -> list[Selection]:
        if self.plugins.has("select_adapters"):
            outcome = await self.plugins.call_first(
                "select_adapters",
                query=query,
                candidates=candidates,
                top_k=top_k,
                context=context,
            )
            answer = _selections(outcome.value, "select_adapters", None)
            if answer is not None:
                return answer[:top_k]
        self._asked = True
        routed: object = await self.router.route(
            query, candidates=candidates, top_k=top_k, context=context
        )
        if not _are_selections(routed):
            raise RoutingError(f"the router answered {routed!r}; it must return Selection objects")
        return list(routed)


_Fallback = TypeVar("_Fallback")


def _selections(value: object, hook: str, fallback: _Fallback) -> list[Selection] | _Fallback:
    """A plugin's answer; one that is no list of selections is logged and passed over."""
    if _are_selections(value):
        return list(value)
    if value is not None:
        logger.warning("a plugin's %s answered %r, no list of Selection: passed over", hook, value)
    return fallback


def _are_selections(value: object) -> TypeGuard[Sequence[Selection]]:
    return isinstance(value, list | tuple) and all(isinstance(v, Selection) for v in value)
