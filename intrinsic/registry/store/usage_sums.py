"""Sums of use: in memory since the last write, and in the database since ever."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, func, select

from intrinsic.registry.store.lookup import in_parts
from intrinsic.registry.store.schema import USAGE, VERSIONS, insert_into

_ADDED = (
    *("routed", "generated", "tokens", "confidence_sum", "confidence_count"),
    *("loads", "load_seconds"),
)


@dataclass(slots=True)
class Sum:
    """What a version was used for since the last write; times in seconds since 1970."""

    routed: int = 0
    generated: int = 0
    tokens: int = 0
    confidence_sum: float = 0.0
    confidence_count: int = 0
    loads: int = 0
    load_seconds: float = 0.0
    first_used: float | None = None
    last_used: float | None = None

    def use(self, at: float) -> None:
        """Note that it was used at that time."""
        if self.first_used is None:
            self.first_used = at
        self.last_used = at

    def add(self, later: Sum) -> None:
        """Add what came after it."""
        for name in _ADDED:
            setattr(self, name, getattr(self, name) + getattr(later, name))
        if later.first_used is not None and later.last_used is not None:
            self.use(later.first_used)
            self.use(later.last_used)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a version was used for since it was registered.

    `mean_confidence` is None where it was never routed to, `mean_load_seconds` where it was never
    loaded; the times of use are None where it was never used.
    """

    routed: int = 0
    generated: int = 0
    tokens: int = 0
    first_used: datetime | None = None
    last_used: datetime | None = None
    mean_confidence: float | None = None
    loads: int = 0
    load_seconds: float = 0.0

    @property
    def mean_load_seconds(self) -> float | None:
        """How long loading it took."""
        return self.load_seconds / self.loads if self.loads else None


def add_sums(connection: Connection, sums: Mapping[str, Sum]) -> None:
    """Add sums by version id to those in the database; ids that it does not know are left out."""
    known: list[str] = []
    for some in in_parts(sorted(sums)):  # in one order, so that writers never wait in a ring
        known += connection.scalars(select(VERSIONS.c.id).where(VERSIONS.c.id.in_(some)))
    if not known:
        return
    statement = insert_into(USAGE, connection.dialect.name)
    new = statement.excluded
    changes: dict[str, ColumnElement[Any]] = {name: USAGE.c[name] + new[name] for name in _ADDED}
    earlier = new.first_used < USAGE.c.first_used
    later = new.last_used > USAGE.c.last_used
    changes["first_used"] = _chosen(earlier, USAGE.c.first_used, new.first_used)
    changes["last_used"] = _chosen(later, USAGE.c.last_used, new.last_used)
    statement = statement.on_conflict_do_update(index_elements=["version_id"], set_=changes)
    connection.execute(statement, [_values(one, sums[one]) for one in sorted(known)])


def read_usage(connection: Connection, ids: Sequence[str]) -> dict[str, Usage]:
    """The use of these versions; of one that was never used, zeros."""
    found = dict.fromkeys(ids, Usage())
    for some in in_parts(ids):
        for row in connection.execute(select(USAGE).where(USAGE.c.version_id.in_(some))):
            mean = row.confidence_sum / row.confidence_count if row.confidence_count else None
            found[row.version_id] = Usage(
                routed=row.routed,
                generated=row.generated,
                tokens=row.tokens,
                first_used=row.first_used,
                last_used=row.last_used,
                mean_confidence=mean,
                loads=row.loads,
                load_seconds=row.load_seconds,
            )
    return found


def _chosen(
    holds: ColumnElement[bool], old: ColumnElement[Any], new: ColumnElement[Any]
) -> ColumnElement[Any]:
    """The new time where that holds or there was none."""
    return func.coalesce(case((holds, new), else_=old), new)


def _values(version_id: str, one: Sum) -> dict[str, Any]:
    return (
        {"version_id": version_id}
        | {name: getattr(one, name) for name in _ADDED}
        | {"first_used": _time(one.first_used), "last_used": _time(one.last_used)}
    )


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
