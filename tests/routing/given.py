"""A router whose confidences the test gives, so that only the choice is under test."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from types import SimpleNamespace
from typing import Any, cast

from intrinsic.card import AdapterCard
from intrinsic.routing.card_router import CardRouter
from intrinsic.routing.decision import Ranking
from intrinsic.routing.index import CandidateView
from intrinsic.routing.options import RouterOptions
from intrinsic.routing.question import Question


class GivenRanking(Ranking):
    """Rows with given confidences; counts in `looked_at` how many it was asked for."""

    def __init__(self, question: Question, view: CandidateView, router: GivenRouter) -> None:
        evidence = cast(Any, SimpleNamespace(view=view))
        super().__init__(question, evidence, cast(Any, None))
        given = router.given[question.text]
        pairs = [(row, given.get(card.name, 0.0)) for row, card in enumerate(view.cards)]
        object.__setattr__(self, "pairs", sorted(pairs, key=lambda pair: -pair[1]))
        object.__setattr__(self, "router", router)

    pairs: list[tuple[int, float]]
    router: GivenRouter

    def without(self, rows: Collection[int]) -> Ranking:
        if not rows:
            return self
        rest = object.__new__(GivenRanking)
        for name in ("question", "evidence", "gate", "note", "router"):
            object.__setattr__(rest, name, getattr(self, name))
        object.__setattr__(rest, "pairs", [pair for pair in self.pairs if pair[0] not in rows])
        return rest

    def leading(self, first: int | None = None) -> list[tuple[int, float]]:
        self.router.looked_at.append(first)
        return self.pairs[:first]

    def scores(self, rows: Sequence[int]) -> list[float]:
        return [dict(self.pairs)[row] for row in rows]

    def reason(self, row: int) -> str:
        return "given"


class GivenRouter(CardRouter):
    """Ranks as `given` says: confidences of adapters, by text of the question."""

    name = "given"

    def __init__(self, given: Mapping[str, Mapping[str, float]], **options: Any) -> None:
        super().__init__(options=RouterOptions(**options))
        self.given = given
        self.looked_at: list[int | None] = []

    async def _ranking(self, question: Question, view: CandidateView, out: Set[int]) -> Ranking:
        return GivenRanking(question, view, self)


def cards(names: str, **fields: Any) -> tuple[AdapterCard, ...]:
    """A card per letter."""
    return tuple(AdapterCard(name, **fields) for name in names)
