"""The cascade: the hybrid answers, and a language model is asked only where it is unsure."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import anyio

from intrinsic.card import AdapterCard
from intrinsic.routing.card_router import CardRouter
from intrinsic.routing.judge import Judge, Scorer
from intrinsic.routing.llm import LLMRouter
from intrinsic.routing.llm_options import LLMOptions, check_band
from intrinsic.routing.router import RankingRouter
from intrinsic.selection import NO_CONTEXT, RouteContext, Selection

_log = logging.getLogger(__name__)

_DEFAULT = LLMOptions()


class CascadeRouter:
    """Asks `judge` where the best confidence of `hybrid` lies in [`low`, `high`].

    The judge's answer then stands, 'none fits' included. After `deadline_s`, or where the judge
    fails, the hybrid's does: the reasons and `degraded` say why, and a warning is logged when that
    begins. A judge that overran is left alone for `retry_s`. A judge whose work cannot be ended
    halfway (a batch on the model) may overrun by as much. Raises `ConfigError` for a band or a
    time out of range.
    """

    name = "cascade"

    def __init__(
        self,
        hybrid: RankingRouter,
        judge: RankingRouter | Judge | Scorer,
        *,
        low: float = _DEFAULT.low,
        high: float = _DEFAULT.high,
        deadline_s: float = _DEFAULT.deadline_s,
        retry_s: float = _DEFAULT.retry_s,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_band(low, high, deadline_s, retry_s)
        self.hybrid = hybrid
        self.judge = judge if isinstance(judge, RankingRouter) else LLMRouter(judge)
        self.low, self.high = low, high
        self.deadline_s, self.retry_s = deadline_s, retry_s
        self.degraded = ""
        self._clock = clock
        self._retry_at = float("-inf")

    async def route(
        self,
        query: str,
        *,
        candidates: Sequence[AdapterCard],
        top_k: int = 1,
        context: RouteContext = NO_CONTEXT,
    ) -> list[Selection]:
        """Return at most `top_k` selections, best first; empty means that none fits."""
        first = await self.hybrid.route(query, candidates=candidates, top_k=top_k, context=context)
        best = first or await self._best(query, candidates, context)
        final = await self._second_opinion(
            first,
            best,
            lambda: self.judge.route(query, candidates=candidates, top_k=top_k, context=context),
        )
        if [one.adapter for one in final[:1]] != [one.adapter for one in first[:1]]:
            self.answered(final, candidates=candidates, context=context, routed=True)
        return final

    def answered(
        self,
        selections: Sequence[Selection],
        *,
        candidates: Sequence[AdapterCard],
        context: RouteContext,
        routed: bool,
    ) -> None:
        """Tell the first router who answers a request of a session, as `CardRouter.answered`."""
        if isinstance(self.hybrid, CardRouter):
            self.hybrid.answered(selections, candidates=candidates, context=context, routed=routed)

    async def rank(
        self,
        query: str,
        *,
        candidates: Sequence[AdapterCard],
        context: RouteContext = NO_CONTEXT,
    ) -> list[Selection]:
        """Return every candidate with its confidence and reason, best first; weights are 0."""
        answer = await self.hybrid.rank(query, candidates=candidates, context=context)
        return await self._second_opinion(
            answer,
            answer,
            lambda: self.judge.rank(query, candidates=candidates, context=context),
        )

    async def warm_up(self, candidates: Sequence[AdapterCard] = ()) -> None:
        """Do now, without a deadline, what the first request with `candidates` would wait for."""
        for router in (self.hybrid, self.judge):
            warm = getattr(router, "warm_up", None)
            if warm is not None:
                await warm(candidates)

    async def _best(
        self, query: str, candidates: Sequence[AdapterCard], context: RouteContext
    ) -> list[Selection]:
        """The hybrid's best candidate, though it did not pass."""
        if isinstance(self.hybrid, CardRouter):
            return await self.hybrid.rank(query, candidates=candidates, context=context, first=1)
        return (await self.hybrid.rank(query, candidates=candidates, context=context))[:1]

    async def _second_opinion(
        self,
        answer: list[Selection],
        best: Sequence[Selection],
        ask: Callable[[], Awaitable[list[Selection]]],
    ) -> list[Selection]:
        if not best or not self.low <= best[0].confidence <= self.high:
            return answer
        unsure = f"asked as the first router gave {best[0].adapter} {best[0].confidence:.0%}"
        found, why = await self._ask(ask)
        if found is None:
            return [
                replace(one, reason=f"{one.reason} (no second opinion: {why})") for one in answer
            ]
        return [replace(one, reason=f"{one.reason} ({unsure})") for one in found]

    async def _ask(
        self, ask: Callable[[], Awaitable[list[Selection]]]
    ) -> tuple[list[Selection] | None, str]:
        """The judge's answer, or None and what was wrong."""
        if self._clock() < self._retry_at:
            return None, self.degraded
        found: list[Selection] | None = None
        why = f"the model did not answer within {self.deadline_s:g} s"
        with anyio.move_on_after(self.deadline_s) as scope:
            try:
                found = await ask()
                why = ""
            except Exception as error:  # a judge may be anybody's; cancellation passes
                why = f"{type(error).__name__}: {error}"
        if scope.cancelled_caught:
            self._retry_at = self._clock() + self.retry_s
        self._note(why)
        return found, why

    def _note(self, why: str) -> None:
        if why and not self.degraded:
            _log.warning("routing goes on without a second opinion: %s", why)
        elif self.degraded and not why:
            _log.info("second opinions are to be had again")
        self.degraded = why
