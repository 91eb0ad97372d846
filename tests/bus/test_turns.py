"""The turn-based form: nothing enqueued is lost, nothing is delivered twice."""

from __future__ import annotations

import anyio
import pytest

from intrinsic.bus import BusOptions, MemoryBus, Notice, PublishReport
from intrinsic.errors import BusClosedError, BusFullError, EventError
from intrinsic.events import EventContext, InjectionChannel, MemoryEvent, MemoryVector
from tests.bus.backends import both_backends

LORA = InjectionChannel.DYNAMIC_LORA
KNN = InjectionChannel.KNN_LM
BIAS = InjectionChannel.LOGIT_BIAS


def vectors(*names: str) -> list[MemoryVector]:
    return [MemoryVector(name, f"text of {name}") for name in names]


def names(event: MemoryEvent) -> list[str]:
    return [vector.memory_id for vector in event.vectors]


class Sink:
    """A handler that notes what it took, after it was let through."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.entered = anyio.Event()
        self.gate = anyio.Event()
        self.gate.set()

    async def __call__(self, event: MemoryEvent) -> None:
        self.entered.set()
        await self.gate.wait()
        self.taken += names(event)


@both_backends
async def test_flush_delivers_every_channel_once_and_in_order() -> None:
    sink = Sink()
    async with MemoryBus() as bus:
        bus.register_handler(None, sink)
        bus.enqueue(LORA, vectors("a", "b"))
        bus.enqueue("logit_bias", vectors("c"))
        bus.enqueue(LORA, vectors("d"))
        assert bus.statistics().pending == 4
        reports = await bus.flush()
        assert [names(report.event) for report in reports] == [["c"], ["a", "b", "d"]]
        assert await bus.flush() == []
        assert bus.statistics().pending == 0
    assert sink.taken == ["c", "a", "b", "d"]


@both_backends
async def test_flush_of_one_channel_leaves_the_others() -> None:
    sink = Sink()
    async with MemoryBus() as bus:
        bus.register_handler(None, sink)
        bus.enqueue(LORA, vectors("a"))
        bus.enqueue(KNN, vectors("b"))
        await bus.flush("knn_lm")
        assert sink.taken == ["b"]
        await bus.flush(LORA)
    assert sink.taken == ["b", "a"]


@both_backends
async def test_vectors_keep_their_context_and_neighbours_share_an_event() -> None:
    async with MemoryBus() as bus:
        bus.register_handler(LORA, lambda _: None, in_thread=False)
        one, two = EventContext("r1", "s1"), EventContext("r2", "s2")
        for context, name in ((one, "a"), (one, "b"), (two, "c"), (one, "d")):
            bus.enqueue(LORA, vectors(name), context=context)
        reports = await bus.flush()
    events = [(report.event.context, names(report.event)) for report in reports]
    assert events == [(one, ["a", "b"]), (two, ["c"]), (one, ["d"])]


@both_backends
async def test_what_is_enqueued_while_a_handler_awaits_is_not_lost() -> None:
    sink = Sink()
    sink.gate = anyio.Event()
    async with MemoryBus() as bus, anyio.create_task_group() as tasks:
        bus.register_handler(LORA, sink)
        bus.enqueue(LORA, vectors("a"))
        tasks.start_soon(bus.flush)
        await sink.entered.wait()
        bus.enqueue(LORA, vectors("b"))
        sink.gate.set()
        await anyio.wait_all_tasks_blocked()
        assert sink.taken == ["a"]
        await bus.flush()
    assert sink.taken == ["a", "b"]


@both_backends
async def test_what_a_handler_enqueues_itself_waits_for_the_next_flush() -> None:
    taken: list[list[str]] = []

    async with MemoryBus() as bus:

        async def handler(event: MemoryEvent) -> None:
            taken.append(names(event))
            if len(taken) < 5:
                bus.enqueue(LORA, vectors(f"v{len(taken)}"))

        bus.register_handler(LORA, handler)
        bus.enqueue(LORA, vectors("v0"))
        for _ in range(5):
            assert len(await bus.flush()) == 1
    assert taken == [["v0"], ["v1"], ["v2"], ["v3"], ["v4"]]


@both_backends
async def test_two_flushes_at_once_deliver_once() -> None:
    sink = Sink()
    sink.gate = anyio.Event()
    async with MemoryBus() as bus, anyio.create_task_group() as tasks:
        bus.register_handler(None, sink)
        for channel in (LORA, KNN, BIAS):
            bus.enqueue(channel, vectors(f"{channel} 1", f"{channel} 2"))
        for _ in range(4):
            tasks.start_soon(bus.flush)
        await anyio.wait_all_tasks_blocked()
        sink.gate.set()
    assert len(sink.taken) == len(set(sink.taken)) == 6


@both_backends
async def test_a_raising_channel_does_not_stop_the_later_ones_nor_is_it_delivered_again() -> None:
    sink = Sink()
    calls: list[str] = []

    async def raises(event: MemoryEvent) -> None:
        calls.append("raises")
        raise ValueError

    async with MemoryBus() as bus:
        bus.register_handler(BIAS, raises)
        bus.register_handler(LORA, sink)
        bus.enqueue(BIAS, vectors("a"))
        bus.enqueue(LORA, vectors("b"))
        reports = await bus.flush()
        assert [report.ok for report in reports] == [False, True]
        assert await bus.flush() == []
        assert len(bus.dead_letters) == 1
    assert sink.taken == ["b"]
    assert calls == ["raises"]


@both_backends
async def test_a_cancelled_flush_puts_back_what_no_handler_took() -> None:
    sink = Sink()
    sink.gate = anyio.Event()
    async with MemoryBus() as bus:
        bus.register_handler(LORA, sink)
        bus.enqueue(BIAS, vectors("elsewhere"))
        bus.enqueue(LORA, vectors("a", "b"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bus.flush, LORA)
            await sink.entered.wait()
            bus.enqueue(LORA, vectors("c"))
            tasks.cancel_scope.cancel()
        assert bus.statistics().pending == 4
        assert bus.injection_log.delivered == 0
        sink.gate.set()
        await bus.flush(LORA)
        assert sink.taken == ["a", "b", "c"]
        bus.register_handler(BIAS, sink)
        await bus.flush()
        assert bus.statistics().pending == 0


@both_backends
async def test_a_flush_cancelled_between_two_handlers_delivers_to_neither_twice() -> None:
    quick, slow = Sink(), Sink()
    slow.gate = anyio.Event()
    async with MemoryBus() as bus:
        bus.register_handler(LORA, quick, name="quick")
        bus.register_handler(LORA, slow, name="slow")
        bus.enqueue(LORA, vectors("a"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bus.flush)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        assert quick.taken == ["a"]
        assert bus.statistics().pending == 0
        assert [record.handlers for record in bus.injection_log] == [("quick",)]
        assert [letter.handler for letter in bus.dead_letters] == ["slow"]
        slow.gate.set()
        assert [report.ok for report in await bus.replay()] == [True]
    assert quick.taken == slow.taken == ["a"]


@both_backends
async def test_a_flush_that_waits_for_its_session_can_be_cancelled() -> None:
    sink = Sink()
    sink.gate = anyio.Event()
    context = EventContext(session_id="s")
    async with MemoryBus() as bus:
        bus.register_handler(LORA, sink)
        first = bus.publish_nowait(MemoryEvent(LORA, tuple(vectors("first")), context))
        bus.enqueue(LORA, vectors("a"), context=context)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bus.flush)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        sink.gate.set()
        await first.wait()
        await bus.flush()
    assert sink.taken == ["first", "a"]


@both_backends
async def test_vectors_stay_while_the_bus_is_suspended_or_nobody_handles_them() -> None:
    sink = Sink()
    async with MemoryBus() as bus:
        bus.enqueue(LORA, vectors("a"))
        bus.enqueue(LORA, vectors("b"), context=EventContext("r"))
        (report,) = await bus.flush()
        assert report.results == ()
        bus.register_handler(LORA, sink)
        bus.suspend("incident 7")
        (report,) = await bus.flush()
        assert report.suspended == "incident 7"
        assert bus.statistics().pending == 2
        bus.resume()
        await bus.flush()
    assert sink.taken == ["a", "b"]


@both_backends
async def test_enqueue_takes_all_or_nothing_and_is_bounded() -> None:
    async with MemoryBus(BusOptions(max_pending=3)) as bus:
        bus.register_handler(LORA, lambda _: None, in_thread=False)
        bus.enqueue(LORA, vectors("a", "b"))
        bus.enqueue(LORA, [])
        with pytest.raises(BusFullError, match="2 vectors wait for a flush and 2 more exceed"):
            bus.enqueue(LORA, vectors("c", "d"))
        bus.enqueue(LORA, vectors("c"))
        assert bus.statistics().pending == 3
        assert bus.statistics().refused == 1
        (report,) = await bus.flush()
        assert names(report.event) == ["a", "b", "c"]
        bus.enqueue(LORA, vectors("d", "e", "f"))
        await bus.flush()


@both_backends
async def test_what_is_being_flushed_still_counts_against_the_bound() -> None:
    sink = Sink()
    sink.gate = anyio.Event()
    async with MemoryBus(BusOptions(max_pending=1)) as bus, anyio.create_task_group() as tasks:
        bus.register_handler(LORA, sink)
        bus.enqueue(LORA, vectors("a"))
        tasks.start_soon(bus.flush)
        await sink.entered.wait()
        with pytest.raises(BusFullError):
            bus.enqueue(LORA, vectors("b"))
        sink.gate.set()


@both_backends
async def test_enqueue_refuses_what_is_no_vector_or_channel() -> None:
    async with MemoryBus() as bus:
        with pytest.raises(EventError, match="the bus carries MemoryVector objects, not str"):
            bus.enqueue(LORA, "text")  # type: ignore[arg-type]
        with pytest.raises(EventError, match="unknown channel 'lora'"):
            bus.enqueue("lora", [])
        with pytest.raises(EventError, match="unknown channel 'lora'"):
            await bus.flush("lora")


@both_backends
async def test_a_handler_may_enqueue_and_flush() -> None:
    sink = Sink()

    async with MemoryBus(BusOptions(max_in_flight=1)) as bus:

        async def handler(event: MemoryEvent) -> list[PublishReport]:
            bus.enqueue(KNN, vectors("nested"), context=event.context)
            return await bus.flush()

        bus.register_handler(LORA, handler)
        bus.register_handler(KNN, sink)
        report = await bus.publish(MemoryEvent.from_text("x", session_id="s"))
        assert isinstance(report.value, list)
        (nested,) = report.value
        assert nested.event.parent_id == report.event.id
    assert sink.taken == ["nested"]


@both_backends
async def test_a_flush_that_outlives_the_bus_keeps_what_it_did_not_deliver() -> None:
    sink = Sink()
    sink.gate = anyio.Event()
    errors: list[BaseException] = []

    async def flush(bus: MemoryBus) -> None:
        try:
            await bus.flush()
        except BusClosedError as error:
            errors.append(error)

    bus = MemoryBus(BusOptions(drain_timeout_s=0.0))

    async def leave() -> None:
        async with bus:
            bus.register_handler(None, sink)
            bus.enqueue(BIAS, vectors("a"))
            bus.enqueue(LORA, vectors("b"))
            tasks.start_soon(flush, bus)
            await sink.entered.wait()

    async with anyio.create_task_group() as tasks:
        with pytest.warns(ResourceWarning, match="a bus was left with 1 enqueued vectors"):
            await leave()
    assert len(errors) == 1
    assert bus.statistics().pending == 1
    assert len(bus.dead_letters) == 1


@both_backends
async def test_observers_hear_of_each_flushed_event() -> None:
    heard: list[Notice] = []
    async with MemoryBus() as bus:
        bus.on("flushed", heard.append)
        bus.register_handler(None, lambda _: None, in_thread=False)
        bus.enqueue(LORA, vectors("a"))
        bus.enqueue(KNN, vectors("b"))
        reports = await bus.flush()
    assert [notice.report for notice in heard] == reports
