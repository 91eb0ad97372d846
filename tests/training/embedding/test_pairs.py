"""No two pairs of a batch are each other's right answer, and what is held out is not learned."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intrinsic.errors import ConfigError
from intrinsic.training.embedding.exam import Exam, cut_labelled, cut_pairs, demand_company
from intrinsic.training.embedding.pairs import Pair, batches, pair_of, paired, passes
from intrinsic.training.embedding.rows import LabelledRow, PairRow
from intrinsic.training.lora.data_file import DataFile

LABELS = st.lists(st.sampled_from("abcd"), min_size=1, max_size=60)
WORDS = st.sampled_from([f"t{n}" for n in range(12)])
PAIRS = st.lists(st.tuples(WORDS, WORDS, st.none() | WORDS), max_size=40)


def labelled(labels: list[str]) -> list[LabelledRow]:
    return [LabelledRow(n, f"text {n}", label) for n, label in enumerate(labels, 1)]


def file_of(labels: list[str]) -> DataFile[LabelledRow]:
    return DataFile(Path("rows.jsonl"), "", tuple(labelled(labels)))


@given(texts=PAIRS, size=st.integers(2, 9))
def test_no_two_of_a_batch_share_a_text(
    texts: list[tuple[str, str, str | None]], size: int
) -> None:
    pairs = [pair_of(PairRow(n, *row)) for n, row in enumerate(texts, 1)]
    found = batches(pairs, size)
    learned = [pair for batch in found for pair in batch]
    assert all(pair in pairs for pair in learned)
    assert len(learned) <= len(pairs)
    for batch in found:
        assert 2 <= len(batch) <= size
        groups = [group for pair in batch for group in pair.groups]
        assert len(groups) == len(set(groups))
        assert len({pair.negative is None for pair in batch}) == 1


def test_pairs_without_anything_in_common_are_all_learned() -> None:
    pairs = [pair_of(PairRow(n, f"q{n}", f"p{n}")) for n in range(20)]
    found = batches(pairs, 8)
    assert [len(batch) for batch in found] == [8, 8, 4]
    assert [pair for batch in found for pair in batch] == pairs


@given(labels=LABELS, seed=st.integers(0, 3))
def test_texts_meet_another_of_their_label(labels: list[str], seed: int) -> None:
    rows = labelled(labels)
    label_of = {row.text: row.label for row in rows}
    found = paired(rows, random.Random(seed))
    for pair in found:
        assert pair.query != pair.positive
        assert {label_of[pair.query], label_of[pair.positive]} == pair.groups
    met = {text for pair in found for text in (pair.query, pair.positive)}
    assert met == {row.text for row in rows if labels.count(row.label) > 1}


def test_other_texts_meet_in_the_next_epoch_and_with_another_seed() -> None:
    rows = labelled(["a", "b"] * 20)
    first, second = passes(rows, 2, 1, 2)[:10], passes(rows, 2, 1, 2)[10:]
    assert first == passes(rows, 2, 1, 1)
    assert {(p.query, p.positive) for b in first for p in b} != {
        (p.query, p.positive) for b in second for p in b
    }
    assert passes(rows, 2, 1, 1) != passes(rows, 2, 2, 1)


@given(labels=LABELS, seed=st.integers(0, 3), share=st.floats(0.05, 0.9))
def test_a_held_out_text_must_find_one_to_learn_of_its_label(
    labels: list[str], seed: int, share: float
) -> None:
    data = file_of(labels)
    try:
        train, exam = cut_labelled(data, share, seed, 4)
    except ConfigError:
        enough = [label for label in set(labels) if labels.count(label) >= 2]
        assert len(labels) < 2 or len(enough) < 2
        return
    label_of = {row.text: row.label for row in data.rows}
    learned = {row.text for row in train}
    assert set(exam.queries) | learned == set(label_of)
    assert not set(exam.queries) & learned
    assert set(exam.passages) <= learned
    for query, right in zip(exam.queries, exam.right, strict=True):
        assert right == {
            at for at, text in enumerate(exam.passages) if label_of[text] == label_of[query]
        }
        assert right
        assert sum(row.label == label_of[query] for row in train) >= 2


def test_a_held_out_query_must_find_its_own_texts() -> None:
    rows = [PairRow(n, f"q{n // 2}", f"p{n}", f"n{n}") for n in range(40)]
    data = DataFile(Path("rows.jsonl"), "", tuple(rows))
    train, exam = cut_pairs(data, 0.2, 3, 4)
    assert not {row.query for row in train} & set(exam.queries)
    assert len(exam.queries) == 4
    assert exam.rows == 8
    of = {row.query: {r.positive for r in rows if r.query == row.query} for row in rows}
    for query, right in zip(exam.queries, exam.right, strict=True):
        assert {exam.passages[at] for at in right} == of[query]
    assert set(exam.passages) >= {row.positive for row in rows}
    held = [row for row in rows if row.query in exam.queries]
    assert set(exam.passages) >= {row.negative for row in held}


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["a"], "has 1 row; training needs at least 2 texts"),
        (["a"] * 9, "too few labels with two texts"),
        (["a", "b", "c", "d"], "too few labels with two texts"),
    ],
)
def test_too_few_labels_are_refused(labels: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        cut_labelled(file_of(labels), 0.2, 0, 4)


def test_pairs_that_cannot_be_told_apart_are_refused() -> None:
    exam = Exam([[Pair("q", "p", None, frozenset("a"))] * 2], (), (), (), 2)
    with pytest.raises(ConfigError, match="no two pairs to learn without a text or label"):
        demand_company(Path("rows.jsonl"), [], exam)
    with pytest.raises(ConfigError, match="raise --validation-share"):
        demand_company(Path("rows.jsonl"), exam.batches, Exam([], (), (), (), 1))
