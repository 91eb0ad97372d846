"""What SQLAlchemy and its drivers raise, as one clear sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import SQLAlchemyError, StatementError

from intrinsic.errors import RegistryError
from intrinsic.registry.store.location import Location

_REMEDIES = {
    "file is not a database": "name another file with --registry, or move this one away",
    "unable to open database file": "check that its folder exists and may be written to",
    "readonly database": "check who may write to the file and its folder",
    "database is locked": "another process has held it for long; end that one, or try again",
    "disk is full": "make room on the disk",
    "malformed": "restore it from a copy",
    "connection": "check that the server runs, its address and the user's rights",
    "permission denied": "grant the user the right to create and change tables there",
    "lock timeout": "another process has held it for long; end that one, or try again",
}


@contextmanager
def in_words(location: Location) -> Iterator[None]:
    """Turn the errors of SQLAlchemy, and of values that no database takes, into `RegistryError`."""
    try:
        yield
    except (SQLAlchemyError, UnicodeError, OverflowError) as error:
        if isinstance(own := getattr(error, "orig", None), RegistryError):
            raise own from None
        why = location.without_secrets(_reason(error))
        remedy = next((text for said, text in _REMEDIES.items() if said in why.lower()), "")
        raise RegistryError(
            f"the registry {location.shown} cannot do what was asked: {why}"
            + (f"; {remedy}" if remedy else "")
        ) from error


def _reason(error: Exception) -> str:
    """The driver's own words in one line, without the statement and its values."""
    said = str(error.orig) if isinstance(error, StatementError) else str(error)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return " ".join(lines) or type(error).__name__
