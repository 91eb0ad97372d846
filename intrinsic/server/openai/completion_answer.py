"""An answer of completions: its schema, and how it is written."""

from __future__ import annotations

import json
import time
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, Literal

from pydantic import BaseModel

from intrinsic.backends import Generation, Piece
from intrinsic.server.openai.chat_answer import Applied, FinishReason, Usage
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


class CompletionForm:
    """Writes one answer; `echoes` are what a choice's text begins with."""

    def __init__(
        self, model: str, *, logprobs: bool, usage: bool, echoes: Mapping[int, str], several: bool
    ) -> None:
        self._head: dict[str, Any] = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": None,
        }
        self._none = {"usage": None} if usage else {}
        self._logprobs = logprobs
        self._echoes = echoes
        self._several = several
        self._tokens: defaultdict[int, TextTokens] = defaultdict(TextTokens)
        self._opened = f'data: {json.dumps(self._head)[:-1]}, "choices": [{{"text": '
        closed = ', "usage": null}\n\n' if usage else "}\n\n"
        self._closed = f"}}]{closed}"

    def first(self, choice: int, applied: dict[str, Any]) -> str:
        """The prompt, if it is echoed, and what was applied."""
        opening = self._choice(choice, self._echoes.get(choice, ""))
        return self._event(opening, {**self._none, "intrinsic": applied})

    def piece(self, choice: int, piece: Piece) -> str:
        """A piece of the text."""
        told = "null"
        if self._logprobs:
            told = json.dumps(self._tokens[choice].of(piece.logprobs))
        return (
            f'{self._opened}{quoted(piece.text)}, "index": {choice}, "logprobs": {told}, '
            f'"finish_reason": null{self._closed}'
        )

    def last(self, choice: int, generation: Generation, times: dict[str, Any]) -> str:
        """Why it ended, and how long it took."""
        ended = self._choice(choice, "", generation.finish_reason)
        return self._event(ended, {**self._none, "intrinsic": {"times": times}})

    def usage(self, usage: dict[str, int], times: dict[str, Any]) -> str:
        """The counts."""
        return self._event([], {"usage": usage, "intrinsic": {"times": times}})

    def whole(
        self,
        generations: Sequence[Generation],
        applied: Sequence[dict[str, Any]],
        usage: dict[str, int],
    ) -> dict[str, Any]:
        """The body; with several prompts `intrinsic` is that of the first."""
        return {
            **self._head,
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

    def _choice(self, choice: int, text: str, reason: str | None = None) -> list[dict[str, Any]]:
        return [{"index": choice, "text": text, "logprobs": None, "finish_reason": reason}]

    def _event(self, choices: list[dict[str, Any]], more: dict[str, Any]) -> str:
        return f"data: {json.dumps({**self._head, 'choices': choices, **more})}\n\n"
