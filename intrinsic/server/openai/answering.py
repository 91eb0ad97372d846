"""Answers under way: a queue's place, a lease, and its generations, whole or as events.

request ──► place in the queue ──► route, lease ──► n generations side by side ──► body, or events
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from intrinsic.backends import Generation, GenerationOptions, Piece, Prompt
from intrinsic.server.account import Account
from intrinsic.server.mixture_text import shown
from intrinsic.server.openai import told
from intrinsic.server.openai.binding import Bound, Turns, bound
from intrinsic.server.openai.connection import side_by_side, while_connected
from intrinsic.server.openai.target import Target

_JSON = [(b"content-type", b"application/json")]
_EVENTS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


@dataclass(frozen=True, slots=True)
class Question:
    """One prompt: what it is routed by, and a choice for each of its options."""

    prompt: Prompt
    turns: Turns
    options: Sequence[GenerationOptions]


class Form(Protocol):
    """How one protocol writes an answer. Choices are numbered through all questions.

    All but `whole` give complete events; `first` and `last` have the field `intrinsic`.
    """

    def first(self, choice: int, applied: dict[str, Any]) -> str:
        """Before a choice's first piece."""
        ...

    def piece(self, choice: int, piece: Piece) -> str:
        """A piece of a choice."""
        ...

    def last(self, choice: int, generation: Generation, times: dict[str, Any]) -> str:
        """A choice's end."""
        ...

    def usage(self, usage: dict[str, int], times: dict[str, Any]) -> str:
        """After everything else."""
        ...

    def whole(
        self,
        generations: Sequence[Generation],
        applied: Sequence[dict[str, Any]],
        usage: dict[str, int],
    ) -> dict[str, Any]:
        """The body of an answer that is no stream; `applied` is per choice."""
        ...


class Answering(Response):
    """Answers questions when it is sent; a client that leaves ends the work at once."""

    def __init__(
        self,
        account: Account,
        target: Target,
        questions: Sequence[Question],
        form: Form,
        *,
        stream: bool,
        include_usage: bool = False,
        ignored: Sequence[str] = (),
    ) -> None:
        self.background = None
        self.status_code = 200
        self.raw_headers = []
        self._account = account
        self._target = target
        self._questions = questions
        self._form = form
        self._stream = stream
        self._include_usage = include_usage
        self._ignored = ignored
        self._started = False
        self._generations: dict[int, Generation] = {}
        self._written: Counter[int] = Counter()
        self._counted = False
        self._applied: dict[int, dict[str, Any]] = {}
        self._bound: Bound | None = None
        self._send: Send

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; errors before the first byte are raised."""
        self._send = send
        work = self._events if self._stream else self._whole
        try:
            await while_connected(receive, work)
        finally:
            if self._written and not self._counted:
                self._used()

    async def _whole(self) -> None:
        await self._all(self._generate)
        assert self._bound is not None
        generations = [self._generations[choice] for choice in sorted(self._generations)]
        usage = self._used()
        applied = [self._applied[choice] for choice in sorted(self._applied)]
        applied[0]["times"] = told.times(
            self._account, self._bound, generate_ms=max(g.generate_ms for g in generations)
        )
        body = json.dumps(self._form.whole(generations, applied, usage)).encode()
        headers = [*_JSON, *self._applied_headers(), (b"content-length", str(len(body)).encode())]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    async def _events(self) -> None:
        """The stream; of an error in its middle the request's frame tells."""
        await self._all(self._pieces)
        usage, end = self._used(), ""
        if self._include_usage:
            assert self._bound is not None
            end = self._form.usage(usage, told.times(self._account, self._bound))
        await self._event(f"{end}data: [DONE]\n\n", more=False)

    async def _all(self, answer: Callable[..., Awaitable[None]]) -> None:
        """Answer every choice of every question, each question under a lease of its own."""
        account, arrived = self._account, time.perf_counter()
        async with account.service.queue.place():
            account.note(queue_ms=round((time.perf_counter() - arrived) * 1e3, 3))
            works: list[Callable[[], Awaitable[None]]] = []
            number = 0
            for question in self._questions:
                works.append(partial(self._question, question, number, answer))
                number += len(question.options)
            await side_by_side(works)

    async def _question(
        self, question: Question, number: int, answer: Callable[..., Awaitable[None]]
    ) -> None:
        async with bound(self._account, self._target, question.turns) as found:
            if number == 0 or self._bound is None:  # headers tell of the first, if it is there
                self._bound = found
            tracing = self._account.service.tracing
            streamed = tracing.span("stream") if self._stream else nullcontext()
            with tracing.span("generate", mixture=shown(found.lease.mixture)), streamed:
                await side_by_side(
                    [
                        partial(answer, found, number + n, question.prompt, options)
                        for n, options in enumerate(question.options)
                    ]
                )

    async def _generate(
        self, found: Bound, choice: int, prompt: Prompt, options: GenerationOptions
    ) -> None:
        async with aclosing(found.lease.pieces(prompt, options)) as pieces:
            async for piece in pieces:
                self._account.first_token()
                if isinstance(piece, Generation):
                    self._generations[choice] = piece
                else:
                    self._written[choice] += piece.tokens
        self._applied[choice] = told.applied(self._account, found, self._ignored)

    async def _pieces(
        self, found: Bound, choice: int, prompt: Prompt, options: GenerationOptions
    ) -> None:
        form, is_first = self._form, True
        async with aclosing(found.lease.pieces(prompt, options)) as pieces:
            async for piece in pieces:
                text = ""
                if is_first:
                    is_first = False
                    self._account.first_token()
                    text = form.first(choice, told.applied(self._account, found, self._ignored))
                if isinstance(piece, Piece):
                    self._written[choice] += piece.tokens
                    text += form.piece(choice, piece)
                else:
                    self._generations[choice] = piece
                    spent = told.times(self._account, found, generate_ms=piece.generate_ms)
                    text += form.last(choice, piece, spent)
                await self._event(text)

    async def _event(self, text: str, *, more: bool = True) -> None:
        if not self._started:
            self._started = True
            headers = [*_EVENTS, *self._applied_headers()]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": text.encode(), "more_body": more})

    def _applied_headers(self) -> list[tuple[bytes, bytes]]:
        assert self._bound is not None
        found = told.headers(self._account, self._bound)
        return [(name.encode(), value.encode()) for name, value in found.items()]

    def _used(self) -> dict[str, int]:
        """Counts of tokens; a prompt counts once, however many choices there are.

        Of choices that were cut off it is what had been written, without their prompts.
        """
        self._counted = True
        prompt, first = 0, 0
        for question in self._questions:
            if first in self._generations:
                prompt += self._generations[first].prompt_tokens
            first += len(question.options)
        ended = {choice: one.tokens for choice, one in self._generations.items()}
        completion = sum({**self._written, **ended}.values())
        self._account.used(prompt=prompt, completion=completion)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }
