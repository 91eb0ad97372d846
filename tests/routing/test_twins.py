"""Cards that say the same under several names, wherever they stand among the candidates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from intrinsic.card import AdapterCard
from intrinsic.routing import EmbeddingRouter, HybridRouter, KeywordRouter
from intrinsic.routing.card_vectors import CardVectors
from intrinsic.routing.dense import DenseView
from intrinsic.routing.evidence import SHORTLIST, Evidence
from intrinsic.routing.head import Head, units
from intrinsic.routing.index import CardIndex
from tests.bus.backends import both_backends
from tests.routing.fakes import CARDS, BagEmbedder

MEDICAL, *OTHERS = CARDS
QUERY = "how is asthma treated, and what are the symptoms"


def _twins(count: int) -> list[AdapterCard]:
    return [replace(MEDICAL, name=f"twin{chr(97 + n)}") for n in range(count)]


@pytest.mark.parametrize("fitted", [False, True])
def test_equal_vectors_score_the_same_wherever_they_stand(fitted: bool) -> None:
    rng = np.random.default_rng(3)
    rows, d = 151, 384
    cards = [AdapterCard(f"a{row}", description=f"d{row}", examples=("x",)) for row in range(rows)]
    vectors = units(rng.normal(size=(rows, 2, d)).astype(np.float32))
    twins = [10, 75, 149, 150]
    for row in twins:
        cards[row] = replace(cards[10], name=f"b{row}")
        vectors[row] = vectors[10]
    view = CardIndex().view(tuple(cards))
    both = zip(cards, vectors, strict=True)
    dense = DenseView(view, [CardVectors.of(card, own) for card, own in both])
    if fitted:  # to rows of equals a fit gives other last digits
        W = dense.centroids + rng.normal(scale=1e-4, size=(rows, d)).astype(np.float32)
        dense.judge = (Head(W, np.zeros(rows, np.float32)), dense.judge[1])
    for _ in range(50):
        query = units(vectors[10, 0] + rng.normal(scale=0.05, size=d).astype(np.float32))
        meaning = dense.weigh(query)
        evidence = Evidence(view, [], view.weigh_words([]), meaning)
        assert evidence.leading(4).tolist() == twins
        for found in (meaning.cosines, meaning.linear, meaning.nearest, meaning.scores):
            assert len(set(found[twins])) == 1
        assert evidence.order.tolist()[:4] == twins


@pytest.mark.parametrize("count", [SHORTLIST, SHORTLIST + 1, 3 * SHORTLIST])
@both_backends
async def test_more_twins_than_are_compared_come_in_the_order_given(count: int) -> None:
    twins = _twins(count)
    for router in (KeywordRouter(), HybridRouter(BagEmbedder(384))):
        for given in (twins, twins[::-1]):
            ranked = await router.rank(QUERY, candidates=[*OTHERS, *given])
            assert [one.adapter for one in ranked[:count]] == [card.name for card in given]


@both_backends
async def test_of_candidates_without_a_common_word_the_first_come_first() -> None:
    cards = [AdapterCard(f"a{n}", description="nothing") for n in range(40)]
    ranked = await KeywordRouter().rank("asthma", candidates=cards)
    assert [one.adapter for one in ranked] == [card.name for card in cards]


@both_backends
async def test_twins_are_one_rival_whether_or_not_they_are_compared() -> None:
    twins = [AdapterCard(f"twin{chr(97 + n)}", description="alike") for n in range(2)]
    others = [AdapterCard(f"other{n}", description=f"unlike {n}") for n in range(6)]
    router = KeywordRouter()
    for count in (1, 2):
        cards = [MEDICAL, *others, *twins[:count]]
        found = await router.rank(QUERY, candidates=cards, first=1)
        front = await router.rank(QUERY, candidates=[*twins[:count], *cards[:-count]], first=1)
        assert found == front


@both_backends
async def test_twins_of_examples_alone_are_told_apart_by_their_names() -> None:
    twins = [AdapterCard(name, examples=("the same",)) for name in ("pirate", "parrot")]
    for cards in (twins, twins[::-1]):
        for name in ("pirate", "parrot"):
            ranked = await EmbeddingRouter(BagEmbedder(384)).rank(name, candidates=cards)
            assert ranked[0].adapter == name
