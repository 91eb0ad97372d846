"""The history of a version: one row per change, written in the transaction of the change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, func, insert, select

from intrinsic.registry.store.records import now
from intrinsic.registry.store.schema import HISTORY, VERSIONS

Event = Literal["registered", "activated", "deactivated", "renamed", "card", "digest", "deleted"]


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to a version, and when; `key` is its `name@version` of today."""

    version_id: str
    key: str
    at: datetime
    event: str
    detail: Mapping[str, Any]


_LATE = 1000
"""On PostgreSQL a change may be seen later than one with a higher number."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How far the history has been read: how many changes there were, and the last one's number."""

    count: int = 0
    last: int = 0


def marked(connection: Connection) -> Mark:
    """How far the history goes now."""
    row = connection.execute(select(func.count(), func.max(HISTORY.c.id))).one()
    return Mark(row[0], row[1] or 0)


def changed_since(connection: Connection, mark: Mark) -> dict[str, str] | None:
    """The names of the versions that have changed since, by id; None where it cannot be told."""
    if marked(connection).count < mark.count:  # somebody cut the history by hand
        return None
    rows = connection.execute(
        select(VERSIONS.c.id, VERSIONS.c.name)
        .join(HISTORY, VERSIONS.c.id == HISTORY.c.version_id)
        .where(HISTORY.c.id > mark.last - _LATE)
        .distinct()
    )
    return {row.id: row.name for row in rows}


def note(connection: Connection, version_id: str, event: Event, **detail: object) -> None:
    """Add a change to the history of a version."""
    row = {"version_id": version_id, "at": now(), "event": event, "detail": detail}
    connection.execute(insert(HISTORY), row)


def changes_of(connection: Connection, ids: Sequence[str]) -> tuple[Change, ...]:
    """The history of these versions, oldest first."""
    rows = connection.execute(
        select(HISTORY, VERSIONS.c.name, VERSIONS.c.version)
        .join(VERSIONS, VERSIONS.c.id == HISTORY.c.version_id)
        .where(HISTORY.c.version_id.in_(ids))
        .order_by(HISTORY.c.id)
    )
    return tuple(
        Change(row.version_id, f"{row.name}@{row.version}", row.at, row.event, row.detail)
        for row in rows
    )
