"""Cards as lines of a prompt: short, of bounded length, one line each."""

from __future__ import annotations

from collections.abc import Sequence

from intrinsic.card import AdapterCard
from intrinsic.routing.judge import Candidate

_LEAST_CHARS = 20


def card_lines(candidates: Sequence[Candidate], *, examples: int, max_chars: int) -> list[str]:
    """Return what each card says, `max_chars` in all: domain, description, `examples` examples.

    Each card has an equal share, of at least 20 characters.
    """
    share = max(max_chars // max(len(candidates), 1), _LEAST_CHARS)
    return [one_line(_said(candidate.card, examples), share) for candidate in candidates]


def one_line(text: str, max_chars: int) -> str:
    """Return a text on one line, cut at `max_chars`."""
    joined = " ".join(text.split())
    return joined if len(joined) <= max_chars else joined[: max_chars - 3].rstrip() + "..."


def _said(card: AdapterCard, examples: int) -> str:
    parts = [card.sentence if card.domain or card.description else ""]
    shown = [one_line(text, 80) for text in _spread(card.examples, examples)]
    if shown:
        parts.append("For example: " + " / ".join(shown))
    return " ".join(part for part in parts if part)


def _spread(texts: Sequence[str], count: int) -> list[str]:
    """Some of the texts, from all over the list, whose neighbours are often alike."""
    if len(texts) <= count:
        return list(texts)
    return [texts[number * len(texts) // count] for number in range(count)]
