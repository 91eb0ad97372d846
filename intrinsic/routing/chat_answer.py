"""What a chat endpoint answered: which candidate's number, and how sure it was."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_NUMBER = re.compile(r"[-+]?[0-9]+(?:\.[0-9]+)?")
_THOUGHT = "</think>"
_SHOWN = 60
_ROUNDING = 1e-3
_LEAST_LOGPROB = -700.0


class AnswerError(ValueError):
    """Raised when an answer is none: not in the protocol's form, or no number of a candidate."""


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """The number chosen, and the probabilities by number, as far as the server gave them."""

    number: int
    probabilities: Mapping[int, float] | None = None


def read_answer(reply: object, n_candidates: int) -> ChatAnswer:
    """Read a chat completion of which `0` to `n_candidates` are valid answers.

    Raises `AnswerError` with what was wrong.
    """
    choice = _first(_get(reply, "choices"))
    content = _get(_get(choice, "message"), "content")
    if not isinstance(content, str):
        raise AnswerError("it gave no text")
    valid = {str(number): number for number in range(n_candidates + 1)}
    said = content.rpartition(_THOUGHT)[2]
    numbers = list(_NUMBER.finditer(said))
    if not numbers or {match[0] for match in numbers} != {numbers[0][0]}:
        raise AnswerError(f"it answered {said.strip()[:_SHOWN]!r}, not one number")
    if numbers[0][0] not in valid:
        raise AnswerError(
            f"it answered {numbers[0][0][:_SHOWN]}; the candidates are 1 to {n_candidates}"
        )
    start = len(content) - len(said) + numbers[0].start()
    span = (start, start + len(numbers[0][0]))
    number = valid[numbers[0][0]]
    return ChatAnswer(number, _probabilities(choice, content, span, number, valid))


def _probabilities(
    choice: object, content: str, span: tuple[int, int], number: int, valid: Mapping[str, int]
) -> Mapping[int, float] | None:
    """From the log-probabilities of the tokens that spell the number; None where they are not."""
    tokens = _get(_get(choice, "logprobs"), "content")
    if not isinstance(tokens, list) or content != "".join(str(_get(t, "token")) for t in tokens):
        return None
    spelling: list[object] = []
    at = 0
    for token in tokens:
        end = at + len(str(_get(token, "token")))
        if at < span[1] and end > span[0]:
            spelling.append(token)
        at = end
    chances = [_probability(_get(token, "logprob")) for token in spelling]
    if not chances or any(chance is None for chance in chances):
        return None
    found = {number: math.prod(chance for chance in chances if chance is not None)}
    if len(spelling) == 1:
        found = {**_alternatives(_get(spelling[0], "top_logprobs"), valid, number), **found}
    total = max(sum(found.values()), 1.0)
    return {key: value / total for key, value in found.items()}


def _alternatives(top: object, valid: Mapping[str, int], number: int) -> dict[int, float]:
    """What the tokens that were not chosen say of the other numbers."""
    found: dict[int, float] = {}
    for token in top if isinstance(top, list) else ():
        other = valid.get(str(_get(token, "token")).strip())
        chance = _probability(_get(token, "logprob"))
        if other is not None and other != number and chance is not None:
            found[other] = found.get(other, 0.0) + chance
    return found


def _probability(logprob: object) -> float | None:
    if not isinstance(logprob, int | float) or isinstance(logprob, bool):
        return None
    if not logprob <= _ROUNDING:  # nan as well
        return None
    return min(math.exp(max(logprob, _LEAST_LOGPROB)), 1.0)


def _get(value: object, key: str) -> object:
    return value.get(key) if isinstance(value, Mapping) else None


def _first(value: object) -> object:
    return value[0] if isinstance(value, Sequence) and value else None
