"""An answer of completions: its schema, and how it is written."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, Literal

from pydantic import BaseModel

from intrinsic.backends import Generation, Piece
from intrinsic.server.openai.chat_answer import Applied, FinishReason, Usage
from intrinsic.server.openai.event_form import EventForm
from intrinsic.server.openai.token_form import TextTokens


class TextChoice(BaseModel):
    """One answer; of several prompts each choice says what was applied to it."""

    index: int
    text: str
    logprobs: dict[str, Any] | None = None
    finish_reason: FinishReason
    intrinsic: Applied | None = None


class TextCompletion(BaseModel):
    """OpenAI's completion, and `intrinsic`: what was applied."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage
    system_fingerprint: str | None = None
    intrinsic: Applied


class CompletionForm(EventForm):
    """Writes one answer; `echoes` are what a choice's text begins with."""

    def __init__(
        self, model: str, *, logprobs: bool, usage: bool, echoes: Mapping[int, str], several: bool
    ) -> None:
        super().__init__("cmpl", "text_completion", model, field='"text": ', usage=usage)
        self._logprobs = logprobs
        self._echoes = echoes
        self._several = several
        self._tokens: defaultdict[int, TextTokens] = defaultdict(TextTokens)

    def first(self, choice: int, applied: dict[str, Any]) -> str:
        """The prompt, if it is echoed, and what was applied."""
        opening = {**self.choice(choice), "text": self._echoes.get(choice, "")}
        return self.applied(opening, applied)

    def piece(self, choice: int, piece: Piece) -> str:
        """A piece of the text."""
        told = "null"
        if self._logprobs:
            told = json.dumps(self._tokens[choice].of(piece.logprobs))
        return (
            f'{self.opened}{quoted(piece.text)}, "index": {choice}, "logprobs": {told}, '
            f'"finish_reason": null{self.closed}'
        )

    def whole(
        self,
        generations: Sequence[Generation],
        applied: Sequence[dict[str, Any]],
        usage: dict[str, int],
    ) -> dict[str, Any]:
        """The body; with several prompts `intrinsic` is that of the first."""
        return {
            **self.head,
            "choices": [
                {
                    "index": number,
                    "text": self._echoes.get(number, "") + one.text,
                    "logprobs": TextTokens().of(one.logprobs) if self._logprobs else None,
                    "finish_reason": one.finish_reason,
                    **({"intrinsic": applied[number]} if self._several else {}),
                }
                for number, one in enumerate(generations)
            ],
            "usage": usage,
            "intrinsic": applied[0],
        }

    def choice(self, number: int, reason: str | None = None) -> dict[str, Any]:
        """A choice that says nothing more."""
        return {"index": number, "text": "", "logprobs": None, "finish_reason": reason}
