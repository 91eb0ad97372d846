"""llama.cpp's list of adapters by number, with their scales."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from intrinsic.server.access import Admin, Plain, Serving
from intrinsic.server.fields import Factor
from intrinsic.server.refusals import refusals

router = APIRouter(tags=["llama.cpp"])


class ListedAdapter(BaseModel):
    """An adapter; `scale` is 0 unless it is active, `path` is within the folder of adapters."""

    id: int
    path: str
    scale: float


class Scale(BaseModel):
    """What an adapter is to be multiplied by; 0 is off."""

    id: Annotated[int, Field(ge=0, le=1_000_000)]
    scale: Factor = 0.0


class Applied(BaseModel):
    """That it was done."""

    success: bool = True


Scales = Annotated[list[Scale], Field(max_length=64)]


@router.get("/lora-adapters", summary="List adapters")
async def list_adapters(service: Serving, _: Plain) -> list[ListedAdapter]:
    """All adapters with their numbers, which they keep while the server runs."""
    registry = service.system.registry
    active = service.system.manager.get_active_adapters()
    return [
        ListedAdapter(
            id=number,
            path=service.adapters.folders.shown(registry.get_adapter(key).path),
            scale=active.get(key, 0.0),
        )
        for number, key in service.adapters.ids.all().items()
    ]


@router.post(
    "/lora-adapters", summary="Set the adapters' scales", responses=refusals(404, 409, 429)
)
async def set_scales(asked: Scales, service: Serving, _: Admin) -> Applied:
    """Make these the active adapters, with these scales; those that are not named are off.

    All or nothing, from the next request on; those that run keep what they started with.
    """
    scales = {service.adapters.ids.name_of(one.id): one.scale for one in asked}
    await service.system.manager.swap(scales)
    return Applied()
