"""Adapters registered, and their cards changed."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter

from intrinsic.registry.registering import Newcomer
from intrinsic.server.access import Admin, Serving
from intrinsic.server.adapters.asked import CardChange, Named, Registration
from intrinsic.server.adapters.told import Adapter, catalog_of, of_record
from intrinsic.server.envelope import ApiError
from intrinsic.server.refusals import refusals

router = APIRouter(tags=["adapters"])


@router.post(
    "/v1/adapters",
    summary="Register an adapter",
    status_code=201,
    responses=refusals(404, 409),
)
async def register(asked: Registration, service: Serving, _: Admin) -> Adapter:
    """Check the adapter in a folder of the server, and keep it as a new version."""
    catalog = catalog_of(service)
    if asked.name in service.reserved:
        raise ApiError(400, f"{asked.name!r} cannot be the name of an adapter; use another")
    newcomer = Newcomer(
        await service.adapters.folders.find(asked.path),
        asked.name,
        asked.version,
        asked.base_model,
        asked.domain,
        asked.description,
        asked.keywords,
        asked.examples,
        only_a_name=True,
    )
    record = await catalog.register(newcomer, copy=asked.copy_files, activate=asked.activate)
    return Adapter(**of_record(service, record))


@router.patch(
    "/v1/adapters/{name:path}",
    summary="Change an adapter's card",
    responses=refusals(404, 409),
)
async def change_card(name: Named, asked: CardChange, service: Serving, _: Admin) -> Adapter:
    """Replace the fields that are given; the card in the adapter's files stays as it is."""
    catalog = catalog_of(service)
    record = await catalog.get(name)
    fields = {field: getattr(asked, field) for field in asked.model_fields_set}
    changed = replace(record.card, **fields)
    if changed != record.card:
        record = await catalog.update_card(record.key, changed)
    return Adapter(**of_record(service, record))
