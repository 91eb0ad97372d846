"""Is an adapter worth routing to? Answer loss, and four-choice accuracy, of any scorer.

Pure functions over a `Score` callable, so that the same questions judge a plain model, an adapted
one and a backend under a mixture. Source of the interval: Wilson 1927.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from intrinsic.training.corpus import Row

Score = Callable[[str, Sequence[str]], list[tuple[float, int]]]
"""`score(prompt, answers)`: per answer, (sum of log-probabilities in nats, number of tokens)."""

ANSWER_CHARS = 400
QUESTIONS_PER_DOMAIN = 300
QUESTION_SEED = 2026
Z_95 = 1.959964


@dataclass(frozen=True)
class Question:
    """A prompt with four answers, of which `choices[right]` belongs to it."""

    prompt: str
    choices: tuple[str, ...]
    right: int


Rule = Callable[[float, int, float], float]
"""`rule(sum of log-probabilities, tokens, sum under the empty question)`: highest wins."""


@dataclass(frozen=True)
class ScoredQuestion:
    """Per choice: log-likelihood in nats, tokens, log-likelihood under an empty question."""

    sums: tuple[float, ...]
    tokens: tuple[int, ...]
    blanks: tuple[float, ...]
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


def choose(scored: ScoredQuestion, rule: Rule) -> int:
    """Index of the answer that the rule prefers."""
    values = [
        rule(*triple) for triple in zip(scored.sums, scored.tokens, scored.blanks, strict=True)
    ]
    return values.index(max(values))


def by_gain(total: float, tokens: int, blank: float) -> float:
    """What the question adds to an answer's log-likelihood, in nats. The rule used throughout.

    `log p(answer | question) - log p(answer | empty question)`, so that answers that are likely
    whatever was asked gain nothing by it (Brown et al. 2020, 2.4; Holtzman et al. 2021).
    """
    return total - blank


def by_likelihood(total: float, tokens: int, blank: float) -> float:
    """Plain log-likelihood per token, in nats; blind to how likely the answer is anyway."""
    return total / max(1, tokens)


def score_questions(questions: Sequence[Question], score: Score) -> list[ScoredQuestion]:
    """Score every choice under its question, and once under an empty question."""
    answers = list(dict.fromkeys(choice for one in questions for choice in one.choices))
    blanks: dict[str, float] = {}
    for at in range(0, len(answers), 4):
        few = answers[at : at + 4]
        blanks |= {a: total for a, (total, _) in zip(few, score("", few), strict=True)}
    return [_score_question(question, score, blanks) for question in questions]


def _score_question(
    question: Question, score: Score, blanks: Mapping[str, float]
) -> ScoredQuestion:
    scored = score(question.prompt, question.choices)
    return ScoredQuestion(
        tuple(total for total, _ in scored),
        tuple(tokens for _, tokens in scored),
        tuple(blanks[choice] for choice in question.choices),
        question.right,
    )


def accuracy_of(scored: Sequence[ScoredQuestion], rule: Rule = by_gain) -> Accuracy:
    """Share of questions where the rule prefers the right answer, with its interval."""
    right = sum(choose(one, rule) == one.right for one in scored)
    low, high = wilson_interval(right, len(scored))
    return Accuracy(right, len(scored), low, high)


def four_choice_accuracy(questions: Sequence[Question], score: Score) -> Accuracy:
    """Accuracy of a scorer by the gain that each answer has from the question."""
    return accuracy_of(score_questions(questions, score))


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
