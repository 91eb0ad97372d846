"""The database: opened in one step, all or nothing, and clear where it cannot do it."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import cast

import anyio
import pytest
from sqlalchemy import Connection, Insert, func, insert, select, text
from sqlalchemy.pool import QueuePool

from intrinsic.errors import ConfigError, RegistryError
from intrinsic.registry.store.database import Database
from intrinsic.registry.store.engine import use_wal
from intrinsic.registry.store.records import values_of
from intrinsic.registry.store.schema import VERSIONS
from tests.bus.backends import both_backends
from tests.registry.store.making import ROOT, record


def add(connection: Connection) -> None:
    connection.execute(insert(VERSIONS).values(values_of(record())))


def count(connection: Connection) -> int:
    return connection.scalar(select(func.count()).select_from(VERSIONS)) or 0


@both_backends
async def test_what_is_written_stays_and_what_raises_is_undone(where: str) -> None:
    def fail(connection: Connection) -> None:
        add(connection)
        raise KeyError("mine")

    async with Database(where) as database:
        with pytest.raises(KeyError, match="mine"):
            await database.write(fail)
        assert await database.read(count) == 0
        await database.write(add)
        with pytest.raises(RegistryError, match="cannot do what was asked"):
            await database.write(add)
    async with Database(where) as database:
        assert await database.read(count) == 1


@both_backends
async def test_reads_see_one_moment(where: str) -> None:
    read, written = threading.Event(), threading.Event()

    def count_twice(connection: Connection) -> tuple[int, int]:
        before = count(connection)
        read.set()
        assert written.wait(10)
        return before, count(connection)

    def wait_and_add(connection: Connection) -> None:
        assert read.wait(10)
        add(connection)

    async def write() -> None:
        await database.write(wait_and_add)
        written.set()

    async with Database(where) as database, anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        assert await database.read(count_twice) == (0, 0)
        assert await database.read(count) == 1


@both_backends
async def test_a_cancelled_write_is_done_and_its_connection_given_back(where: str) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slowly(connection: Connection) -> None:
        begun.set()
        assert go_on.wait(10)
        add(connection)

    async with Database(where, threads=1) as database:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(database.write, slowly)
            await anyio.to_thread.run_sync(begun.wait)
            tasks.start_soon(database.write, add)  # waits for its turn, and so never begins
            tasks.cancel_scope.cancel()
            go_on.set()
        assert await database.read(count) == 1
        assert await database.read(connections_in_use) == 1


def test_asyncios_own_cancellation_waits_for_the_write_too(where: str) -> None:
    async def main() -> None:
        begun, go_on = threading.Event(), threading.Event()

        def slowly(connection: Connection) -> None:
            begun.set()
            assert go_on.wait(10)
            add(connection)

        async with Database(where, threads=1) as database:
            writing = asyncio.create_task(database.write(slowly))
            await asyncio.to_thread(begun.wait)
            writing.cancel()
            done, _ = await asyncio.wait([writing], timeout=0)
            assert not done
            go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await writing
            assert await database.read(count) == 1
            assert await database.read(connections_in_use) == 1
            never = asyncio.create_task(database.write(add))
            await asyncio.sleep(0)
            never.cancel()
            with pytest.raises(asyncio.CancelledError):
                await never
            assert await database.read(count) == 1

    asyncio.run(main())


@both_backends
async def test_a_file_is_made_with_its_folders_and_prepared(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "registry.db"
    async with Database(f"sqlite:///{file}") as database:
        assert database.file == file
        modes = await database.read(
            lambda connection: [
                connection.scalar(text(f"PRAGMA {name}"))
                for name in ("journal_mode", "foreign_keys")
            ]
        )
        assert modes == ["wal", 1]
        with pytest.raises(RegistryError, match="FOREIGN KEY"):
            await database.write(
                lambda connection: connection.execute(
                    text(
                        "INSERT INTO history (version_id, at, event, detail) VALUES ('x','','','')"
                    )
                )
            )
    assert [path.name for path in file.parent.iterdir()] == ["registry.db"]


@both_backends
async def test_it_is_used_inside_its_block_alone(where: str) -> None:
    database = Database(where)
    async with database:
        with pytest.raises(RegistryError, match="open already"):
            await database.__aenter__()
        await database.write(add)
    with pytest.raises(RegistryError, match="not open"):
        await database.read(count)
    async with database:
        assert await database.read(count) == 1


def connections_in_use(connection: Connection) -> int:
    pool = connection.engine.pool
    assert isinstance(pool, QueuePool)
    return pool.checkedout()


def execute(statement: Insert, connection: Connection) -> None:
    connection.execute(statement)


async def refused(where: str | Path) -> str:
    with pytest.raises(RegistryError) as caught:
        async with Database(where):
            pass
    message = str(caught.value)
    assert "\n" not in message
    return message


@both_backends
async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("these are notes, " * 100)
    assert "file is not a database; name another file with --registry" in await refused(file)
    assert file.read_text() == "these are notes, " * 100
    assert "is a folder" in await refused(tmp_path)
    assert "cannot be made" in await refused(file / "registry.db")


@both_backends
async def test_a_database_of_somebody_elses_or_of_a_newer_library_is_refused(
    tmp_path: Path,
) -> None:
    theirs, newer = tmp_path / "theirs.db", tmp_path / "newer.db"
    with sqlite3.connect(theirs) as connection:
        connection.execute("CREATE TABLE versions (number)")
    connection.close()
    assert "is no registry, but has tables of that name (versions)" in await refused(theirs)
    async with Database(newer) as database:
        await database.write(
            lambda connection: connection.execute(
                text("UPDATE intrinsic_schema SET version_num = '9999'")
            )
        )
    said = await refused(newer)
    assert "newer intrinsic (its schema is '9999', this one knows up to" in said
    assert "pip install -U" in said


@both_backends
async def test_a_server_that_is_not_there_is_said_without_the_password(tmp_path: Path) -> None:
    for where in (
        f"postgresql://ann:s3cret@/db?host={tmp_path}",
        f"postgres://ann@/db?host={tmp_path}&password=s3cret",
    ):
        said = await refused(where)
        assert "s3cret" not in said + repr(Database(where)) + Database(where).shown
        assert "ann" in said
        assert "check that the server runs" in said


@both_backends
async def test_without_psycopg_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert "pip install 'intrinsic-lora[postgres]'" in await refused("postgresql://host/db")


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("mysql://ann:s3cret@host/db", "cannot be kept in 'mysql'"),
        ("postgresql://ann:s3cret@host:port/db", "cannot be understood"),
        ("sqlite://", "must name a file"),
        ("sqlite:///:memory:", "must name a file"),
        ("", "not valid"),
        ("~nobody-of-that-name/x.db", "cannot be found"),
    ],
)
def test_a_place_that_is_not_valid_is_refused(where: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        Database(where)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), object()])
@both_backends
async def test_a_value_that_is_no_json_is_refused(where: str, value: object) -> None:
    new = record(inspection={"value": value})
    async with Database(where) as database:
        with pytest.raises(RegistryError, match="a value cannot be kept in the registry as JSON"):
            await database.write(lambda c: c.execute(insert(VERSIONS).values(values_of(new))))
        assert await database.read(count) == 0


@both_backends
async def test_values_that_no_database_takes_are_refused(where: str) -> None:
    async with Database(where) as database:
        for new in (record(bytes=2**70), record(path=Path("\udcff"))):
            statement = insert(VERSIONS).values(values_of(new))
            with pytest.raises(RegistryError, match="cannot do what was asked"):
                await database.write(partial(execute, statement))
        assert await database.read(count) == 0


def test_the_registry_needs_no_database_library_and_its_store_no_torch() -> None:
    check = (
        "import sys, intrinsic.registry;"
        "assert not {'sqlalchemy', 'torch', 'scipy'} & {*sys.modules};"
        "import intrinsic.registry.store.copies, intrinsic.registry.store.versions;"
        "import intrinsic.registry.store.usage, intrinsic.registry.store.feedback;"
        "assert not {'torch', 'scipy', 'alembic', 'psycopg'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True)


def test_switching_to_the_write_ahead_log_waits_for_others() -> None:
    """SQLite itself does not, where several processes do it at the same moment."""
    tries = iter([True, True, False])

    class Cursor:
        def execute(self, statement: str) -> None:
            if next(tries):
                raise sqlite3.OperationalError("database is locked")

    use_wal(cast(sqlite3.Cursor, Cursor()))
    assert list(tries) == []
    tries = iter([True] * 5)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        use_wal(cast(sqlite3.Cursor, Cursor()), wait_s=0)
