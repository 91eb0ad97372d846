"""The composed tasks of the hypernetwork's benchmark: what they do, and that splits hold."""

import re
from collections import Counter
from itertools import combinations

import pytest

from benchmarks._hypernet_tasks import LAST, SHIFTS, Composed, Split
from benchmarks._hypernet_words import (
    LENGTH,
    LETTERS,
    NEW_SKILL,
    NONSENSE,
    ORDERS,
    SIGNS,
    STYLES,
    UNKNOWN,
    Operation,
)

EVERY_OPERATION = (*ORDERS, *SIGNS, *STYLES, NEW_SKILL, UNKNOWN)
SPLITS = [Split(number) for number in range(len(SHIFTS))]


def named(kind: tuple[Operation, ...], name: str) -> Operation:
    return next(one for one in kind if one.name == name)


def words(texts: tuple[str, ...]) -> set[str]:
    return {word for text in texts for word in re.findall(r"[a-z]+", text)}


def pairs(tasks: tuple[Composed, ...]) -> set[tuple[str, str]]:
    return {(task.order.name, task.sign.name) for task in tasks}


def test_a_task_orders_exchanges_and_writes() -> None:
    task = Composed(named(ORDERS, "reverse"), named(SIGNS, "capitals"), named(STYLES, "dashes"))
    assert task.answer("abcdef") == "F-E-D-C-B-A"
    assert task.name == "reverse-capitals-dashes"
    task = Composed(named(ORDERS, "ends"), named(SIGNS, "stars"), named(STYLES, "brackets"))
    assert task.answer("abcdej") == "(jbcd**)"


def test_orders_lose_nothing_and_no_two_operations_of_a_kind_are_the_same() -> None:
    for order in ORDERS:
        assert sorted(order.apply("abcdef")) == list("abcdef")
    for kind in (ORDERS, (*SIGNS, NEW_SKILL, UNKNOWN), STYLES):
        assert len({one.apply("abdefi") for one in kind}) == len(kind)


def test_new_wordings_are_new_and_share_words_with_the_old() -> None:
    for one in EVERY_OPERATION:
        assert not set(one.wordings) & set(one.new_wordings)
        for wording in one.new_wordings:
            assert words((wording,)) & words(one.wordings), wording


def test_no_wording_stands_for_two_operations_of_a_kind() -> None:
    for kind in (ORDERS, (*SIGNS, NEW_SKILL, UNKNOWN), STYLES):
        for left, right in combinations(kind, 2):
            said = {*left.wordings, *left.new_wordings}
            assert not said & {*right.wordings, *right.new_wordings}


@pytest.mark.parametrize("split", SPLITS)
def test_what_is_held_out_is_nowhere_learned(split: Split) -> None:
    learned = pairs(split.trained)
    assert (len(split.trained), len(learned)) == (168, 44)
    assert len(split.unseen_pair) == 64
    for part in (split.unseen_pair, split.validation, split.new_skill, split.unknown):
        assert not pairs(part) & pairs((*split.trained, *split.new_skill_trained))
    assert not pairs(split.unseen_pair) & pairs(split.validation)
    assert pairs(split.unseen_style) <= learned
    names = {task.name for task in split.trained}
    assert not names & {task.name for task in split.unseen_style}


@pytest.mark.parametrize("split", SPLITS)
def test_each_operation_is_in_two_held_out_pairs_and_in_learned_ones(split: Split) -> None:
    for kind in (0, 1):
        held_out = Counter(pair[kind] for pair in pairs(split.unseen_pair))
        assert set(held_out.values()) == {2}
        assert len(held_out) == 8
        learned = Counter(pair[kind] for pair in pairs(split.trained))
        assert len(learned) == 8
        assert min(learned.values()) >= 5
    assert {task.style.name for task in split.unseen_style} == {style.name for style in STYLES}


def test_splits_differ() -> None:
    assert len({frozenset(pairs(split.unseen_pair)) for split in SPLITS}) == len(SPLITS)


def test_the_new_skill_is_learned_in_other_orders_and_the_unknown_one_in_none() -> None:
    split = SPLITS[0]
    assert {task.sign for task in (*split.new_skill, *split.new_skill_trained)} == {NEW_SKILL}
    assert not {NEW_SKILL, UNKNOWN} & {task.sign for task in split.trained}
    assert {task.sign for task in split.unknown} == {UNKNOWN}


def test_rows_and_descriptions_depend_on_their_seed_alone() -> None:
    task = SPLITS[0].trained[3]
    rows = task.rows(50, 1)
    assert rows == task.rows(50, 1) != task.rows(50, 2)
    for prompt, answer in rows:
        text = prompt.removesuffix(LAST)
        assert len(text) == LENGTH
        assert set(text) <= set(LETTERS)
        assert answer == task.answer(text)
    said = task.descriptions(24, 1)
    assert len(set(said)) == 24
    assert said == task.descriptions(24, 1)
    assert not set(said) & set(task.descriptions(8, 1, new=True))


def test_unrelated_queries_are_none_of_the_descriptions() -> None:
    assert len(set(NONSENSE)) == len(NONSENSE)
    said = words(tuple(text for one in EVERY_OPERATION for text in one.wordings))
    assert all(words((query,)) - said for query in NONSENSE)
