"""Is an adapter worth routing to? Answer loss, and four-choice accuracy, of any scorer.

Pure functions over a `Score` callable, so that the same questions judge a plain model, an adapted
one and a backend under a mixture. Source of the interval: Wilson 1927.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from intrinsic.training.corpus import Row

Score = Callable[[str, Sequence[str]], list[tuple[float, int]]]
"""`score(prompt, answers)`: per answer, (sum of log-probabilities in nats, number of tokens)."""

ANSWER_CHARS = 400
QUESTIONS_PER_DOMAIN = 400
QUESTION_SEED = 2026
Z_95 = 1.959964


@dataclass(frozen=True)
class Question:
    """A prompt with four answers, of which `choices[right]` belongs to it."""

    prompt: str
    choices: tuple[str, ...]
    right: int


@dataclass(frozen=True)
class Accuracy:
    """Right answers among `questions`, with the bounds of the 95 % Wilson interval."""

    right: int
    questions: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """Right answers divided by questions."""
        return self.right / self.questions

    def is_clearly_above(self, other: Accuracy) -> bool:
        """Whether the two intervals do not meet and this one lies higher."""
        return self.low > other.high


def clip_answer(text: str) -> str:
    """The first `ANSWER_CHARS` characters, without half a word at the end."""
    if len(text) <= ANSWER_CHARS:
        return text
    return text[:ANSWER_CHARS].rsplit(None, 1)[0]


def make_questions(
    rows: Sequence[Row], count: int = QUESTIONS_PER_DOMAIN, seed: int = QUESTION_SEED
) -> list[Question]:
    """Seeded four-choice questions over `rows`; fewer rows than `count` are drawn repeatedly.

    The wrong answers are answers to other rows, differ from the right one and from each other.
    Raises ValueError when the rows hold fewer than four different answers.
    """
    draw = random.Random(seed)
    answers = sorted({clip_answer(row.response) for row in rows})
    if len(answers) < 4:
        raise ValueError(f"four-choice questions need 4 different answers, got {len(answers)}")
    order = list(rows)
    draw.shuffle(order)
    return [_make_question(row, answers, draw) for row in islice(cycle(order), count)]


def _make_question(row: Row, answers: Sequence[str], draw: random.Random) -> Question:
    right = clip_answer(row.response)
    wrong = [answer for answer in draw.sample(answers, 4) if answer != right][:3]
    place = draw.randrange(4)
    return Question(row.prompt, (*wrong[:place], right, *wrong[place:]), place)


def choose(question: Question, score: Score) -> int:
    """Index of the answer with the highest log-likelihood per token."""
    scored = score(question.prompt, question.choices)
    means = [total / max(1, tokens) for total, tokens in scored]
    return means.index(max(means))


def four_choice_accuracy(questions: Sequence[Question], score: Score) -> Accuracy:
    """Share of questions whose right answer `score` finds most likely, with its interval."""
    right = sum(choose(question, score) == question.right for question in questions)
    low, high = wilson_interval(right, len(questions))
    return Accuracy(right, len(questions), low, high)


def answer_loss(rows: Sequence[Row], score: Score) -> float:
    """Mean negative log-likelihood of the answers in nats per token, all tokens weighing alike."""
    scored = [score(row.prompt, [row.response])[0] for row in rows]
    tokens = sum(count for _, count in scored)
    if tokens == 0:
        raise ValueError("no answer tokens to score")
    return -sum(total for total, _ in scored) / tokens


def wilson_interval(right: int, count: int, z: float = Z_95) -> tuple[float, float]:
    """Bounds of a proportion's confidence interval; (0, 1) for no observations."""
    if count == 0:
        return 0.0, 1.0
    share = right / count
    centre = share + z * z / (2 * count)
    reach = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (centre - reach) / scale), min(1.0, (centre + reach) / scale)
