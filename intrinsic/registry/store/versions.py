"""The versions in the database: added, found, changed; each change is noted in the history."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Text, cast, select, update

from intrinsic.card import CARD_FIELDS, AdapterCard
from intrinsic.errors import AdapterExistsError, ConfigError
from intrinsic.registry.store.adding import add_version, refusal_of
from intrinsic.registry.store.changes import Change, Mark, changed_since, changes_of, marked, note
from intrinsic.registry.store.database import Database
from intrinsic.registry.store.lookup import find, find_id, ids_of, in_parts, records_of
from intrinsic.registry.store.records import (
    RECORD,
    LiveVersion,
    VersionRecord,
    card_of,
    card_values,
    now,
    record_of,
)
from intrinsic.registry.store.schema import VERSIONS


class Versions:
    """The versions of a database; one that was deleted stays known, and its number taken.

    Every change is all or nothing, and so is what the history says of it. All methods raise
    `RegistryError` where the database fails.
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    async def add(self, record: VersionRecord) -> VersionRecord:
        """Keep a new version.

        Raises `AdapterExistsError`, which names the next free version, where name and version are
        taken; of several processes that add one version at once exactly one succeeds.
        """
        await self._db.write(lambda connection: add_version(connection, record))
        return record

    async def add_many(
        self, records: Sequence[VersionRecord]
    ) -> tuple[AdapterExistsError | None, ...]:
        """Keep many in one transaction; say for each why it was refused, None where it was not."""

        def add_all(connection: Connection) -> tuple[AdapterExistsError | None, ...]:
            return tuple(refusal_of(connection, record) for record in records)

        return await self._db.write(add_all)

    async def get(self, key: str) -> VersionRecord:
        """Return `name@version`; of a name the newest active version, else the newest.

        Raises `AdapterNotFoundError`, which says so where it was deleted.
        """
        return await self._db.read(lambda connection: find(connection, key))

    async def by_ids(self, ids: Iterable[str]) -> dict[str, VersionRecord]:
        """Return the versions of these ids, deleted ones too; unknown ids are left out."""
        wanted = list(ids)
        return await self._db.read(lambda connection: records_of(connection, wanted))

    async def all_live(self, names: Collection[str] | None = None) -> tuple[LiveVersion, ...]:
        """Return all that are not deleted, by name and version, without their larger parts.

        With `names` those of these names alone.
        """
        return await self._db.read(lambda connection: _all_live(connection, names))

    async def mark(self) -> Mark:
        """How far the history goes now."""
        return await self._db.read(marked)

    async def changed_since(self, mark: Mark) -> dict[str, str] | None:
        """The names of the versions that have changed since, by id; None where it is not known."""
        return await self._db.read(lambda connection: changed_since(connection, mark))

    async def set_active(
        self, version_id: str, active: bool, *, only: bool = True
    ) -> tuple[VersionRecord, ...]:
        """Switch a version on or off and return those that changed, this one first.

        With `only`, one that is switched on switches the others of its name off. Raises
        `AdapterNotFoundError` for an unknown or a deleted one.
        """
        return await self._db.write(
            lambda connection: switch(connection, version_id, active=active, only=only)
        )

    async def rename(self, name: str, new_name: str) -> tuple[VersionRecord, ...]:
        """Give all versions of a name, deleted ones too, another one; return those that live.

        Raises `AdapterNotFoundError` for an unknown name, `AdapterExistsError` where the new one
        has versions, or had them, `ConfigError` where it is not valid.
        """
        return await self._db.write(lambda connection: _rename(connection, name, new_name))

    async def delete(self, version_id: str) -> VersionRecord:
        """Make a version unusable for ever; its row, history, use and feedback stay.

        Raises `AdapterNotFoundError` for an unknown one, or one that is deleted already.
        """

        def delete(connection: Connection) -> VersionRecord:
            record = find_id(connection, version_id, lock=True)
            deleted = replace(record, active=False, deleted_at=now())
            _set(connection, version_id, active=False, deleted_at=deleted.deleted_at)
            note(connection, version_id, "deleted", active=record.active)
            return deleted

        return await self._db.write(delete)

    async def history(self, key: str) -> tuple[Change, ...]:
        """Return the changes of `name@version`, or of all versions of a name, oldest first.

        Deleted ones too. Raises `AdapterNotFoundError`.
        """
        return await self._db.read(
            lambda connection: changes_of(connection, ids_of(connection, key))
        )

    async def update_card(self, version_id: str, card: AdapterCard) -> VersionRecord:
        """Replace a version's card, and note what of it changed.

        Raises `AdapterNotFoundError`, and `ConfigError` for another name or version.
        """

        def change(connection: Connection) -> VersionRecord:
            record = find_id(connection, version_id, lock=True)
            if card.key != record.key:
                raise ConfigError(
                    f"the card of {record.key!r} says {card.key!r}; name and version stay as "
                    "they are, a name is changed with 'intrinsic adapters rename'"
                )
            before = {key: getattr(record.card, key) for key in CARD_FIELDS}
            if changed := {k: v for k, v in before.items() if v != getattr(card, k)}:
                _set(connection, version_id, **card_values(card))
                note(connection, version_id, "card", before=changed)
            return replace(record, card=card)

        return await self._db.write(change)

    async def set_digest(
        self,
        version_id: str,
        digest: str,
        *,
        bytes: int | None = None,
        inspection: Mapping[str, Any] | None = None,
    ) -> VersionRecord:
        """Accept what a version's files are now; note the digest that they had, if it changed.

        Raises `AdapterNotFoundError`.
        """

        def change(connection: Connection) -> VersionRecord:
            record = find_id(connection, version_id, lock=True)
            changed = replace(
                record,
                digest=digest,
                bytes=record.bytes if bytes is None else bytes,
                inspection=record.inspection if inspection is None else inspection,
            )
            if changed != record:
                _set(
                    connection,
                    version_id,
                    digest=digest,
                    bytes=changed.bytes,
                    inspection=dict(changed.inspection),
                )
            if digest != record.digest:
                note(connection, version_id, "digest", before=record.digest, after=digest)
            return changed

        return await self._db.write(change)


def _set(connection: Connection, version_id: str, **values: object) -> None:
    connection.execute(update(VERSIONS).where(VERSIONS.c.id == version_id).values(**values))


def switch(
    connection: Connection, version_id: str, *, active: bool, only: bool
) -> tuple[VersionRecord, ...]:
    """Switch a version in a transaction, as `Versions.set_active` does."""
    name = find_id(connection, version_id).name
    others = {record.id: record for record in _locked(connection, name) if not record.is_deleted}
    this = others.pop(version_id, None) or find_id(connection, version_id)
    changed = [] if this.active == active else [replace(this, active=active)]
    if active and only:
        changed += [replace(other, active=False) for other in others.values() if other.active]
    for record in changed:
        _set(connection, record.id, active=record.active)
        because = {} if record.id == version_id else {"because": f"{this.key} was activated"}
        note(connection, record.id, "activated" if record.active else "deactivated", **because)
    return tuple(changed)


def _locked(connection: Connection, name: str) -> list[VersionRecord]:
    """All versions of a name, deleted ones too, kept from other writers; always in one order."""
    query = select(*RECORD).where(VERSIONS.c.name == name)
    ordered = query.order_by(VERSIONS.c.version_order, VERSIONS.c.version)
    return [record_of(row) for row in connection.execute(ordered.with_for_update())]


def _rename(connection: Connection, name: str, new_name: str) -> tuple[VersionRecord, ...]:
    if "@" in name:
        raise ConfigError(f"all versions of a name are renamed; pass the name alone of {name!r}")
    records = _locked(connection, name)
    if all(record.is_deleted for record in records):
        find(connection, name)  # which says that there is none, or that it was deleted
    renamed = [replace(one, card=replace(one.card, name=new_name)) for one in records]
    known = select(VERSIONS.c.id).where(VERSIONS.c.name == new_name).limit(1)
    if connection.execute(known).first() is not None:
        raise AdapterExistsError(
            f"adapter {name!r} cannot be renamed to {new_name!r}: there are versions of that name, "
            "or were; choose a name that was never used"
        )
    for record in renamed:
        _set(connection, record.id, **card_values(record.card))
        note(connection, record.id, "renamed", before=name, after=new_name)
    return tuple(record for record in renamed if not record.is_deleted)


def _all_live(connection: Connection, names: Collection[str] | None) -> tuple[LiveVersion, ...]:
    if names is None:
        return _live_where(connection)
    parts = in_parts(sorted(names))
    return tuple(
        one for some in parts for one in _live_where(connection, VERSIONS.c.name.in_(some))
    )


def _live_where(
    connection: Connection, *conditions: ColumnElement[bool]
) -> tuple[LiveVersion, ...]:
    small = (VERSIONS.c[key] for key in ("path", "base_model", "digest", "bytes", "active"))
    rows = connection.execute(
        select(VERSIONS.c.id, cast(VERSIONS.c.card, Text), *small)
        .where(VERSIONS.c.deleted_at.is_(None), *conditions)
        .order_by(VERSIONS.c.name, VERSIONS.c.version_order, VERSIONS.c.version)
    )
    found = rows.all()
    cards = json.loads(f"[{','.join(row[1] for row in found)}]")  # at once, which is quicker
    return tuple(
        LiveVersion(id_, card_of(card), Path(path), *rest)
        for card, (id_, _, path, *rest) in zip(cards, found, strict=True)
    )
