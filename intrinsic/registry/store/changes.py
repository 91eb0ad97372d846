"""The history of a version: one row per change, written in the transaction of the change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, insert, select

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
