"""What a model is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from intrinsic.errors import ConfigError


class ChatMessage(TypedDict):
    """One turn of a conversation, as chat templates take it."""

    role: str
    content: str


Question = str | Sequence[ChatMessage]
"""A text (one user turn where the model has a chat template), or the turns themselves."""


@dataclass(frozen=True, slots=True)
class RawPrompt:
    """A text to go on with, or its token ids, to which no chat template is applied.

    A text gets the marks that the tokenizer itself puts around texts; ids are taken as they are.
    Raises `ConfigError` unless one of the two is given.
    """

    text: str | None = None
    ids: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if (self.text is None) == (self.ids is None):
            raise ConfigError("a raw prompt takes a text or token ids, one of the two")
        for token in self.ids or ():
            if not isinstance(token, int) or isinstance(token, bool) or token < 0:
                raise ConfigError(f"token id {token!r} of a raw prompt is no integer, 0 or more")


Prompt = Question | RawPrompt
"""Everything that a backend answers."""
