"""Whatever is cut off, by a cancellation or by the database: live registry and database agree."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from intrinsic.errors import RegistryError
from intrinsic.registry.catalog import AdapterCatalog
from tests.bus.backends import both_backends
from tests.registry.cataloguing import Cut, adapter, demand_agreement, newcomer
from tests.registry.store.making import record

Work = Callable[[AdapterCatalog, Path, int], Coroutine[Any, Any, object]]


async def rename(catalog: AdapterCatalog, folder: Path, turn: int) -> None:
    there = (await catalog.versions.all_live(["a", "other"]))[0].card.name
    await catalog.rename(there, "other" if there == "a" else "a")


async def switch(catalog: AdapterCatalog, folder: Path, turn: int) -> None:
    await catalog.activate("b@1" if (await catalog.get("b")).key == "b@2" else "b@2")


async def turn_off_and_on(catalog: AdapterCatalog, folder: Path, turn: int) -> None:
    await catalog.deactivate("b")
    await catalog.activate("b")


async def change_card(catalog: AdapterCatalog, folder: Path, turn: int) -> None:
    card = (await catalog.get("b@1")).card
    await catalog.update_card("b@1", replace(card, description=f"turn {turn}"))


async def delete(catalog: AdapterCatalog, folder: Path, turn: int) -> None:
    await catalog.delete(f"many@{turn}")


WORKS: dict[str, Work] = {
    "register": lambda c, folder, n: c.register(newcomer(folder, f"a@{n + 10}"), activate=True),
    "copy": lambda c, folder, n: c.register(newcomer(folder, f"a@{n + 10}"), copy=True),
    "register all": lambda c, _, n: c.register_all([record(f"x{n}@{v}") for v in (1, 2)]),
    "rename": rename,
    "switch": switch,
    "turn off and on": turn_off_and_on,
    "change a card": change_card,
    "delete": delete,
}


async def fill(catalog: AdapterCatalog) -> None:
    """Something to work on."""
    await catalog.register_all([record(key) for key in ("a@1", "a@2", "b@1", "b@2")])
    await catalog.register_all([record(f"many@{number}") for number in range(60)])


@pytest.mark.parametrize("name", WORKS)
@both_backends
async def test_a_cancellation_at_any_moment_leaves_them_equal(
    where: str, tmp_path: Path, name: str
) -> None:
    folder = adapter(tmp_path / "adapter")
    async with AdapterCatalog(where, files=tmp_path / "files") as catalog:
        await fill(catalog)
        for turn in range(60):
            with anyio.CancelScope() as scope:
                cut = Cut(turn, scope.cancel)
                await cut(WORKS[name](catalog, folder, turn))
            await demand_agreement(catalog)
            await demand_files(catalog, tmp_path / "files")
            if not cut.reached:
                break
        assert 3 < turn < 59


@pytest.mark.parametrize("name", WORKS)
def test_so_does_a_cancellation_of_asyncio_itself(tmp_path: Path, name: str) -> None:
    folder = adapter(tmp_path / "adapter")

    async def main() -> None:
        async with AdapterCatalog(tmp_path / "r.db", files=tmp_path / "files") as catalog:
            await fill(catalog)
            task = asyncio.current_task()
            assert task is not None
            for turn in range(60):
                cut = Cut(turn, task.cancel)
                try:
                    await cut(WORKS[name](catalog, folder, turn))
                except asyncio.CancelledError:
                    task.uncancel()
                await demand_agreement(catalog)
                await catalog._own_files.sweep()  # no shield holds such a cancellation off
                await demand_files(catalog, tmp_path / "files")
                if not cut.reached:
                    break
            assert 3 < turn < 59

    asyncio.run(main())


@both_backends
async def test_a_refresh_that_is_cancelled_has_followed_or_not(where: str) -> None:
    async with AdapterCatalog(where) as catalog, AdapterCatalog(where) as rival:
        await fill(rival)
        for turn in range(60):
            await rival.keep(record(f"new@{turn}"), activate=True)
            await rival.delete(f"many@{turn}")
            with anyio.CancelScope() as scope:
                cut = Cut(turn, scope.cancel)
                await cut(catalog.refresh())
            if not cut.reached:
                break
            assert await catalog.refresh() in (0, 3, 66)
            await demand_agreement(catalog)
        assert 1 < turn < 59


async def demand_files(catalog: AdapterCatalog, files: Path) -> None:
    """There is one folder for each version that was copied, and nothing else."""
    live = await catalog.versions.all_live()
    kept = await catalog.versions.by_ids(one.id for one in live)
    copied = {one.id for one in kept.values() if one.copied}
    found = [path async for path in anyio.Path(files).glob("*")]
    assert {path.name for path in found} == copied
    for path in found:
        assert not await (path / ".uncommitted").exists()


@both_backends
async def test_opening_and_leaving_are_cut_off_cleanly(where: str) -> None:
    async with AdapterCatalog(where) as catalog:
        await fill(catalog)
        version_id = catalog.id_of("a@1")
        assert version_id is not None

    async def use() -> None:
        async with AdapterCatalog(where) as again:
            again.usage.note_generated(version_id, 1)
            used.append(1)

    used: list[int] = []
    for turn in range(60):
        with anyio.CancelScope() as scope:
            cut = Cut(turn, scope.cancel)
            await cut(use())
        if not cut.reached:
            break
    assert 3 < turn < 59
    assert len(used) > 1
    async with AdapterCatalog(where) as catalog:
        await demand_agreement(catalog)
        usage = (await catalog.usage.usage_of([version_id]))[version_id]
        assert usage.generated == len(used)


class Failing:
    """The database's calls fail from the `at`th on, `times` of them, before or after they do."""

    def __init__(self, catalog: AdapterCatalog, *, at: int, times: int, after: bool) -> None:
        self._at, self._times, self._after = at, times, after
        self.failed = 0
        self._database = catalog.database
        for name in ("read", "write"):
            setattr(self._database, name, self._wrap(getattr(self._database, name)))

    def _wrap(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def wrapped(function: Callable[..., Any]) -> Any:
            self._at -= 1
            fails = -self._times <= self._at < 0
            self.failed += fails
            if fails and not self._after:
                raise RegistryError("the database is away")
            answer = await call(function)
            if fails:
                raise RegistryError("the connection was lost")
            return answer

        return wrapped

    def mend(self) -> None:
        del self._database.read, self._database.write


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("times", [1, 100], ids=["once", "for long"])
@pytest.mark.parametrize("name", WORKS)
@both_backends
async def test_a_database_that_fails_leaves_them_equal(
    tmp_path: Path, name: str, times: int, after: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "intrinsic.registry")
    folder = adapter(tmp_path / "adapter")
    async with AdapterCatalog(tmp_path / "r.db", files=tmp_path / "files") as catalog:
        await fill(catalog)
        for turn in range(20):
            failing = Failing(catalog, at=turn, times=times, after=after)
            try:
                await WORKS[name](catalog, folder, turn)
            except RegistryError:
                assert failing.failed
            failing.mend()
            if times > 1:
                await catalog.keep(record(f"next@{turn}"))  # any change catches up
            await demand_agreement(catalog)
            if not failing.failed:
                break
        assert 0 < turn < 19
