"""The migrations make the schema of `schema.py`, exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text

from intrinsic.registry.store import migrating
from intrinsic.registry.store.database import Database
from intrinsic.registry.store.schema import METADATA
from tests.bus.backends import both_backends


@both_backends
async def test_nothing_is_left_to_migrate(where: str) -> None:
    def difference(connection: Connection) -> list[Any]:
        options = {"version_table": migrating.VERSION_TABLE, "compare_type": True}
        found: list[Any] = compare_metadata(
            MigrationContext.configure(connection, opts=options), METADATA
        )
        return found

    async with Database(where) as database:
        assert await database.read(difference) == []


@both_backends
async def test_the_tables_are_those_of_the_schema_to_the_letter(tmp_path: Path) -> None:
    """Constraints too, which Alembic does not compare."""
    statements = text("SELECT sql FROM sqlite_master WHERE tbl_name != :own AND sql IS NOT NULL")

    def tables(connection: Connection) -> set[str]:
        found = connection.scalars(statements, {"own": migrating.VERSION_TABLE})
        return {"\n".join(sorted(part.strip(" ,") for part in sql.split("\n"))) for sql in found}

    engine = create_engine(f"sqlite:///{tmp_path / 'plain.db'}")
    with engine.begin() as connection:
        METADATA.create_all(connection)
        expected = tables(connection)
    engine.dispose()
    async with Database(tmp_path / "registry.db") as database:
        assert await database.read(tables) == expected


@both_backends
async def test_sorted_text_is_compared_byte_by_byte(postgresql_url: str) -> None:
    names = "'name', 'version', 'version_order', 'domain', 'base_model'"
    query = (
        "SELECT DISTINCT collation_name FROM information_schema.columns WHERE table_schema = "
        f"current_schema AND table_name = 'versions' AND column_name IN ({names})"
    )
    async with Database(postgresql_url) as database:
        assert await database.read(lambda c: c.scalars(text(query)).all()) == ["C"]


def test_the_newest_step_is_known_and_there_is_one() -> None:
    folder = Path(migrating.__file__).parent / "migrations"
    assert ScriptDirectory(str(folder)).get_heads() == [migrating.HEAD]
