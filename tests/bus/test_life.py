"""Entering and leaving: the bus owns its tasks, drains what it can, and leaves nothing behind."""

from __future__ import annotations

import gc

import anyio
import anyio.lowlevel
import pytest

from intrinsic.bus import BusOptions, MemoryBus, Notice, PublishReport, QueuedEvent
from intrinsic.errors import BusClosedError
from intrinsic.events import InjectionChannel, MemoryEvent, MemoryVector
from tests.bus.backends import both_backends

LORA = InjectionChannel.DYNAMIC_LORA
KNN = InjectionChannel.KNN_LM


class Gate:
    """A handler that waits until it is let through."""

    def __init__(self) -> None:
        self.entered = anyio.Event()
        self.release = anyio.Event()
        self.ended: list[str] = []

    async def __call__(self, event: MemoryEvent) -> str:
        self.entered.set()
        await self.release.wait()
        self.ended.append(event.text)
        return event.text


@both_backends
async def test_leaving_normally_handles_what_is_queued_and_running() -> None:
    ended: list[str] = []

    async def handler(event: MemoryEvent) -> None:
        await anyio.lowlevel.checkpoint()
        ended.append(event.text)
        if event.text == "0":
            bus.publish_nowait(MemoryEvent.from_text("follow-up", session_id="s"))
            await bus.publish(MemoryEvent.from_text("nested"))

    async with MemoryBus(BusOptions(max_in_flight=1)) as bus:
        bus.register_handler(LORA, handler)
        for number in range(3):
            bus.publish_nowait(MemoryEvent.from_text(str(number), session_id="s"))
    assert ended == ["0", "nested", "1", "2", "follow-up"]
    assert bus.statistics().dropped == 0


@both_backends
async def test_while_it_drains_outsiders_are_refused() -> None:
    gate = Gate()
    refused: list[str] = []
    bus = MemoryBus()

    async def outsider() -> None:
        await gate.entered.wait()
        await anyio.wait_all_tasks_blocked()
        try:
            await bus.publish(MemoryEvent(LORA))
        except BusClosedError as error:
            refused.append(str(error))
        gate.release.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(outsider)
        async with bus:
            bus.register_handler(LORA, gate)
            bus.publish_nowait(MemoryEvent.from_text("x"))
    assert refused == ["this bus is being left; only its own handlers may still publish"]
    assert gate.ended == ["x"]


@both_backends
async def test_draining_has_a_deadline() -> None:
    gate = Gate()
    dropped: list[Notice] = []
    bus = MemoryBus(BusOptions(drain_timeout_s=0.02, max_in_flight=1))
    bus.on("dropped", dropped.append)
    bus.register_handler(LORA, gate, name="gate")
    async with bus:
        running = bus.publish_nowait(MemoryEvent.from_text("running"))
        queued = bus.publish_nowait(MemoryEvent.from_text("queued"))
        await gate.entered.wait()
    for handle in (running, queued):
        assert handle.done
        with pytest.raises(BusClosedError, match="the bus was left before it handled event"):
            await handle.wait()
    assert [notice.event and notice.event.text for notice in dropped] == ["queued"]
    assert [letter.event.text for letter in bus.dead_letters] == ["running"]
    statistics = bus.statistics()
    assert (statistics.dropped, statistics.cancelled, statistics.queued) == (1, 1, 0)
    assert statistics.in_flight == statistics.waiting == statistics.sessions == 0


@both_backends
async def test_leaving_with_an_exception_cancels_at_once_and_raises_just_that() -> None:
    gate = Gate()
    handles: list[QueuedEvent] = []

    async def fail() -> None:
        async with MemoryBus(BusOptions(max_in_flight=1)) as bus:
            bus.register_handler(LORA, gate)
            handles.extend(bus.publish_nowait(MemoryEvent(LORA)) for _ in range(2))
            await gate.entered.wait()
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await fail()
    assert all(handle.done for handle in handles)
    assert gate.ended == []


@both_backends
async def test_leaving_because_of_a_cancellation_passes_it_on() -> None:
    gate = Gate()
    with anyio.CancelScope() as scope:
        async with MemoryBus() as bus:
            bus.register_handler(LORA, gate)
            bus.publish_nowait(MemoryEvent(LORA))
            await gate.entered.wait()
            scope.cancel()
            await anyio.sleep_forever()
        raise AssertionError("not reached")
    assert scope.cancelled_caught


@both_backends
async def test_a_group_with_a_cancellation_in_it_keeps_the_other_errors() -> None:
    async def fail() -> None:
        with anyio.CancelScope() as scope:
            async with MemoryBus():
                try:
                    scope.cancel()
                    await anyio.sleep_forever()
                except anyio.get_cancelled_exc_class() as error:
                    raise BaseExceptionGroup("both", [error, ValueError("mine")]) from None

    with pytest.raises(BaseExceptionGroup) as caught:
        await fail()
    assert caught.group_contains(ValueError, match="mine")


@both_backends
async def test_a_cancellation_while_draining_ends_the_draining() -> None:
    gate = Gate()
    bus = MemoryBus()
    async with anyio.create_task_group() as tasks:

        async def cancel_soon() -> None:
            await gate.entered.wait()
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()

        tasks.start_soon(cancel_soon)
        async with bus:
            bus.register_handler(LORA, gate)
            bus.publish_nowait(MemoryEvent(LORA))
        raise AssertionError("not reached")
    assert bus.statistics().cancelled == 1


@both_backends
async def test_publishers_in_other_tasks_get_an_answer_when_the_bus_is_left() -> None:
    gate = Gate()
    reports: list[PublishReport] = []
    errors: list[BusClosedError] = []
    bus = MemoryBus(BusOptions(drain_timeout_s=0.0, max_in_flight=1))

    async def publish(text: str) -> None:
        try:
            reports.append(await bus.publish(MemoryEvent.from_text(text, session_id="s")))
        except BusClosedError as error:
            errors.append(error)

    async with anyio.create_task_group() as tasks:
        async with bus:
            bus.register_handler(LORA, gate, name="gate")
            tasks.start_soon(publish, "running")
            await gate.entered.wait()
            tasks.start_soon(publish, "waiting 1")
            tasks.start_soon(publish, "waiting 2")
            await anyio.wait_all_tasks_blocked()
        assert len(reports) == 1
        assert len(errors) == 2
    (error,) = reports[0].errors
    assert isinstance(error, BusClosedError)
    assert "the bus was left while handler 'gate' ran" in str(error)
    assert bus.statistics().sessions == 0


@both_backends
async def test_a_handler_that_outlives_the_bus_cannot_publish() -> None:
    errors: list[BaseException] = []

    async def clings(event: MemoryEvent) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            try:
                await bus.publish(MemoryEvent(KNN))
            except BusClosedError as error:
                errors.append(error)

    async with MemoryBus(BusOptions(drain_timeout_s=0.0)) as bus:
        bus.register_handler(LORA, clings)
        bus.publish_nowait(MemoryEvent(LORA))
        await anyio.wait_all_tasks_blocked()
    assert [str(error) for error in errors] == ["this bus was left; build a new one"]


@both_backends
async def test_what_is_no_exception_in_a_queued_event_ends_the_bus() -> None:
    class NoOrdinaryError(BaseException):
        pass

    async def explodes(event: MemoryEvent) -> None:
        raise NoOrdinaryError

    async def fail() -> None:
        async with MemoryBus() as bus:
            bus.register_handler(LORA, explodes)
            bus.publish_nowait(MemoryEvent(LORA))
            await anyio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as caught:
        await fail()
    assert caught.group_contains(NoOrdinaryError)


@both_backends
async def test_leaving_with_enqueued_vectors_warns() -> None:
    with pytest.warns(ResourceWarning, match="a bus was left with 2 enqueued vectors"):
        async with MemoryBus() as bus:
            bus.enqueue(LORA, [MemoryVector("a", "x"), MemoryVector("b", "y")])


@both_backends
async def test_leaving_with_an_exception_does_not_also_warn() -> None:
    async def fail() -> None:
        async with MemoryBus() as bus:
            bus.enqueue(LORA, [MemoryVector("a", "x")])
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await fail()
    gc.collect()


def test_a_forgotten_bus_with_enqueued_vectors_warns() -> None:
    async def forget() -> None:
        bus = MemoryBus()
        await bus.__aenter__()
        bus.enqueue(LORA, [MemoryVector("a", "x")])
        tasks = bus._tasks
        assert tasks is not None
        await tasks.__aexit__(None, None, None)

    def run() -> None:
        anyio.run(forget)
        gc.collect()

    with pytest.warns(ResourceWarning, match="1 enqueued vectors"):
        run()
