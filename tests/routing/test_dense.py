"""What a query's vector says of each candidate, beside a slow reference."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from intrinsic.card import AdapterCard
from intrinsic.routing import EmbeddingRouter
from intrinsic.routing.card_vectors import CardVectors, own_texts, texts_of
from intrinsic.routing.dense import DenseView
from intrinsic.routing.evidence import SHORTLIST, Evidence
from intrinsic.routing.head import units
from intrinsic.routing.index import CardIndex
from tests.bus.backends import both_backends
from tests.routing.fakes import BagEmbedder
from tests.routing.vectors import crowd, near


def test_the_cosines_are_those_of_a_slow_reference() -> None:
    _, dense, _ = crowd(8, list(range(8)), d=16)
    query = dense.cards[7].positive[-1]
    found = dense.weigh(query)
    found.look(np.arange(8))
    for row, card in enumerate(dense.cards):
        own = card.positive
        n_examples = len(own) - 1
        cosines = own @ query
        centroid = 2 * own[0] + own[1:].sum(0)
        centroid /= np.linalg.norm(centroid)
        share = 0.25 + 0.75 * 5 / (5 + n_examples)
        mean = np.sort(cosines)[-3:].mean()
        assert found.cosines[row] == pytest.approx(centroid @ query, abs=1e-5)
        assert found.scores[row] == pytest.approx(
            share * centroid @ query + (1 - share) * mean, abs=1e-5
        )
        assert found.nearest[row] == pytest.approx(cosines.max(), abs=1e-5)
        assert found.nearest_at[row] == cosines.argmax()
        assert found.tightness[row] == pytest.approx((own @ centroid).mean(), abs=1e-5)


def test_rows_that_were_not_looked_at_have_their_centroid_only() -> None:
    _, dense, ways = crowd(4, 3)
    found = dense.weigh(ways[0])
    before = found.scores.copy()
    found.look(np.array([1]))
    assert found.scores[1] != before[1]
    np.testing.assert_array_equal(np.delete(found.scores, 1), np.delete(before, 1))
    again = found.scores.copy()
    found.look(np.arange(4))
    assert found.scores[1] == again[1]


def test_a_card_with_domain_and_description_counts_as_two_examples_in_all() -> None:
    card = AdapterCard(
        "a", domain="law", description="contracts", examples=("x",), negatives=("y",)
    )
    assert own_texts(card) == ("law: contracts", "law", "contracts")
    assert texts_of(card) == (*own_texts(card), "x", "y")
    vectors = np.eye(5, 8, dtype=np.float32)
    made = CardVectors.of(card, vectors)
    np.testing.assert_allclose(made.centroid, units(np.array([1, 0.5, 0.5, 1, 0, 0, 0, 0.0])))
    np.testing.assert_array_equal(made.negative, vectors[4:])
    assert made.n_own == 3


def test_the_nearest_of_the_cards_own_texts_is_the_card_and_examples_are_counted_from_one() -> None:
    card = AdapterCard("a", domain="law", description="contracts", examples=("x", "z"))
    from intrinsic.routing.dense import DenseView
    from intrinsic.routing.index import CardIndex

    vectors = np.eye(5, 8, dtype=np.float32)
    dense = DenseView(CardIndex().view((card,)), [CardVectors.of(card, vectors)])
    for text, at in ((0, 0), (1, 0), (2, 0), (3, 1), (4, 2)):
        found = dense.weigh(vectors[text])
        found.look(np.array([0]))
        assert found.nearest_at[0] == at


@pytest.mark.parametrize("rows", [5, SHORTLIST, SHORTLIST + 1, 200])
def test_the_shortlist_has_the_best_and_the_order_has_all(rows: int) -> None:
    view, dense, ways = crowd(rows, 2)
    for row in (0, rows // 2, rows - 1):
        evidence = Evidence(view, [], view.weigh_words([]), dense.weigh(ways[row]))
        assert len(evidence.shortlist) == min(rows, SHORTLIST)
        assert evidence.leading(1).tolist() == [row]
        assert sorted(evidence.order.tolist()) == list(range(rows))
        assert evidence.features(3).shape == evidence.features()[:3].shape
        rest = evidence.without([row])
        assert row not in rest.order
        assert len(rest.order) == rows - 1
        assert evidence.leading(1).tolist() == [row]


def test_an_example_more_or_less_does_not_change_what_is_known_of_others() -> None:
    rng = np.random.default_rng(1)
    _, dense, ways = crowd(3, 4)
    query = near(ways[1], 0.2, rng)
    found = dense.weigh(query)
    found.look(np.array([2]))
    other = dense.weigh(query)
    other.look(np.array([0, 2]))
    assert found.nearest[2] == other.nearest[2]


NURSE = AdapterCard(
    "nurse", description="fever cough", examples=("fever in children", "a bad cough")
)
VET = AdapterCard("vet", description="dogs cats", examples=("my dog limps", "cats that sneeze"))


@both_backends
async def test_what_is_nearest_to_a_negative_example_is_not_for_that_adapter() -> None:
    query = "fever in my parrot"
    router = EmbeddingRouter(BagEmbedder(256))
    (before, _) = await router.rank(query, candidates=(NURSE, VET))
    assert before.adapter == "nurse"
    wary = AdapterCard(
        "nurse",
        description=NURSE.description,
        examples=NURSE.examples,
        negatives=("fever in a parrot or parrots", "fever in my parrot"),
    )
    found = {one.adapter: one for one in await router.rank(query, candidates=(wary, VET))}
    assert found["nurse"].confidence < before.confidence / 3
    children = "fever in children"
    (same,) = await router.rank(children, candidates=(NURSE, VET), first=1)
    (still,) = await router.rank(children, candidates=(wary, VET), first=1)
    assert still.adapter == "nurse"
    assert still.confidence == pytest.approx(same.confidence, abs=1e-9)


@pytest.mark.parametrize("kept", [0, 1, 3, 4])
def test_vectors_that_go_on_from_others_are_the_same(kept: int) -> None:
    ways = units(np.random.default_rng(0).standard_normal((6, 16)).astype(np.float32))
    examples = [(), ("x",), ("y", "z"), ("x", "y", "z")]
    cards = [AdapterCard(f"a{row}", examples=texts) for row, texts in enumerate(examples)]
    cards[2] = dataclasses.replace(cards[2], negatives=("n",))
    made = [
        CardVectors.of(card, np.stack([ways[(row + n) % 6] for n in range(len(texts_of(card)))]))
        for row, card in enumerate(cards)
    ]
    before = DenseView(CardIndex().view(tuple(cards[: kept or 1])), made[: kept or 1])
    if kept == 0:  # not the first cards, so that nothing can be taken over
        before = DenseView(CardIndex().view((cards[3],)), [made[3]])
    view = CardIndex().view(tuple(cards))
    one, other = DenseView(view, made), DenseView(view, made, before)
    for name in ("sizes", "n_own", "tightness", "centroids", "centroid_share", "has_negatives"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.least_size == other.least_size
    np.testing.assert_array_equal(one.weigh(ways[2]).linear, other.weigh(ways[2]).linear)
