"""What is the same for every request: its id, its limits, its line in the log."""

from __future__ import annotations

import json
import logging
import re
import uuid
from typing import TYPE_CHECKING

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from intrinsic.server.access import caller_of
from intrinsic.server.account import Account
from intrinsic.server.body import Body
from intrinsic.server.envelope import ApiError, envelope
from intrinsic.server.metrics import UNMATCHED
from intrinsic.server.origins import Origins
from intrinsic.server.refusals import error_response, refusal
from intrinsic.server.request_log import log_request
from intrinsic.server.turn import LEFT

if TYPE_CHECKING:
    from intrinsic.server.service import Service

logger = logging.getLogger("intrinsic.server")

_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_MOST_OF_STRANGERS = 64 * 1024
_STOPPING = "the server is being stopped; try again later"


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
                    "request",
                    headers=headers,
                    request_id=account.request_id,
                    model=service.model_name,
                ) as span:
                    try:
                        await self._answer(scope, receive, headers, answer)
                    finally:
                        span.rename(f"{_method(scope)} {route_of(scope)}")
                        span.note(status=answer.status, **account.notes)
            except Exception as error:
                await self._failed(scope, answer, error)
        if cancel.cancelled_caught and not answer.complete:
            await self._cut_off(scope, answer)
        elif not (answer.complete or answer.failed):
            service.metrics.ended_early("disconnected")
        log_request(scope, account, answer.status)
        service.metrics.answered(
            method=_method(scope), route=route_of(scope), status=answer.status, ms=account.ms
        )

    async def _answer(
        self, scope: Scope, receive: Receive, headers: Headers, answer: _Answer
    ) -> None:
        try:
            if self._service.running.is_stopping:
                raise ApiError(503, _STOPPING, headers={"Connection": "close"})
            self._origins.check(headers)
            body = await self._body(receive, headers)
        except ApiError as refused:
            response = error_response(refused.status, refused.message, headers=refused.headers)
            await response(scope, receive, answer.send)
            return
        await self._app(scope, body.receive, answer.send)

    async def _body(self, receive: Receive, headers: Headers) -> Body:
        """Read the body; a large one is not read of who has no key."""
        most, stranger = self._service.options.max_body_bytes, None
        try:
            caller_of(headers, self._service.keys)
        except ApiError as refused:
            stranger = refused
            most = min(most, _MOST_OF_STRANGERS)
        body = Body(receive, headers, most)
        try:
            await body.read()
        except ApiError:
            await body.discard()
            if stranger is None:
                raise
            closing = {**stranger.headers, "Connection": "close"}
            raise ApiError(stranger.status, stranger.message, headers=closing) from None
        return body

    async def _failed(self, scope: Scope, answer: _Answer, error: Exception) -> None:
        """Nothing below knew what to answer, or it failed in the middle of its answer."""
        if answer.started and type(error) is RuntimeError and error.__cause__ is not None:
            error = error.__cause__  # type: ignore[assignment]  # as Starlette puts it
        said = refusal(error, answer.account.request_id)
        answer.failed = True
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
        self.status = LEFT
        self.started = False
        self.complete = False
        self.failed = False
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
            self.complete = True
        await self._send(message)

    async def end(self, status: int, message: str) -> None:
        """End a stream of events in its middle, with one that says why.

        Of anything else the connection is closed, so that it is not taken for complete.
        """
        if self.complete or not self._is_stream:
            return
        body = json.dumps(envelope(status, message).model_dump())
        event = f"data: {body}\n\n".encode()
        await self.send({"type": "http.response.body", "body": event, "more_body": True})
        await self.send({"type": "http.response.body", "body": b"", "more_body": False})


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


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
