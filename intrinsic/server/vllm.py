"""vLLM's calls that load and unload adapters while the server runs."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

from intrinsic.server.access import Admin, Serving
from intrinsic.server.envelope import ApiError
from intrinsic.server.fields import Line, ServerPath
from intrinsic.server.refusals import refusals

router = APIRouter(tags=["vLLM"], default_response_class=PlainTextResponse)


class LoadLoraAdapter(BaseModel):
    """A name for the adapter in a folder, which is one of the server's or lies in one."""

    lora_name: Line | None = None
    lora_path: ServerPath | None = None
    load_inplace: bool = False


class UnloadLoraAdapter(BaseModel):
    """The adapter that is to go."""

    lora_name: Line | None = None


@router.post(
    "/v1/load_lora_adapter",
    summary="Load an adapter",
    responses=refusals(404, 409, 429),
)
async def load_lora_adapter(asked: LoadLoraAdapter, service: Serving, _: Admin) -> str:
    """Offer the adapter in a folder under a name, until it is unloaded or the server ends.

    `load_inplace` replaces what an earlier call loaded under that name.
    """
    name, path = asked.lora_name, asked.lora_path
    if not name or not path:
        raise ApiError(400, "Both 'lora_name' and 'lora_path' must be provided.")
    if name in service.reserved:
        raise ApiError(400, f"'{name}' is not the name of an adapter here; use another name")
    await service.adapters.runtime.load(name, path, in_place=asked.load_inplace)
    return f"Success: LoRA adapter '{name}' added successfully."


@router.post(
    "/v1/unload_lora_adapter",
    summary="Unload an adapter",
    responses=refusals(404, 409),
)
async def unload_lora_adapter(asked: UnloadLoraAdapter, service: Serving, _: Admin) -> str:
    """Offer an adapter no more; requests that run finish with it."""
    if not asked.lora_name:
        raise ApiError(400, "'lora_name' needs to be provided to unload a LoRA adapter.")
    await service.adapters.runtime.unload(asked.lora_name)
    return f"Success: LoRA adapter '{asked.lora_name}' removed successfully."
