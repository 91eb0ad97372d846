"""The benchmark's wordings: those to score on are made of known words, and nobody learns them."""

from __future__ import annotations

import random

import pytest

from benchmarks._hypernet_mixing import OPERATIONS, mixed, stems_of, tells
from benchmarks._hypernet_tasks import Split
from benchmarks._hypernet_words import TEMPLATES, Operation

SCORED = {stems_of(text) for one in OPERATIONS for text in one.new_wordings}
EACH = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.wordings[0])


def test_new_wordings_are_made_of_words_that_training_has() -> None:
    said = [text for one in OPERATIONS for text in one.wordings]
    known = {stem for text in (*said, *TEMPLATES) for stem in stems_of(text)}
    assert all(stems <= known for stems in SCORED)
    again = [text for text in map(stems_of, said) if text in SCORED]
    assert again == [stems_of("letters stay untouched")]  # scored in another order


@EACH
def test_what_is_mixed_tells_the_operation_and_is_no_new_wording(operation: Operation) -> None:
    source = random.Random(1)
    known = {stem for text in operation.wordings for stem in stems_of(text)}
    for _ in range(200):
        stems = stems_of(mixed(operation, source))
        assert stems <= known
        assert stems not in SCORED
        assert tells(operation, stems)


def test_words_of_several_operations_tell_none() -> None:
    halves = next(one for one in OPERATIONS if one.name == "halves")
    assert tells(halves, stems_of("halves trade"))
    assert not tells(halves, stems_of("exchange"))
    assert not tells(halves, stems_of("swap neighbours"))


def test_descriptions_for_training_and_for_scoring_share_none() -> None:
    for task in Split(0).unseen_pair[:4]:
        learned = {*task.descriptions(256, 1), *task.varied(256, 1)}
        assert len(task.descriptions(256, 1)) == 256
        new = task.descriptions(16, 2, new=True)
        assert len(new) == 16
        assert not learned & set(new)
