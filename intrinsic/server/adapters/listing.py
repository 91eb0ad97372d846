"""Adapters listed and looked at."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Any

from fastapi import APIRouter, Query

from intrinsic.registry import AdapterEntry
from intrinsic.registry.details import Details, details_of, iso
from intrinsic.registry.store.listing import ListQuery
from intrinsic.server.access import Plain, Serving
from intrinsic.server.adapters.asked import ListFilter, Named
from intrinsic.server.adapters.told import (
    Adapter,
    AdapterDetails,
    AdapterPage,
    Change,
    History,
    Statistics,
    catalog_of,
    of_entry,
    of_record,
    scrubbed,
)
from intrinsic.server.envelope import ApiError
from intrinsic.server.refusals import refusals
from intrinsic.server.service import Service

router = APIRouter(tags=["adapters"])


@router.get("/v1/adapters", summary="List adapters", responses=refusals(409))
async def list_adapters(
    asked: Annotated[ListFilter, Query()], service: Serving, _: Plain
) -> AdapterPage:
    """A page of the versions in the registry, or of the adapters in the folder without one."""
    catalog = service.system.catalog
    if catalog is None:
        found, total = _of_folder(service, asked)
        rows = [Adapter(**of_entry(service, entry)) for entry in found]
    else:
        said = asked.model_dump()
        page = await catalog.list(ListQuery(include_deleted=said.pop("deleted"), **said))
        rows = [Adapter(**of_record(service, record)) for record in page.records]
        total = page.total
    return AdapterPage(data=rows, total=total, offset=asked.offset, limit=asked.limit)


@router.get(
    "/v1/adapters/{name:path}/history",
    summary="What happened to an adapter",
    responses=refusals(404, 409),
)
async def history(name: Named, service: Serving, _: Plain) -> History:
    """What happened to a version, or to all of a name, deleted ones too, oldest first."""
    changes = []
    for one in await catalog_of(service).history(name):
        of, _sep, version = one.key.partition("@")
        detail = scrubbed(one.detail, service.scrub)
        at = iso(one.at) or ""
        changes.append(Change(at=at, name=of, version=version, event=one.event, detail=detail))
    return History(data=changes)


@router.get(
    "/v1/adapters/{name:path}/statistics",
    summary="What an adapter was used for",
    responses=refusals(404),
)
async def statistics(name: Named, service: Serving, _: Plain) -> Statistics:
    """How often it was routed to and generated with, what people say, and its bytes."""
    catalog = service.system.catalog
    known: dict[str, Any] = {}
    if catalog is None:
        key = service.system.registry.get_adapter(name).key
    else:
        details = await details_of(catalog, name)
        key = details.record.key
        known = {field: details.as_json()[field] for field in ("usage", "feedback")}
    stats = service.system.manager.get_stats()
    return Statistics(
        key=key,
        device_bytes=stats["bytes_by_adapter"].get(key, 0),
        host_bytes=stats["host_bytes_by_adapter"].get(key, 0),
        **known,
    )


@router.get("/v1/adapters/{name:path}", summary="An adapter", responses=refusals(404))
async def show(name: Named, service: Serving, who: Plain) -> AdapterDetails:
    """Everything that is known of a version."""
    catalog = service.system.catalog
    if catalog is None:
        return AdapterDetails(**of_entry(service, service.system.registry.get_adapter(name)))
    details = await details_of(catalog, name)
    return AdapterDetails(
        **of_record(service, details.record), **_more(service, details, admin=who.admin)
    )


def _more(service: Service, details: Details, *, admin: bool) -> dict[str, Any]:
    said = details.as_json()
    files = ("rank", "layers", "kinds", "dtype", "base_revision", "base_signature")
    return {
        "files": scrubbed({field: said[field] for field in files}, service.scrub),
        "provenance": scrubbed(said["provenance"], service.scrub)
        if admin and said["provenance"] is not None
        else None,
        "usage": said["usage"],
        "feedback": said["feedback"],
    }


def _of_folder(service: Service, asked: ListFilter) -> tuple[list[AdapterEntry], int]:
    """The page of what lies in a folder, and how many there are. Raises a 409."""
    if asked.trained_here is not None or asked.sort in ("created", "bytes"):
        raise ApiError(
            409,
            "trained_here, and the order by created or bytes, need a registry; this server has a "
            "folder of adapters",
        )
    registry = service.system.registry
    found = [
        entry
        for entry in registry.all_versions()
        if (asked.active is None or registry.is_active(entry.key) == asked.active)
        and (asked.domain is None or entry.card.domain.lower() == asked.domain.lower())
        and (asked.base_model is None or entry.base_model == asked.base_model)
        and (asked.name is None or _matches(entry.name, asked.name))
    ]
    if asked.sort == "domain":
        found.sort(key=lambda entry: entry.card.domain)
    if asked.descending:
        found.reverse()
    return found[asked.offset : asked.offset + asked.limit], len(found)


def _matches(name: str, pattern: str) -> bool:
    """Only `*` and `?` are special, as in a registry; it takes no longer for many of them."""
    return fnmatchcase(name, pattern.replace("[", "[[]"))
