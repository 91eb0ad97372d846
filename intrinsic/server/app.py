"""The application: every route, and what is the same for all of them."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from intrinsic.errors import IntrinsicError
from intrinsic.server import (
    docs_page,
    event_stream,
    events,
    health,
    llama_cpp,
    routing,
    tabby,
    tabby_model,
    vllm,
)
from intrinsic.server.adapters import feedback, listing, registering, switching
from intrinsic.server.envelope import ApiError
from intrinsic.server.frame import RequestFrame
from intrinsic.server.openai import chat, completions, embeddings, models
from intrinsic.server.openapi import document
from intrinsic.server.refusals import answer_error
from intrinsic.server.service import Service

ROUTERS: tuple[APIRouter, ...] = (
    health.router,
    chat.router,
    completions.router,
    embeddings.router,
    tabby.router,
    tabby_model.router,
    vllm.router,
    llama_cpp.router,
    routing.router,
    events.router,
    event_stream.router,
    feedback.router,  # before those whose names may have a slash
    switching.router,
    registering.router,
    listing.router,
    models.router,  # last: its ids may be whatever no other route under /v1/models/ is
)
"""Every route, in the order of the documentation; none has routers within."""

_REFUSED = (ApiError, IntrinsicError, RequestValidationError, HTTPException, ExceptionGroup)


def make_app(service: Service) -> FastAPI:
    """Build the ASGI application of a service that is open."""
    app = FastAPI(
        title="intrinsic",
        version=_version(),
        description="Routes each request to the LoRA adapters that fit it.",
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    for router in (*ROUTERS, docs_page.router):
        app.include_router(router)
    for refused in _REFUSED:
        app.add_exception_handler(refused, answer_error)
    if service.options.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=service.options.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["*"],
        )
    app.add_middleware(RequestFrame, service=service)
    document(app, ROUTERS, keys=service.keys is not None)
    return app


def _version() -> str:
    try:
        return version("intrinsic-lora")
    except PackageNotFoundError:
        return "0"
