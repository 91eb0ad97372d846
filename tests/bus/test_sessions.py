"""Events of one session are handled in order; different sessions run side by side."""

from __future__ import annotations

import anyio
import anyio.lowlevel

from intrinsic.bus import BusOptions, MemoryBus
from intrinsic.events import InjectionChannel, MemoryEvent
from tests.bus.backends import both_backends

LORA = InjectionChannel.DYNAMIC_LORA


def text(text: str, session: str | None = None) -> MemoryEvent:
    return MemoryEvent.from_text(text, session_id=session)


@both_backends
async def test_a_session_is_handled_in_the_order_of_publishing_one_at_a_time() -> None:
    order: list[str] = []
    running = 0

    async def handler(event: MemoryEvent) -> None:
        nonlocal running
        running += 1
        assert running == 1
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        order.append(event.text)
        running -= 1

    async with MemoryBus() as bus:
        bus.register_handler(LORA, handler)
        handles = [bus.publish_nowait(text(str(number), "s")) for number in range(20)]
        await bus.publish(text("20", "s"))
        assert all(handle.done for handle in handles)
    assert order == [str(number) for number in range(21)]


@both_backends
async def test_another_session_does_not_wait() -> None:
    release = anyio.Event()

    async def handler(event: MemoryEvent) -> None:
        if event.text == "slow":
            await release.wait()

    async with MemoryBus() as bus:
        bus.register_handler(LORA, handler)
        slow = bus.publish_nowait(text("slow", "a"))
        behind = bus.publish_nowait(text("quick", "a"))
        await bus.publish(text("quick", "b"))
        await bus.publish(text("quick"))
        await anyio.wait_all_tasks_blocked()
        assert not slow.done
        assert not behind.done
        assert bus.statistics().sessions == 1
        release.set()
        await behind.wait()


@both_backends
async def test_events_that_wait_for_their_session_occupy_no_slot() -> None:
    release = anyio.Event()

    async def handler(event: MemoryEvent) -> None:
        if event.text == "slow":
            await release.wait()

    async with MemoryBus(BusOptions(max_in_flight=2)) as bus:
        bus.register_handler(LORA, handler)
        bus.publish_nowait(text("slow", "a"))
        for _ in range(10):
            bus.publish_nowait(text("quick", "a"))
        for _ in range(10):
            await bus.publish(text("quick", "b"))
        assert bus.statistics().queued == 10
        release.set()


@both_backends
async def test_a_waiting_publisher_that_gives_up_leaves_the_order_of_the_others_alone() -> None:
    release = anyio.Event()
    order: list[str] = []

    async def handler(event: MemoryEvent) -> None:
        order.append(event.text)
        if event.text == "first":
            await release.wait()

    async with MemoryBus() as bus:
        bus.register_handler(LORA, handler)
        bus.publish_nowait(text("first", "s"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bus.publish, text("given up", "s"))
            await anyio.wait_all_tasks_blocked()
            assert bus.statistics().waiting == 1
            last = bus.publish_nowait(text("last", "s"))
            tasks.cancel_scope.cancel()
        assert bus.statistics().waiting == 0
        release.set()
        await last.wait()
        assert bus.statistics().sessions == 0
    assert order == ["first", "last"]


@both_backends
async def test_a_publisher_cancelled_at_the_moment_its_turn_comes_passes_it_on() -> None:
    release = anyio.Event()
    order: list[str] = []

    async def handler(event: MemoryEvent) -> None:
        order.append(event.text)
        if event.text == "first":
            await release.wait()

    async with MemoryBus() as bus, anyio.create_task_group() as outer:
        bus.register_handler(LORA, handler)
        bus.publish_nowait(text("first", "s"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bus.publish, text("cancelled", "s"))
            await anyio.wait_all_tasks_blocked()
            outer.start_soon(bus.publish, text("last", "s"))
            await anyio.wait_all_tasks_blocked()
            release.set()
            tasks.cancel_scope.cancel()
    assert order[0] == "first"
    assert order[-1] == "last"
    assert bus.statistics().sessions == 0


@both_backends
async def test_ten_thousand_sessions_come_and_go_and_leave_nothing() -> None:
    async with MemoryBus() as bus:
        bus.register_handler(LORA, lambda _: None, in_thread=False)
        for number in range(10_000):
            await bus.publish(MemoryEvent.from_text("x", session_id=f"session {number}"))
        assert bus.statistics().sessions == 0
        assert bus._pipeline.admission.sessions == {}
        assert bus._pipeline.admission.live == 0


@both_backends
async def test_a_thousand_sessions_side_by_side_keep_their_orders() -> None:
    orders: dict[str | None, list[int]] = {}

    async def handler(event: MemoryEvent) -> None:
        await anyio.lowlevel.checkpoint()
        orders.setdefault(event.context.session_id, []).append(int(event.text))

    async with MemoryBus(BusOptions(max_queued=3_000)) as bus:
        bus.register_handler(LORA, handler)
        for number in range(3_000):
            bus.publish_nowait(text(str(number), f"s{number % 1_000}"))
    assert len(orders) == 1_000
    assert all(order == sorted(order) for order in orders.values())
