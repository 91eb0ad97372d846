"""Example queries for the card of a new adapter, drawn from the prompts that it was trained on."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable

COUNT = 20
LONGEST = 200
_CONSIDERED = 2000
_ALIKE = (0.5, 0.8, 1.0)
"""Shared words of all words; the next limit counts when the one before leaves too few."""

_LETTER = re.compile(r"[^\W\d_]")


def draw_examples(prompts: Iterable[str], seed: int, count: int = COUNT) -> tuple[str, ...]:
    """Return at most `count` of the prompts, seeded, each unlike the others in its words.

    Spaces and line breaks become one space each; what is longer than 200 characters ends with a
    whole word and "...". Prompts without a letter are passed over; whole ones are taken first.
    """
    texts = dict.fromkeys(" ".join(prompt.split()) for prompt in prompts)
    readable = [text for text in texts if _LETTER.search(text) and text.isprintable()]
    draw = random.Random(seed)
    some = draw.sample(readable, min(len(readable), _CONSIDERED))
    some.sort(key=lambda text: len(text) > LONGEST)
    chosen: dict[str, frozenset[str]] = {}
    for limit in _ALIKE:
        for text in some:
            if len(chosen) == count:
                return tuple(chosen)
            words = frozenset(text.casefold().split())
            if all(_alike(words, other) < limit for other in chosen.values()):
                chosen.setdefault(_clipped(text), words)
    return tuple(chosen)


def _alike(words: frozenset[str], other: frozenset[str]) -> float:
    return len(words & other) / len(words | other)


def _clipped(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    return text[: LONGEST - 3].rsplit(None, 1)[0] + "..."
