"""`GET /v1/events`: what the bus does, as it happens, to anybody who listens."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from typing import Any, get_args

import anyio
from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from intrinsic.bus import Notice, NoticeName
from intrinsic.events import MemoryEvent
from intrinsic.receipt import Receipt
from intrinsic.server.access import Admin, Serving
from intrinsic.server.account import account_of
from intrinsic.server.envelope import ApiError
from intrinsic.server.event_bodies import said
from intrinsic.server.mixture_text import shown
from intrinsic.server.refusals import refusals
from intrinsic.server.service import Service

router = APIRouter(tags=["events"])

MAX_STREAMS = 16
"""So many may listen at once."""
MAX_WAITING = 1000
"""Notices that wait for one slow client; what comes then is counted, and dropped."""
HEARTBEAT_S = 15.0


class Listener:
    """Takes notices of a bus, on whatever thread, and hands them out one by one.

    Who is slower than the bus gets the oldest `MAX_WAITING`, and then how many were dropped.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._waiting: deque[tuple[str, dict[str, Any]]] = deque()
        self._dropped = 0
        self._thread = threading.get_ident()
        self._wake = anyio.Event()
        bus = service.system.bus
        self._subscriptions = [bus.on(name, self._take) for name in get_args(NoticeName)]

    def close(self) -> None:
        """Take no more."""
        for subscription in self._subscriptions:
            subscription.cancel()

    async def next(self) -> tuple[str, dict[str, Any]] | None:
        """The next notice, or how many were dropped since the last; None after a while."""
        if not self._waiting:
            with anyio.move_on_after(HEARTBEAT_S):
                await self._wake.wait()
            self._wake = anyio.Event()
        if not self._waiting:
            self._note_dropped()
        return self._waiting.popleft() if self._waiting else None

    def _take(self, notice: Notice) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self._dropped += 1
            return
        self._note_dropped()
        self._waiting.append((notice.name, _told(notice, self._service)))
        if threading.get_ident() == self._thread:  # else it goes out with the next one
            self._wake.set()

    def _note_dropped(self) -> None:
        if self._dropped:
            self._waiting.append(("dropped", {"count": self._dropped}))
            self._dropped = 0


class EventStream(Response):
    """Server-sent events until the client or the server goes."""

    media_type = "text/event-stream"

    def __init__(self, service: Service) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send what is heard from now on."""
        listener = Listener(self._service)
        self._service.adapters.streams += 1
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._until_stopping, tasks.cancel_scope)
                tasks.start_soon(_until_gone, receive, tasks.cancel_scope)
                await self._send(listener, send)
        finally:
            self._service.adapters.streams -= 1
            listener.close()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, listener: Listener, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        await send(_body(": listening\n\n"))
        while True:
            found = await listener.next()
            if found is None:
                await send(_body(": still here\n\n"))
            else:
                name, data = found
                await send(_body(f"event: {name}\ndata: {json.dumps(data)}\n\n"))

    async def _until_stopping(self, scope: anyio.CancelScope) -> None:
        await self._service.running.stopping.wait()
        scope.cancel()


@router.get(
    "/v1/events",
    summary="Listen to the bus",
    response_class=EventStream,
    status_code=200,
    responses={
        200: {"content": {"text/event-stream": {"schema": {"title": "Server-sent events"}}}},
        **refusals(429),
    },
)
async def listen(request: Request, service: Serving, _: Admin) -> EventStream:
    """What the bus and the registry do from now on: server-sent events without an end.

    `event` is what happened, `data` to what: ids, names and numbers, no texts. `dropped` says how
    many a slow client has missed.
    """
    if service.adapters.streams >= MAX_STREAMS:
        raise ApiError(429, f"{MAX_STREAMS} clients listen already", headers={"Retry-After": "10"})
    account_of(request).without_end()
    return EventStream(service)


def _body(text: str) -> dict[str, Any]:
    return {"type": "http.response.body", "body": text.encode(), "more_body": True}


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def _told(notice: Notice, service: Service) -> dict[str, Any]:
    """A notice as plain values; what is None is left out."""
    report = notice.report
    receipt = report.value if report is not None else None
    values: dict[str, Any] = {
        "time": round(time.time(), 3),
        "event": None if notice.event is None else _event(notice.event),
        "handler": notice.handler,
        "error": None if notice.error is None else said(notice.error, service.scrub),
        "reason": notice.reason,
        "adapter": notice.adapter,
        "ok": None if report is None else report.ok,
        "mixture": shown(receipt.mixture) if isinstance(receipt, Receipt) else None,
    }
    return {key: value for key, value in values.items() if value is not None}


def _event(event: MemoryEvent) -> dict[str, Any]:
    return {
        "id": event.id,
        "channel": event.channel,
        "session": event.context.session_id,
        "request_id": event.context.request_id,
        "parent_id": event.parent_id,
        "memory_ids": [vector.memory_id for vector in event.vectors],
    }
