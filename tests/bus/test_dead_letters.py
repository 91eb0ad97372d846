"""Failed deliveries are kept, bounded, and can be replayed to the handlers that failed."""

from __future__ import annotations

import anyio
import pytest

from intrinsic.bus import BusOptions, MemoryBus, Notice
from intrinsic.errors import BusError, HandlerTimeoutError
from intrinsic.events import InjectionChannel, MemoryEvent
from tests.bus.backends import both_backends

LORA = InjectionChannel.DYNAMIC_LORA


class Flaky:
    """Fails until told to be sound."""

    def __init__(self) -> None:
        self.sound = False
        self.calls: list[str] = []

    async def __call__(self, event: MemoryEvent) -> str:
        self.calls.append(event.text)
        if not self.sound:
            raise ValueError(event.text)
        return "sound"


@both_backends
async def test_a_letter_tells_event_handler_error_attempts_and_time() -> None:
    flaky = Flaky()
    async with MemoryBus() as bus:
        bus.register_handler(LORA, flaky, name="flaky")
        bus.register_handler(LORA, lambda _: None, in_thread=False)
        report = await bus.publish(MemoryEvent.from_text("x"))
        (letter,) = bus.dead_letters
        assert letter.event is report.event
        assert letter.handler == "flaky"
        assert letter.error is report.errors[0]
        assert letter.attempts == 1
        assert abs(letter.time - report.event.time.timestamp()) < 10


@both_backends
async def test_a_timeout_is_a_dead_letter_too() -> None:
    async def hangs(event: MemoryEvent) -> None:
        await anyio.sleep_forever()

    async with MemoryBus() as bus:
        bus.register_handler(LORA, hangs, timeout_s=0.01)
        await bus.publish(MemoryEvent(LORA))
        assert isinstance(bus.dead_letters[0].error, HandlerTimeoutError)


@both_backends
async def test_replay_reaches_only_what_failed_and_removes_what_succeeds() -> None:
    flaky, healthy = Flaky(), Flaky()
    healthy.sound = True
    async with MemoryBus() as bus:
        bus.register_handler(LORA, flaky, name="flaky")
        bus.register_handler(LORA, healthy)
        for text in ("a", "b"):
            await bus.publish(MemoryEvent.from_text(text, session_id="s"))
        first, second = bus.dead_letters
        (report,) = await bus.replay(first)
        assert not report.ok
        assert [letter.attempts for letter in bus.dead_letters] == [2, 1]
        assert [letter.id for letter in bus.dead_letters] == [first.id, second.id]
        flaky.sound = True
        (report,) = await bus.replay(first.id)
        assert [result.name for result in report.results] == ["flaky"]
        assert [letter.id for letter in bus.dead_letters] == [second.id]
        assert [report.value for report in await bus.replay()] == ["sound"]
        assert not bus.dead_letters
        assert await bus.replay() == []
        with pytest.raises(BusError, match=f"no dead letter '{first.id}'"):
            await bus.replay(first)
    assert flaky.calls == ["a", "b", "a", "a", "b"]
    assert healthy.calls == ["a", "b"]


@both_backends
async def test_two_replays_at_once_deliver_once() -> None:
    gate = anyio.Event()
    calls: list[str] = []

    async def handler(event: MemoryEvent) -> None:
        calls.append(event.text)
        if len(calls) <= 2:
            raise ValueError
        await gate.wait()

    async with MemoryBus() as bus, anyio.create_task_group() as tasks:
        bus.register_handler(LORA, handler)
        await bus.publish(MemoryEvent.from_text("a"))
        await bus.publish(MemoryEvent.from_text("b"))
        tasks.start_soon(bus.replay)
        await anyio.wait_all_tasks_blocked()
        assert await bus.replay() == []
        assert await bus.replay(bus.dead_letters[0]) == []
        gate.set()
    assert calls == ["a", "b", "a", "b"]
    assert not bus.dead_letters


@both_backends
async def test_a_cancelled_replay_keeps_the_letter() -> None:
    gate = anyio.Event()
    flaky = Flaky()

    async def handler(event: MemoryEvent) -> None:
        await flaky(event)
        await gate.wait()

    async with MemoryBus() as bus:
        bus.register_handler(LORA, handler)
        await bus.publish(MemoryEvent.from_text("a"))
        flaky.sound = True
        with anyio.move_on_after(0.01):
            await bus.replay()
        assert len(bus.dead_letters) == 1
        gate.set()
        await bus.replay()
        assert not bus.dead_letters


@both_backends
async def test_a_suspended_bus_keeps_the_letter() -> None:
    flaky = Flaky()
    async with MemoryBus() as bus:
        bus.register_handler(LORA, flaky)
        await bus.publish(MemoryEvent.from_text("a"))
        bus.suspend("stop")
        (report,) = await bus.replay()
        assert report.suspended == "stop"
        assert len(bus.dead_letters) == 1
    assert flaky.calls == ["a"]


@both_backends
async def test_a_letter_of_a_cancelled_handler_goes_to_a_new_one_of_its_name() -> None:
    broken, repaired = Flaky(), Flaky()
    repaired.sound = True
    async with MemoryBus() as bus:
        with bus.register_handler(LORA, broken, name="h"):
            await bus.publish(MemoryEvent.from_text("a"))
        (report,) = await bus.replay()
        assert "handler 'h' is no longer registered" in str(report.errors[0])
        assert len(bus.dead_letters) == 1
        bus.register_handler(LORA, repaired, name="h")
        assert [report.ok for report in await bus.replay()] == [True]
    assert repaired.calls == ["a"]
    assert broken.calls == ["a"]


@both_backends
async def test_the_list_is_bounded_and_counts_what_it_dropped() -> None:
    dropped: list[Notice] = []
    async with MemoryBus(BusOptions(max_dead_letters=2)) as bus:
        bus.on("dropped", dropped.append)
        bus.register_handler(LORA, Flaky(), name="flaky")
        for text in "abcd":
            await bus.publish(MemoryEvent.from_text(text))
        assert [letter.event.text for letter in bus.dead_letters] == ["c", "d"]
        assert bus.statistics().dead_letters == 2
        assert bus.statistics().dead_letters_dropped == 2
    assert [(notice.event and notice.event.text, notice.handler) for notice in dropped] == [
        ("a", "flaky"),
        ("b", "flaky"),
    ]


@both_backends
async def test_a_letter_dropped_during_its_replay_stays_dropped() -> None:
    gate = anyio.Event()
    calls: list[str] = []

    async def handler(event: MemoryEvent) -> None:
        calls.append(event.text)
        if calls == ["a", "a"]:
            await gate.wait()
        raise ValueError

    async with MemoryBus(BusOptions(max_dead_letters=1)) as bus:
        bus.register_handler(LORA, handler)
        await bus.publish(MemoryEvent.from_text("a"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bus.replay)
            await anyio.wait_all_tasks_blocked()
            await bus.publish(MemoryEvent.from_text("b"))
            gate.set()
        assert [letter.event.text for letter in bus.dead_letters] == ["b"]


@both_backends
async def test_without_room_no_letter_is_kept() -> None:
    async with MemoryBus(BusOptions(max_dead_letters=0)) as bus:
        bus.register_handler(LORA, Flaky())
        await bus.publish(MemoryEvent(LORA))
        assert not bus.dead_letters
        assert bus.statistics().dead_letters_dropped == 1
