"""The body of a request: whole, bounded, and of whole characters."""

from __future__ import annotations

import json
import re

from starlette.datastructures import Headers
from starlette.types import Message, Receive

from intrinsic.server.envelope import ApiError

_HALF = re.compile(rb"\\u[dD][89a-fA-F]")


class Body:
    """Read before a route is asked, so that one that is refused costs no more than reading."""

    def __init__(self, receive: Receive, headers: Headers, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._said = headers.get("content-length", "0")
        self._first: Message | None = None

    async def read(self) -> None:
        """Read all of it. Raises a 413 for one that says, or is, too large, and a 400."""
        if not (self._said.isascii() and self._said.isdigit() and int(self._said) <= self._limit):
            raise self._too_large()
        parts, taken, more = [], 0, True
        while more:
            message = await self._receive()
            if message["type"] != "http.request":
                self._first = message
                return
            part = message.get("body", b"")
            taken += len(part)
            if taken > self._limit:
                raise self._too_large()
            parts.append(part)
            more = message.get("more_body", False)
        body = b"".join(parts)
        _refuse_halves(body)
        self._first = {"type": "http.request", "body": body, "more_body": False}

    async def receive(self) -> Message:
        """Give the body, and afterwards what else comes: that the client has left."""
        first, self._first = self._first, None
        return first or await self._receive()

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
