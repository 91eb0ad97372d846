"""What people say of outputs, kept and compared."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.compared import compare_versions
from intrinsic.server.access import Plain, Serving
from intrinsic.server.adapters.asked import Named, Prefer, Rate
from intrinsic.server.adapters.told import ComparisonOut, Preferred, Rated, catalog_of
from intrinsic.server.envelope import ApiError
from intrinsic.server.fields import AdapterName
from intrinsic.server.refusals import refusals

router = APIRouter(tags=["adapters"])

BASE = "base"
"""The word for the base model alone; an adapter of that name is meant by `base@VERSION`."""

Versions = Annotated[list[AdapterName], Field(max_length=20), Query()]


@router.get(
    "/v1/adapters/{name:path}/compare",
    summary="Compare versions by feedback",
    responses=refusals(404, 409),
)
async def compare(
    name: Named,
    service: Serving,
    _: Plain,
    version: Versions = [],  # noqa: B006
) -> ComparisonOut:
    """Put what people say of versions side by side: those named, `name@version` of others, or all.

    It says which differences are significant.
    """
    catalog = catalog_of(service)
    if "@" in name:
        raise ApiError(400, f"{name!r} has a version; name versions as ?version=1&version=2")
    found = await compare_versions(catalog, name, version)
    return ComparisonOut(**found.as_json())


@router.post(
    "/v1/adapters/{name:path}/rate",
    summary="Rate an output",
    responses=refusals(404, 409),
)
async def rate(name: Named, asked: Rate, service: Serving, _: Plain) -> Rated:
    """Keep what somebody thinks of an output of a version, or of `base`."""
    catalog = catalog_of(service)
    key, version_id = await _found(catalog, name)
    number = await catalog.feedback.rate(
        version_id,
        asked.rating,
        asked.criteria,
        asked.tags,
        asked.prompt,
        asked.output,
        asked.rater,
    )
    return Rated(adapter=key, rating=asked.rating, id=number)


@router.post("/v1/adapters/prefer", summary="Prefer an output", responses=refusals(404, 409))
async def prefer(asked: Prefer, service: Serving, _: Plain) -> Preferred:
    """Keep which of two versions, or `base`, answered a prompt better."""
    catalog = catalog_of(service)
    a, a_id = await _found(catalog, asked.a)
    b, b_id = await _found(catalog, asked.b)
    if a_id == b_id:
        raise ApiError(400, f"{asked.a} and {asked.b} are both {a}; name two versions")
    said = await catalog.feedback.prefer(a_id, b_id, asked.outcome, asked.prompt, asked.rater)
    return Preferred(a=a, b=b, outcome=asked.outcome, id=said)


async def _found(catalog: AdapterCatalog, name: str) -> tuple[str, str | None]:
    if name == BASE:
        return BASE, None
    record = await catalog.get(name)
    return record.key, record.id
