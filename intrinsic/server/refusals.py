"""What is not answered as asked: with which status, in which words."""

from __future__ import annotations

import http
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from intrinsic import errors
from intrinsic.server.access import caller_of
from intrinsic.server.envelope import ApiError, Envelope, envelope
from intrinsic.server.request_queue import RETRY_AFTER_S
from intrinsic.server.service import Service, service_of

logger = logging.getLogger("intrinsic.server")

STATUSES: tuple[tuple[type[errors.IntrinsicError], int], ...] = (
    (errors.AdapterNotFoundError, 404),
    (errors.AdapterExistsError, 409),
    (errors.AdapterInUseError, 409),
    (errors.AdapterNotLoadedError, 409),
    (errors.IncompatibleAdapterError, 409),
    (errors.AdapterError, 400),
    (errors.CapacityError, 429),
    (errors.BusFullError, 429),
    (errors.BusClosedError, 503),
    (errors.EncoderError, 503),
    (errors.RegistryError, 503),
    (errors.MixtureError, 400),
    (errors.EventError, 400),
    (errors.ConfigError, 400),
    (errors.BackendError, 400),
    (errors.HypernetError, 400),
)
"""Of intrinsic's own errors; the first that an error is one of counts, any other is a 500."""

_WORDS = {
    "dict_type": "input should be an object",
    "model_type": "input should be an object",
    "model_attributes_type": "input should be an object",
    "bool_parsing": "input should be true or false",
}
"""For faults whose usual words are about Python."""

_SENTENCES = {
    "There was an error parsing the body": "the body cannot be read; send JSON, in UTF-8 and not "
    "nested without end",
    "Not Found": "there is no such route; /docs lists all",
    "Method Not Allowed": "this route does not take that method; /docs lists those that it takes",
}
"""For what the framework says in the words of the status alone."""

INTERNAL = "the server could not answer this request; its log says why, under request id {}"


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route's `responses` say of the statuses that are its own.

    Those that any route can give, and 401 and 403 where a key is needed, are added to all.
    """
    return {
        status: {"model": Envelope, "description": http.HTTPStatus(status).phrase}
        for status in statuses
    }


def refusal(error: BaseException, request_id: str = "") -> ApiError:
    """The answer to an error; one that nobody foresaw is told with its traceback to the log."""
    error = _only(error)
    if isinstance(error, ApiError):
        return error
    if isinstance(error, RequestValidationError):
        return ApiError(400, _faults(error))
    if isinstance(error, HTTPException):
        return ApiError(error.status_code, _said(error), headers=dict(error.headers or {}))
    for kind, status in STATUSES:
        if isinstance(error, kind):
            headers = {"Retry-After": str(RETRY_AFTER_S)} if status in (429, 503) else {}
            return ApiError(status, str(error), headers=headers)
    logger.error("request %s failed", request_id, exc_info=error)
    return ApiError(500, INTERNAL.format(request_id))


async def answer_error(request: Request, error: Exception) -> Response:
    """The handler of every error that a route raises."""
    service = service_of(request)
    if isinstance(error, RequestValidationError | HTTPException) and _is_of_body(error):
        error = _stranger(request, service) or error
    refused = refusal(error, request.scope["state"]["account"].request_id)
    return error_response(refused.status, service.scrub(refused.message), headers=refused.headers)


def _is_of_body(error: RequestValidationError | HTTPException) -> bool:
    return isinstance(error, RequestValidationError) or error.status_code == 400


def _stranger(request: Request, service: Service) -> ApiError | None:
    """What is wrong with the key of a request; a body is read before its route asks for one."""
    try:
        caller_of(request.headers, service.keys)
    except ApiError as refused:
        return refused
    return None


def error_response(
    status: int, message: str, *, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The one form of every answer other than success."""
    return JSONResponse(envelope(status, message).model_dump(), status, headers=headers)


def _only(error: BaseException) -> BaseException:
    """The one error in groups of one, or the first of those that are no fault of the server's."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = list(_leaves(error))
    ours = [leaf for leaf in leaves if isinstance(leaf, ApiError | errors.IntrinsicError)]
    return ours[0] if len(ours) == len(leaves) else error


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _said(error: HTTPException) -> str:
    """A sentence where the framework has but the status' name."""
    return _SENTENCES.get(str(error.detail), str(error.detail))


def _faults(error: RequestValidationError) -> str:
    """The first fault in a sentence, and how many others there are."""
    faults = error.errors()
    first = faults[0]
    where = [str(part) for part in first["loc"]]
    place, path = where[0], ".".join(where[1:])
    if first["type"] == "json_invalid":
        return f"the body is not valid JSON: {first['ctx']['error']}, at position {path}"
    if where == ["body"] and isinstance(first.get("input"), bytes):
        return "the body was not read; send JSON, with 'Content-Type: application/json'"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"{path} ({place}) is not known here; /docs lists what this route takes{more}"
    usual = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
    message = _WORDS.get(first["type"], usual)
    message = message[:1].lower() + message[1:]
    if not path:
        return f"the {place} is not valid: {message}{more}"
    return f"{path} ({place}) is not valid: {message}{more}"
