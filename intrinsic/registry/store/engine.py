"""SQLAlchemy's engine, with each new connection prepared for what the registry relies on."""

from __future__ import annotations

import json
import sqlite3
import time
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event

from intrinsic.errors import RegistryError
from intrinsic.extras import how_to_install
from intrinsic.registry.store.location import Location

WAIT_S = 20
"""How long a writer waits for those of other processes."""
WRITES = "intrinsic_writes"
"""The option of a connection whose transaction is to write."""
_STATEMENT_S = 120


def make_engine(location: Location) -> Engine:
    """Make the engine of a place; raise `RegistryError` where its driver is missing."""
    options: dict[str, Any] = {"json_serializer": _json}
    if location.file is not None:
        engine = create_engine(location.url, connect_args={"timeout": WAIT_S}, **options)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        engine = create_engine(
            location.url, connect_args={"connect_timeout": 10}, pool_pre_ping=True, **options
        )
    except ImportError as error:
        raise RegistryError(
            f"PostgreSQL needs psycopg, which cannot be imported ({error}); "
            + how_to_install("postgres")
        ) from None
    event.listen(engine, "connect", _prepare_postgresql)
    return engine


def _json(value: object) -> str:
    """Compact, and without the NaN and Infinity that are no JSON and PostgreSQL refuses."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise RegistryError(f"a value cannot be kept in the registry as JSON: {error}") from None


def _prepare_sqlite(connection: Any, _: object) -> None:  # noqa: ANN401
    connection.isolation_level = None  # the driver begins nothing by itself: _begin_sqlite does
    cursor = connection.cursor()
    use_wal(cursor)
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def use_wal(cursor: sqlite3.Cursor, wait_s: float = WAIT_S) -> None:
    """Switch to the write-ahead log; SQLite does not wait by itself where others do so as well."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def _begin_sqlite(connection: Connection) -> None:
    # A writer that began as a reader could not wait for another one, it would fail.
    writes = connection.get_execution_options().get(WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _prepare_postgresql(connection: Any, _: object) -> None:  # noqa: ANN401
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = '{WAIT_S}s'")
        cursor.execute(f"SET statement_timeout = '{_STATEMENT_S}s'")
    connection.commit()
