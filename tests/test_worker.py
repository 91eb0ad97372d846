"""Threads are never left behind, however their caller is cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar

import anyio
import anyio.to_thread
import pytest

from intrinsic.worker import acquire, call_on_loop, run_to_end
from tests.bus.backends import both_backends

NOTE: ContextVar[str] = ContextVar("note", default="")


class Gate:
    """A function that holds its thread until the gate is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()
        self.done = False

    def __call__(self) -> str:
        self.entered.set()
        assert self.opened.wait(10)
        self.done = True
        return "through"

    async def until_entered(self) -> None:
        await anyio.to_thread.run_sync(self.entered.wait, 10)


def in_asyncio(test: Callable[[], Coroutine[object, object, None]]) -> Callable[[], None]:
    """What only asyncio has: cancellation of a task, without scopes."""
    return lambda: asyncio.run(test())


async def cancel_twice(task: asyncio.Task[object]) -> None:
    """Cancel as somebody does who is impatient, letting the task run in between."""
    for _ in range(2):
        task.cancel()
        for _ in range(3):
            await asyncio.sleep(0)
    assert not task.done()


@both_backends
async def test_it_returns_what_the_function_returns_and_raises_what_it_raises() -> None:
    NOTE.set("context")
    assert await run_to_end(lambda a, b: (a, b, NOTE.get()), 1, 2) == (1, 2, "context")
    with pytest.raises(ZeroDivisionError):
        await run_to_end(divmod, 1, 0)


@both_backends
async def test_a_limiter_bounds_the_threads_and_is_given_back() -> None:
    limiter, gate = anyio.CapacityLimiter(1), Gate()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: run_to_end(gate, limiter=limiter))
        await gate.until_entered()
        with pytest.raises(anyio.WouldBlock):
            limiter.acquire_on_behalf_of_nowait("another")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await acquire(limiter, "another")
        gate.opened.set()
    assert limiter.borrowed_tokens == 0


@both_backends
async def test_a_cancelled_scope_does_not_leave_the_thread_behind() -> None:
    gate, stop = Gate(), threading.Event()
    ended: list[str] = []

    async def work(stop: threading.Event | None) -> None:
        ended.append(await run_to_end(gate, stop=stop))

    for asked in (None, stop):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work, asked)
            await gate.until_entered()
            tasks.cancel_scope.cancel()
            gate.opened.set()
        assert gate.done
        gate = Gate()
    assert ended == ["through"]
    assert stop.is_set()


@in_asyncio
async def test_native_cancellation_waits_for_the_thread_and_is_raised() -> None:
    for undone in (None, threading.Event()):
        gate = Gate()
        undo = undone and undone.set
        task = asyncio.create_task(_call(lambda g=gate, u=undo: run_to_end(g, undo=u)))  # type: ignore[misc]
        await gate.until_entered()
        await cancel_twice(task)
        gate.opened.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert gate.done
        assert undone is None or undone.is_set()


@in_asyncio
async def test_a_time_out_waits_for_the_thread_and_times_out() -> None:
    gate = Gate()
    opener = threading.Timer(0.1, gate.opened.set)
    opener.start()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(run_to_end(gate), 0.01)
    assert gate.done
    opener.join()


@in_asyncio
async def test_what_failed_is_not_undone() -> None:
    gate, undone = Gate(), threading.Event()

    def fail() -> None:
        gate()
        raise ValueError("no")

    task = asyncio.create_task(_call(lambda: run_to_end(fail, undo=undone.set)))
    await gate.until_entered()
    await cancel_twice(task)
    gate.opened.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not undone.is_set()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_loop_that_is_gone_is_told_apart(backend: str) -> None:
    async def token() -> anyio.lowlevel.EventLoopToken:
        return anyio.lowlevel.current_token()

    gone = anyio.run(token, backend=backend)
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(call_on_loop(gone, list)))
    thread.start()
    thread.join()
    assert answers == [False]


async def _call(function: Callable[[], Awaitable[object]]) -> object:
    return await function()
