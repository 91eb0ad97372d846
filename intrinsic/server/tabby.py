"""TabbyAPI's management of LoRA adapters, under both of the route sets that its clients use."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import anyio.to_thread
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from intrinsic.registry.entry import CONFIG_NAME
from intrinsic.server.access import Admin, Plain, Serving
from intrinsic.server.active_set import clear_active, replace_active, shown
from intrinsic.server.envelope import ApiError
from intrinsic.server.fields import AdapterName, Factor
from intrinsic.server.refusals import refusals
from intrinsic.server.service import Service

router = APIRouter(tags=["TabbyAPI"])

OWNER = "intrinsic"


class LoraCard(BaseModel):
    """An adapter; `scaling` is null unless it is active, `created` in seconds of the epoch."""

    id: str
    object: Literal["lora"] = "lora"
    created: int
    owned_by: str = OWNER
    scaling: float | None = None


class LoraList(BaseModel):
    """Some adapters."""

    object: Literal["list"] = "list"
    data: list[LoraCard]


class LoraLoadInfo(BaseModel):
    """An adapter to load; without a scaling, as it was trained."""

    name: AdapterName
    scaling: Factor | None = 1.0


class LoraLoadRequest(BaseModel):
    """The adapters that are to be active, in place of those that are."""

    loras: list[LoraLoadInfo] = Field(max_length=64)
    skip_queue: bool = False


class LoraLoadResponse(BaseModel):
    """Which of the adapters are active now, and which could not be loaded."""

    success: list[str]
    failure: list[str]


@router.get("/v1/loras", summary="List adapters")
@router.get("/v1/lora/list", summary="List adapters")
async def list_loras(service: Serving, who: Plain) -> LoraList:
    """All adapters with an admin key, the active ones with a plain key."""
    return await (_all(service) if who.admin else _active(service))


@router.get("/v1/lora", summary="List active adapters")
@router.get("/v1/loras/active", summary="List active adapters")
async def list_active(service: Serving, _: Plain) -> LoraList:
    """The active adapters, which requests get that ask for nothing else."""
    return await _active(service)


@router.post("/v1/lora/load", summary="Load adapters", responses=refusals(404, 409, 429))
@router.post("/v1/loras/load", summary="Load adapters", responses=refusals(404, 409, 429))
async def load_loras(
    asked: LoraLoadRequest, request: Request, service: Serving, _: Admin
) -> LoraLoadResponse:
    """Replace the active adapters; one that cannot be loaded is in `failure`, the others count.

    It waits for the generations that run, unless `skip_queue`; a client that leaves gives it up.
    """
    if not asked.loras:
        raise ApiError(400, 'loras is empty; name adapters as {"name": ..., "scaling": 1.0}')
    wanted: dict[str, float] = {}
    for lora in asked.loras:
        if lora.name in wanted:
            raise ApiError(400, f"{lora.name!r} is named twice; add its scalings up")
        wanted[lora.name] = 1.0 if lora.scaling is None else lora.scaling
    waiting = None if asked.skip_queue else request
    done = await replace_active(service, wanted, waiting)
    return LoraLoadResponse(success=list(done.success), failure=list(done.failure))


@router.post("/v1/lora/unload", summary="Unload adapters", responses=refusals(429))
@router.delete("/v1/loras/active", summary="Unload adapters", responses=refusals(429))
async def unload_loras(service: Serving, _: Admin) -> None:
    """Take all active adapters away: the base model answers, exactly as without them."""
    await clear_active(service)


async def _all(service: Service) -> LoraList:
    entries = service.system.registry.all_versions()
    return await _cards(service, {entry.key: entry.path for entry in entries})


async def _active(service: Service) -> LoraList:
    registry = service.system.registry
    active = service.system.manager.get_active_adapters()
    return await _cards(service, {key: registry.get_adapter(key).path for key in active})


async def _cards(service: Service, paths: dict[str, Path]) -> LoraList:
    created = await anyio.to_thread.run_sync(_created, paths)
    active = service.system.manager.get_active_adapters()
    return LoraList(
        data=[
            LoraCard(
                id=shown(service.system.registry, key),
                created=created[key],
                scaling=active.get(key),
            )
            for key in paths
        ]
    )


def _created(paths: dict[str, Path]) -> dict[str, int]:
    """When each was written, in seconds of the epoch; 0 for one without files."""
    return {key: _written(path) for key, path in paths.items()}


def _written(path: Path) -> int:
    try:
        return int((path / CONFIG_NAME).stat().st_mtime)
    except OSError:
        return 0
