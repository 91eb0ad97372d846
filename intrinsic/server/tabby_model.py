"""The model that answers, as TabbyAPI's clients ask for it."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from intrinsic.server.access import Plain, Serving
from intrinsic.server.tabby import OWNER

router = APIRouter(tags=["TabbyAPI"])


class ModelParameters(BaseModel):
    """How long a prompt and its answer may be together, in tokens; null where nobody knows."""

    max_seq_len: int | None


class ModelCard(BaseModel):
    """The model; `created` is when the server started, in seconds of the epoch."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = OWNER
    parameters: ModelParameters


@router.get("/v1/model", summary="The model")
@router.get("/v1/models/current", summary="The model")
async def current_model(service: Serving, _: Plain) -> ModelCard:
    """The model that answers; there is one."""
    context: int | None = getattr(service.system.backend, "context_tokens", None)
    return ModelCard(
        id=service.model_name,
        created=service.adapters.started,
        parameters=ModelParameters(max_seq_len=context),
    )
