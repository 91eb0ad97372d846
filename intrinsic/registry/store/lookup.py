"""Finding versions by what people call them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TypeVar

from sqlalchemy import Connection, select

from intrinsic.errors import AdapterNotFoundError
from intrinsic.registry.store.records import RECORD, VersionRecord, record_of
from intrinsic.registry.store.schema import VERSIONS

_T = TypeVar("_T")
_AT_ONCE = 500
_LIVE = VERSIONS.c.deleted_at.is_(None)


def find(connection: Connection, key: str) -> VersionRecord:
    """The version `name@version`; of a name the active one, else the newest one.

    Of several active ones it is the newest. Raises `AdapterNotFoundError`, which says so where it
    was deleted.
    """
    name, at, version = key.partition("@")
    query = select(*RECORD).where(VERSIONS.c.name == name)
    if at:
        query = query.where(VERSIONS.c.version == version)
    row = connection.execute(
        query.order_by(
            VERSIONS.c.deleted_at.is_not(None),
            VERSIONS.c.active.desc(),
            VERSIONS.c.version_order.desc(),
            VERSIONS.c.version.desc(),
        ).limit(1)
    ).first()
    if row is None:
        raise _unknown(connection, name, version)
    return _not_deleted(record_of(row))


def find_id(connection: Connection, version_id: str, *, lock: bool = False) -> VersionRecord:
    """The version of that id, kept from other writers with `lock`; raises as `find` does."""
    query = select(*RECORD).where(VERSIONS.c.id == version_id)
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise AdapterNotFoundError(
            f"no adapter version has the id {version_id!r}; "
            "list them with 'intrinsic adapters list'"
        )
    return _not_deleted(record_of(row))


def records_of(connection: Connection, ids: Sequence[str]) -> dict[str, VersionRecord]:
    """The versions of these ids, deleted ones too, in any order; unknown ids are left out."""
    records = {}
    for some in in_parts(ids):
        for row in connection.execute(select(*RECORD).where(VERSIONS.c.id.in_(some))):
            records[row.id] = record_of(row)
    return records


def in_parts(ids: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Ids in lists that are short enough for one statement."""
    for start in range(0, len(ids), _AT_ONCE):
        yield ids[start : start + _AT_ONCE]


def ids_of(connection: Connection, key: str) -> list[str]:
    """All versions of a name, or the one `name@version`, deleted ones too.

    Raises `AdapterNotFoundError` where there are none.
    """
    name, at, version = key.partition("@")
    query = select(VERSIONS.c.id).where(VERSIONS.c.name == name)
    if at:
        query = query.where(VERSIONS.c.version == version)
    ids = list(connection.scalars(query))
    if not ids:
        raise _unknown(connection, name, version)
    return ids


def when(moment: datetime) -> str:
    """A moment as messages say it."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _not_deleted(record: VersionRecord) -> VersionRecord:
    if record.deleted_at is not None:
        raise AdapterNotFoundError(
            f"adapter {record.key!r} was deleted on {when(record.deleted_at)} and can be used no "
            "more; use another version, or register it anew as one"
        )
    return record


def _unknown(connection: Connection, name: str, version: str) -> AdapterNotFoundError:
    known = (
        select(VERSIONS.c.version)
        .where(VERSIONS.c.name == name, _LIVE)
        .order_by(VERSIONS.c.version_order, VERSIONS.c.version)
    )
    if version and (versions := list(connection.scalars(known))):
        listed = ", ".join(versions[-20:])
        return AdapterNotFoundError(f"adapter {name!r} has no version {version!r}; it has {listed}")
    names = connection.scalars(select(VERSIONS.c.name).where(_LIVE).distinct())
    return AdapterNotFoundError.of(f"{name}@{version}" if version else name, names)
