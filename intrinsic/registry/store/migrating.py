"""A database brought to the schema that this library knows, whoever opens it first."""

from __future__ import annotations

import threading
from pathlib import Path

from sqlalchemy import Connection, column, inspect, select, table, text

from intrinsic.errors import RegistryError
from intrinsic.registry.store.schema import METADATA

HEAD = "0001"
"""The newest step in `migrations/versions`."""
VERSION_TABLE = "intrinsic_schema"
_FOLDER = Path(__file__).parent / "migrations"
_LOCK_KEY = 0x696E7472696E7369  # "intrinsi": the advisory lock of this library's migrations
_alembic = threading.Lock()  # Alembic's context is one for the process


def is_current(connection: Connection) -> bool:
    """Whether the database has exactly the schema that this library knows."""
    return _revision(connection) == HEAD


def bring_up_to_date(connection: Connection, shown: str) -> None:
    """Apply the steps that are missing, in the transaction of `connection`, one process at a time.

    Raises `RegistryError` for a database that a newer library made, or that is somebody else's.
    """
    if connection.dialect.name == "postgresql":  # SQLite's writers exclude each other anyway
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
    revision = _revision(connection)
    if revision == HEAD:
        return
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    known = [step.revision for step in ScriptDirectory.from_config(config).walk_revisions()]
    if revision is not None and revision not in known:
        raise RegistryError(
            f"the registry {shown} was written by a newer intrinsic (its schema is {revision!r}, "
            f"this one knows up to {HEAD!r}); update it with 'pip install -U intrinsic-lora', or "
            "name another database with --registry"
        )
    if revision is None:
        _refuse_strangers(connection, shown)
    with _alembic:
        command.upgrade(config, "head")


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.scalar(select(column("version_num")).select_from(table(VERSION_TABLE)))


def _refuse_strangers(connection: Connection, shown: str) -> None:
    present = set(inspect(connection).get_table_names())
    if taken := sorted(present & set(METADATA.tables)):
        raise RegistryError(
            f"{shown} is no registry, but has tables of that name ({', '.join(taken)}); "
            "name another database with --registry"
        )
