"""What every router over cards does: candidates in, evidence, gate, selections out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar

import anyio.to_thread

from intrinsic.card import AdapterCard
from intrinsic.errors import ConfigError
from intrinsic.routing.decision import Ranking
from intrinsic.routing.index import CandidateView, CardIndex
from intrinsic.routing.options import RouterOptions
from intrinsic.routing.question import Question
from intrinsic.routing.text import readable
from intrinsic.selection import NO_CONTEXT, RouteContext, Selection

_LONG_TEXT = 10_000  # characters from which on work leaves the event loop
_MANY_TEXTS = 5_000  # texts of cards, likewise

_T = TypeVar("_T")


class CardRouter(ABC):
    """A `RankingRouter` that knows adapters by nothing but the candidates of each call.

    So an adapter that was registered a moment ago is routable, and one that was removed is not.
    A text without a readable character fits no adapter. Safe to share between tasks, threads
    and event loops; the same call always gives the same answer.
    """

    name: str

    def __init__(
        self, *, options: RouterOptions | None = None, index: CardIndex | None = None
    ) -> None:
        self.options = options or RouterOptions()
        self.index = index or CardIndex(cached_views=self.options.cached_views)

    async def route(
        self,
        query: str,
        *,
        candidates: Sequence[AdapterCard],
        top_k: int = 1,
        context: RouteContext = NO_CONTEXT,
    ) -> list[Selection]:
        """Return at most `top_k` selections, best first; empty means that none fits.

        A second one comes only if it passes the threshold by itself. Weights sum to 1. Raises
        `ConfigError` for a `top_k` below 1.
        """
        if top_k < 1:
            raise ConfigError(f"top_k is {top_k}; it must be at least 1")
        text = readable(query)
        view = await self._view(_allowed(candidates, context))
        if not text or not view.candidates:
            return []
        ranking = await self._ranking(Question.of(text), view)
        threshold, min_weight = self.options.threshold, self.options.min_weight
        return await off_loop_if_large(
            text,
            view,
            lambda: ranking.chosen(top_k=top_k, threshold=threshold, min_weight=min_weight),
        )

    async def rank(
        self,
        query: str,
        *,
        candidates: Sequence[AdapterCard],
        context: RouteContext = NO_CONTEXT,
        first: int | None = None,
    ) -> list[Selection]:
        """Return every candidate with its confidence and reason, best first; weights are 0.

        With `first` only so many, which spares most of the time where candidates are many.
        """
        text = readable(query)
        view = await self._view(_allowed(candidates, context))
        if not text:
            return [
                Selection(view.labels[row], confidence=0.0, weight=0.0, reason="the text is empty")
                for row in view.rows[:first]
            ]
        if not view.candidates:
            return []
        ranking = await self._ranking(Question.of(text), view)
        return await off_loop_if_large(text, view, lambda: ranking.all(first))

    async def warm_up(self, candidates: Sequence[AdapterCard] = ()) -> None:
        """Do now, without a deadline, what the first request with `candidates` would wait for."""
        await self._view(tuple(candidates))

    @abstractmethod
    async def _ranking(self, question: Question, view: CandidateView) -> Ranking:
        """Rank the rows of a view that has some, for a question that has something to read."""

    async def _view(self, candidates: tuple[AdapterCard, ...]) -> CandidateView:
        known = self.index.known(candidates)
        if known is not None:
            return known
        return await anyio.to_thread.run_sync(self.index.view, candidates)


async def off_loop_if_large(query: str, view: CandidateView, work: Callable[[], _T]) -> _T:
    """Run `work` here where it takes well under a millisecond, in a worker thread otherwise."""
    if len(query) < _LONG_TEXT and len(view.texts) < _MANY_TEXTS:
        return work()
    return await anyio.to_thread.run_sync(work)


def _allowed(candidates: Sequence[AdapterCard], context: RouteContext) -> tuple[AdapterCard, ...]:
    if not context.exclude:
        return tuple(candidates)
    excluded = context.exclude
    return tuple(c for c in candidates if c.name not in excluded and c.key not in excluded)
