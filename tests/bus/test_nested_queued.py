"""Handlers may queue events and wait for them, whatever those wait for."""

from __future__ import annotations

import anyio
import anyio.from_thread
import pytest

from intrinsic.bus import BusOptions, MemoryBus, QueuedEvent
from intrinsic.errors import BusError
from intrinsic.events import MemoryEvent
from tests.bus.backends import both_backends
from tests.bus.publishing import KNN, LORA, STEERING, on, value_of


@both_backends
async def test_publish_nowait_in_a_handler_never_waits_and_keeps_the_parent() -> None:
    order: list[str] = []
    handles: list[QueuedEvent] = []

    async def outer(event: MemoryEvent) -> None:
        handles.append(bus.publish_nowait(on(KNN, "s")))
        await anyio.wait_all_tasks_blocked()
        order.append("outer ended")

    async with MemoryBus(BusOptions(max_in_flight=1)) as bus:
        bus.register_handler(LORA, outer)
        bus.register_handler(KNN, lambda _: order.append("queued"), in_thread=False)
        report = await bus.publish(on(LORA, "s"))
        await handles[0].wait()
    assert order == ["outer ended", "queued"]
    assert handles[0].event.parent_id == report.event.id


@pytest.mark.parametrize("session", [None, "s", "t"])
@both_backends
async def test_a_handler_may_wait_for_what_it_queued(session: str | None) -> None:
    async def outer(event: MemoryEvent) -> object:
        handle = bus.publish_nowait(on(KNN, session))
        return await value_of(handle.wait())

    async with MemoryBus(BusOptions(max_in_flight=1)) as bus:
        bus.register_handler(LORA, outer)
        bus.register_handler(KNN, lambda _: "queued", in_thread=False)
        assert await value_of(bus.publish(on(LORA, "s"))) == "queued"
        assert bus.statistics().sessions == 0


@both_backends
async def test_several_handlers_may_wait_for_one_queued_event_in_a_circle() -> None:
    """a and b wait for an event of session c; c's own handler publishes to a and to b."""
    waiting = 0
    all_wait = anyio.Event()

    async def waits(event: MemoryEvent) -> object:
        nonlocal waiting
        waiting += 1
        if waiting == 2:
            all_wait.set()
        return await value_of(queued.wait())

    async def publishes(event: MemoryEvent) -> object:
        await all_wait.wait()
        await anyio.wait_all_tasks_blocked()
        await bus.publish(on(STEERING, "a"))
        await bus.publish(on(STEERING, "b"))
        return "queued"

    async with MemoryBus(BusOptions(max_in_flight=3)) as bus:
        bus.register_handler(LORA, waits)
        bus.register_handler(KNN, publishes)
        bus.register_handler(STEERING, lambda _: None, in_thread=False)
        queued = bus.publish_nowait(on(KNN, "c"))
        handles = [bus.publish_nowait(on(LORA, "a")), bus.publish_nowait(on(LORA, "b"))]
        for handle in handles:
            assert (await handle.wait()).value == "queued"
        assert bus.statistics().sessions == 0


@both_backends
async def test_waiting_for_a_queued_event_that_already_waits_for_the_waiter() -> None:
    """The queued event's handler publishes to session a and waits, before a waits for it."""
    go = anyio.Event()

    async def holds_a(event: MemoryEvent) -> object:
        await go.wait()
        return await value_of(queued.wait())

    async def publishes_to_a(event: MemoryEvent) -> object:
        return await value_of(bus.publish(on(STEERING, "a")))

    async with MemoryBus() as bus:
        bus.register_handler(LORA, holds_a)
        bus.register_handler(KNN, publishes_to_a)
        bus.register_handler(STEERING, lambda _: "bottom", in_thread=False)
        first = bus.publish_nowait(on(LORA, "a"))
        await anyio.wait_all_tasks_blocked()
        queued = bus.publish_nowait(on(KNN, "b"))
        await anyio.wait_all_tasks_blocked()
        assert bus.statistics().waiting == 1
        go.set()
        assert (await first.wait()).value == "bottom"
        assert bus.statistics().cycles_broken == 1


@both_backends
async def test_waiting_for_ones_own_event_is_an_error_at_once() -> None:
    async def waits_for_itself(event: MemoryEvent) -> None:
        await handle.wait()

    async def waits_below(event: MemoryEvent) -> None:
        await value_of(bus.publish(on(STEERING)))

    async with MemoryBus() as bus:
        bus.register_handler(LORA, waits_for_itself)
        bus.register_handler(STEERING, waits_for_itself)
        bus.register_handler(KNN, waits_below)
        for channel in (LORA, KNN):
            handle = bus.publish_nowait(on(channel))
            report = await handle.wait()
            assert isinstance(report.errors[0], BusError)
            assert "waits for that event, which cannot end" in str(report.errors[0])
