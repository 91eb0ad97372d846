"""The nearly chosen are prefetched: in the background, few, and at nobody's cost."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from intrinsic.bus import MemoryBus
from intrinsic.card import AdapterCard
from intrinsic.errors import BusClosedError
from intrinsic.events import MemoryEvent
from intrinsic.hookspecs import hookimpl
from intrinsic.manager import ManagerOptions
from intrinsic.plugins import PluginManager
from intrinsic.receipt import Receipt
from intrinsic.routing import KeywordRouter, RouterOptions
from intrinsic.selection import Selection
from intrinsic.wiring import WeightInterface, WiringOptions, setup_weight_interface
from tests.bus.backends import both_backends
from tests.manager.fakes import FakeBackend, TieredBackend, registry_of
from tests.routing.scripted import ScriptedRouter


class InOrder(ScriptedRouter):
    """Chooses the first candidate and ranks the others as they come, the last without a chance."""

    def __init__(self) -> None:
        self.fail = False
        self.gate: anyio.Event | None = None
        self.asked = 0

    async def chosen(self, candidates: Sequence[AdapterCard]) -> list[Selection]:
        return [Selection(candidates[0].name, 0.9)]

    async def ranked(self, candidates: Sequence[AdapterCard]) -> list[Selection]:
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.fail:
            raise ValueError("told to")
        last = len(candidates) - 1
        return [
            Selection(card.name, 0.0 if place == last else 0.4)
            for place, card in enumerate(candidates)
        ]


class RouterPlugin:
    def __init__(self, router: object) -> None:
        self.router = router

    @hookimpl
    def register_routers(self) -> dict[str, Any]:
        return {"test": lambda embedder: self.router}


class NoEmbedder:
    dimension = 1

    async def embed(self, texts: Sequence[str]) -> Any:
        raise AssertionError("nothing is embedded here")


def wire(
    folder: Path,
    bus: MemoryBus,
    router: object,
    *plugins: object,
    backend: FakeBackend | None = None,
    count: int = 2,
) -> tuple[WeightInterface, FakeBackend]:
    backend = backend or TieredBackend()
    found = PluginManager.with_builtins()
    for plugin in (RouterPlugin(router), *plugins):
        found.register(plugin)
    interface = setup_weight_interface(
        bus,
        backend,
        registry_of(folder, "abcde", max_loaded=1),
        NoEmbedder(),
        options=WiringOptions(
            router="test", manager=ManagerOptions(prefetch_runners_up=count, max_host_bytes=1000)
        ),
        plugins=found,
    )
    return interface, backend


def prefetched(backend: FakeBackend) -> list[object]:
    return [what for call, what in backend.calls if call == "prefetch"]


async def publish(bus: MemoryBus, text: str = "x") -> Receipt:
    report = await bus.publish(MemoryEvent.from_text(text))
    assert isinstance(report.value, Receipt)
    return report.value


@both_backends
async def test_the_next_best_are_prefetched_after_the_event_was_delivered(
    tmp_path: Path,
) -> None:
    async with MemoryBus() as bus:
        _, backend = wire(tmp_path, bus, InOrder())
        receipt = await publish(bus)
        assert [s.adapter for s in receipt.selections] == ["a"]
        assert prefetched(backend) == []
        await anyio.wait_all_tasks_blocked()
        assert prefetched(backend) == ["b", "c"]
        assert backend.loaded == ["a@1"]


@both_backends
async def test_nothing_without_a_chance_is_prefetched_and_zero_is_off(tmp_path: Path) -> None:
    for number, (count, expected) in enumerate([(9, ["b", "c", "d"]), (1, ["b"]), (0, [])]):
        async with MemoryBus() as bus:
            _, backend = wire(tmp_path / str(number), bus, InOrder(), count=count)
            await publish(bus)
            await anyio.wait_all_tasks_blocked()
            assert prefetched(backend) == expected


@both_backends
async def test_shadow_mode_and_an_unable_backend_prefetch_nothing(tmp_path: Path) -> None:
    router = InOrder()
    async with MemoryBus() as bus:
        _, backend = wire(tmp_path, bus, router)
        bus.set_shadow(True)
        await publish(bus)
        await anyio.wait_all_tasks_blocked()
        assert backend.calls == []
    async with MemoryBus() as bus:
        wire(tmp_path / "unable", bus, router, backend=FakeBackend())
        await publish(bus)
        await anyio.wait_all_tasks_blocked()
    assert router.asked == 0


@both_backends
async def test_a_router_that_plugins_stand_in_for_is_not_asked(tmp_path: Path) -> None:
    class Decides:
        @hookimpl
        def select_adapters(self, candidates: Sequence[AdapterCard]) -> list[Selection]:
            return [Selection("a", 1.0)]

    router = InOrder()
    async with MemoryBus() as bus:
        wire(tmp_path, bus, router, Decides())
        await publish(bus)
        await anyio.wait_all_tasks_blocked()
    assert router.asked == 0


@both_backends
async def test_failures_are_logged_once_and_reach_no_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    router = InOrder()
    async with MemoryBus() as bus:
        wire(tmp_path, bus, router, backend=TieredBackend(broken="b"))
        for _ in range(3):
            await publish(bus)
            await anyio.wait_all_tasks_blocked()
        assert len(caplog.messages) == 1
        assert "adapter b is not prefetched" in caplog.text
        router.fail = True
        assert (await publish(bus)).selections[0].adapter == "a"
        await anyio.wait_all_tasks_blocked()
        assert "ranking failed: told to" in caplog.text
        router.fail = False
        await publish(bus)
        await anyio.wait_all_tasks_blocked()
        assert router.asked == 5
        assert not bus.dead_letters


@both_backends
async def test_what_waits_is_bounded_and_ends_with_the_bus(tmp_path: Path) -> None:
    router = InOrder()
    router.gate = anyio.Event()
    async with MemoryBus() as bus:
        _, backend = wire(tmp_path, bus, router)
        for _ in range(30):
            await publish(bus)
        await anyio.wait_all_tasks_blocked()
        assert router.asked == 1
    assert prefetched(backend) == []
    router.gate.set()
    await anyio.wait_all_tasks_blocked()
    assert router.asked == 1


@both_backends
async def test_a_backlog_is_worked_off_as_far_as_it_was_kept(tmp_path: Path) -> None:
    router = InOrder()
    router.gate = anyio.Event()
    async with MemoryBus() as bus:
        wire(tmp_path, bus, router)
        for _ in range(30):
            await publish(bus)
        router.gate.set()
        await anyio.wait_all_tasks_blocked()
        assert 1 < router.asked <= 10


@both_backends
async def test_work_in_the_background_of_a_bus_needs_an_open_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR, "intrinsic.bus")
    done: list[str] = []

    async def work() -> None:
        done.append("work")
        raise ValueError("told to")

    bus = MemoryBus()
    with pytest.raises(BusClosedError):
        bus.start_background(work)
    async with bus:
        bus.start_background(work)
        assert done == []
        await anyio.wait_all_tasks_blocked()
        assert done == ["work"]
        assert "told to" in caplog.text
    with pytest.raises(BusClosedError):
        bus.start_background(work)


@both_backends
async def test_the_first_of_a_ranking_are_those_of_the_whole() -> None:
    cards = [AdapterCard(name=name, description=f"knows {name} and law") for name in "abcde"]
    router = KeywordRouter(options=RouterOptions(threshold=0.0))
    whole = await router.rank("law of c", candidates=cards)
    assert await router.rank("law of c", candidates=cards, first=2) == whole[:2]
    assert len(await router.rank("", candidates=cards, first=2)) == 2
