"""The injection log says what was in fact delivered; observers hear it and harm nothing."""

from __future__ import annotations

import gc
import weakref
from typing import get_args

import anyio
import pytest

from intrinsic.bus import BusOptions, MemoryBus, Notice, NoticeName
from intrinsic.errors import ConfigError
from intrinsic.events import EventContext, InjectionChannel, MemoryEvent, MemoryVector
from tests.bus.backends import both_backends

LORA = InjectionChannel.DYNAMIC_LORA


async def takes(event: MemoryEvent) -> None:
    pass


async def raises(event: MemoryEvent) -> None:
    raise ValueError


async def hangs(event: MemoryEvent) -> None:
    await anyio.sleep_forever()


@both_backends
async def test_a_record_tells_event_channel_session_memories_handlers_and_time() -> None:
    async with MemoryBus() as bus:
        bus.register_handler(LORA, takes, name="one")
        bus.register_handler(LORA, raises, name="two")
        bus.register_handler(LORA, takes, name="three")
        vectors = (MemoryVector("m1", "a"), MemoryVector("m2", "b"))
        event = MemoryEvent(LORA, vectors, EventContext("r", "s"))
        await bus.publish(event)
        (record,) = bus.injection_log
    assert record.event_id == event.id
    assert record.channel is LORA
    assert record.session_id == "s"
    assert record.memory_ids == ("m1", "m2")
    assert record.handlers == ("one", "three")
    assert record.shadow is False
    assert abs(record.time - event.time.timestamp()) < 10


@both_backends
async def test_what_no_handler_took_is_counted_and_not_recorded() -> None:
    async with MemoryBus() as bus:
        await bus.publish(MemoryEvent(LORA))
        subscription = bus.register_handler(LORA, raises)
        await bus.publish(MemoryEvent(LORA))
        bus.suspend("stop")
        await bus.publish(MemoryEvent(LORA))
        bus.resume()
        subscription.cancel()
        bus.register_handler(LORA, takes)
        await bus.publish(MemoryEvent(LORA))
        log = bus.injection_log
    assert len(log) == len(log.records) == 1
    assert (log.delivered, log.failed, log.suspended) == (1, 1, 1)


@both_backends
async def test_the_log_is_bounded_and_keeps_the_newest() -> None:
    async with MemoryBus(BusOptions(injection_log_size=3)) as bus:
        bus.register_handler(LORA, takes)
        ids = [(await bus.publish(MemoryEvent(LORA))).event.id for _ in range(5)]
        log = bus.injection_log
        assert [record.event_id for record in log] == ids[-3:]
        assert log[-1].event_id == ids[-1]
        assert log.delivered == 5


@both_backends
async def test_delivered_events_are_not_kept_alive() -> None:
    class Payload:
        pass

    async with MemoryBus() as bus:
        bus.register_handler(LORA, takes)
        bus.register_handler(LORA, lambda _: None)
        payload = Payload()
        alive = weakref.ref(payload)
        event = MemoryEvent(LORA, (MemoryVector("m", "x", steering_vector=payload),))
        await bus.publish(event)
        del payload, event
        gc.collect()
        assert alive() is None


@both_backends
async def test_observers_hear_what_happens_to_an_event() -> None:
    heard: list[Notice] = []
    async with MemoryBus() as bus:
        for name in get_args(NoticeName):
            bus.on(name, heard.append)
        bus.register_handler(LORA, takes, name="takes")
        bus.register_handler(LORA, raises, name="raises")
        bus.register_handler(LORA, hangs, name="hangs", timeout_s=0.01)
        report = await bus.publish(MemoryEvent(LORA))
    assert [(notice.name, notice.handler) for notice in heard] == [
        ("published", None),
        ("failed", "raises"),
        ("dead_letter", "raises"),
        ("timeout", "hangs"),
        ("dead_letter", "hangs"),
        ("handled", None),
    ]
    assert all(notice.event == report.event for notice in heard)
    assert heard[1].error is report.errors[0]
    assert heard[-1].report == report


@both_backends
async def test_an_observer_that_raises_is_counted_and_harms_nothing() -> None:
    heard: list[str] = []

    def raises(notice: Notice) -> None:
        raise ValueError

    async with MemoryBus() as bus:
        bus.on("handled", raises)
        bus.on("handled", lambda notice: heard.append(notice.name))
        bus.register_handler(LORA, takes)
        assert (await bus.publish(MemoryEvent(LORA))).ok
        assert bus.statistics().observer_errors == 1
    assert heard == ["handled"]


@both_backends
async def test_a_cancelled_observer_hears_nothing_more() -> None:
    heard: list[Notice] = []
    async with MemoryBus() as bus:
        with bus.on("published", heard.append) as one:
            two = bus.on("published", heard.append)
            await bus.publish(MemoryEvent(LORA))
        await bus.publish(MemoryEvent(LORA))
        one.cancel()
        two.cancel()
        await bus.publish(MemoryEvent(LORA))
        assert bus._pipeline.observers.watching == {}
    assert len(heard) == 3


def test_observers_that_cannot_be_are_refused() -> None:
    async def asynchronous(notice: Notice) -> None:
        pass

    bus = MemoryBus()
    with pytest.raises(ConfigError, match="unknown notice 'done'; known: published, handled, "):
        bus.on("done", print)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="not a plain function"):
        bus.on("handled", asynchronous)
    with pytest.raises(ConfigError, match="not a plain function"):
        bus.on("handled", "print")  # type: ignore[arg-type]


@both_backends
async def test_an_observer_may_publish() -> None:
    async with MemoryBus() as bus:
        bus.on("dead_letter", lambda notice: bus.publish_nowait(MemoryEvent.from_text("alarm")))
        texts: list[str] = []

        async def handler(event: MemoryEvent) -> None:
            texts.append(event.text)
            if event.text == "x":
                raise ValueError

        bus.register_handler(LORA, handler)
        await bus.publish(MemoryEvent.from_text("x"))
    assert texts == ["x", "alarm"]


ADAPTER_NOTICES: tuple[NoticeName, ...] = (
    "adapter.registered",
    "adapter.activated",
    "adapter.deactivated",
    "adapter.changed",
    "adapter.renamed",
    "adapter.deleted",
)


@both_backends
async def test_what_happens_to_adapters_is_told_to_who_listens_for_it() -> None:
    heard: list[Notice] = []
    others: list[Notice] = []
    async with MemoryBus() as bus:
        for name in get_args(NoticeName):
            bus.on(name, (heard if name in ADAPTER_NOTICES else others).append)
        told = [Notice(name, adapter=f"{number}@1") for number, name in enumerate(ADAPTER_NOTICES)]
        for notice in told:
            bus.tell(notice)
        assert heard == told
        assert others == []
        assert bus.statistics().published == 0
    assert all(notice.event is None and notice.reason is None for notice in heard)


def test_it_is_told_outside_of_the_bus_too_and_an_observer_that_raises_is_counted() -> None:
    heard: list[str | None] = []

    def raises(notice: Notice) -> None:
        raise ValueError

    bus = MemoryBus()
    bus.on("adapter.deleted", raises)
    subscription = bus.on("adapter.deleted", lambda notice: heard.append(notice.adapter))
    bus.tell(Notice("adapter.deleted", adapter="a@1"))
    subscription.cancel()
    bus.tell(Notice("adapter.deleted", adapter="a@2"))
    assert heard == ["a@1"]
    assert bus.statistics().observer_errors == 2
