"""The application: every route, and what is the same for all of them."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.requests import Request

from intrinsic.server.envelope import ApiError, envelope
from intrinsic.server.service import Service


def make_app(service: Service) -> FastAPI:
    """Build the ASGI application of a service that is open."""
    app = FastAPI(title="intrinsic")
    app.state.service = service
    app.add_exception_handler(ApiError, _refused)
    return app


async def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    body = envelope(error.status, error.message).model_dump()
    return JSONResponse(body, error.status, headers=error.headers)
