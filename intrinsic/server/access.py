"""Who asks: nobody known, the holder of a plain key, or that of an admin key."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import Headers

from intrinsic.server.envelope import ApiError
from intrinsic.server.keys import Keys
from intrinsic.server.service import Service, service_of

HEADERS = ("x-admin-key", "x-api-key")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `admin` may change what others get."""

    admin: bool


async def caller(request: Request) -> Caller:
    """Who asks. Raises a 401 without a key that is known."""
    return caller_of(request.headers, service_of(request).keys)


def caller_of(headers: Headers, keys: Keys | None) -> Caller:
    """Who sent those headers. Raises a 401 where no known key is among them."""
    if keys is None:
        return Caller(admin=True)
    given = [headers[name] for name in HEADERS if name in headers]
    bearer = headers.get("authorization", "")
    if bearer[:7].lower() == "bearer ":
        given.append(bearer[7:].strip())
    if not given:
        raise ApiError(
            401,
            "no API key was given; send one as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'",
            headers={"WWW-Authenticate": "Bearer"},
        )
    admin = [_same(key, keys.admin_key) for key in given]  # each is compared, in constant time
    plain = [_same(key, keys.api_key) for key in given]
    if not any(admin + plain):
        raise ApiError(
            401,
            "that API key is not known; the keys are in the server's key file",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return Caller(admin=any(admin))


async def admin(who: Annotated[Caller, Depends(caller)]) -> Caller:
    """Who asks, with an admin key. Raises a 403 without."""
    if not who.admin:
        raise ApiError(403, "this needs the admin key; the key that was given is a plain one")
    return who


async def _service(request: Request) -> Service:
    return service_of(request)


def _same(given: str, known: str) -> bool:
    return hmac.compare_digest(given.encode(), known.encode())


Plain = Annotated[Caller, Depends(caller)]
"""A route with a parameter of this type needs a key."""
Admin = Annotated[Caller, Depends(admin)]
"""A route with a parameter of this type needs an admin key."""
Serving = Annotated[Service, Depends(_service)]
"""A route with a parameter of this type gets the service."""
