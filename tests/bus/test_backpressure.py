"""Bounds: publishing waits when the bus is full, `publish_nowait` refuses."""

from __future__ import annotations

import anyio
import pytest

from intrinsic.bus import BusOptions, MemoryBus, Notice
from intrinsic.errors import BusFullError
from intrinsic.events import InjectionChannel, MemoryEvent
from tests.bus.backends import both_backends

LORA = InjectionChannel.DYNAMIC_LORA


def text(text: str, session: str | None = None) -> MemoryEvent:
    return MemoryEvent.from_text(text, session_id=session)


@pytest.mark.parametrize("bound", [1, 2])
@both_backends
async def test_publish_waits_when_full_and_goes_on_in_the_order_of_the_calls(bound: int) -> None:
    order: list[str] = []
    release = anyio.Event()
    running = most = 0

    async def handler(event: MemoryEvent) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        order.append(event.text)
        await release.wait()
        running -= 1

    async with (
        MemoryBus(BusOptions(max_in_flight=bound)) as bus,
        anyio.create_task_group() as tasks,
    ):
        bus.register_handler(LORA, handler)
        for number in range(6):
            tasks.start_soon(bus.publish, text(str(number), f"s{number}" if number % 2 else None))
            await anyio.wait_all_tasks_blocked()
        statistics = bus.statistics()
        assert (statistics.in_flight, statistics.waiting) == (bound, 6 - bound)
        release.set()
    # Those that are admitted at the same moment start in any order.
    started = [sorted(order[first : first + bound]) for first in range(0, 6, bound)]
    assert "".join(map("".join, started)) == "012345"
    assert most == bound


@both_backends
async def test_a_publisher_that_waits_for_a_slot_can_be_cancelled() -> None:
    release = anyio.Event()
    order: list[str] = []

    async def handler(event: MemoryEvent) -> None:
        order.append(event.text)
        await release.wait()

    async with MemoryBus(BusOptions(max_in_flight=1)) as bus, anyio.create_task_group() as outer:
        bus.register_handler(LORA, handler)
        outer.start_soon(bus.publish, text("first"))
        await anyio.wait_all_tasks_blocked()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bus.publish, text("given up", "s"))
            await anyio.wait_all_tasks_blocked()
            outer.start_soon(bus.publish, text("last", "s"))
            await anyio.wait_all_tasks_blocked()
            assert bus.statistics().waiting == 2
            tasks.cancel_scope.cancel()
        release.set()
    assert order == ["first", "last"]
    assert bus.statistics().cancelled == 1
    assert bus.statistics().sessions == 0


@both_backends
async def test_publish_nowait_is_handled_by_the_bus_and_can_be_waited_for() -> None:
    async with MemoryBus() as bus:
        bus.register_handler(LORA, lambda event: event.text + "!", in_thread=False)
        handle = bus.publish_nowait(text("x"))
        assert not handle.done
        assert handle.event.text == "x"
        assert (await handle.wait()).value == "x!"
        assert handle.done
        assert (await handle.wait()).value == "x!"


@both_backends
async def test_publish_nowait_refuses_when_full_and_takes_again_when_there_is_room() -> None:
    release = anyio.Event()

    async def handler(event: MemoryEvent) -> None:
        await release.wait()

    notices: list[Notice] = []
    options = BusOptions(max_in_flight=1, max_queued=2)
    async with MemoryBus(options) as bus:
        bus.on("published", notices.append)
        bus.register_handler(LORA, handler)
        handles = [bus.publish_nowait(text("0"))]
        await anyio.wait_all_tasks_blocked()
        handles += [bus.publish_nowait(text("1")), bus.publish_nowait(text("2"))]
        with pytest.raises(BusFullError, match=r"2 events are queued \(max_queued=2\)"):
            bus.publish_nowait(text("3"))
        statistics = bus.statistics()
        assert (statistics.in_flight, statistics.queued, statistics.refused) == (1, 2, 1)
        assert statistics.waiting == 0
        release.set()
        for handle in handles:
            assert (await handle.wait()).ok
        await bus.publish_nowait(text("4")).wait()
    assert len(notices) == 4
    assert bus.statistics().completed == 4


@both_backends
async def test_a_full_bus_still_serves_who_waits() -> None:
    async with MemoryBus(BusOptions(max_in_flight=3, max_queued=0)) as bus:
        bus.register_handler(LORA, lambda event: event.text, in_thread=False)
        with pytest.raises(BusFullError):
            bus.publish_nowait(text("x"))
        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(bus.publish, text(str(number), f"s{number % 7}"))
        assert bus.statistics().completed == 100
