"""What every router over cards does: candidates in, evidence, gate, selections out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence, Set
from typing import TypeVar
from weakref import WeakKeyDictionary

import anyio.to_thread

from intrinsic.card import AdapterCard
from intrinsic.errors import ConfigError
from intrinsic.routing.choice import Choice, Fit
from intrinsic.routing.decision import Ranking
from intrinsic.routing.index import CandidateView, CardIndex
from intrinsic.routing.options import RouterOptions
from intrinsic.routing.question import Question
from intrinsic.routing.rules import NO_HITS, CardRules
from intrinsic.routing.stickiness import Sessions
from intrinsic.selection import NO_CONTEXT, RouteContext, Selection

_LONG_TEXT = 10_000  # characters from which on work leaves the event loop
_MANY_CARDS = 20_000  # cards, likewise
_MANY_SELECTIONS = 500  # to be told of, likewise

_T = TypeVar("_T")


class CardRouter(ABC):
    """A `RankingRouter` that knows adapters by nothing but the candidates of each call.

    So an adapter that was registered a moment ago is routable, and one that was removed is not.
    A text without a readable character fits no adapter. Safe to share between tasks, threads
    and event loops; the same call always gives the same answer, but for calls of one session.
    """

    name: str

    def __init__(
        self, *, options: RouterOptions | None = None, index: CardIndex | None = None
    ) -> None:
        self.options = options or RouterOptions()
        self.index = index or CardIndex(cached_views=self.options.cached_views)
        self.sessions = Sessions(self.options)
        self._rules: WeakKeyDictionary[CandidateView, CardRules] = WeakKeyDictionary()

    async def route(
        self,
        query: str,
        *,
        candidates: Sequence[AdapterCard],
        top_k: int = 1,
        context: RouteContext = NO_CONTEXT,
    ) -> list[Selection]:
        """Return at most `top_k` selections, best first; empty means that none fits.

        A second one comes only if it passes the threshold by itself, which is the router's unless
        `context` has one. Weights sum to 1. Who answers is remembered for the session of
        `context`, unless that is a trial. Raises `ConfigError`
        for a `top_k` below 1.
        """
        if top_k < 1:
            raise ConfigError(f"top_k is {top_k}; it must be at least 1")
        question = Question.about(query, context.memories, self.options)
        view = await self._view(tuple(candidates))
        choice = await self._choice(question, view, context)
        if choice is None:
            self._remember(context, view, None)
            return []
        chosen = await off_loop_if_large(question.text, view, lambda: choice.chosen(top_k))
        self._remember(context, view, chosen[0][0] if chosen else None)
        return [choice.selection(*pair) for pair in chosen]

    async def rank(
        self,
        query: str,
        *,
        candidates: Sequence[AdapterCard],
        context: RouteContext = NO_CONTEXT,
        first: int | None = None,
    ) -> list[Selection]:
        """Return every candidate with its confidence and reason, best first; weights are 0.

        With `first` only so many, which spares most of the time where candidates are many. What
        the session of `context` remembers counts, and is not changed.
        """
        question = Question.about(query, context.memories, self.options)
        view = await self._view(tuple(candidates))
        excluded = self._rules_of(view).rows_of(context.exclude)
        if not question.parts:
            return [
                Selection(view.labels[row], confidence=0.0, weight=0.0, reason="the text is empty")
                for row in [row for row in view.rows if row not in excluded][:first]
            ]
        choice = await self._choice(question, view, context)
        if choice is None:
            return []
        if first is None and len(view.cards) > _MANY_SELECTIONS:
            return await anyio.to_thread.run_sync(choice.selections)
        return await off_loop_if_long(question.text, lambda: choice.selections(first))

    async def ranking(
        self,
        query: str,
        *,
        candidates: Sequence[AdapterCard],
        context: RouteContext = NO_CONTEXT,
    ) -> Ranking | None:
        """Return all that speaks for each candidate, before rules, sessions and exclusions.

        None where the question or the candidates are nothing.
        """
        question = Question.about(query, context.memories, self.options)
        view = await self._view(tuple(candidates))
        if not question.parts or not view.candidates:
            return None
        return await self._ranking(question, view, frozenset())

    def answered(
        self,
        selections: Sequence[Selection],
        *,
        candidates: Sequence[AdapterCard],
        context: RouteContext,
        routed: bool,
    ) -> None:
        """Note who answers a request of a session where others than `route` had the last word.

        With `routed`, `route` was asked for this request and what it noted is put right.
        """
        if context.session_id is None or context.trial:
            return
        name = selections[0].adapter if selections else None
        keys = [card.key for card in candidates if name in (card.name, card.key)]
        note = self.sessions.corrected if routed else self.sessions.answered
        note(context.session_id, keys[-1] if keys else None)

    async def warm_up(self, candidates: Sequence[AdapterCard] = ()) -> None:
        """Do now, without a deadline, what the first request with `candidates` would wait for."""
        await self._view(tuple(candidates))

    @abstractmethod
    async def _ranking(self, question: Question, view: CandidateView, out: Set[int]) -> Ranking:
        """Rank the rows of a view that has some, for a question that has something to read.

        Rows that are `out` cannot be chosen; a router need not look at them.
        """

    async def _view(self, candidates: tuple[AdapterCard, ...]) -> CandidateView:
        known = self.index.known(candidates)
        if known is not None:
            return known
        return await anyio.to_thread.run_sync(self._new_view, candidates)

    def _new_view(self, candidates: tuple[AdapterCard, ...]) -> CandidateView:
        view = self.index.view(candidates)
        self._rules_of(view)
        return view

    def _rules_of(self, view: CandidateView) -> CardRules:
        rules = self._rules.get(view)
        if rules is None:
            rules = self._rules[view] = CardRules(view)
        return rules

    async def _choice(
        self, question: Question, view: CandidateView, context: RouteContext
    ) -> Choice | None:
        """What there is to choose from; None where the question or the candidates are nothing."""
        rules = self._rules_of(view)
        excluded = rules.rows_of(context.exclude) if context.exclude else frozenset()
        if not question.parts or len(excluded) == len(view.cards):
            return None
        hits = NO_HITS
        if rules.has_phrases:
            texts = [text for text, _ in question.parts]
            hits = await off_loop_if_long(question.text, lambda: rules.match(texts))
        ranking = await self._ranking(question, view, excluded | hits.never.keys())
        session_id = context.session_id
        last = None if session_id is None else self.sessions.last(session_id, question.parts[0][0])
        return Choice(ranking, rules, hits, self.options, excluded, last, context.threshold)

    def _remember(self, context: RouteContext, view: CandidateView, fit: Fit | None) -> None:
        session_id = context.session_id
        if session_id is None or context.trial:
            return
        if fit is not None:
            self.sessions.answered(session_id, view.cards[fit.row].key, by_itself=fit.by_itself)
            return
        adapter = self.sessions.adapter(session_id)
        if adapter is None or self._rules_of(view).rows_of([adapter]):
            self.sessions.answered(session_id, None)
        else:
            self.sessions.forget(session_id, adapter)


async def off_loop_if_large(query: str, view: CandidateView, work: Callable[[], _T]) -> _T:
    """Run `work` here where it takes well under a millisecond, in a worker thread otherwise."""
    if len(view.candidates) < _MANY_CARDS:
        return await off_loop_if_long(query, work)
    return await anyio.to_thread.run_sync(work)


async def off_loop_if_long(query: str, work: Callable[[], _T]) -> _T:
    """Run `work` here, or in a worker thread if the query is long."""
    if len(query) < _LONG_TEXT:
        return work()
    return await anyio.to_thread.run_sync(work)
