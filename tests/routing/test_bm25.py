"""BM25 beside its formula, and an index that grows and shrinks beside one built anew."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from intrinsic.routing.bm25 import K1, B, Bm25Index, Documents

TERMS = "abcdefgh"
counts = st.dictionaries(st.sampled_from(TERMS), st.integers(1, 5).map(float), max_size=6)
documents = st.dictionaries(st.integers(0, 9), counts, max_size=8)


def of(index: Bm25Index, documents: Documents) -> Bm25Index:
    return index.updated(dict.fromkeys(documents), documents.__getitem__)


def slow_score(documents: Documents, key: object, query: list[str]) -> float:
    lengths = {k: sum(c.values()) for k, c in documents.items()}
    mean = sum(lengths.values()) / len(lengths) or 1.0
    score = 0.0
    for term in set(query):
        n = sum(term in c for c in documents.values())
        idf = math.log(1 + (len(documents) - n + 0.5) / (n + 0.5))
        count = documents[key].get(term, 0.0)
        score += idf * count * (K1 + 1) / (count + K1 * (1 - B + B * lengths[key] / mean))
    return score


@given(documents, st.lists(st.sampled_from(TERMS + "z"), max_size=6))
def test_scores_are_the_formulas(documents: Documents, query: list[str]) -> None:
    index = of(Bm25Index(), documents)
    found = index.weigh(query)
    for key, slot in index.slots.items():
        assert math.isclose(found.scores[slot], slow_score(documents, key, query), abs_tol=1e-9)
        assert 0.0 <= found.covered[slot] <= 1.0 + 1e-9


@given(st.lists(documents, min_size=1, max_size=5), st.lists(st.sampled_from(TERMS), max_size=5))
def test_an_updated_index_equals_a_new_one(steps: list[Documents], query: list[str]) -> None:
    index = Bm25Index()
    for number, step in enumerate(steps):
        step = {(key, tuple(sorted(c.items()))): c for key, c in step.items()}
        before = index.weigh(query)
        updated, fresh = of(index, step), of(Bm25Index(), step)
        for mine, theirs in zip(updated.weigh(query), fresh.weigh(query), strict=True):
            for key in step:
                assert math.isclose(
                    mine[updated.slots[key]], theirs[fresh.slots[key]], abs_tol=1e-9
                ), number
        for old, again in zip(before, index.weigh(query), strict=True):
            np.testing.assert_array_equal(old, again)
        assert sorted(updated.slots.values()) == sorted(set(updated.slots.values()))
        assert len(updated.lengths) <= len(index.lengths) + len(step)
        index = updated


def test_what_is_gone_leaves_nothing() -> None:
    index = of(of(Bm25Index(), {"a": {"x": 1.0}, "b": {"x": 1.0, "y": 2.0}}), {})
    assert not index.postings
    assert not index.slots
    assert len(index.weigh(["x"]).scores) == 0


def test_a_word_in_fewer_cards_counts_more() -> None:
    index = of(Bm25Index(), {0: {"rare": 1.0, "all": 1.0}, 1: {"all": 1.0, "some": 1.0}})
    assert index.weigh(["rare"]).scores[index.slots[0]] > index.weigh(["all"]).scores.max()
    assert index.weigh(["rare", "rare"]).scores[0] == index.weigh(["rare"]).scores[0]
