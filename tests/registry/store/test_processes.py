"""Several processes on one database: nobody adds what another one has added."""

from __future__ import annotations

import anyio
from sqlalchemy import func, select

from intrinsic.registry.store.database import Database
from intrinsic.registry.store.schema import HISTORY, VERSIONS
from tests.registry.store.child import COUNT
from tests.registry.store.making import run_at_once


def test_a_fresh_database_is_opened_by_many_and_each_version_is_added_by_one(where: str) -> None:
    said = run_at_once([where], processes=3)
    added = [one for ids in said for one in ids]
    assert len(added) == len(set(added)) == COUNT
    _check_kept(where, set(added))


def _check_kept(where: str, added: set[str]) -> None:
    async def main() -> None:
        async with Database(where) as database:
            kept = await database.read(lambda c: set(c.scalars(select(VERSIONS.c.id))))
            changes = await database.read(
                lambda c: c.scalar(select(func.count()).select_from(HISTORY))
            )
        assert kept == added
        assert changes == COUNT

    anyio.run(main)
