"""What is kept of candidates, and for how long."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from intrinsic.card import AdapterCard
from intrinsic.routing.card_vectors import texts_of
from intrinsic.routing.guard import EncoderGuard
from intrinsic.routing.index import CardIndex
from intrinsic.routing.meaning import MeaningIndex
from intrinsic.routing.options import RouterOptions
from intrinsic.routing.question import Question
from intrinsic.routing.vector_cache import VectorCache
from tests.bus.backends import both_backends
from tests.routing.fakes import CARDS, BagEmbedder

MEDICAL, LEGAL, *OTHERS = CARDS
QUERY = Question.of("a query")


def test_the_same_candidates_have_the_same_view() -> None:
    index = CardIndex(cached_views=2)
    view = index.view(CARDS)
    assert index.view(tuple(dataclasses.replace(card) for card in CARDS)) is view
    index.view((MEDICAL,))
    index.view((LEGAL,))
    assert index.known(CARDS) is None
    assert index.view(CARDS).candidates == view.candidates


def test_a_card_that_was_given_twice_has_one_row() -> None:
    view = CardIndex().view((MEDICAL, LEGAL, MEDICAL))
    assert view.cards == (MEDICAL, LEGAL)
    assert view.rows == (0, 1, 0)


def test_versions_of_one_name_are_told_apart() -> None:
    second = dataclasses.replace(MEDICAL, version="2", description="Newer")
    assert CardIndex().view((MEDICAL, second, LEGAL)).labels == ("medical@1", "medical@2", "legal")


def test_rows_of_the_same_content_are_one_group() -> None:
    twin = dataclasses.replace(MEDICAL, name="twin")
    bare = (AdapterCard("one"), AdapterCard("two"))
    assert CardIndex().view((MEDICAL, LEGAL, twin, *bare)).groups.tolist() == [0, 1, 0, 2, 3]


@both_backends
async def test_only_what_is_new_is_embedded() -> None:
    embedder = BagEmbedder()
    index = CardIndex()
    meaning = MeaningIndex(EncoderGuard(embedder, RouterOptions()))
    await meaning.embed(QUERY, index.view(CARDS[:-1]))
    assert len(embedder.asked) == len(set(embedder.asked)) == 5 * 7 + 1

    embedder.asked.clear()
    await meaning.embed(QUERY, index.view(CARDS))
    assert embedder.asked == [*texts_of(CARDS[-1]), "a query"]

    embedder.asked.clear()
    changed = dataclasses.replace(LEGAL, examples=(*LEGAL.examples, "a new example"))
    await meaning.embed(QUERY, index.view((MEDICAL, changed, *OTHERS)))
    assert embedder.asked == ["a new example", "a query"]

    embedder.asked.clear()
    await meaning.embed(QUERY, index.view(CARDS[2:]))
    assert embedder.asked == ["a query"]


@both_backends
async def test_many_cards_are_embedded_in_batches_and_a_small_cache_only_costs_time() -> None:
    embedder = BagEmbedder(8)
    guard = EncoderGuard(embedder, RouterOptions(cached_texts=10))
    texts = [f"text number{n}" for n in range(600)]
    vectors = await guard.embed_cards(texts)
    assert vectors.shape == (600, 8)
    np.testing.assert_array_equal(vectors[:3], await guard.embed_cards(texts[:3]))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-6)


def test_the_cache_of_vectors_is_bounded_and_forgets_the_longest_unused() -> None:
    cache = VectorCache(2)
    rows = np.eye(3, dtype=np.float32)
    cache.put(["a", "b"], rows[:2])
    cache.get(["a"])
    cache.put(["c"], rows[2:])
    assert len(cache) == 2
    found = cache.get(["a", "b", "c"])
    assert found[1] is None
    assert found[0] is not None
    with pytest.raises(ValueError, match="read-only"):
        found[0][0] = 5.0
