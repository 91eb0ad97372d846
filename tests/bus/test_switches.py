"""The kill switch and shadow mode."""

from __future__ import annotations

import anyio
import pytest

from intrinsic.bus import BusOptions, MemoryBus, Notice
from intrinsic.errors import ConfigError
from intrinsic.events import InjectionChannel, MemoryEvent
from tests.bus.backends import both_backends

LORA = InjectionChannel.DYNAMIC_LORA
KNN = InjectionChannel.KNN_LM


@both_backends
async def test_no_handler_is_called_from_the_next_event_on() -> None:
    calls: list[str] = []
    release = anyio.Event()

    async def handler(event: MemoryEvent) -> None:
        calls.append(event.text)
        if event.text == "running":
            await release.wait()
            nested = await bus.publish(MemoryEvent.from_text("nested"))
            calls.append(f"nested {nested.suspended}")

    async with MemoryBus() as bus:
        bus.register_handler(LORA, handler)
        running = bus.publish_nowait(MemoryEvent.from_text("running", session_id="s"))
        waiting = bus.publish_nowait(MemoryEvent.from_text("waiting", session_id="s"))
        await anyio.wait_all_tasks_blocked()
        bus.suspend("incident 7")
        assert bus.suspended == "incident 7"
        report = await bus.publish(MemoryEvent.from_text("next"))
        assert report.suspended == "incident 7"
        assert report.results == ()
        assert not report.ok
        release.set()
        assert (await running.wait()).suspended is None
        assert (await waiting.wait()).suspended == "incident 7"
        assert bus.statistics().suspended == 3
        assert bus.injection_log.suspended == 3
        bus.resume()
        assert bus.suspended is None
        assert (await bus.publish(MemoryEvent.from_text("again"))).ok
    assert calls == ["running", "nested incident 7", "again"]


@both_backends
async def test_observers_hear_the_switch() -> None:
    heard: list[Notice] = []
    async with MemoryBus() as bus:
        bus.on("suspended", heard.append)
        bus.on("resumed", heard.append)
        bus.resume()
        bus.suspend("why")
        bus.resume()
    assert [(notice.name, notice.reason) for notice in heard] == [
        ("suspended", "why"),
        ("resumed", "why"),
    ]


def test_suspending_needs_a_reason() -> None:
    with pytest.raises(ConfigError, match="suspend needs a reason"):
        MemoryBus().suspend("")


@both_backends
async def test_in_shadow_mode_handlers_are_called_and_can_ask() -> None:
    async def handler(event: MemoryEvent) -> bool:
        return bus.is_shadow(event)

    async with MemoryBus(BusOptions(shadow=True)) as bus:
        bus.register_handler(LORA, handler)
        assert bus.shadow
        report = await bus.publish(MemoryEvent(LORA))
        assert report.shadow
        assert report.value is True
        bus.set_shadow(False)
        assert not bus.shadow
        report = await bus.publish(MemoryEvent(LORA))
        assert not report.shadow
        assert report.value is False
        report = await bus.publish(MemoryEvent(LORA, metadata={"shadow": True}))
        assert report.shadow
        assert report.value is True
        report = await bus.publish(MemoryEvent(LORA, metadata={"shadow": "yes"}))
        assert not report.shadow
    assert [record.shadow for record in bus.injection_log] == [True, False, True, False]
    assert bus.statistics().shadowed == 2
    assert bus.injection_log.shadow == 2
