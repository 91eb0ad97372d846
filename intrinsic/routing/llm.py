"""The LLM router: a language model is asked which adapter should answer."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

import numpy as np

from intrinsic.card import AdapterCard
from intrinsic.errors import RoutingError
from intrinsic.routing.card_router import CardRouter
from intrinsic.routing.decision import Ranking
from intrinsic.routing.evidence import Floats
from intrinsic.routing.index import CandidateView
from intrinsic.routing.judge import Candidate, Judge, Judgement, Scorer
from intrinsic.routing.keyword import KeywordRouter, rank_by_words
from intrinsic.routing.likelihood import LikelihoodJudge
from intrinsic.routing.llm_options import LLMOptions
from intrinsic.routing.options import RouterOptions
from intrinsic.routing.question import Question
from intrinsic.routing.recent import Recent

_log = logging.getLogger(__name__)


class LLMRouter(CardRouter):
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
        shortlist: CardRouter | None = None,
    ) -> None:
        super().__init__(options=options)
        self.llm = llm or LLMOptions()
        self.judge: Judge = judge if isinstance(judge, Judge) else LikelihoodJudge(judge, self.llm)
        self.shortlist = shortlist or KeywordRouter(options=self.options)
        self._judgements: Recent[tuple[str, tuple[Candidate, ...]], Judgement] = Recent(
            self.llm.cached_answers
        )

    async def warm_up(self, candidates: Sequence[AdapterCard] = ()) -> None:
        """Do now what the first request with `candidates` would wait for; a failure is logged."""
        view = await self._view(tuple(candidates))
        if len(view.cards) > self.llm.max_candidates:
            await self.shortlist.warm_up(candidates)
        elif view.cards and isinstance(self.judge, LikelihoodJudge):
            try:
                await self.judge.warm_up(_candidates(view, range(len(view.cards))))
            except RoutingError as error:
                _log.warning("the model could not be asked ahead: %s", error)

    async def _ranking(self, question: Question, view: CandidateView, out: Set[int]) -> Ranking:
        count = self.llm.max_candidates
        if len(view.cards) <= count:
            near = await rank_by_words(question, view)
        else:
            near = await self.shortlist._ranking(question, view, out)
        rows = sorted(near.without(out).evidence.leading(count).tolist())
        judgement = await self._judged(question.text, _candidates(view, rows))
        said = zip(judgement.confidences, judgement.reasons, strict=True)
        return JudgedRanking.of(near, dict(zip(rows, said, strict=True)))

    async def _judged(self, text: str, asked: tuple[Candidate, ...]) -> Judgement:
        if not asked:
            return Judgement((), ())
        known = self._judgements.get((text, asked))
        if known is not None:
            return known
        answer = await self.judge.judge(text, asked)
        sound = all(0.0 <= value <= 1.0 for value in answer.confidences)
        if not sound or not len(answer.confidences) == len(answer.reasons) == len(asked):
            raise RoutingError(
                f"the judge gave {answer.confidences!r:.80} for {len(asked)} candidates; it must "
                "give a probability and a reason each"
            )
        self._judgements.put((text, asked), answer)
        return answer


@dataclass(frozen=True, eq=False)
class JudgedRanking(Ranking):
    """A ranking in which a judge decided: `judged` has confidence and reason by row.

    `rows` are best first; who was not asked about has no confidence.
    """

    judged: Mapping[int, tuple[float, str]] = field(default_factory=dict)
    rows: tuple[int, ...] = ()

    @classmethod
    def of(cls, near: Ranking, judged: Mapping[int, tuple[float, str]]) -> JudgedRanking:
        """Return the ranking with the judged rows in front, by confidence."""
        best = sorted(judged, key=lambda row: -judged[row][0])
        others = [row for row in range(len(near.evidence.view.cards)) if row not in judged]
        rows = (*best, *others)
        return cls(near.question, near.evidence, near.gate, near.note, judged=judged, rows=rows)

    def without(self, rows: Collection[int]) -> JudgedRanking:
        """Return the ranking of all but some rows, with the confidences that the judge gave."""
        return replace(self, rows=tuple(row for row in self.rows if row not in rows))

    def leading(self, first: int | None = None) -> list[tuple[int, float]]:
        """Return the `first` rows, or all, each with its confidence."""
        return [(row, self.judged.get(row, (0.0, ""))[0]) for row in self.rows[:first]]

    def confidences(self, first: int | None = None) -> Floats:
        """Return the judge's confidences in ranking order."""
        return np.array([confidence for _, confidence in self.leading(first)], np.float64)

    def reason(self, row: int) -> str:
        """Return what the judge said of a row."""
        if row in self.judged:
            return self.judged[row][1]
        return f"is not among the {len(self.judged)} that the model was asked about"


def _candidates(view: CandidateView, rows: Sequence[int]) -> tuple[Candidate, ...]:
    return tuple(Candidate(view.labels[row], view.cards[row]) for row in rows)
