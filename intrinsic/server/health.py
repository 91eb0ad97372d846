"""Whether the service is well, who asks, and what it counted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from intrinsic.server.access import Plain, Serving
from intrinsic.server.metrics import TEXT

router = APIRouter(tags=["service"])


class Issue(BaseModel):
    """What the service does without, in a sentence; `time` is when that was so."""

    time: datetime
    description: str


class Health(BaseModel):
    """The service answers; `issues` says what it does without."""

    status: Literal["healthy"] = "healthy"
    model: str
    issues: list[Issue] = []


class Permission(BaseModel):
    """What the key that was sent allows."""

    permission: Literal["admin", "api"]


@router.get("/health", summary="Whether the service answers")
async def health(service: Serving) -> Health:
    """Say that the service is there; while it is being stopped this is a 503."""
    now = datetime.now(UTC)
    issues = [Issue(time=now, description=sentence) for sentence in service.issues()]
    return Health(model=service.model_name, issues=issues)


@router.get("/v1/auth/permission", summary="What your key allows")
async def permission(who: Plain) -> Permission:
    """Say whether the key is an admin key or a plain one."""
    return Permission(permission="admin" if who.admin else "api")


@router.get(
    "/metrics",
    summary="Counters for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus' text form"}},
)
async def metrics(service: Serving, who: Plain) -> Response:
    """Give what the service counted."""
    return Response(service.metrics.text(), media_type=TEXT)
