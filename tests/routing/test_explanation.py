"""Why a text was routed as it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from intrinsic.card import AdapterCard
from intrinsic.errors import ConfigError
from intrinsic.routing import EmbeddingRouter, HybridRouter, KeywordRouter, RouterOptions
from intrinsic.routing.explanation import ExplainedCandidate, explain
from intrinsic.selection import Selection
from tests.bus.backends import both_backends
from tests.routing.fakes import CARDS, BagEmbedder
from tests.routing.scripted import ScriptedRouter

TEXT = "what are the symptoms of diabetes in children"


def by_name(candidates: Sequence[ExplainedCandidate]) -> dict[str, ExplainedCandidate]:
    return {candidate.adapter: candidate for candidate in candidates}


@both_backends
async def test_every_part_is_told_as_the_router_saw_it() -> None:
    router = HybridRouter(BagEmbedder())
    found = await explain(router, TEXT, candidates=CARDS)
    assert list(found.selections) == await router.route(TEXT, candidates=CARDS)
    ranked = await router.rank(TEXT, candidates=CARDS)
    assert [one.adapter for one in found.candidates] == [one.adapter for one in ranked]
    first, second = found.candidates[:2]
    assert (first.adapter, first.outcome, first.weight) == ("medical", "chosen", 1.0)
    assert first.parts is not None
    assert second.parts is not None
    assert first.parts.nearest == "what are the symptoms of diabetes"
    assert first.parts.meaning is not None
    assert first.parts.meaning > first.parts.words > 0.0 > second.parts.words
    for one in found.candidates:
        assert one.parts is not None
        assert one.parts.score == pytest.approx((one.parts.meaning or 0.0) + one.parts.words)
    scores = [one.parts.score for one in found.candidates if one.parts is not None]
    assert scores == sorted(scores, reverse=True)
    assert second.outcome.startswith("below the threshold of 50%; behind medical by ")
    assert " in meaning and " in second.outcome


@both_backends
async def test_a_router_without_an_encoder_says_nothing_of_meaning() -> None:
    for router in (KeywordRouter(), HybridRouter(None)):
        found = await explain(router, TEXT, candidates=CARDS)
        parts = found.candidates[0].parts
        assert parts is not None
        assert (parts.meaning, parts.nearest) == (None, None)
        assert parts.bm25 == parts.words == parts.score > 0.0


@both_backends
async def test_the_reason_for_not_being_chosen_is_the_true_one() -> None:
    twin = replace(CARDS[0], name="nurse", description="Answers questions about symptoms")
    easy = RouterOptions(threshold=0.0, min_weight=0.0)
    router = EmbeddingRouter(BagEmbedder(), options=easy)
    found = by_name((await explain(router, TEXT, candidates=[*CARDS, twin])).candidates)
    loser = found["nurse"] if found["medical"].outcome == "chosen" else found["medical"]
    assert loser.outcome.startswith("at most 1 chosen")
    same = [replace(card, group="health") for card in (CARDS[0], twin)]
    found = by_name((await explain(router, TEXT, candidates=same, top_k=2)).candidates)
    winner = next(name for name, one in found.items() if one.outcome == "chosen")
    (other,) = [one for name, one in found.items() if name != winner]
    assert other.outcome.startswith(f"{winner} of the same group 'health' was chosen")
    proud = [replace(CARDS[0], threshold=1.0), *CARDS[1:]]
    found = by_name((await explain(HybridRouter(None), TEXT, candidates=proud)).candidates)
    assert found["medical"].outcome == "below its threshold of 100%"
    barred = [replace(CARDS[0], never=("diabetes",)), *CARDS[1:]]
    found = by_name((await explain(HybridRouter(None), TEXT, candidates=barred)).candidates)
    assert "never" in found["medical"].reason


@both_backends
async def test_versions_of_a_name_are_told_apart() -> None:
    two = [replace(CARDS[0], version=version, examples=(TEXT, version)) for version in "12"]
    found = await explain(KeywordRouter(), TEXT, candidates=two)
    assert {one.adapter for one in found.candidates} == {"medical@1", "medical@2"}
    assert all(one.parts is not None for one in found.candidates)


@both_backends
async def test_any_router_can_be_explained_and_others_can_decide() -> None:
    class Plain(ScriptedRouter):
        async def chosen(self, candidates: Sequence[AdapterCard]) -> list[Selection]:
            return [Selection("legal", 0.9), Selection("unheard-of", 0.9)]

        async def ranked(self, candidates: Sequence[AdapterCard]) -> list[Selection]:
            return [Selection(card.name, 0.7, 0.0, "because") for card in candidates]

    found = await explain(Plain(), TEXT, candidates=CARDS, top_k=3)
    assert [one.adapter for one in found.selections] == ["legal", "unheard-of"]
    assert found.candidates[0].parts is None
    assert "a plugin decided" in found.candidates[0].outcome
    decided = await explain(KeywordRouter(), TEXT, candidates=CARDS, decided_by=Plain())
    assert by_name(decided.candidates)["legal"].outcome == "chosen"


@both_backends
async def test_bad_input_is_answered_or_refused() -> None:
    router = HybridRouter(BagEmbedder())
    empty = await explain(router, " \x00", candidates=CARDS)
    assert empty.selections == ()
    assert {one.reason for one in empty.candidates} == {"the text is empty"}
    nobody = await explain(router, TEXT, candidates=[])
    assert (nobody.selections, nobody.candidates) == ((), ())
    twice = await explain(router, TEXT, candidates=[CARDS[0], CARDS[0]])
    assert [one.adapter for one in twice.candidates] == ["medical", "medical"]
    with pytest.raises(ConfigError, match="top_k is 0"):
        await explain(router, TEXT, candidates=CARDS, top_k=0)
