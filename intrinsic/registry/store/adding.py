"""A version added once, whoever tries; the next free number where it is taken."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import Connection, select

from intrinsic.errors import AdapterExistsError
from intrinsic.registry.store.changes import note
from intrinsic.registry.store.lookup import when
from intrinsic.registry.store.numbering import next_free
from intrinsic.registry.store.records import VersionRecord, values_of
from intrinsic.registry.store.schema import VERSIONS, insert_into


def add_version(connection: Connection, record: VersionRecord) -> None:
    """Add a version in a transaction; raise as `Versions.add` does, with nothing changed."""
    added = connection.execute(
        _insert(connection.dialect.name),
        values_of(record),
        execution_options={"preserve_rowcount": True},
    )
    if added.rowcount != 1:
        raise _taken(connection, record)
    detail = {"digest": record.digest, "path": str(record.path), "active": record.active}
    note(connection, record.id, "registered", **detail)


def refuse_taken(connection: Connection, record: VersionRecord) -> None:
    """Raise as `add_version` would, where name and version are taken already."""
    known = select(VERSIONS.c.id).where(
        VERSIONS.c.name == record.name, VERSIONS.c.version == record.version
    )
    if connection.execute(known).first() is not None:
        raise _taken(connection, record)


def refusal_of(connection: Connection, record: VersionRecord) -> AdapterExistsError | None:
    """Add a version; return why it was refused, None where it was not."""
    try:
        add_version(connection, record)
    except AdapterExistsError as error:
        return error
    return None


def _taken(connection: Connection, record: VersionRecord) -> AdapterExistsError:
    query = select(VERSIONS.c.version, VERSIONS.c.deleted_at)
    found = connection.execute(query.where(VERSIONS.c.name == record.name))
    taken = {row.version: row.deleted_at for row in found}
    deleted_at = taken[record.version]
    why = (
        f"was deleted on {when(deleted_at)}, and its number is not used again"
        if deleted_at is not None
        else "is registered already"
    )
    return AdapterExistsError(
        f"adapter {record.name!r} version {record.version!r} {why}; "
        f"the next free version is {next_free(record.version, taken)!r}"
    )


@cache
def _insert(dialect: str) -> Any:  # noqa: ANN401  the two have no type in common
    return insert_into(VERSIONS, dialect).on_conflict_do_nothing(index_elements=["name", "version"])
