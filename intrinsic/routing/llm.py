"""The LLM router: a language model is asked which adapter should answer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from intrinsic.card import AdapterCard
from intrinsic.errors import ConfigError, RoutingError
from intrinsic.routing.card_router import CardRouter
from intrinsic.routing.judge import Candidate, Judge, Judgement, Scorer, labelled
from intrinsic.routing.keyword import KeywordRouter
from intrinsic.routing.likelihood import LikelihoodJudge
from intrinsic.routing.llm_options import LLMOptions
from intrinsic.routing.options import RouterOptions
from intrinsic.routing.recent import Recent
from intrinsic.routing.router import RankingRouter
from intrinsic.routing.text import readable
from intrinsic.selection import NO_CONTEXT, RouteContext, Selection

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Ranked:
    candidate: Candidate
    confidence: float
    reason: str
    asked: bool = True

    def selection(self, weight: float) -> Selection:
        return Selection(self.candidate.label, self.confidence, weight, self.reason)


class LLMRouter:
    """Asks a `Scorer` (the loaded model), or a `Judge` such as `ChatEndpoint`.

    A confidence is the probability that this adapter, and none of the others, is the one to answer.
    Of many candidates the model is asked about the best few of `shortlist` (by words, unless
    given); the others have no confidence. Raises `RoutingError` where the model fails. A deadline
    is the caller's business, as in `CascadeRouter`.
    """

    name = "llm"

    def __init__(
        self,
        judge: Scorer | Judge,
        *,
        options: RouterOptions | None = None,
        llm: LLMOptions | None = None,
        shortlist: RankingRouter | None = None,
    ) -> None:
        self.options = options or RouterOptions()
        self.llm = llm or LLMOptions()
        self.judge: Judge = judge if isinstance(judge, Judge) else LikelihoodJudge(judge, self.llm)
        self.shortlist = shortlist or KeywordRouter(options=self.options)
        self._answers: Recent[tuple[str, tuple[Candidate, ...]], Judgement] = Recent(
            self.llm.cached_answers
        )

    async def route(
        self,
        query: str,
        *,
        candidates: Sequence[AdapterCard],
        top_k: int = 1,
        context: RouteContext = NO_CONTEXT,
    ) -> list[Selection]:
        """Return at most `top_k` selections, best first; empty means that none fits.

        Weights sum to 1. Raises `ConfigError` for a `top_k` below 1.
        """
        if top_k < 1:
            raise ConfigError(f"top_k is {top_k}; it must be at least 1")
        kept: list[_Ranked] = []
        groups: set[str] = set()
        for one in await self._ranked(query, candidates, context):
            card = one.candidate.card
            threshold = self.options.threshold if card.threshold is None else card.threshold
            if one.asked and one.confidence >= threshold and card.group not in groups:
                kept.append(one)
                groups |= {card.group} - {""}
        del kept[top_k:]
        total = sum(one.confidence for one in kept)
        while len(kept) > 1 and kept[-1].confidence < self.options.min_weight * total:
            total -= kept.pop().confidence
        return [one.selection(one.confidence / total if total else 1 / len(kept)) for one in kept]

    async def rank(
        self,
        query: str,
        *,
        candidates: Sequence[AdapterCard],
        context: RouteContext = NO_CONTEXT,
    ) -> list[Selection]:
        """Return every candidate with its confidence and reason, best first; weights are 0."""
        ranked = await self._ranked(query, candidates, context)
        times = {card: list(candidates).count(card) for card in set(candidates)}
        return [one.selection(0.0) for one in ranked for _ in range(times[one.candidate.card])]

    async def warm_up(self, candidates: Sequence[AdapterCard] = ()) -> None:
        """Do now what the first request with `candidates` would wait for; a failure is logged."""
        found = labelled(candidates)
        if len(found) > self.llm.max_candidates:
            warm = getattr(self.shortlist, "warm_up", None)
            if warm is not None:
                await warm(candidates)
        elif found and isinstance(self.judge, LikelihoodJudge):
            try:
                await self.judge.warm_up(found)
            except RoutingError as error:
                _log.warning("the model could not be asked ahead: %s", error)

    async def _ranked(
        self, query: str, cards: Sequence[AdapterCard], context: RouteContext
    ) -> list[_Ranked]:
        """The distinct candidates that may be chosen, best first."""
        text = readable(query)
        found = labelled(c for c in cards if not {c.name, c.key} & context.exclude)
        if not text:
            return [_Ranked(one, 0.0, "the text is empty", asked=False) for one in found]
        asked, others = await self._shortlisted(text, found, context)
        if not asked:
            return []
        answer = await self._judged(text, asked)
        ranked = sorted(
            map(_Ranked, asked, answer.confidences, answer.reasons), key=lambda one: -one.confidence
        )
        why = f"is not among the {len(asked)} that the model was asked about"
        return [*ranked, *(_Ranked(one, 0.0, why, asked=False) for one in others)]

    async def _shortlisted(
        self, text: str, found: tuple[Candidate, ...], context: RouteContext
    ) -> tuple[tuple[Candidate, ...], list[Candidate]]:
        """Whom to ask about, in the order given (a set has one prompt), and the others."""
        count = self.llm.max_candidates
        if len(found) <= count:
            return found, []
        cards = [one.card for one in found]
        first = {"first": count} if isinstance(self.shortlist, CardRouter) else {}
        ranked = await self.shortlist.rank(text, candidates=cards, context=context, **first)
        near = [one.adapter for one in ranked[:count]]
        asked = tuple(one for one in found if one.label in near)
        return asked, [one for one in found if one.label not in near]

    async def _judged(self, text: str, asked: tuple[Candidate, ...]) -> Judgement:
        known = self._answers.get((text, asked))
        if known is not None:
            return known
        answer = await self.judge.judge(text, asked)
        sound = all(0.0 <= value <= 1.0 for value in answer.confidences)
        if not sound or not len(answer.confidences) == len(answer.reasons) == len(asked):
            raise RoutingError(
                f"the judge gave {answer.confidences!r:.80} for {len(asked)} candidates; it must "
                "give a probability and a reason each"
            )
        self._answers.put((text, asked), answer)
        return answer
