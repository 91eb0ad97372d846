"""Publishing from inside a handler cannot deadlock, and no bus can block another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import anyio.from_thread
import pytest

from intrinsic.bus import BusOptions, MemoryBus
from intrinsic.events import MemoryEvent
from tests.bus.backends import both_backends
from tests.bus.publishing import KNN, LORA, STEERING, on, value_of


@both_backends
async def test_a_nested_publish_knows_its_parent_and_its_ancestors_keep_theirs() -> None:
    events: list[MemoryEvent] = []

    async def outer(event: MemoryEvent) -> None:
        await bus.publish(on(KNN))
        await bus.publish(on(STEERING).with_parent("given"))

    async def inner(event: MemoryEvent) -> None:
        events.append(event)

    async with MemoryBus() as bus:
        bus.register_handler(LORA, outer)
        bus.register_handler(KNN, inner)
        bus.register_handler(STEERING, inner)
        report = await bus.publish(on(LORA))
        await bus.publish(on(KNN))
    assert report.ok
    assert [event.parent_id for event in events] == [report.event.id, "given", None]


@both_backends
async def test_a_nested_publish_rides_on_its_parents_slot() -> None:
    async def deeper(event: MemoryEvent) -> object:
        depth = int(event.text)
        if depth == 20:
            return "bottom"
        return await value_of(bus.publish(on(LORA, f"s{depth}", str(depth + 1))))

    async with MemoryBus(BusOptions(max_in_flight=1)) as bus:
        bus.register_handler(LORA, deeper)
        assert await value_of(bus.publish(on(LORA, None, "0"))) == "bottom"
        assert bus.statistics().sessions == 0
        assert bus._pipeline.admission.in_flight == 0


@both_backends
async def test_a_nested_publish_of_the_same_session_is_part_of_its_ancestors_turn() -> None:
    order: list[str] = []

    async def outer(event: MemoryEvent) -> None:
        order.append(f"begin {event.text}")
        await anyio.wait_all_tasks_blocked()
        await bus.publish(on(KNN, "other"))
        order.append(f"end {event.text}")

    async def between(event: MemoryEvent) -> None:
        await bus.publish(on(STEERING, "s"))

    async def inner(event: MemoryEvent) -> None:
        order.append("inner")

    async with MemoryBus() as bus:
        bus.register_handler(LORA, outer)
        bus.register_handler(KNN, between)
        bus.register_handler(STEERING, inner)
        bus.publish_nowait(on(LORA, "s", "1"))
        await bus.publish(on(LORA, "s", "2"))
        assert bus.statistics().cycles_broken == 0
    assert order == ["begin 1", "inner", "end 1", "begin 2", "inner", "end 2"]


@both_backends
async def test_a_nested_publish_waits_for_the_turn_of_another_session() -> None:
    order: list[str] = []
    release = anyio.Event()

    async def slow(event: MemoryEvent) -> None:
        order.append("slow")
        await release.wait()
        order.append("slow ended")

    async def outer(event: MemoryEvent) -> None:
        await bus.publish(on(STEERING, "b"))

    async def inner(event: MemoryEvent) -> None:
        order.append("inner")

    async with MemoryBus() as bus:
        bus.register_handler(KNN, slow)
        bus.register_handler(LORA, outer)
        bus.register_handler(STEERING, inner)
        bus.publish_nowait(on(KNN, "b"))
        nested = bus.publish_nowait(on(LORA, "a"))
        await anyio.wait_all_tasks_blocked()
        assert bus.statistics().waiting == 1
        release.set()
        assert (await nested.wait()).ok
    assert order == ["slow", "slow ended", "inner"]
    assert bus.statistics().cycles_broken == 0


@pytest.mark.parametrize("length", [2, 3, 7])
@both_backends
async def test_sessions_that_publish_in_a_circle_all_complete(length: int) -> None:
    entered = 0
    everybody_in = anyio.Event()

    async def outer(event: MemoryEvent) -> object:
        nonlocal entered
        entered += 1
        if entered == length:
            everybody_in.set()
        await everybody_in.wait()
        following = (int(event.text) + 1) % length
        return await value_of(bus.publish(on(KNN, f"s{following}", str(following))))

    async def inner(event: MemoryEvent) -> object:
        return event.text

    values: list[object] = []
    async with MemoryBus() as bus, anyio.create_task_group() as tasks:
        bus.register_handler(LORA, outer)
        bus.register_handler(KNN, inner)

        async def publish(number: int) -> None:
            values.append(await value_of(bus.publish(on(LORA, f"s{number}", str(number)))))

        for number in range(length):
            tasks.start_soon(publish, number)
    assert sorted(map(str, values)) == [str(number) for number in range(length)]
    assert bus.statistics().cycles_broken == 1
    assert bus.statistics().sessions == 0


@both_backends
async def test_events_ahead_of_a_nested_one_are_lent_a_slot() -> None:
    order: list[str] = []
    ready = anyio.Event()

    async def outer(event: MemoryEvent) -> None:
        await ready.wait()
        await bus.publish(on(KNN, "s", "nested"))

    async def inner(event: MemoryEvent) -> None:
        order.append(event.text)

    async with MemoryBus(BusOptions(max_in_flight=1)) as bus:
        bus.register_handler(LORA, outer)
        bus.register_handler(KNN, inner)
        first = bus.publish_nowait(on(LORA))
        await anyio.wait_all_tasks_blocked()
        for number in range(3):
            bus.publish_nowait(on(KNN, "s", str(number)))
        ready.set()
        assert (await first.wait()).ok
        assert bus.statistics().cycles_broken == 0
    assert order == ["0", "1", "2", "nested"]
    assert bus._pipeline.admission.in_flight == 0


@pytest.mark.parametrize("sessions", [(None, None), ("s", "s"), ("s", "t")])
@both_backends
async def test_two_buses_that_publish_on_each_other_do_not_block(
    sessions: tuple[str | None, str | None],
) -> None:
    one_session, two_session = sessions
    entered = 0
    both_in = anyio.Event()
    options = BusOptions(max_in_flight=1)
    async with MemoryBus(options) as one, MemoryBus(options) as two:

        def across(
            other: MemoryBus, session: str | None
        ) -> Callable[[MemoryEvent], Awaitable[object]]:
            async def handler(event: MemoryEvent) -> object:
                nonlocal entered
                entered += 1
                if entered == 2:
                    both_in.set()
                await both_in.wait()
                return await value_of(other.publish(on(KNN, session)))

            return handler

        def back(
            other: MemoryBus, session: str | None
        ) -> Callable[[MemoryEvent], Awaitable[object]]:
            async def handler(event: MemoryEvent) -> object:
                return await value_of(other.publish(on(STEERING, session)))

            return handler

        one.register_handler(LORA, across(two, two_session))
        two.register_handler(LORA, across(one, one_session))
        one.register_handler(KNN, back(two, two_session))
        two.register_handler(KNN, back(one, one_session))
        for bus in (one, two):
            bus.register_handler(STEERING, lambda _: "bottom", in_thread=False)
        handles = [
            one.publish_nowait(on(LORA, one_session)),
            two.publish_nowait(on(LORA, two_session)),
        ]
        for handle in handles:
            assert (await handle.wait()).value == "bottom"
        assert one.statistics().sessions == two.statistics().sessions == 0


@both_backends
async def test_a_task_that_outlives_its_handler_is_top_level_again() -> None:
    seen: list[str | None] = []
    release = anyio.Event()

    async with MemoryBus(BusOptions(max_in_flight=1)) as bus, anyio.create_task_group() as tasks:

        async def later() -> None:
            await release.wait()
            await bus.publish(on(KNN, "s"))

        async def outer(event: MemoryEvent) -> None:
            tasks.start_soon(later)

        async def inner(event: MemoryEvent) -> None:
            seen.append(event.parent_id)

        bus.register_handler(LORA, outer)
        bus.register_handler(KNN, inner)
        await bus.publish(on(LORA, "s"))
        assert bus.statistics().sessions == 0
        release.set()
    assert seen == [None]


@both_backends
async def test_a_turn_lasts_until_the_nested_events_that_began_in_it_are_done() -> None:
    order: list[str] = []
    inner_in = anyio.Event()
    release = anyio.Event()

    async with MemoryBus() as bus, anyio.create_task_group() as tasks:

        async def outer(event: MemoryEvent) -> None:
            order.append(event.text)
            if event.text == "first":
                tasks.start_soon(bus.publish, on(KNN, "s"))
                await inner_in.wait()

        async def inner(event: MemoryEvent) -> None:
            inner_in.set()
            await release.wait()
            order.append("inner")
            await bus.publish(on(STEERING, "s"))

        bus.register_handler(LORA, outer)
        bus.register_handler(KNN, inner)
        bus.register_handler(STEERING, lambda _: order.append("innermost"), in_thread=False)
        await bus.publish(on(LORA, "s", "first"))
        second = bus.publish_nowait(on(LORA, "s", "second"))
        await anyio.wait_all_tasks_blocked()
        assert order == ["first"]
        release.set()
        await second.wait()
    assert order == ["first", "inner", "innermost", "second"]
    assert bus.statistics().sessions == 0


@both_backends
async def test_a_cancelled_nested_publish_gives_everything_back() -> None:
    release = anyio.Event()

    async def holds(event: MemoryEvent) -> None:
        await release.wait()

    async def gives_up(event: MemoryEvent) -> str:
        with anyio.move_on_after(0.01):
            await bus.publish(on(KNN, "b"))
        return "gave up"

    async with MemoryBus(BusOptions(max_in_flight=2)) as bus:
        bus.register_handler(KNN, holds)
        bus.register_handler(LORA, gives_up)
        held = bus.publish_nowait(on(KNN, "b"))
        assert (await bus.publish(on(LORA, "a"))).value == "gave up"
        assert bus.statistics().waiting == 0
        release.set()
        await held.wait()
        assert bus.statistics().sessions == 0
        assert bus._pipeline.admission.live == 0
