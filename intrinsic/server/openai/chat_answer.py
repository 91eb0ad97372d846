"""An answer of chat: its schema, and how it is written."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, Literal

from pydantic import BaseModel

from intrinsic.backends import Generation, Piece
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


class ChatForm:
    """Writes one answer. A piece is put together from parts that are ready, as there are many."""

    def __init__(self, model: str, *, logprobs: bool, usage: bool) -> None:
        self._head: dict[str, Any] = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": None,
        }
        self._none = {"usage": None} if usage else {}
        self._logprobs = logprobs
        opened = json.dumps(self._head)[:-1]
        self._opened = f'data: {opened}, "choices": [{{"delta": {{"content": '
        closed = ', "usage": null}\n\n' if usage else "}\n\n"
        self._closed = f"}}]{closed}"

    def first(self, choice: int, applied: dict[str, Any]) -> str:
        """The role, and what was applied."""
        delta = {"role": "assistant", "content": ""}
        return self._event(self._choice(choice, delta), {**self._none, "intrinsic": applied})

    def piece(self, choice: int, piece: Piece) -> str:
        """A piece of the content."""
        told = json.dumps(chat_tokens(piece.logprobs)) if self._logprobs else "null"
        return (
            f'{self._opened}{quoted(piece.text)}}}, "index": {choice}, "logprobs": {told}, '
            f'"finish_reason": null{self._closed}'
        )

    def last(self, choice: int, generation: Generation, times: dict[str, Any]) -> str:
        """Why it ended, and how long it took."""
        ended = self._choice(choice, {}, generation.finish_reason)
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
        """The body; all choices of a chat were given under one lease."""
        return {
            **self._head,
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

    def _choice(
        self, choice: int, delta: dict[str, str], reason: str | None = None
    ) -> list[dict[str, Any]]:
        return [{"index": choice, "delta": delta, "logprobs": None, "finish_reason": reason}]

    def _event(self, choices: list[dict[str, Any]], more: dict[str, Any]) -> str:
        return f"data: {json.dumps({**self._head, 'choices': choices, **more})}\n\n"
