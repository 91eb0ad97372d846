"""Work in threads that is never left behind: its caller comes back when the thread is done.

anyio shields a thread from the cancellation of a scope, but not from asyncio's own (`wait_for`,
`Task.cancel`), after which the thread would go on with a model that nobody holds any more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any, Generic, TypeVar, TypeVarTuple

import anyio
import anyio.from_thread
import anyio.to_thread
from anyio.lowlevel import EventLoopToken, checkpoint, current_token

from intrinsic.exiting import exit_waits

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


async def run_to_end(
    function: Callable[[*_Ts], _T],
    *args: *_Ts,
    limiter: anyio.CapacityLimiter | None = None,
    stop: threading.Event | None = None,
    undo: Callable[[], object] | None = None,
    at_once: bool = False,
) -> _T:
    """Call a function in a thread; neither return nor raise before it is done.

    A cancelled scope around the call is noticed after it, as with `anyio.to_thread`, unless there
    is `stop`, which is then set to end the work early. asyncio's own cancellation is raised once
    the function has ended; if it went well, `undo` is called (in a thread as well) before that.
    With `at_once` no cancellation comes before the function has run: it waits for no limiter.
    """
    if at_once:
        return await _run(_Work(partial(function, *args)), stop, undo)
    await checkpoint()
    limit = limiter or anyio.to_thread.current_default_thread_limiter()
    owner = object()
    await acquire(limit, owner)
    try:
        return await _run(_Work(partial(function, *args)), stop, undo)
    finally:
        limit.release_on_behalf_of(owner)


async def _run(
    work: _Work[_T], stop: threading.Event | None, undo: Callable[[], object] | None
) -> _T:
    try:
        await work.run(stop)
    except anyio.get_cancelled_exc_class():
        if undo is not None and work.succeeded:
            with suppress(anyio.get_cancelled_exc_class()):
                await _Work(undo).run()
        raise
    return work.result()


async def acquire(limiter: anyio.CapacityLimiter, owner: object) -> None:
    """Borrow a token; one that is free is taken without a point at which to be cancelled."""
    try:
        limiter.acquire_on_behalf_of_nowait(owner)
    except anyio.WouldBlock:
        await limiter.acquire_on_behalf_of(owner)


async def wait_to_end(ended: anyio.Event) -> None:
    """Wait for an event through every cancellation, and raise asyncio's own afterwards."""
    cancelled: BaseException | None = None
    with anyio.CancelScope(shield=True):
        while not ended.is_set():
            try:
                await ended.wait()
            except anyio.get_cancelled_exc_class() as error:
                cancelled = error
    if cancelled is not None:
        raise cancelled


def call_on_loop(token: EventLoopToken, function: Callable[[], object]) -> bool:
    """From a thread, call a function on the event loop; False where the loop is gone."""
    try:
        anyio.from_thread.run_sync(function, token=token)
    except RuntimeError:  # what asyncio, trio and anyio raise for a loop that has ended
        return False
    return True


def post_on_loop(token: EventLoopToken, function: Callable[[], object]) -> bool:
    """From a thread, have a function called on the event loop soon; False where the loop is gone.

    Unlike `call_on_loop` it does not wait until it was called.
    """
    native: Any = token.native_token
    post = getattr(native, "call_soon_threadsafe", None) or native.run_sync_soon
    try:
        post(function)
    except RuntimeError:
        return False
    return True


class _Work(Generic[_T]):
    """A function in a thread of its own."""

    def __init__(self, function: Callable[[], _T]) -> None:
        self._function = function
        self._results: list[_T] = []
        self._error: BaseException | None = None
        self._ended = anyio.Event()

    @property
    def succeeded(self) -> bool:
        return bool(self._results)

    async def run(self, stop: threading.Event | None = None) -> None:
        token = current_token()
        context = copy_context()
        thread = threading.Thread(
            target=context.run, args=(self._call, token), name="intrinsic-work", daemon=True
        )
        thread.start()
        try:
            if stop is not None:
                await self._ended.wait()
        finally:
            if stop is not None:
                stop.set()
            await wait_to_end(self._ended)

    def result(self) -> _T:
        if self._error is not None:
            raise self._error
        return self._results[0]

    def _call(self, token: EventLoopToken) -> None:
        try:
            with exit_waits():
                self._results.append(self._function())
        except BaseException as error:
            self._error = error
        finally:
            call_on_loop(token, self._ended.set)
