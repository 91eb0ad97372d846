"""Versions added and switched on in one transaction: a kill leaves both, or neither."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from sqlalchemy import Connection, select, text

from intrinsic.errors import AdapterExistsError
from intrinsic.registry.store.adding import refusal_of
from intrinsic.registry.store.lookup import in_parts
from intrinsic.registry.store.numbering import version_order
from intrinsic.registry.store.records import VersionRecord
from intrinsic.registry.store.schema import VERSIONS
from intrinsic.registry.store.versions import switch

_LOCK_KEY = 0x696E7472696E7274  # "intrinrt": the advisory lock of those who add versions


def enter(connection: Connection, record: VersionRecord, activate: bool | None) -> VersionRecord:
    """Add a version and return it as it is kept; raise as `Versions.add` does.

    With `activate` it is switched on, and the others of its name off; with None it is switched on
    where there is no other version of its name.
    """
    (refusal,) = enter_many(connection, [record], activate)
    if refusal is not None:
        raise refusal
    active = connection.scalar(select(VERSIONS.c.active).where(VERSIONS.c.id == record.id))
    return replace(record, active=bool(active))


def enter_many(
    connection: Connection, records: Sequence[VersionRecord], activate: bool | None
) -> tuple[AdapterExistsError | None, ...]:
    """Add versions; say for each why it was refused, None where it was not.

    With `activate` the newest that was added of every name is switched on, and the others of the
    name off; with None that is done for names of which there was no version, or only deleted ones.
    """
    _lock_out_others(connection)
    known = set() if activate else _live_names(connection, {one.name for one in records})
    refusals = tuple(refusal_of(connection, record) for record in records)
    if activate is not False:
        added = (r for r, why in zip(records, refusals, strict=True) if why is None)
        for record in newest_of_each(one for one in added if one.name not in known):
            switch(connection, record.id, active=True, only=True)
    return refusals


def _lock_out_others(connection: Connection) -> None:
    """Until the transaction ends nobody else finds that a name has no version yet."""
    if connection.dialect.name == "postgresql":  # SQLite's writers exclude each other anyway
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})


def _live_names(connection: Connection, names: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for some in in_parts(list(names)):
        query = select(VERSIONS.c.name).where(VERSIONS.c.name.in_(some))
        found.update(connection.scalars(query.where(VERSIONS.c.deleted_at.is_(None)).distinct()))
    return found


def newest_of_each(records: Iterable[VersionRecord]) -> list[VersionRecord]:
    """Return of every name the record of the newest version."""
    newest: dict[str, VersionRecord] = {}
    for record in records:
        newest[record.name] = max(newest.get(record.name, record), record, key=_place)
    return list(newest.values())


def _place(record: VersionRecord) -> tuple[str, str]:
    return version_order(record.version), record.version
