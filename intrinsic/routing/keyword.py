"""The keyword router: BM25 over cards and examples; needs no encoder."""

from __future__ import annotations

from collections.abc import Set

from intrinsic.routing.calibration import Calibration
from intrinsic.routing.card_router import CardRouter, off_loop_if_large
from intrinsic.routing.decision import Ranking
from intrinsic.routing.evidence import Evidence
from intrinsic.routing.gate import load_gate
from intrinsic.routing.index import CandidateView
from intrinsic.routing.question import Question


class KeywordRouter(CardRouter):
    """Matches stems of words, never parts of words."""

    name = "keyword"

    async def _ranking(self, question: Question, view: CandidateView, out: Set[int]) -> Ranking:
        return await rank_by_words(question, view, calibration=self.options.calibration)


async def rank_by_words(
    question: Question,
    view: CandidateView,
    note: str = "",
    *,
    calibration: Calibration | None = None,
) -> Ranking:
    """Rank by words alone; `note` says why, where something better was asked for."""

    def work() -> Ranking:
        evidence = Evidence.of(view, question.text)
        return Ranking(question, evidence, load_gate("words"), note, calibration)

    return await off_loop_if_large(question.text, view, work)
