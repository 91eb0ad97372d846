"""The two forms of asking a model who fits: what it reads, and which answers are scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from intrinsic.card import AdapterCard
from intrinsic.routing.card_lines import card_lines, one_line
from intrinsic.routing.judge import Candidate

_QUERY_SHARE = 0.4  # of a prompt's characters
_KEYWORDS = 8
_NONE = "none: anything else"


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """`prompt(query)`, distinct answers, of which the last is for none, and each candidate's."""

    prompt: Callable[[str], str]
    answers: tuple[str, ...]
    answer_of: tuple[int, ...]

    @classmethod
    def of(cls, prompt: Callable[[str], str], texts: Sequence[str], none: str) -> AnswerForm:
        """Candidates that say the same share an answer."""
        distinct = tuple(dict.fromkeys(texts))
        return cls(prompt, (*distinct, none), tuple(map(distinct.index, texts)))


def cards_form(candidates: Sequence[Candidate], examples: int, chars: int) -> AnswerForm:
    """The query alone is read, and each card's description is an answer to it.

    It asks no skill of the model but to know which words go together.
    """
    room = int(chars * _QUERY_SHARE)
    texts = [one_line(_description(candidate.card), room) for candidate in candidates]
    return AnswerForm.of(partial(one_line, max_chars=room), texts, _unlike(_NONE, texts))


def names_form(candidates: Sequence[Candidate], examples: int, chars: int) -> AnswerForm:
    """The cards are listed before the query, and each name is an answer.

    For models that follow instructions.
    """
    room = int(chars * _QUERY_SHARE)
    labels = [candidate.label for candidate in candidates]
    none = _unlike("none", labels)
    lines = card_lines(candidates, examples=examples, max_chars=chars - room)
    listed = "\n".join(f"{label}: {line}" for label, line in zip(labels, lines, strict=True))

    def prompt(query: str) -> str:
        return (
            f"Which one should answer the question?\n{listed}\n{none}: anything else\n"
            f"Question: {one_line(query, room)}\nAnswer with one name.\n"
        )

    return AnswerForm.of(prompt, labels, none)


def _description(card: AdapterCard) -> str:
    said = card.description or card.domain or " / ".join(card.examples[:2]) or card.name
    return " ".join((said, ", ".join(card.keywords[:_KEYWORDS]))).strip()


def _unlike(none: str, texts: Sequence[str]) -> str:
    while none in texts:
        none += " of them"
    return none
