"""Routes that hang, fail and overflow, beside those of the service."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest
from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from intrinsic import errors
from intrinsic.server import app
from intrinsic.server.access import Admin, Serving
from intrinsic.server.account import account_of
from intrinsic.server.envelope import ApiError
from intrinsic.server.refusals import refusals

router = APIRouter(prefix="/strange")
SECRET = "sk-of-somebody-in-/etc/secret"


class Body(BaseModel):
    count: int = Field(ge=1, le=9)
    name: str = "x"


@router.post("/body", responses=refusals(409))
async def body(body: Body) -> Body:
    return body


@router.get("/admin")
async def admin(who: Admin) -> str:
    return "done"


@router.get("/error/{name}")
async def error(name: str, path: str) -> None:
    raise getattr(errors, name)(f"the file {path}/x.db cannot be used, see /v1/adapters")


@router.get("/broken")
async def broken() -> None:
    raise KeyError(SECRET)


@router.get("/group/{name}")
async def group(name: str) -> None:
    other: Exception = ApiError(418, "the first") if name == "ours" else KeyError(SECRET)
    raise ExceptionGroup("several", [ExceptionGroup("within", [other]), ApiError(404, "more")])


@router.get("/hang")
async def hang(service: Serving) -> None:
    async with service.queue.place():
        await anyio.sleep_forever()


@router.get("/work")
async def work(service: Serving) -> str:
    """Ends when the server is being stopped."""
    await service.running.stopping.wait()
    return "done"


@router.get("/stream/{name}")
async def stream(name: str, request: Request, service: Serving) -> StreamingResponse:
    account = account_of(request)

    async def events() -> AsyncIterator[str]:
        async with service.queue.place():
            account.first_token()
            yield "data: first\n\n"
            if name == "fails":
                raise errors.CapacityError("no room in /srv/adapters for more")
            if name == "breaks":
                raise KeyError(SECRET)
            if name == "endless":
                account.without_end()
                await anyio.sleep(0.5)
                yield "data: second\n\n"
                return
            await anyio.sleep_forever()

    kind = "text/plain" if name == "plain" else "text/event-stream"
    return StreamingResponse(events(), media_type=kind)


def add_strange_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers that are started from now on have them."""
    monkeypatch.setattr(app, "ROUTERS", (*app.ROUTERS, router))
