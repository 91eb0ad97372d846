"""Several catalogs on one database: each follows the others when it is refreshed."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import pytest
from sqlalchemy import Connection, delete

from intrinsic.errors import AdapterNotFoundError, ConfigError, RegistryError
from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.following import follow
from intrinsic.registry.store.schema import HISTORY, VERSIONS
from tests.bus.backends import both_backends
from tests.registry.cataloguing import Ear, demand_agreement
from tests.registry.store.making import ROOT, record


@asynccontextmanager
async def two(where: str) -> AsyncIterator[tuple[AdapterCatalog, AdapterCatalog, Ear]]:
    """Two catalogs with a@1, a@2 (active) and b@1 (active), and the ear of the second one."""
    ear = Ear()
    async with AdapterCatalog(where) as one, AdapterCatalog(where, bus=ear.bus) as other:
        await one.register_all([record(key) for key in ("a@1", "a@2", "b@1")])
        assert await other.refresh() == 3
        assert ear.take() == [
            ("registered", "a@1"), ("registered", "a@2"), ("registered", "b@1"),
            ("activated", "a@2"), ("activated", "b@1"),
        ]  # fmt: skip
        yield one, other, ear


@both_backends
async def test_each_change_is_seen_after_a_refresh_and_told_in_order(where: str) -> None:
    async with two(where) as (one, other, ear):
        await one.activate("a@1")
        assert other.live.get_adapter("a").key == "a@2"  # as it was, until it is refreshed
        assert await other.refresh() == 2
        assert ear.take() == [("deactivated", "a@2"), ("activated", "a@1")]
        await one.rename("a", "c")
        assert await other.refresh() == 2
        assert ear.take() == [("renamed", "c@1"), ("renamed", "c@2")]
        with pytest.raises(AdapterNotFoundError, match="'a@1' is called 'c@1' now"):
            other.live.get_adapter("a@1")
        card = (await one.get("b")).card
        await one.update_card("b", replace(card, domain="new"))
        assert await other.refresh() == 1
        assert ear.take() == [("changed", "b@1")]
        await one.delete("c@1")
        assert await other.refresh() == 1
        assert ear.take() == [("deleted", "c@1")]
        with pytest.raises(AdapterNotFoundError, match=r"'c@1' was deleted on .* UTC"):
            other.live.get_adapter("c@1")
        digest = (await one.get("b")).id
        await one.versions.set_digest(digest, "e" * 64)
        assert await other.refresh() == 1
        assert ear.take() == [("changed", "b@1")]
        assert await demand_agreement(other) == ["b@1+", "c@2"]


@both_backends
async def test_many_changes_are_one_step_and_observers_see_its_end(where: str) -> None:
    async with two(where) as (one, other, ear):
        seen: list[list[str]] = []
        for name in ("adapter.deleted", "adapter.registered", "adapter.activated"):
            ear.bus.on(
                name,
                lambda _: seen.append([entry.key for entry in other.live.list_adapters()]),
            )
        for before, after in (("a", "x"), ("b", "a"), ("x", "b")):  # two swap their names
            await one.rename(before, after)
        await one.delete("a@1")
        await one.keep(record("a@2"))
        await one.activate("b@1")
        assert await other.refresh() == 4
        assert ear.take() == [
            ("deleted", "b@1"), ("renamed", "b@1"), ("renamed", "b@2"), ("registered", "a@2"),
            ("deactivated", "b@2"), ("activated", "a@2"), ("activated", "b@1"),
        ]  # fmt: skip
        assert seen == [["a@2", "b@1"]] * 4
        assert await demand_agreement(other) == ["a@2+", "b@1+", "b@2"]
        with pytest.raises(AdapterNotFoundError, match="'a@1' is called 'b@1' now"):
            other.live.get_adapter("a@1")


@both_backends
async def test_one_that_is_behind_does_what_it_is_told_nevertheless(where: str) -> None:
    async with two(where) as (one, other, ear):
        await one.activate("a@1")
        await one.keep(record("a@3"))
        assert (await other.activate("a@1")).active  # the other one has done that already
        assert ear.take() == [
            ("registered", "a@3"), ("deactivated", "a@2"), ("activated", "a@1"),
        ]  # fmt: skip
        assert [entry.key for entry in other.live.list_adapters()] == ["a@1", "b@1"]
        await one.delete("a@2")
        with pytest.raises(AdapterNotFoundError, match="'a@2' was deleted"):
            await other.activate("a@2")
        assert (await other.deactivate("a@3")).key == "a@3"
        assert ear.take() == [("deleted", "a@2")]
        assert await demand_agreement(other) == ["a@1+", "a@3", "b@1+"]


@both_backends
async def test_a_name_that_was_renamed_and_given_anew_is_followed(where: str) -> None:
    async with two(where) as (one, other, ear):
        first = other.id_of("a@1")
        await one.rename("a", "c")
        new = await other.keep(record("a@1"))
        assert ear.take() == [
            ("renamed", "c@1"), ("renamed", "c@2"), ("registered", "a@1"), ("activated", "a@1"),
        ]  # fmt: skip
        assert other.id_of("a@1") == new.id
        assert other.id_of("c@1") == first
        assert await demand_agreement(other) == ["a@1+", "b@1+", "c@1", "c@2+"]
        await one.rename("a", "x")
        assert await other.refresh() == 1
        assert await demand_agreement(other) == ["b@1+", "c@1", "c@2+", "x@1+"]


@both_backends
async def test_two_that_register_a_first_version_at_once_leave_one_active(where: str) -> None:
    async with AdapterCatalog(where) as one, AdapterCatalog(where) as other:
        for turn in range(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(one.keep, record(f"n{turn}@1"))
                tasks.start_soon(other.keep, record(f"n{turn}@2"))
        await one.refresh()
        await other.refresh()
        keys = await demand_agreement(one)
        assert keys == await demand_agreement(other)
        assert len(keys) == 10
        assert [key for key in keys if key.endswith("+")] == [
            entry.key + "+" for entry in one.live.list_adapters()
        ]
        assert len(one.live.list_adapters()) == 5


@both_backends
async def test_a_row_that_was_removed_by_hand_is_gone_too(where: str) -> None:
    async with two(where) as (one, other, ear):
        version_id = one.id_of("b@1")

        def remove(connection: object) -> None:
            execute = connection.execute  # type: ignore[attr-defined]
            execute(delete(HISTORY).where(HISTORY.c.version_id == version_id))
            execute(delete(VERSIONS).where(VERSIONS.c.id == version_id))

        await one.database.write(remove)
        assert await other.refresh() == 1
        assert ear.take() == [("deleted", "b@1")]
        assert await other.refresh() == 0
        with pytest.raises(AdapterNotFoundError, match="'b@1' was deleted and can be used no more"):
            other.live.get_adapter("b@1")


CHILD = """
import anyio, json, sys
from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.following import follow
from tests.registry.store.making import record

async def main(where):
    async with AdapterCatalog(where) as catalog:
        await catalog.keep(record("child@1"))
        await catalog.activate("a@1")
        await catalog.delete("b@1")
        print(json.dumps([entry.key for entry in catalog.live.list_adapters()]))

anyio.run(main, sys.argv[1])
"""


@both_backends
async def test_another_process_is_followed(where: str) -> None:
    async with two(where) as (_, other, ear):
        done = await anyio.run_process([sys.executable, "-c", CHILD, where], cwd=ROOT)
        assert json.loads(done.stdout) == ["a@1", "child@1"]
        assert await other.refresh() == 4
        assert ear.take() == [
            ("deleted", "b@1"), ("registered", "child@1"), ("deactivated", "a@2"),
            ("activated", "a@1"), ("activated", "child@1"),
        ]  # fmt: skip
        assert await demand_agreement(other) == ["a@1+", "a@2", "child@1+"]


KILLED = """
import anyio, os, signal, sys
from sqlalchemy import event
from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.following import follow
from tests.registry.store.making import record

def die(_):
    os.kill(os.getpid(), signal.SIGKILL)

async def main(where, method):
    async with AdapterCatalog(where) as catalog:
        event.listen(catalog.database._engine, "commit", die)
        if method == "keep":
            await catalog.keep(record("new@1"))
        else:
            await catalog.register_all([record(f"new{number}@1") for number in range(50)])

anyio.run(main, sys.argv[1], sys.argv[2])
"""


@pytest.mark.parametrize("method", ["keep", "register_all"])
@both_backends
async def test_who_is_killed_before_the_commit_leaves_nothing(where: str, method: str) -> None:
    async with two(where) as (_, other, ear):
        code = [sys.executable, "-c", KILLED, where, method]
        done = await anyio.run_process(code, cwd=ROOT, check=False)
        assert done.returncode == -signal.SIGKILL
        assert await other.refresh() == 0
        assert ear.take() == []
        assert (await other.keep(record("new@1"))).active


@both_backends
async def test_catching_up_sees_what_a_refresh_sees(where: str) -> None:
    async with two(where) as (one, other, ear):
        assert await other.catch_up() == 0
        await one.activate("a@1")
        await one.rename("b", "c")
        await one.register_all([record("d@1")])
        assert await other.catch_up() == 4
        assert sorted(ear.take()) == [
            ("activated", "a@1"), ("activated", "d@1"), ("deactivated", "a@2"),
            ("registered", "d@1"), ("renamed", "c@1"),
        ]  # fmt: skip
        await one.delete("c@1")
        assert await other.catch_up() == 1
        assert ear.take() == [("deleted", "c@1")]
        assert await other.catch_up() == 0
        await demand_agreement(other)


@both_backends
async def test_looking_where_nothing_changed_reads_no_version(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(where) as (one, other, _):
        await other.catch_up()

        def refuse(*_: object) -> None:
            raise AssertionError("it read versions")

        monkeypatch.setattr(other.versions, "all_live", refuse)
        assert await other.catch_up() == 0
        await one.activate("a@1")
        with pytest.raises(AssertionError, match="it read versions"):
            await other.catch_up()
        monkeypatch.undo()
        assert await other.catch_up() == 2  # what failed is looked at again


@both_backends
async def test_a_history_that_was_cut_by_hand_is_followed_all_the_same(where: str) -> None:
    async with two(where) as (one, other, _):
        await other.catch_up()
        await one.activate("a@1")

        def cut(connection: Connection) -> None:
            connection.execute(delete(HISTORY))

        await one.database.write(cut)
        assert await other.catch_up() == 2
        await demand_agreement(other)


@both_backends
async def test_changes_are_followed_until_that_is_cancelled(where: str) -> None:
    async with two(where) as (one, other, ear):
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:

                def heard(count: int) -> None:
                    if count:
                        tasks.cancel_scope.cancel()

                async def run() -> None:
                    await follow(other, every_s=0.01, heard=heard)

                tasks.start_soon(run)
                await one.deactivate("b@1")
        assert ear.take() == [("deactivated", "b@1")]


@both_backends
async def test_a_registry_that_fails_is_told_once_and_looked_at_again(
    where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with two(where) as (_, other, _ear):
        looks = 0
        seen = anyio.Event()

        async def catch_up() -> int:
            nonlocal looks
            looks += 1
            if looks <= 3:
                raise RegistryError("the database is away")
            seen.set()
            return 0

        monkeypatch.setattr(other, "catch_up", catch_up)
        async with anyio.create_task_group() as tasks:

            async def run() -> None:
                await follow(other, every_s=0.001)

            tasks.start_soon(run)
            await seen.wait()
            tasks.cancel_scope.cancel()
        assert caplog.text.count("the database is away") == 1


@pytest.mark.parametrize("every_s", [0, -1, float("nan"), True, "1"])
async def test_a_time_between_looks_that_is_none_is_refused(every_s: Any) -> None:
    catalog = AdapterCatalog("never-opened.db")
    with pytest.raises(ConfigError, match="positive number of seconds"):
        await follow(catalog, every_s=every_s)
