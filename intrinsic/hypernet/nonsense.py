"""Queries that mean none of the tasks: made-up words, and everyday questions about nothing here."""

from __future__ import annotations

import random

_ONSETS = ("b", "br", "d", "f", "fl", "g", "gr", "k", "l", "m", "n", "p", "pl", "r", "s", "t", "v")
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ou")
_CODAS = ("", "", "l", "n", "r", "s", "t", "x", "mp", "nd")
_THINGS = (
    "the weather", "a train to the coast", "my neighbour's dog", "an old violin", "the moon",
    "fresh bread", "the stock market", "a garden fence", "my back pain", "the football match",
    "a birthday party", "the new museum", "cheap flights", "my tax form", "a broken window",
)  # fmt: skip
_QUESTIONS = (
    "what do you think about {}?", "tell me a story of {}", "how much does {} cost?",
    "where can I find {}?", "who invented {}?", "is {} any good this year?",
    "remind me of {} tomorrow", "why is everybody talking about {}?",
)  # fmt: skip


def nonsense_queries(count: int, seed: int = 0) -> list[str]:
    """Return queries, two thirds of them in words that no language has; the seed fixes them."""
    draw = random.Random(f"nonsense {seed}")
    return [_question(draw) if at % 3 == 2 else _words(draw) for at in range(count)]


def _question(draw: random.Random) -> str:
    return draw.choice(_QUESTIONS).format(draw.choice(_THINGS))


def _words(draw: random.Random) -> str:
    return " ".join(_word(draw) for _ in range(draw.randint(3, 12)))


def _word(draw: random.Random) -> str:
    parts = (_ONSETS, _VOWELS, _CODAS)
    return "".join(draw.choice(part) for _ in range(draw.randint(1, 3)) for part in parts)
