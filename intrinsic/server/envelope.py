"""The one form of every error, which the clients of all protocols can read."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import BaseModel

ErrorType = Literal[
    "authentication_error",
    "permission_error",
    "not_found",
    "invalid_request",
    "conflict",
    "rate_limit_exceeded",
    "server_error",
]
TYPES: dict[int, ErrorType] = {
    400: "invalid_request",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found",
    405: "invalid_request",
    408: "server_error",
    409: "conflict",
    413: "invalid_request",
    429: "rate_limit_exceeded",
    500: "server_error",
    503: "server_error",
    504: "server_error",
}
assert set(TYPES.values()) == set(get_args(ErrorType))


class ErrorDetail(BaseModel):
    """What OpenAI's clients read."""

    message: str
    type: ErrorType
    code: str


class Envelope(BaseModel):
    """What every other client reads, with OpenAI's form inside."""

    status_code: int
    message: str
    detail: str
    error: ErrorDetail


class ApiError(Exception):
    """An answer other than success. `message` is one sentence, without a path of this machine."""

    def __init__(self, status: int, message: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}


def envelope(status: int, message: str) -> Envelope:
    """Build the body of an error."""
    kind = TYPES.get(status, "server_error" if status >= 500 else "invalid_request")
    detail = ErrorDetail(message=message, type=kind, code=kind)
    return Envelope(status_code=status, message=message, detail=message, error=detail)
