"""A router that lets plugins decide first, adjust afterwards, and hear of the outcome."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from intrinsic.card import AdapterCard
from intrinsic.errors import RoutingError
from intrinsic.routing.card_router import CardRouter
from intrinsic.routing.router import RankingRouter, Router
from intrinsic.selection import NO_CONTEXT, RouteContext, Selection
from intrinsic.wiring.plugin_answers import allowed, are_selections, checked, explained

if TYPE_CHECKING:
    from intrinsic.plugins import PluginManager


class PluginRouter:
    """Asks `select_adapters`, then `router`, then `adjust_selections`, then tells `on_route`.

    A plugin that raises or hangs is passed over; one that names what the context excludes is not
    obeyed in that, and what a plugin changed says so in its reason. A router that remembers who
    answers in a session is told who does in the end. `top_k` is what a call without it gets.
    """

    def __init__(self, router: Router, plugins: PluginManager, *, top_k: int = 1) -> None:
        self.router = router
        self.plugins = plugins
        self.top_k = top_k
        self._asked = False
        self._ranks = isinstance(router, RankingRouter)
        self._tell = getattr(router, "answered", None)

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
        decided = await self._decided(query, candidates, count, context)
        before = decided
        if before is None:
            before = await self._routed(query, candidates, count, context)
        chosen = await self._adjusted(query, before, count, context)
        routed = decided is None
        if self._tell is not None and not (routed and _first(chosen) == _first(before)):
            self._tell(chosen, candidates=candidates, context=context, routed=routed)
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

    async def _decided(
        self, query: str, candidates: Sequence[AdapterCard], top_k: int, context: RouteContext
    ) -> list[Selection] | None:
        """What a plugin chooses in the router's place; None where none does."""
        if not self.plugins.has("select_adapters"):
            return None
        outcome = await self.plugins.call_first(
            "select_adapters", query=query, candidates=candidates, top_k=top_k, context=context
        )
        answer = checked(outcome.value, "select_adapters")
        return None if answer is None else allowed(answer, context)[:top_k]

    async def _routed(
        self, query: str, candidates: Sequence[AdapterCard], top_k: int, context: RouteContext
    ) -> list[Selection]:
        self._asked = True
        routed: object = await self.router.route(
            query, candidates=candidates, top_k=top_k, context=context
        )
        if not are_selections(routed):
            raise RoutingError(f"the router answered {routed!r}; it must return Selection objects")
        least = context.threshold or 0.0  # a router of another kind may look at neither
        return [one for one in allowed(routed, context) if one.confidence >= least]

    async def _adjusted(
        self, query: str, chosen: list[Selection], top_k: int, context: RouteContext
    ) -> list[Selection]:
        if not self.plugins.has("adjust_selections"):
            return chosen
        outcome = await self.plugins.call_chain(
            "adjust_selections", "selections", chosen, query=query, context=context
        )
        adjusted = chosen
        plugins: list[str] = []
        for result in outcome.results:
            answer = checked(result.value, "adjust_selections")
            if answer is not None:
                adjusted = answer
                plugins.append(result.plugin)
        return explained(allowed(adjusted, context)[:top_k], chosen, ", ".join(plugins))


def _first(selections: Sequence[Selection]) -> str | None:
    return selections[0].adapter if selections else None
