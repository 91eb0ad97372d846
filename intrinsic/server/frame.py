"""What is the same for every request: its id, its limits, its line in the log."""

from __future__ import annotations

import json
import logging
import re
import uuid
from typing import TYPE_CHECKING

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from intrinsic.server.account import Account
from intrinsic.server.envelope import ApiError, envelope
from intrinsic.server.metrics import UNMATCHED
from intrinsic.server.origins import Origins
from intrinsic.server.refusals import error_response, refusal
from intrinsic.server.request_log import log_request

if TYPE_CHECKING:
    from intrinsic.server.service import Service

logger = logging.getLogger("intrinsic.server")

_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_STOPPING = "the server is being stopped; try again later"
_NO_ANSWER = 499
"""In the log, the status of a request whose client left before it was answered."""


class RequestFrame:
    """Around the whole application: pure ASGI, as every piece of every stream passes here."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service
        self._origins = Origins(service.options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        service, headers = self._service, Headers(scope=scope)
        with service.running.one(service.options.request_timeout_s) as cancel:
            account = Account(service, _id_of(headers), cancel)
            scope.setdefault("state", {})["account"] = account
            scope["state"]["request_id"] = account.request_id
            answer = _Answer(account, send)
            try:
                with service.tracing.span(
                    f"{scope['method']} request", headers=headers, request_id=account.request_id
                ) as span:
                    try:
                        await self._answer(scope, receive, headers, answer)
                    finally:
                        span.note(route=route_of(scope), status=answer.status, **dict(account))
            except Exception as error:
                await self._failed(scope, answer, error)
        if cancel.cancelled_caught:
            await self._cut_off(scope, answer)
        log_request(scope, account, answer.status)
        service.metrics.answered(
            method=_method(scope), route=route_of(scope), status=answer.status, ms=account.ms
        )

    async def _answer(
        self, scope: Scope, receive: Receive, headers: Headers, answer: _Answer
    ) -> None:
        if self._service.running.is_stopping:
            refused = error_response(503, _STOPPING, headers={"Connection": "close"})
            await refused(scope, receive, answer.send)
            return
        limit = self._service.options.max_body_bytes
        try:
            self._origins.check(headers)
            length = headers.get("content-length", "0")
            if not length.isdigit() or int(length) > limit:
                raise _too_large(limit)
        except (ApiError, HTTPException) as error:
            said = refusal(error)
            refused = error_response(said.status, said.message, headers=said.headers)
            await refused(scope, receive, answer.send)
            return
        await self._app(scope, _Body(receive, limit).receive, answer.send)

    async def _failed(self, scope: Scope, answer: _Answer, error: Exception) -> None:
        """Nothing below knew what to answer; in the middle of an answer there is nothing to add."""
        said = refusal(error, answer.account.request_id)
        if answer.started:
            self._service.metrics.ended_early("failed")
            await answer.end(said.status, self._service.scrub(said.message))
        else:
            await error_response(said.status, said.message)(scope, _nothing, answer.send)

    async def _cut_off(self, scope: Scope, answer: _Answer) -> None:
        """The time is up, or the server's is."""
        stopped = self._service.running.is_stopping
        limit = self._service.options.request_timeout_s
        status, message = 504, f"the answer took longer than {limit:g} seconds and was given up"
        if stopped:
            status, message = 503, "the server was stopped before the answer was complete"
        self._service.metrics.ended_early("stopped" if stopped else "timeout")
        with anyio.move_on_after(_LAST_WORD_S):
            if answer.started:
                await answer.end(status, message)
            else:
                response = error_response(status, message, headers={"Connection": "close"})
                await response(scope, _nothing, answer.send)


_LAST_WORD_S = 2.0


class _Answer:
    """What was sent so far."""

    def __init__(self, account: Account, send: Send) -> None:
        self.account = account
        self.status = _NO_ANSWER
        self.started = False
        self._complete = False
        self._is_stream = False
        self._send = send

    async def send(self, message: Message) -> None:
        """Send on, with the request's id in the headers."""
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.account.request_id
            self._is_stream = headers.get("content-type", "").startswith("text/event-stream")
        elif not message.get("more_body", False):
            self._complete = True
        await self._send(message)

    async def end(self, status: int, message: str) -> None:
        """End an answer in its middle: a stream of events with one that says why."""
        if self._complete:
            return
        if not self._is_stream:
            raise ConnectionAbortedError(message)  # the server closes the connection
        body = json.dumps(envelope(status, message).model_dump())
        event = f"data: {body}\n\n".encode()
        await self.send({"type": "http.response.body", "body": event, "more_body": True})
        await self.send({"type": "http.response.body", "body": b"", "more_body": False})


class _Body:
    """Receives a body, and refuses one that is larger than it said, or than allowed."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._taken = 0

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._taken += len(message.get("body", b""))
            if self._taken > self._limit:
                raise _too_large(self._limit)
        return message


def route_of(scope: Scope) -> str:
    """The route that answers, as it is written in the documentation."""
    return str(getattr(scope.get("route"), "path", UNMATCHED))


def _method(scope: Scope) -> str:
    method = str(scope["method"])
    return method if method in _METHODS else "other"


_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"})


def _id_of(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _SANE_ID.fullmatch(given) else uuid.uuid4().hex


def _too_large(limit: int) -> HTTPException:
    message = f"the body is larger than {limit} bytes; send less"
    return HTTPException(413, message, headers={"Connection": "close"})


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
