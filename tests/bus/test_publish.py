"""Publishing: every handler's result, in order, each isolated from the others."""

from __future__ import annotations

from intrinsic.bus import MemoryBus
from intrinsic.events import InjectionChannel, MemoryEvent
from tests.bus.backends import both_backends

LORA = InjectionChannel.DYNAMIC_LORA
KNN = InjectionChannel.KNN_LM


@both_backends
async def test_returns_what_each_handler_returned_in_order_of_registration() -> None:
    async def first(event: MemoryEvent) -> str:
        return event.text + "1"

    def second(event: MemoryEvent) -> str:
        return event.text + "2"

    async with MemoryBus() as bus:
        bus.register_handler(LORA, first)
        bus.register_handler(None, second, name="second")
        bus.register_handler(KNN, first)
        report = await bus.publish(MemoryEvent.from_text("x"))
    assert [result.value for result in report.results] == ["x1", "x2"]
    assert report.results[1].name == "second"
    assert report.ok
    assert report.value == "x1"
    assert all(result.duration_ms >= 0 for result in report.results)
