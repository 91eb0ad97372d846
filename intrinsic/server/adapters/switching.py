"""Adapters switched on and off, renamed and deleted, while requests run."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter

from intrinsic.manager.life_cycle import LifeCycle
from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.store.records import VersionRecord
from intrinsic.server.access import Admin, Serving
from intrinsic.server.adapters.asked import Activate, Named, Rename
from intrinsic.server.adapters.told import Activated, Deactivated, Deleted, Renamed, catalog_of
from intrinsic.server.envelope import ApiError
from intrinsic.server.refusals import refusals
from intrinsic.server.service import Service

router = APIRouter(tags=["adapters"])


@router.post(
    "/v1/adapters/{name:path}/activate",
    summary="Offer an adapter to routing",
    responses=refusals(404, 409),
)
async def activate(
    name: Named, service: Serving, _: Admin, asked: Activate | None = None
) -> Activated:
    """Offer a version from the next request on; other versions of its name are switched off."""
    asked = asked or Activate()
    catalog = catalog_of(service)
    record = await catalog.get(name)
    before = await _active(catalog, record.name)
    cycle = LifeCycle(catalog, service.system.manager)
    done = await cycle.activate(record.key, only=not asked.keep_others, preload=asked.preload)
    after = await _active(catalog, record.name)
    off = [key for key in before if key not in after]
    for key in off:
        _let_go(service, catalog, key)
    why = service.scrub(done.why)
    return Activated(activated=done.record.key, deactivated=off, near=done.near, why=why)


@router.post(
    "/v1/adapters/{name:path}/deactivate",
    summary="Offer an adapter to routing no more",
    responses=refusals(404, 409),
)
async def deactivate(name: Named, service: Serving, _: Admin) -> Deactivated:
    """Switch a version off, or all of a name; requests that run finish with it."""
    catalog = catalog_of(service)
    record = await catalog.get(name)
    active = await _active(catalog, record.name)
    keys = active if name == record.name else [key for key in active if key == record.key]
    for key in keys:
        await catalog.deactivate(key)
        _let_go(service, catalog, key)
    return Deactivated(deactivated=keys)


@router.post(
    "/v1/adapters/{name:path}/rename",
    summary="Give an adapter another name",
    responses=refusals(404, 409),
)
async def rename(name: Named, asked: Rename, service: Serving, _: Admin) -> Renamed:
    """Give all versions of a name another one, which was never used."""
    catalog = catalog_of(service)
    if asked.new_name in service.reserved:
        raise ApiError(400, f"{asked.new_name!r} cannot be the name of an adapter; use another")
    near = [key for key in service.system.manager.get_near_adapters() if key.startswith(f"{name}@")]
    renamed = await catalog.rename(name, asked.new_name)
    for key in sorted(near):
        _let_go(service, catalog, key)
    return Renamed(renamed=[record.key for record in renamed])


@router.delete(
    "/v1/adapters/{name:path}", summary="Delete an adapter", responses=refusals(404, 409)
)
async def delete(name: Named, service: Serving, _: Admin) -> Deleted:
    """Make a version unusable for ever; its history, use and feedback stay, and its files.

    A name alone is enough where it has one version.
    """
    catalog = catalog_of(service)
    record = await _one_version(catalog, name)
    await catalog.delete(record.key)
    _let_go(service, catalog, record.key)
    return Deleted(deleted=record.key)


def _let_go(service: Service, catalog: AdapterCatalog, key: str) -> None:
    """Have an adapter leave memory when its requests have ended, unless it is on again."""
    retire = partial(service.system.manager.retire, key, unless=lambda: catalog.live.is_active(key))
    service.system.bus.start_background(retire)


async def _active(catalog: AdapterCatalog, name: str) -> list[str]:
    return [one.key for one in await catalog.versions.all_live([name]) if one.active]


async def _one_version(catalog: AdapterCatalog, name: str) -> VersionRecord:
    record = await catalog.get(name)
    versions = await catalog.versions.all_live([record.name])
    if name != record.key and len(versions) > 1:
        listed = ", ".join(sorted(one.key for one in versions))
        raise ApiError(400, f"{name} has {len(versions)} versions; name one of {listed}")
    return record
