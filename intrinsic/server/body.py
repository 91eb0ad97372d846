"""The body of a request: whole, bounded, and of whole characters."""

from __future__ import annotations

import json
import re
import sys

import anyio
from starlette.datastructures import Headers
from starlette.types import Message, Receive

from intrinsic.server.envelope import ApiError

_MOST_DISCARDED = 16 * 1024 * 1024
_LONGEST_S = 5.0

_HALF = re.compile(rb"\\u[dD][89a-fA-F]")


class Body:
    """Read before a route is asked, so that one that is refused costs no more than reading."""

    def __init__(self, receive: Receive, headers: Headers, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        said = headers.get("content-length", "0")
        self._said = int(said) if said.isascii() and said.isdigit() else sys.maxsize
        self._waits = "expect" in headers
        self._taken = 0
        self._more = True
        self._first: Message | None = None

    async def read(self) -> None:
        """Read all of it. Raises a 413 for one that says, or is, too large, and a 400."""
        if self._said > self._limit:
            raise self._too_large()
        parts = []
        while self._more:
            message = await self._next()
            if message["type"] != "http.request":
                self._first = message
                return
            if self._taken > self._limit:
                raise self._too_large()
            parts.append(message.get("body", b""))
        body = b"".join(parts)
        _refuse_halves(body)
        self._first = {"type": "http.request", "body": body, "more_body": False}

    async def discard(self) -> None:
        """Take the rest and forget it, as who still sends does not hear an answer; within limits.

        A client that waits to be asked for its body is not.
        """
        if self._waits or self._said > _MOST_DISCARDED:
            return
        with anyio.move_on_after(_LONGEST_S):
            while self._more and self._taken <= _MOST_DISCARDED:
                await self._next()

    async def receive(self) -> Message:
        """Give the body, and afterwards what else comes: that the client has left."""
        first, self._first = self._first, None
        return first or await self._receive()

    async def _next(self) -> Message:
        message = await self._receive()
        self._taken += len(message.get("body", b""))
        self._more = message["type"] == "http.request" and message.get("more_body", False)
        return message

    def _too_large(self) -> ApiError:
        message = f"the body is larger than {self._limit} bytes; send less"
        return ApiError(413, message, headers={"Connection": "close"})


def _refuse_halves(body: bytes) -> None:
    """JSON can say half of a surrogate pair, which is no text for a tokenizer, or for a log."""
    if not _HALF.search(body):
        return
    try:
        json.dumps(json.loads(body), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ApiError(
            400, "the body has half of a character in it (a lone surrogate such as \\ud800)"
        ) from None
    except (ValueError, RecursionError):  # which is told where it is parsed
        return
