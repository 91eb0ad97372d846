"""Use is counted without waiting, added to what is there, and never lost on the way out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from sqlalchemy import Connection

from intrinsic.errors import ConfigError, RegistryError
from intrinsic.registry.store import usage as usage_log
from intrinsic.registry.store.database import Database
from intrinsic.registry.store.usage import UsageLog
from intrinsic.registry.store.usage_sums import Usage, read_usage
from intrinsic.registry.store.versions import Versions
from tests.bus.backends import both_backends
from tests.registry.store.making import record

NEVER_S = 1000.0
"""No write by the clock: those that a test looks at have another reason."""


async def added(database: Database, count: int = 2) -> list[str]:
    versions = [record(f"a@{number}") for number in range(count)]
    await Versions(database).add_many(versions)
    return [one.id for one in versions]


async def fail(database: Database, version_id: str) -> None:
    async with UsageLog(database, flush_s=NEVER_S) as log:
        log.note_generated(version_id, 1)
        raise KeyError


async def usage(database: Database, version_id: str) -> Usage:
    return (await database.read(lambda connection: read_usage(connection, [version_id])))[
        version_id
    ]


class Failing(Database):
    """A database that can be made to write no more."""

    fails = False

    async def write(self, function: Callable[[Connection], Any]) -> Any:
        if self.fails:
            raise RegistryError("no room")
        return await super().write(function)


@both_backends
async def test_use_adds_up_over_several_logs(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100, 200))
    monkeypatch.setattr(usage_log, "time", lambda: float(next(clock)))
    async with Database(where) as database:
        one, other = await added(database)
        async with UsageLog(database, flush_s=NEVER_S) as log:
            log.note_loaded(one, 0.5)
            log.note_routed(one, 0.5)
            log.note_routed(one, 1.0)
            log.note_generated(one, 7)
            assert await log.usage_of([one, other]) == {
                one: Usage(2, 1, 7, at(100), at(102), 0.75, 1, 0.5),
                other: Usage(),
            }
        async with (
            UsageLog(database, flush_s=NEVER_S) as log,
            UsageLog(database, flush_s=NEVER_S) as second,
        ):
            log.note_routed(one, float("nan"))
            second.note_generated(one, 5)
            second.note_loaded(one, 1.5)
            second.note_loaded(other, 1.0)
            await second.flush()
            log.note_generated(one, 1)
        found = await usage(database, one)
        assert found == Usage(3, 3, 13, at(100), at(105), 0.75, 2, 2.0)
        assert found.mean_load_seconds == 1.0
        assert await usage(database, other) == Usage(loads=1, load_seconds=1.0)


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


@both_backends
async def test_nothing_is_lost_by_an_error_or_a_cancellation(where: str) -> None:
    async with Database(where) as database:
        one, _ = await added(database)
        with pytest.raises(KeyError):
            await fail(database, one)
        with anyio.CancelScope() as scope:
            async with UsageLog(database, flush_s=NEVER_S) as log:
                log.note_generated(one, 2)
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        async with UsageLog(database, flush_s=NEVER_S) as log:
            log.note_generated(one, 4)
        assert (await usage(database, one)).tokens == 7


@both_backends
async def test_it_is_written_now_and_then(where: str) -> None:
    async with Database(where) as database:
        one, _ = await added(database)
        async with UsageLog(database, flush_s=0.001) as log:
            for count in (1, 2):
                log.note_routed(one, 0.5)
                while (await usage(database, one)).routed < count:
                    await anyio.lowlevel.checkpoint()


@both_backends
async def test_what_could_not_be_written_is_written_later_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Failing(tmp_path / "registry.db") as database:
        one, other, third = await added(database, 3)
        async with UsageLog(database, flush_s=NEVER_S, most_waiting=2) as log:
            database.fails = True
            for version_id in (one, other):
                log.note_generated(version_id, 1)
                with pytest.raises(RegistryError, match="no room"):
                    await log.flush()
            log.note_generated(one, 1)
            log.note_generated(third, 1)
            said = [line.getMessage() for line in caplog.records]
            assert said == ["usage is kept in memory until it can be written: no room"]
            caplog.clear()
            database.fails = False
            found = await log.usage_of([one, other, third])
            assert [one.tokens for one in found.values()] == [2, 1, 0]
            said = [line.getMessage() for line in caplog.records]
            assert said == ["1 uses of more than 2 versions were lost"]
            caplog.clear()
            log.note_generated(one, 5)
            database.fails = True
        assert [line.levelno for line in caplog.records] == [logging.WARNING, logging.ERROR]
        assert caplog.records[-1].getMessage() == "the use of 1 versions could not be written"


@both_backends
async def test_while_the_database_works_any_number_of_versions_is_counted(where: str) -> None:
    async with Database(where) as database:
        ids = await added(database, 1200)
        async with UsageLog(database, flush_s=NEVER_S, most_waiting=1) as log:
            for version_id in [*ids, "nobody"]:
                log.note_generated(version_id, 2)
            found = await log.usage_of([*ids, "nobody"])
            assert [one.tokens for one in found.values()] == [2] * 1200 + [0]


@both_backends
async def test_threads_may_count(where: str) -> None:
    async with Database(where) as database:
        one, _ = await added(database)
        async with UsageLog(database, flush_s=0.001) as log:

            def count() -> None:
                for _ in range(2000):
                    log.note_generated(one, 1)

            async with anyio.create_task_group() as tasks:
                for _ in range(4):
                    tasks.start_soon(anyio.to_thread.run_sync, count)
            assert (await log.usage_of([one]))[one].tokens == 8000


@both_backends
async def test_a_cancelled_reader_counts_nothing_twice(tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    class Slow(Database):
        async def write(self, function: Callable[[Connection], Any]) -> Any:
            def slowly(connection: Connection) -> Any:
                begun.set()
                assert go_on.wait(10)
                return function(connection)

            return await super().write(slowly)

    go_on.set()
    async with Slow(tmp_path / "registry.db") as database:
        one, _ = await added(database)
        async with UsageLog(database, flush_s=NEVER_S) as log:
            log.note_generated(one, 3)
            begun.clear()
            go_on.clear()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(log.flush)
                await anyio.to_thread.run_sync(begun.wait)
                tasks.cancel_scope.cancel()
            go_on.set()
            assert (await log.usage_of([one]))[one].tokens == 3


@both_backends
async def test_settings_are_checked_and_it_is_used_inside_its_block(tmp_path: Path) -> None:
    database = Database(tmp_path / "registry.db")
    with pytest.raises(ConfigError, match="flush_s is 0"):
        UsageLog(database, flush_s=0)
    with pytest.raises(ConfigError, match="most_waiting is 0"):
        UsageLog(database, most_waiting=0)
    async with database:
        log = UsageLog(database)
        with pytest.raises(RegistryError, match="async with"):
            await log.flush()
        async with log:
            await log.flush()
        with pytest.raises(RegistryError, match="async with"):
            await log.flush()
