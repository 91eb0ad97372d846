"""The least that a streaming client must do, so that what is measured is the server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

DONE = b"[DONE]"
_CONTENT = b'"content"'


class WireError(Exception):
    """Raised where an answer is not what the protocol says."""


@dataclass
class Answer:
    """What came back; times in milliseconds. `ended` is false where the client left."""

    status: int
    text: str = ""
    tokens: int = 0
    first_ms: float = 0.0
    total_ms: float = 0.0
    ended: bool = False
    body: dict[str, Any] = field(default_factory=dict)


class Wire:
    """A connection that is kept, to a server at a port of this machine."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._key = key
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The connection, made where there is none."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        return self._streams

    async def close(self) -> None:
        """Leave, in whatever state the connection is."""
        if self._streams is not None:
            writer = self._streams[1]
            self._streams = None
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    async def call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> tuple[int, bytes]:
        """A request that is answered at once: the status and the body."""
        _, writer = await self.open()
        writer.write(self._request(method, path, body))
        status, headers = await self._head()
        return status, b"".join([part async for part in self._parts(headers)])

    async def chat(self, body: Mapping[str, Any], *, leave_after: int | None = None) -> Answer:
        """A streamed chat; after so many pieces of text the client is gone without a word."""
        _, writer = await self.open()
        started = time.perf_counter()
        writer.write(self._request("POST", "/v1/chat/completions", {**body, "stream": True}))
        status, headers = await self._head()
        answer = Answer(status)
        if status != 200:
            answer.body = json.loads(b"".join([part async for part in self._parts(headers)]))
            answer.ended = True
            return answer
        events: list[bytes] = []
        pieces = 0
        async for event in _events(self._parts(headers)):
            events.append(event)
            if _CONTENT in event and (
                pieces or json.loads(event)["choices"][0]["delta"]["content"]
            ):
                pieces += 1
                if pieces == 1:
                    answer.first_ms = (time.perf_counter() - started) * 1e3
                if pieces == leave_after:
                    await self.close()
                    return answer
        answer.total_ms = (time.perf_counter() - started) * 1e3
        _read(answer, events)
        return answer

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None) -> bytes:
        content = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n"
            f"Authorization: Bearer {self._key}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        return head.encode() + content

    async def _head(self) -> tuple[int, dict[str, str]]:
        reader, _ = await self.open()
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.split(":", 1) for line in head[1:] if line)
        return int(head[0].split()[1]), {name.lower(): value.strip() for name, value in pairs}

    async def _parts(self, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
        reader, _ = await self.open()
        if "chunked" in headers.get("transfer-encoding", ""):
            while size := int(await reader.readline(), 16):
                yield (await reader.readexactly(size + 2))[:-2]
            await reader.readline()
        elif length := int(headers.get("content-length", 0)):
            yield await reader.readexactly(length)
        if headers.get("connection", "").lower() == "close":
            await self.close()


async def _events(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The data of server-sent events, in whatever parts they come."""
    rest = b""
    async for part in parts:
        *whole, rest = (rest + part).split(b"\n\n")
        for event in whole:
            if event.startswith(b"data: "):
                yield event[6:]


def _read(answer: Answer, events: list[bytes]) -> None:
    if not events or events[-1] != DONE:
        raise WireError(f"a stream ended without {DONE.decode()}: {events[-1:]!r}")
    texts: list[str] = []
    for event in map(json.loads, events[:-1]):
        if "error" in event:
            raise WireError(f"a stream ended with an error: {event['error']}")
        texts += [choice["delta"].get("content") or "" for choice in event["choices"]]
        if event.get("usage"):
            answer.tokens = event["usage"]["completion_tokens"]
    answer.text, answer.ended = "".join(texts), True
