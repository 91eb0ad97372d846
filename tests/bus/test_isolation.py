"""A handler that raises, hangs or is cancelled harms no other handler, channel or later event."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel
import pytest
from anyio import CancelScope, get_cancelled_exc_class

from intrinsic.bus import BusOptions, MemoryBus
from intrinsic.errors import BusError, HandlerTimeoutError
from intrinsic.events import InjectionChannel, MemoryEvent
from tests.bus.backends import both_backends

LORA = InjectionChannel.DYNAMIC_LORA
SHORT_S = 0.02


class NoOrdinaryError(BaseException):
    """Like KeyboardInterrupt, which event loops treat in ways of their own."""


async def healthy(event: MemoryEvent) -> str:
    return "healthy"


async def raises(event: MemoryEvent) -> None:
    raise ValueError("no")


async def raises_group(event: MemoryEvent) -> None:
    raise ExceptionGroup("two", [ValueError("one"), KeyError("two")])


async def hangs(event: MemoryEvent) -> None:
    await anyio.sleep_forever()


async def cancels_own_scope(event: MemoryEvent) -> str:
    with CancelScope() as scope:
        scope.cancel()
        await anyio.sleep_forever()
    return "went on"


async def raises_leftover_cancellation(event: MemoryEvent) -> None:
    leftover: BaseException | None = None
    with CancelScope() as scope:
        scope.cancel()
        try:
            await anyio.sleep_forever()
        except get_cancelled_exc_class() as error:
            leftover = error
    assert leftover is not None
    raise leftover


def stops(event: MemoryEvent) -> None:
    raise StopIteration


@pytest.mark.parametrize("company", [0, 1, 5])
@pytest.mark.parametrize(
    ("handler", "error"),
    [
        (raises, ValueError),
        (raises_group, ExceptionGroup),
        (hangs, HandlerTimeoutError),
        (raises_leftover_cancellation, BusError),
        (stops, RuntimeError),
    ],
)
@both_backends
async def test_a_failure_is_a_result_and_nothing_else_is_touched(
    handler: Callable[[MemoryEvent], Awaitable[None]], error: type[Exception], company: int
) -> None:
    async with MemoryBus() as bus:
        timeout_s = SHORT_S if error is HandlerTimeoutError else 20.0
        bus.register_handler(LORA, handler, timeout_s=timeout_s, name="bad")
        for _ in range(company):
            bus.register_handler(LORA, healthy)
        for _ in range(2):
            report = await bus.publish(MemoryEvent.from_text("x", session_id="s"))
            assert type(report.results[0].error) is error
            assert report.results[0].name == "bad"
            assert [result.value for result in report.results[1:]] == ["healthy"] * company
        assert bus.statistics().sessions == 0
        assert bus.statistics().in_flight == 0


@pytest.mark.parametrize("company", [0, 1])
@both_backends
async def test_a_handler_may_cancel_a_scope_of_its_own(company: int) -> None:
    async with MemoryBus() as bus:
        bus.register_handler(LORA, cancels_own_scope)
        for _ in range(company):
            bus.register_handler(LORA, healthy)
        report = await bus.publish(MemoryEvent(LORA))
    assert report.value == "went on"
    assert report.ok


def test_awaiting_something_that_was_cancelled_is_the_handlers_own_error() -> None:
    async def awaits_cancelled_task(event: MemoryEvent) -> None:
        task = asyncio.ensure_future(asyncio.sleep(10))
        task.cancel()
        await task

    async def main() -> None:
        async with MemoryBus() as bus:
            subscription = bus.register_handler(LORA, awaits_cancelled_task, name="bad")
            report = await bus.publish(MemoryEvent(LORA))
            assert isinstance(report.results[0].error, BusError)
            assert "handler 'bad' was cancelled by what it awaited" in str(report.errors[0])
            bus.register_handler(LORA, healthy)
            report = await bus.publish(MemoryEvent(LORA))
            assert report.value == "healthy"
            subscription.cancel()

    anyio.run(main)


def test_a_handler_that_cancels_its_asyncio_task_does_not_end_its_siblings() -> None:
    async def cancels_its_task(event: MemoryEvent) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(10)

    async def slow(event: MemoryEvent) -> str:
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        return "slow"

    async def main() -> None:
        async with MemoryBus() as bus:
            bus.register_handler(LORA, cancels_its_task)
            bus.register_handler(LORA, slow)
            report = await bus.publish(MemoryEvent(LORA))
        assert isinstance(report.results[0].error, BusError)
        assert report.results[1].value == "slow"

    anyio.run(main)


@both_backends
async def test_a_slow_handler_does_not_delay_the_healthy_ones() -> None:
    ended = anyio.Event()
    release = anyio.Event()

    async def slow(event: MemoryEvent) -> None:
        await release.wait()

    async def quick(event: MemoryEvent) -> None:
        ended.set()

    async with MemoryBus() as bus, anyio.create_task_group() as tasks:
        bus.register_handler(LORA, slow)
        bus.register_handler(LORA, quick)
        tasks.start_soon(bus.publish, MemoryEvent(LORA))
        await ended.wait()
        assert bus.statistics().in_flight == 1
        release.set()


@both_backends
async def test_each_handler_has_its_own_timeout() -> None:
    async with MemoryBus(BusOptions(handler_timeout_s=SHORT_S)) as bus:
        bus.register_handler(LORA, hangs)
        bus.register_handler(LORA, hangs, timeout_s=2 * SHORT_S)
        report = await bus.publish(MemoryEvent(LORA))
        first, second = report.results
        assert first.timed_out
        assert second.timed_out
        assert first.duration_ms >= SHORT_S * 900
        assert second.duration_ms >= 2 * SHORT_S * 900
        assert f"did not end within {SHORT_S} s" in str(first.error)
        assert bus.statistics().timed_out == 2
        assert bus.statistics().failed == 0


@both_backends
async def test_only_an_explicit_none_means_no_timeout() -> None:
    release = anyio.Event()

    async def waits(event: MemoryEvent) -> str:
        await release.wait()
        return "released"

    async with MemoryBus(BusOptions(handler_timeout_s=SHORT_S)) as bus:
        bus.register_handler(LORA, waits, timeout_s=None)
        bus.register_handler(LORA, hangs)
        async with anyio.create_task_group() as tasks:
            reports: list[object] = []

            async def publish() -> None:
                reports.append((await bus.publish(MemoryEvent(LORA))).results[0].value)

            tasks.start_soon(publish)
            await anyio.sleep(3 * SHORT_S)
            release.set()
        assert reports == ["released"]


@both_backends
async def test_an_error_during_the_clean_up_after_a_timeout_is_the_timeouts_cause() -> None:
    async def breaks_on_cancel(event: MemoryEvent) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise ValueError("clean-up")

    async with MemoryBus() as bus:
        bus.register_handler(LORA, breaks_on_cancel, timeout_s=SHORT_S)
        report = await bus.publish(MemoryEvent(LORA))
    assert report.results[0].timed_out
    assert isinstance(report.errors[0].__cause__, ValueError)


@both_backends
async def test_a_blocking_sync_handler_blocks_neither_the_loop_nor_other_handlers() -> None:
    release = threading.Event()
    quick_ended = anyio.Event()

    async def quick(event: MemoryEvent) -> None:
        quick_ended.set()

    async with MemoryBus() as bus, anyio.create_task_group() as tasks:
        bus.register_handler(LORA, lambda _: release.wait(10))
        bus.register_handler(LORA, quick)
        tasks.start_soon(bus.publish, MemoryEvent(LORA))
        await quick_ended.wait()
        release.set()


@both_backends
async def test_a_sync_handler_that_hangs_is_abandoned_and_its_threads_are_bounded() -> None:
    release = threading.Event()
    started: list[int] = []

    def blocks(event: MemoryEvent) -> None:
        started.append(1)
        release.wait(10)

    async with MemoryBus(BusOptions(handler_threads=2)) as bus:
        bus.register_handler(LORA, blocks, timeout_s=10 * SHORT_S, name="blocks")
        bus.register_handler(LORA, lambda _: "healthy")
        for _ in range(2):
            report = await bus.publish(MemoryEvent(LORA))
            assert report.results[0].timed_out
            assert report.value == "healthy"
        report = await bus.publish(MemoryEvent(LORA))
        assert len(started) == 2
        assert report.value == "healthy"
        assert "handler 'blocks' was not called: 2 earlier calls" in str(report.errors[0])
        release.set()
        while (await bus.publish(MemoryEvent(LORA))).errors:
            await anyio.lowlevel.checkpoint()
    assert len(started) == 3


@both_backends
async def test_a_sync_call_that_was_cancelled_before_it_got_a_thread_never_runs() -> None:
    release = threading.Event()
    started: list[str] = []

    def blocks(event: MemoryEvent) -> None:
        started.append(event.text)
        release.wait(10)

    async with MemoryBus(BusOptions(handler_threads=1)) as bus, anyio.create_task_group() as tasks:
        bus.register_handler(LORA, blocks)
        tasks.start_soon(bus.publish, MemoryEvent.from_text("first"))
        await anyio.wait_all_tasks_blocked()
        while not started:
            await anyio.lowlevel.checkpoint()
        with anyio.move_on_after(SHORT_S) as scope:
            await bus.publish(MemoryEvent.from_text("second"))
        assert scope.cancelled_caught
        release.set()
    assert started == ["first"]


@pytest.mark.parametrize("company", [0, 1])
@both_backends
async def test_what_is_no_exception_is_not_caught(company: int) -> None:
    async def explodes(event: MemoryEvent) -> None:
        raise NoOrdinaryError

    async with MemoryBus() as bus:
        bus.register_handler(LORA, explodes)
        for _ in range(company):
            bus.register_handler(LORA, healthy)
        with pytest.raises(NoOrdinaryError):
            await bus.publish(MemoryEvent.from_text("x", session_id="s"))
        assert bus.statistics().sessions == 0
        assert bus.statistics().cancelled == 1


@both_backends
async def test_several_of_what_is_no_exception_come_as_a_group() -> None:
    both = anyio.Event()
    entered: list[int] = []

    async def explodes(event: MemoryEvent) -> None:
        entered.append(1)
        if len(entered) == 2:
            both.set()
        try:
            await both.wait()
        finally:
            raise NoOrdinaryError

    async with MemoryBus() as bus:
        bus.register_handler(LORA, explodes)
        bus.register_handler(LORA, explodes)
        with pytest.raises(BaseExceptionGroup) as caught:
            await bus.publish(MemoryEvent(LORA))
        assert len(caught.value.exceptions) == 2


@pytest.mark.parametrize("company", [0, 1])
@both_backends
async def test_cancelling_the_publisher_cancels_the_handlers_and_gets_through(company: int) -> None:
    cancelled: list[str] = []
    started = anyio.Event()

    async def waits(event: MemoryEvent) -> None:
        started.set()
        try:
            await anyio.sleep_forever()
        except get_cancelled_exc_class():
            cancelled.append("handler")
            raise

    async with MemoryBus() as bus, anyio.create_task_group() as tasks:
        bus.register_handler(LORA, waits)
        for _ in range(company):
            bus.register_handler(LORA, healthy)

        async def publish() -> None:
            try:
                await bus.publish(MemoryEvent.from_text("x", session_id="s"))
            except get_cancelled_exc_class():
                cancelled.append("publisher")
                raise

        tasks.start_soon(publish)
        await started.wait()
        tasks.cancel_scope.cancel()
    assert cancelled == ["handler", "publisher"]
    statistics = bus.statistics()
    assert (statistics.cancelled, statistics.completed, statistics.sessions) == (1, 0, 0)
    assert statistics.dead_letters == 0


@both_backends
async def test_a_cancelled_publisher_reaches_no_handler() -> None:
    calls: list[int] = []
    async with MemoryBus() as bus:
        bus.register_handler(LORA, lambda _: calls.append(1), in_thread=False)
        with CancelScope() as scope:
            scope.cancel()
            await bus.publish(MemoryEvent(LORA))
        assert scope.cancelled_caught
        assert calls == []
        assert bus.statistics().cancelled == 1


@pytest.mark.parametrize("company", [0, 1])
def test_a_native_asyncio_cancellation_gets_through(company: int) -> None:
    async def main() -> None:
        async with MemoryBus() as bus:
            bus.register_handler(LORA, hangs)
            for _ in range(company):
                bus.register_handler(LORA, healthy)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(SHORT_S):
                    await bus.publish(MemoryEvent(LORA))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(bus.publish(MemoryEvent(LORA)), SHORT_S)
            task = asyncio.create_task(bus.publish(MemoryEvent(LORA)))
            await anyio.wait_all_tasks_blocked()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    anyio.run(main)
