"""Handlers in worker threads may publish, and never wait for threads that wait for them."""

from __future__ import annotations

import contextvars
import threading

import anyio
import anyio.from_thread

from intrinsic.bus import BusOptions, MemoryBus
from intrinsic.bus.thread_call import ThreadCall
from intrinsic.events import MemoryEvent
from tests.bus.backends import both_backends
from tests.bus.publishing import KNN, LORA, on, value_of


@both_backends
async def test_a_handler_in_a_thread_may_publish() -> None:
    def outer(event: MemoryEvent) -> object:
        return anyio.from_thread.run(value_of_publish, on(KNN, "s"))

    async def value_of_publish(event: MemoryEvent) -> object:
        return await value_of(bus.publish(event))

    async def inner(event: MemoryEvent) -> object:
        return event.parent_id

    async with MemoryBus(BusOptions(max_in_flight=1)) as bus:
        bus.register_handler(LORA, outer)
        bus.register_handler(KNN, inner)
        report = await bus.publish(on(LORA, "s"))
    assert report.value == report.event.id


@both_backends
async def test_handlers_in_threads_never_wait_for_threads_that_wait_for_them() -> None:
    def deeper(event: MemoryEvent) -> object:
        depth = int(event.text)
        if depth == 6:
            return "bottom"
        report = anyio.from_thread.run(bus.publish, on(LORA, None, str(depth + 1)))
        return report.value

    async with MemoryBus(BusOptions(handler_threads=1)) as bus:
        bus.register_handler(LORA, deeper)
        handles = [bus.publish_nowait(on(LORA, f"s{number}", "0")) for number in range(3)]
        for handle in handles:
            assert (await handle.wait()).value == "bottom"
        (handler,) = bus._pipeline.table.of(LORA)
        assert handler.thread_limiter is not None
        assert handler.thread_limiter.total_tokens == 1


@both_backends
async def test_a_thread_that_waits_for_a_queued_event_lends_its_place() -> None:
    def outer(event: MemoryEvent) -> object:
        if event.text == "inner":
            return "bottom"
        handle = anyio.from_thread.run_sync(bus.publish_nowait, on(LORA, "s", "inner"))
        return anyio.from_thread.run(handle.wait).value

    async with MemoryBus(BusOptions(handler_threads=1, max_in_flight=1)) as bus:
        bus.register_handler(LORA, outer)
        assert (await bus.publish(on(LORA, "s"))).value == "bottom"


@both_backends
async def test_an_event_loop_inside_a_handlers_thread_is_a_world_of_its_own() -> None:
    threads: list[int] = []

    def own_loop(event: MemoryEvent) -> object:
        async def main() -> object:
            async with MemoryBus() as inner:
                inner.register_handler(
                    KNN, lambda e: threads.append(threading.get_ident()), in_thread=False
                )
                report = await inner.publish(on(KNN, "s"))
                return report.event.parent_id

        return anyio.run(main)

    async with MemoryBus() as bus:
        bus.register_handler(LORA, own_loop)
        report = await bus.publish(on(LORA, "s"))
    assert report.ok
    assert report.value is None
    assert threads != [threading.get_ident()]


def test_a_call_given_up_before_its_thread_looks_never_runs() -> None:
    calls: list[MemoryEvent] = []
    stuck: set[ThreadCall] = set()
    call = ThreadCall(calls.append, on(LORA), anyio.CapacityLimiter(1), stuck)
    call.abandon()
    call.run()
    assert calls == []
    assert stuck == set()


def test_a_call_given_up_when_it_is_just_done_is_not_stuck() -> None:
    stuck: set[ThreadCall] = set()
    call = ThreadCall(lambda _: "late", on(LORA), anyio.CapacityLimiter(1), stuck)
    contextvars.copy_context().run(call.run)
    call.abandon()
    assert stuck == set()


def test_a_call_given_up_while_it_runs_is_stuck_until_it_ends() -> None:
    stuck: set[ThreadCall] = set()

    def function(event: MemoryEvent) -> None:
        call.abandon()
        assert stuck == {call}

    call = ThreadCall(function, on(LORA), anyio.CapacityLimiter(1), stuck)
    contextvars.copy_context().run(call.run)
    assert call.error is None
    assert stuck == set()
