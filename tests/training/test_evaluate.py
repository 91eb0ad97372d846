"""The four-choice test and its interval, on scorers whose answers are known beforehand."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from intrinsic.training.corpus import Row
from intrinsic.training.evaluate import (
    ANSWER_CHARS,
    Accuracy,
    accuracy_of,
    answer_loss,
    by_likelihood,
    clip_answer,
    four_choice_accuracy,
    make_questions,
    score_questions,
    wilson_interval,
)

ROWS = [Row(f"r{n}", f"question {n}", f"answer {n}") for n in range(40)]


def oracle(prompt: str, answers: Sequence[str]) -> list[tuple[float, int]]:
    right = prompt.replace("question", "answer")
    if not prompt:
        return [(-5.0, 3)] * len(answers)
    return [(-1.0 if answer == right else -9.0, 3) for answer in answers]


def anti(prompt: str, answers: Sequence[str]) -> list[tuple[float, int]]:
    return [(-total, tokens) for total, tokens in oracle(prompt, answers)]


def test_a_perfect_scorer_gets_everything_right() -> None:
    result = four_choice_accuracy(make_questions(ROWS, 200), oracle)
    assert (result.right, result.share) == (200, 1.0)
    assert result.high == pytest.approx(1.0)


def test_an_inverted_scorer_gets_nothing_right() -> None:
    assert four_choice_accuracy(make_questions(ROWS, 200), anti).right == 0


def test_a_guessing_scorer_lands_at_one_quarter() -> None:
    draw = random.Random(1)
    result = four_choice_accuracy(
        make_questions(ROWS, 2000), lambda _, answers: [(-draw.random(), 1) for _ in answers]
    )
    assert result.low < 0.25 < result.high


def popular(prompt: str, answers: Sequence[str]) -> list[tuple[float, int]]:
    """Finds late answers likely whatever is asked, and the right one a little likelier."""
    popularity = [-100.0 + 3 * int(answer.split()[1]) for answer in answers]
    known = [(total + 10) / 9 if prompt else 0.0 for total, _ in oracle(prompt, answers)]
    return [(p + k, 3) for p, k in zip(popularity, known, strict=True)]


def test_an_answer_that_is_likely_anyway_gains_nothing_by_it() -> None:
    scored = score_questions(make_questions(ROWS, 200), popular)
    assert accuracy_of(scored).share == 1.0
    assert accuracy_of(scored, by_likelihood).share < 0.5


def test_the_empty_question_is_asked_once_per_answer() -> None:
    asked: list[str] = []

    def counting(prompt: str, answers: Sequence[str]) -> list[tuple[float, int]]:
        asked.extend(answers if not prompt else [])
        return oracle(prompt, answers)

    four_choice_accuracy(make_questions(ROWS, 300), counting)
    assert sorted(asked) == sorted(row.response for row in ROWS)


def test_questions_are_the_same_for_a_seed_and_differ_for_another() -> None:
    assert make_questions(ROWS, 60) == make_questions(ROWS, 60)
    assert make_questions(ROWS, 60, seed=1) != make_questions(ROWS, 60, seed=2)


def test_four_choices_differ_and_the_right_place_is_spread() -> None:
    questions = make_questions([*ROWS, Row("twin", "question 0", "answer 0")], 300)
    assert all(len(set(question.choices)) == 4 for question in questions)
    assert {question.right for question in questions} == {0, 1, 2, 3}


def test_too_few_answers_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match="4 different answers, got 1"):
        make_questions([Row("a", "q", "same"), Row("b", "q", "same")])


def test_long_answers_are_clipped_between_words() -> None:
    clipped = clip_answer("word " * 200)
    assert len(clipped) <= ANSWER_CHARS
    assert clipped.endswith("word")


def test_answer_loss_weighs_tokens_not_rows() -> None:
    def score(prompt: str, answers: Sequence[str]) -> list[tuple[float, int]]:
        return [(-8.0, 2) if prompt == "question 0" else (-6.0, 6)]

    assert answer_loss(ROWS[:2], score) == pytest.approx(14.0 / 8)


def test_answer_loss_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no answer tokens"):
        answer_loss([], oracle)


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662), (10, 10, 0.7225, 1)],
)
def test_wilson_interval_agrees_with_published_values(
    right: int, count: int, low: float, high: float
) -> None:
    assert wilson_interval(right, count) == pytest.approx((low, high), abs=1e-4)


def test_wilson_interval_of_nothing_says_nothing() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_clearly_above_means_that_intervals_do_not_meet() -> None:
    assert Accuracy(80, 100, 0.71, 0.87).is_clearly_above(Accuracy(50, 100, 0.40, 0.60))
    assert not Accuracy(60, 100, 0.50, 0.69).is_clearly_above(Accuracy(50, 100, 0.40, 0.60))
