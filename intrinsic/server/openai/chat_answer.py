"""An answer of chat: its schema, and how it is written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, Literal

from pydantic import BaseModel

from intrinsic.backends import Generation, Piece
from intrinsic.server.openai.event_form import EventForm
from intrinsic.server.openai.token_form import chat_tokens

FinishReason = Literal["stop", "length"]


class Applied(BaseModel):
    """What an answer was given under. `mixture` has the weights in force; times in milliseconds."""

    mixture: dict[str, float]
    routed: bool
    selections: list[dict[str, Any]]
    skipped: list[dict[str, str]]
    request_id: str | None = None
    shadow: bool | None = None
    ignored: list[str] | None = None
    times: dict[str, float] | None = None


class Usage(BaseModel):
    """Counts of tokens; a prompt counts once."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AnswerMessage(BaseModel):
    """What was answered."""

    role: Literal["assistant"]
    content: str
    refusal: str | None = None


class ChatChoice(BaseModel):
    """One answer."""

    index: int
    message: AnswerMessage
    logprobs: dict[str, Any] | None = None
    finish_reason: FinishReason


class ChatCompletion(BaseModel):
    """OpenAI's chat completion, and `intrinsic`: what was applied."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: str | None = None
    intrinsic: Applied


class ChatForm(EventForm):
    """Writes one answer of a chat."""

    def __init__(self, model: str, *, logprobs: bool, usage: bool) -> None:
        kind, field = "chat.completion.chunk", '"delta": {"content": '
        super().__init__("chatcmpl", kind, model, field=field, usage=usage)
        self._logprobs = logprobs

    def first(self, choice: int, applied: dict[str, Any]) -> str:
        """The role, and what was applied."""
        opening = {**self.choice(choice), "delta": {"role": "assistant", "content": ""}}
        return self.applied(opening, applied)

    def piece(self, choice: int, piece: Piece) -> str:
        """A piece of the content."""
        told = json.dumps(chat_tokens(piece.logprobs)) if self._logprobs else "null"
        return (
            f'{self.opened}{quoted(piece.text)}}}, "index": {choice}, "logprobs": {told}, '
            f'"finish_reason": null{self.closed}'
        )

    def whole(
        self,
        generations: Sequence[Generation],
        applied: Sequence[dict[str, Any]],
        usage: dict[str, int],
    ) -> dict[str, Any]:
        """The body; all choices of a chat were given under one lease."""
        return {
            **self.head,
            "object": "chat.completion",
            "choices": [
                {
                    "index": number,
                    "message": {"role": "assistant", "content": one.text, "refusal": None},
                    "logprobs": chat_tokens(one.logprobs) if self._logprobs else None,
                    "finish_reason": one.finish_reason,
                }
                for number, one in enumerate(generations)
            ],
            "usage": usage,
            "intrinsic": applied[0],
        }

    def choice(self, number: int, reason: str | None = None) -> dict[str, Any]:
        """A choice that says nothing more."""
        return {"index": number, "delta": {}, "logprobs": None, "finish_reason": reason}
