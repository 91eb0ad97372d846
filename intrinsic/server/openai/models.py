"""`GET /v1/models`: everything that `model` may be."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import groupby
from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel

from intrinsic.errors import AdapterNotFoundError
from intrinsic.registry import AdapterRegistry
from intrinsic.server.access import Plain, Serving
from intrinsic.server.openai.target import AUTO, BASE_NAME, target_of, unknown
from intrinsic.server.refusals import refusals
from intrinsic.server.service import Service

router = APIRouter(tags=["openai"])

_STARTED = int(time.time())
_OWNER = "intrinsic"


class ModelCard(BaseModel):
    """A model, or an adapter, whose `parent` is the model and whose `root` names its version."""

    id: str
    object: Literal["model"] = "model"
    created: int = _STARTED
    owned_by: str = _OWNER
    root: str
    parent: str | None = None
    max_model_len: int | None = None


class ModelList(BaseModel):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


@router.get("/v1/models", summary="What 'model' may be")
async def models(service: Serving, who: Plain) -> ModelList:
    """List `auto`, `base`, the model itself, and every adapter that may be asked for."""
    return ModelList(data=list(_cards(service)))


@router.get("/v1/models/{model_id:path}", summary="One of them", responses=refusals(404))
async def model(
    model_id: Annotated[str, Path(max_length=4000)], service: Serving, who: Plain
) -> ModelCard:
    """Describe what `model` may be; a mixture as well."""
    found = next((card for card in _cards(service) if card.id == model_id), None)
    if found is not None:
        return found
    try:
        target = target_of(service, model_id, None)
    except AdapterNotFoundError:
        raise unknown(service, model_id) from None
    if target.mixture is None:
        raise unknown(service, model_id)
    root = "+".join(target.mixture.adapters) or service.model_name
    return ModelCard(id=model_id, root=root, parent=service.model_name)


def _cards(service: Service) -> Iterator[ModelCard]:
    registry, name = service.system.registry, service.model_name
    context: int | None = getattr(service.system.backend, "context_tokens", None)
    for one in dict.fromkeys((AUTO, BASE_NAME, name)):
        yield ModelCard(id=one, root=name, max_model_len=context)
    for one, versions in groupby(registry.all_versions(), key=lambda entry: entry.name):
        keys = [entry.key for entry in versions]
        active = _active(registry, one)
        if active is not None:
            yield ModelCard(id=one, root=active, parent=name, max_model_len=context)
        for key in keys if len(keys) > 1 or active is None else ():
            yield ModelCard(id=key, root=key, parent=name, max_model_len=context)


def _active(registry: AdapterRegistry, name: str) -> str | None:
    """What a name without a version means; nothing where no version of it is active."""
    try:
        return registry.get_adapter(name).key
    except AdapterNotFoundError:
        return None
