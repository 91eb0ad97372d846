"""The documentation of every route, with every answer that it can give."""

from __future__ import annotations

import http
from collections.abc import Iterator, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from intrinsic.server.access import admin, caller

_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "x-admin-key": {"type": "apiKey", "in": "header", "name": "X-Admin-Key"},
}
_ANY = (400, 500, 503, 504)
_OF_BODIES = (413,)
_WITH_BODY = ("post", "put", "patch", "delete")


def document(app: FastAPI, routers: Sequence[APIRouter], *, keys: bool) -> None:
    """Have the application document itself, with its refusals; with `keys` it asks for one."""

    def openapi() -> dict[str, Any]:
        if not app.openapi_schema:
            app.openapi_schema = _documentation(app, routers, keys=keys)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _documentation(app: FastAPI, routers: Sequence[APIRouter], *, keys: bool) -> dict[str, Any]:
    made = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
    )
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas.update(_ENVELOPE)
    if keys:
        made["components"]["securitySchemes"] = _SCHEMES
    for path, method, route in _operations(routers):
        operation = made["paths"].get(path, {}).get(method)
        if operation is None:
            continue
        responses = operation["responses"]
        responses.pop("422", None)
        asked = set(_calls(route.dependant)) if keys else set()
        statuses = [*_ANY, *(_OF_BODIES if method in _WITH_BODY else ())]
        if caller in asked:
            operation["security"] = [{name: []} for name in _SCHEMES]
            statuses.append(401)
        if admin in asked or not keys:  # without keys, to a foreign web page
            statuses.append(403)
        statuses += [int(status) for status in responses if status >= "400"]
        responses.update({str(status): _refused(status) for status in statuses})
        operation["responses"] = dict(sorted(responses.items()))
    return made


def _operations(routers: Sequence[APIRouter]) -> Iterator[tuple[str, str, APIRoute]]:
    for router in routers:
        for route in router.routes:
            assert isinstance(route, APIRoute), f"{route} is no route; list its router in ROUTERS"
            for method in route.methods or ():
                yield route.path_format, method.lower(), route


def _calls(dependant: Dependant) -> Iterator[object]:
    yield dependant.call
    for inner in dependant.dependencies:
        yield from _calls(inner)


def _refused(status: int) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Envelope"}
    return {
        "description": http.HTTPStatus(status).phrase,
        "content": {"application/json": {"schema": schema}},
    }


def _schemas() -> dict[str, Any]:
    from intrinsic.server.envelope import Envelope

    schema = Envelope.model_json_schema(ref_template="#/components/schemas/{model}")
    inner = schema.pop("$defs")
    return {"Envelope": schema, **inner}


_ENVELOPE = _schemas()
